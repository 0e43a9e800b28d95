use super::*;
use serde_json::{Value, json};

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

fn parse(value: &Value) -> Result<Bundle, BundleError> {
    Bundle::parse(value.to_string().as_bytes())
}

fn with(pointer: &str, value: Value) -> Value {
    let mut bundle = key();
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    bundle.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(member.into(), value);
    bundle
}

#[test]
fn each_form_is_read() {
    let bundle = parse(&key()).unwrap();
    assert_eq!(bundle.material, Material::PublicKey { hint: Some("ab".into()), raw: None });
    assert_eq!(bundle.signature, b"s");
    assert_eq!(bundle.payload, Payload::new(b"{}"));
    assert_eq!(bundle.payload.statement(), b"{}");
    assert_eq!(bundle.payload.pre_authentication_encoding(), b"DSSEv1 28 application/vnd.in-toto+json 2 {}");

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
    for length in 0..20 {
        let payload = vec![b'x'; length];
        let parsed = parse(&with("/dsseEnvelope/payload", STANDARD.encode(&payload).into())).unwrap();
        assert_eq!(parsed.payload, Payload::new(&payload));
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
        let error = Bundle::parse(twice.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("duplicate field"), "{error}");
    }
    let many = json!({"x509CertificateChain": {"certificates": vec![json!({"rawBytes": "AA=="}); 17]}});
    assert!(parse(&with("/verificationMaterial", many)).unwrap_err().to_string().contains("more than 16 certificates"));
}
