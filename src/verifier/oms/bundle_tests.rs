use super::*;
use crate::verifier::oms::keys::Hasher;
use crate::verifier::oms::payload::pre_authentication_encoding;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::io::Cursor;

fn key() -> Value {
    json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": "ab"}},
        "dsseEnvelope": {
            "payload": STANDARD.encode("{}"),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": STANDARD.encode("s")}],
        },
    })
}

fn parse(value: &Value) -> Result<Bundle<Cursor<String>>, BundleError> {
    Bundle::parse(Cursor::new(value.to_string()))
}

fn payload<S: Read + Seek>(bundle: &mut Bundle<S>) -> Vec<u8> {
    let mut bytes = Vec::new();
    bundle.payload.read(|payload| payload.read_to_end(&mut bytes)).unwrap().unwrap();
    bytes
}

/// Whether the payload is hashed with what DSSE puts in front of it.
fn is_hashed_as_signed<S: Read + Seek>(bundle: &mut Bundle<S>, statement: &[u8]) -> bool {
    let expected = Sha256::digest(pre_authentication_encoding(statement)).to_vec();
    bundle.payload.hashed(Hasher::sha256()).unwrap().finish() == expected
}

fn with(pointer: &str, value: Value) -> Value {
    let mut bundle = key();
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    bundle.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(member.into(), value);
    bundle
}

#[test]
fn each_form_is_read() {
    let mut bundle = parse(&key()).unwrap();
    assert_eq!(bundle.material, Material::PublicKey { hint: Some("ab".into()), raw: None });
    assert_eq!(bundle.signature, b"s");
    assert_eq!(payload(&mut bundle), b"{}");
    assert_eq!(pre_authentication_encoding(b"{}"), b"DSSEv1 28 application/vnd.in-toto+json 2 {}");
    assert!(is_hashed_as_signed(&mut bundle, b"{}") && !is_hashed_as_signed(&mut bundle, b"{ }"));

    let old = with("/verificationMaterial", json!({"publicKey": {"rawBytes": "AAEC", "keyDetails": "X"}}));
    assert_eq!(parse(&old).unwrap().material, Material::PublicKey { hint: None, raw: Some(vec![0, 1, 2]) });
    let chain = json!({"x509CertificateChain": {"certificates": [{"rawBytes": "AA=="}]}, "tlogEntries": []});
    assert_eq!(
        parse(&with("/verificationMaterial", chain)).unwrap().material,
        Material::CertificateChain(vec![vec![0]])
    );
    let keyless = json!({"certificate": {"rawBytes": "AA=="}, "tlogEntries": [{}]});
    assert_eq!(parse(&with("/verificationMaterial", keyless)).unwrap().material, Material::Keyless(vec![0]));
    for keyid in [Value::Null, "".into(), "any".into()] {
        parse(&with("/dsseEnvelope/signatures", json!([{"sig": "AA==", "keyid": keyid}]))).unwrap();
    }
    parse(&with("/mediaType", MEDIA_TYPE_PARAMETER.into())).unwrap();
}

#[test]
fn payloads_of_every_length_carry_their_length() {
    for length in (0..20).chain([100_000, 1_000_001]) {
        let content = vec![b'x'; length];
        let mut parsed = parse(&with("/dsseEnvelope/payload", STANDARD.encode(&content).into())).unwrap();
        assert_eq!(payload(&mut parsed), content);
        assert!(is_hashed_as_signed(&mut parsed, &content));
    }
}

#[test]
fn what_is_not_exactly_so_is_refused() {
    use BundleError::*;
    let one = json!({"sig": "AA=="});
    for (bundle, expected) in [
        (with("/mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1".into()), None),
        (with("/dsseEnvelope/payloadType", "text/plain".into()), Some(PayloadType("text/plain".into()))),
        (with("/dsseEnvelope/signatures", json!([])), Some(Signatures(0))),
        (with("/dsseEnvelope/signatures", json!([one, one])), Some(Signatures(2))),
        (with("/dsseEnvelope/payload", "e30".into()), Some(Base64("dsseEnvelope.payload"))),
        (with("/dsseEnvelope/payload", "e31=".into()), Some(Base64("dsseEnvelope.payload"))),
        (with("/dsseEnvelope/payload", "====".into()), Some(Base64("dsseEnvelope.payload"))),
        (with("/verificationMaterial", json!({})), Some(Material(0))),
        (with("/verificationMaterial/certificate", json!({"rawBytes": "AA=="})), Some(Material(2))),
        (with("/verificationMaterial", json!({"x509CertificateChain": {"certificates": []}})), Some(NoCertificate)),
        (
            with("/verificationMaterial", json!({"certificate": {"rawBytes": "AA=="}, "tlogEntries": []})),
            Some(NoLogEntry),
        ),
        (with("/verificationMaterial", json!({"certificate": {"rawBytes": "AA=="}})), Some(NoLogEntry)),
        (with("/verificationMaterial/tlogEntries", json!([{}])), Some(LogEntry)),
    ] {
        let error = parse(&bundle).unwrap_err();
        match expected {
            Some(expected) => assert_eq!(error, expected, "{bundle}"),
            None => assert!(matches!(error, MediaType(_)), "{error}"),
        }
    }
}

#[test]
fn unknown_and_repeated_members_are_refused() {
    for (bundle, message) in [
        (with("/extra", 1.into()), "unknown field `extra`"),
        (with("/messageSignature", json!({})), "unknown field `messageSignature`"),
        (with("/dsseEnvelope/extra", 1.into()), "unknown field `extra`"),
        (with("/verificationMaterial/publicKey", json!({"hint": "a", "key": "b"})), "unknown field `key`"),
    ] {
        let error = parse(&bundle).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let text = key().to_string();
    for twice in [
        text.replace(r#""payload":"#, r#""payload":"e30=","payload":"#),
        text.replace(r#""hint":"#, r#""hint":"x","hint":"#),
        text.replace(r#""publicKey":"#, r#""tlogEntries":[{"a":{"b":1,"b":2}}],"publicKey":"#),
    ] {
        assert_ne!(twice, text);
        let error = Bundle::parse(Cursor::new(twice)).unwrap_err().to_string();
        assert!(error.contains("duplicate field"), "{error}");
    }
    let many = json!({"x509CertificateChain": {"certificates": vec![json!({"rawBytes": "AA=="}); 17]}});
    assert!(parse(&with("/verificationMaterial", many)).unwrap_err().to_string().contains("more than 16 certificates"));
}

#[test]
fn the_payload_is_the_one_of_the_envelope() {
    let text = key().to_string();
    let payload_at = |text: &str| {
        let mut bundle = Bundle::parse(Cursor::new(text.to_owned()))?;
        Ok::<_, BundleError>(payload(&mut bundle))
    };
    assert_eq!(payload_at(&text), Ok(b"{}".to_vec()));
    // A member, a value or a part of a name that is called so elsewhere is not cut; white space is of no account.
    for other in [
        r#""tlogEntries":[],"timestampVerificationData":{"payload":"AAAA"},"publicKey":"#,
        r#""tlogEntries":[],"timestampVerificationData":["payload","payload "],"publicKey":"#,
        r#""tlogEntries":[],"timestampVerificationData":{"xpayload":"A","payloads":"A","\"payload":"A"},"publicKey":"#,
    ] {
        assert_eq!(payload_at(&text.replace(r#""publicKey":"#, other)), Ok(b"{}".to_vec()), "{other}");
    }
    assert_eq!(payload_at(&text.replace(r#""payload":"#, "\n\t \"payload\" \r\n : ")), Ok(b"{}".to_vec()));
    // Another name for it would be read by others only; with an escape in it, it is no Base64 for us.
    let spelled = text.replace(r#""payload":"e30=""#, r#""p\u0061yload":"e30=""#);
    assert_eq!(payload_at(&spelled), Err(BundleError::Json("dsseEnvelope.payload is not plain".into())));
    let spelled_and_empty = text.replace(r#""payload":"e30=""#, r#""p\u0061yload":"""#);
    assert_eq!(payload_at(&spelled_and_empty), Err(BundleError::Json("dsseEnvelope.payload is not plain".into())));
    let escaped = text.replace("e30=", "e30\\u003d");
    assert_eq!(payload_at(&escaped), Err(BundleError::Base64("dsseEnvelope.payload")));
    for broken in [text.replace(r#""e30=""#, "5"), text.replace(r#""e30=""#, "null"), text.replace(r#"e30=","#, "")] {
        assert!(matches!(payload_at(&broken), Err(BundleError::Json(_))), "{broken}");
    }
}

#[test]
fn only_the_payload_may_be_large() {
    let large = STANDARD.encode(vec![b' '; 2 * MAX_BESIDE as usize]);
    let mut bundle = parse(&with("/dsseEnvelope/payload", large.clone().into())).unwrap();
    assert_eq!(payload(&mut bundle).len(), 2 * MAX_BESIDE as usize);
    let error = parse(&with("/verificationMaterial/publicKey/hint", large.into())).unwrap_err();
    assert_eq!(error, BundleError::TooMuchBeside);
}

/// A source that is another one when it is read for the third time or later.
struct Moving {
    now: Cursor<String>,
    then: String,
    rewound: u32,
}

impl Read for Moving {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.now.read(buffer)
    }
}

impl Seek for Moving {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        if matches!(to, SeekFrom::Start(_)) {
            self.rewound += 1;
            if self.rewound == 3 {
                *self.now.get_mut() = self.then.clone();
            }
        }
        self.now.seek(to)
    }
}

#[test]
fn a_payload_that_changes_while_it_is_read_is_noticed() {
    let source = |then: &Value| Moving { now: Cursor::new(key().to_string()), then: then.to_string(), rewound: 0 };
    let mut still = Bundle::parse(source(&key())).unwrap();
    assert_eq!(payload(&mut still), b"{}");
    let mut bundle = Bundle::parse(source(&with("/dsseEnvelope/payload", STANDARD.encode("[]").into()))).unwrap();
    assert_eq!(bundle.payload.read(|_| ()).unwrap_err(), BundleError::Changed);
    assert_eq!(bundle.payload.hashed(Hasher::sha256()).err(), Some(BundleError::Changed));
}
