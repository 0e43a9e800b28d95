use super::*;
use std::io::Cursor;

/// Made by the Python reference (`model_signing` 1.1.1); tests/golden/oms/README.md says how.
macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../../tests/golden/oms/", $name))
    };
}

fn key(pem: &str) -> String {
    serde_json::json!({"name": "key", "publicKey": {"pem": pem}}).to_string()
}

fn policy(authorities: &[String]) -> Policy {
    let authorities = authorities.iter().map(|json| Authority::parse(json).unwrap()).collect();
    Policy { authorities, allow: Vec::new() }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn verify(policy: &Policy, text: &str) -> Result<Signed<Cursor<String>>, Refusal> {
    policy.verify(Cursor::new(text.to_owned()), now())
}

fn statement_of(bundle: &str) -> Vec<u8> {
    let mut statement = Vec::new();
    let mut bundle = Bundle::parse(Cursor::new(bundle.to_owned())).unwrap();
    bundle.payload.read(|payload| payload.read_to_end(&mut statement)).unwrap().unwrap();
    statement
}

fn cause(policy: &Policy, text: &str) -> Cause {
    verify(policy, text).unwrap_err().cause
}

/// The bundle with its payload replaced.
fn with_payload(bundle: &str, change: impl Fn(String) -> String) -> String {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let mut bundle: serde_json::Value = serde_json::from_str(bundle).unwrap();
    let payload = &mut bundle["dsseEnvelope"]["payload"];
    let text = String::from_utf8(engine.decode(payload.as_str().unwrap()).unwrap()).unwrap();
    let changed = change(text.clone());
    assert_ne!(changed, text);
    *payload = engine.encode(changed).into();
    bundle.to_string()
}

const P256: &str = golden!("reference/p256.pub");
const FILES: &str = golden!("reference/files-sha256-p256.sig");

#[test]
fn bundles_of_the_reference_are_verified_on_every_curve_and_with_every_hash() {
    for (pem, bundle, shards) in [
        (P256, FILES, None),
        (golden!("reference/p384.pub"), golden!("reference/files-sha256-p384.sig"), None),
        (golden!("reference/p521.pub"), golden!("reference/files-sha256-p521.sig"), None),
        (P256, golden!("reference/files-blake2b-p256.sig"), None),
        (P256, golden!("reference/files-blake3-p256.sig"), None),
        (P256, golden!("reference/shards-sha256-p256.sig"), Some(1 << 20)),
        (P256, golden!("reference/shards-blake2b-p256.sig"), Some(1 << 20)),
        (P256, golden!("reference/single-p256.sig"), None),
    ] {
        let signed = verify(&policy(&[key(pem)]), bundle).unwrap();
        assert_eq!(signed.authority, "key");
        assert_eq!(signed.statement.serialization.hashing.shard_size, shards);
    }
}

#[test]
fn another_key_is_not_trusted_and_any_of_several_will_do() {
    let other = key(golden!("reference/p384.pub"));
    let refusal = verify(&policy(std::slice::from_ref(&other)), FILES).unwrap_err();
    assert_eq!(refusal.cause, Cause::UntrustedKey);
    assert!(refusal.detail.starts_with("authority \"key\": the bundle is of the key \"31cc6dbc"), "{}", refusal.detail);
    verify(&policy(&[other, key(P256)]), FILES).unwrap();
    assert_eq!(cause(&policy(&[]), FILES), Cause::UntrustedMethod);
}

#[test]
fn the_fingerprint_is_of_the_text_of_the_key() {
    let key = PublicKey::from_pem(P256).unwrap();
    assert_eq!(key.fingerprint(), "31cc6dbcba0eea58c0199cdd9847363f9a3fbc122185580ab38a490a4d3e4ce1");
    // However it is broken into lines, and whatever stands around it.
    let crlf = format!("release key\r\n{}", P256.replace('\n', "\r\n"));
    assert_eq!(PublicKey::from_pem(&crlf).unwrap(), key);
}

#[test]
fn a_changed_payload_or_signature_is_noticed() {
    let policy = policy(&[key(P256)]);
    let renamed = with_payload(FILES, |text| text.replace("config.json", "comfig.json"));
    assert_eq!(cause(&policy, &renamed), Cause::SignatureInvalid);
    let root = with_payload(FILES, |text| text.replacen("\"digest\": \"", "\"digest\": \"00", 1));
    assert_eq!(cause(&policy, &root), Cause::StatementInvalid);
    let mut bundle: serde_json::Value = serde_json::from_str(FILES).unwrap();
    bundle["dsseEnvelope"]["signatures"][0]["sig"] =
        serde_json::from_str::<serde_json::Value>(golden!("reference/files-blake3-p256.sig")).unwrap()["dsseEnvelope"]
            ["signatures"][0]["sig"]
            .clone();
    assert_eq!(cause(&policy, &bundle.to_string()), Cause::SignatureInvalid);
}

#[test]
fn a_bundle_without_a_hint_is_tried_with_every_key() {
    let mut bundle: serde_json::Value = serde_json::from_str(FILES).unwrap();
    bundle["verificationMaterial"] = serde_json::json!({"publicKey": {"rawBytes": "AAEC", "keyDetails": "X"}});
    verify(&policy(&[key(golden!("reference/p384.pub")), key(P256)]), &bundle.to_string()).unwrap();
    bundle["verificationMaterial"] = serde_json::json!({"publicKey": {}});
    verify(&policy(&[key(P256)]), &bundle.to_string()).unwrap();
    assert_eq!(cause(&policy(&[key(golden!("reference/p384.pub"))]), &bundle.to_string()), Cause::UntrustedKey);
}

#[test]
fn keys_of_other_types_are_refused_with_their_type() {
    use base64::Engine as _;
    let block = |der: &[u8]| keys::pem(der).replace("\n\n", "\n");
    // The prefix of an Ed25519 key, and of an RSA key whose content nobody looks at.
    let mut ed25519 = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    ed25519.extend([7; 32]);
    let rsa = base64::engine::general_purpose::STANDARD.decode("MBwwDQYJKoZIhvcNAQEBBQADCwAwCAIDAQABAgED").unwrap();
    for (pem, message) in [
        (block(&ed25519), "it is an Ed25519 key: OMS v1.0 signs with ECDSA on P-256, P-384 or P-521"),
        (block(&rsa), "it is an RSA key: OMS v1.0 signs with ECDSA"),
        ("no key".into(), "it has 0 PEM blocks \"PUBLIC KEY\""),
        (format!("{P256}{P256}"), "it has 2 PEM blocks \"PUBLIC KEY\""),
    ] {
        let error = Authority::parse(&key(&pem)).unwrap_err().to_string();
        assert!(error.starts_with("has a publicKey.pem that cannot be used") && error.contains(message), "{error}");
    }
}

#[test]
fn an_authority_is_exactly_one_thing() {
    for (json, message) in [
        (r#"{"name":"a"}"#, "takes exactly one of: publicKey, certificate, sigstore"),
        (r#"{"name":"a","publicKey":{"pem":""},"sigstore":{"identity":"i","issuer":"j"}}"#, "takes exactly one of"),
        (
            r#"{"name":"a","sigstore":{"identity":"","issuer":"j"}}"#,
            "has a sigstore.identity that cannot be used: it is empty",
        ),
        (r#"{"name":"a","sigstore":{"identity":"i","issuer":""}}"#, "has a sigstore.issuer that cannot be used"),
        (r#"{"name":"a","sigstore":{"identity":"i","issuer":"j","trustedRoot":"{}"}}"#, "has a sigstore.trustedRoot"),
        (
            r#"{"name":"a","certificate":{"rootsPem":"x","identity":"i"}}"#,
            "has a certificate.rootsPem that cannot be used",
        ),
        (r#"{"name":"a","anyone":true}"#, "unknown field `anyone`"),
    ] {
        let error = Authority::parse(json).unwrap_err().to_string();
        assert!(error.contains(message), "{json}: {error}");
    }
    Authority::parse(r#"{"name":"a","sigstore":{"identity":"a@b","issuer":"https://c"}}"#).unwrap();
}

#[test]
fn a_loosely_made_signature_needs_its_allowance() {
    // Signed by the reference with links allowed, and by a signer of the form before 1.0.
    for (bundle, allowance, expected) in [
        (golden!("reference/symlinks-p256.sig"), Allowance::Symlinks, Cause::SignedWithSymlinks),
        (golden!("reference/v01-p256.sig"), Allowance::StatementV01, Cause::SignedWithOldPredicate),
    ] {
        let mut policy = policy(&[key(P256)]);
        assert_eq!(cause(&policy, bundle), expected);
        policy.allow = Allowance::ALL.map(|(_, other)| other).into_iter().filter(|a| *a != allowance).collect();
        assert_eq!(cause(&policy, bundle), expected);
        policy.allow = vec![allowance];
        assert_eq!(verify(&policy, bundle).unwrap().authority, "key");
    }
    // The old encoding is accepted with the old predicate only.
    let mut all = policy(&[key(P256)]);
    all.allow = Allowance::ALL.map(|(_, allowance)| allowance).to_vec();
    let changed = with_payload(golden!("reference/v01-p256.sig"), |text| text.replacen("config", "comfig", 1));
    assert_eq!(cause(&all, &changed), Cause::SignatureInvalid);
}

#[test]
fn what_old_signers_signed_is_written_as_python_writes_bytes() {
    use base64::Engine as _;
    use sha2::{Digest as _, Sha256};
    let mut bundle: serde_json::Value = serde_json::from_str(FILES).unwrap();
    for (statement, signed) in [
        (b"{}".as_slice(), "DSSEV1 28 application/vnd.in-toto+json 2 b'{}'"),
        (b"\n\t\r\\\x00\x7f\xc3\xa9", r"DSSEV1 28 application/vnd.in-toto+json 8 b'\n\t\r\\\x00\x7f\xc3\xa9'"),
        (b"it's \"x\"", r#"DSSEV1 28 application/vnd.in-toto+json 8 b'it\'s "x"'"#),
    ] {
        bundle["dsseEnvelope"]["payload"] = base64::engine::general_purpose::STANDARD.encode(statement).into();
        let mut payload = Bundle::parse(Cursor::new(bundle.to_string())).unwrap().payload;
        let hashed = payload.hashed_as_before(Hasher::sha256()).unwrap();
        assert_eq!(hashed.finish(), Sha256::digest(signed).to_vec(), "{signed}");
    }
}

mod certificates {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
        PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
    };
    use time::Duration;

    const IDENTITY: &str = "weights-release@example.com";

    struct Authority_ {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
        der: Vec<u8>,
    }

    fn authority(name: &str, by: Option<&Authority_>) -> Authority_ {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = now() - Duration::days(10);
        params.not_after = now() + Duration::days(10);
        let certificate = match by {
            None => params.self_signed(&key).unwrap(),
            Some(by) => params.signed_by(&key, &by.issuer).unwrap(),
        };
        Authority_ { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    fn leaf_params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "release");
        params.subject_alt_names = vec![SanType::Rfc822Name(IDENTITY.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = now() - Duration::days(1);
        params.not_after = now() + Duration::days(1);
        params
    }

    fn named(names: Vec<SanType>) -> CertificateParams {
        let mut params = leaf_params();
        params.subject_alt_names = names;
        params
    }

    /// A bundle signed by a leaf beneath `by`.
    fn signed(params: &CertificateParams, by: &Authority_, others: &[&Authority_]) -> String {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let leaf = params.signed_by(&key, &by.issuer).unwrap();
        let statement = statement_of(FILES);
        let random = ring::rand::SystemRandom::new();
        let pair = ring::signature::EcdsaKeyPair::from_pkcs8(
            &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &key.serialize_der(),
            &random,
        )
        .unwrap();
        let signature = pair.sign(&random, &payload::pre_authentication_encoding(&statement)).unwrap();
        let certificates: Vec<_> = std::iter::once(leaf.der().to_vec())
            .chain(others.iter().map(|other| other.der.clone()))
            .map(|der| serde_json::json!({"rawBytes": engine.encode(der)}))
            .collect();
        serde_json::json!({
            "mediaType": bundle::MEDIA_TYPE,
            "verificationMaterial": {"x509CertificateChain": {"certificates": certificates}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": engine.encode(&statement),
                "payloadType": bundle::PAYLOAD_TYPE,
                "signatures": [{"sig": engine.encode(signature.as_ref()), "keyid": ""}],
            },
        })
        .to_string()
    }

    fn trusting(root: &Authority_, identity: &str, valid_at: Option<&str>) -> Policy {
        let mut certificate = serde_json::json!({"rootsPem": root.pem, "identity": identity});
        if let Some(at) = valid_at {
            certificate["validAt"] = at.into();
        }
        policy(&[serde_json::json!({"name": "ca", "certificate": certificate}).to_string()])
    }

    #[test]
    fn a_path_leads_through_the_bundle_to_the_root_of_the_artifact() {
        let root = authority("root", None);
        let middle = authority("middle", Some(&root));
        let bundle = signed(&leaf_params(), &middle, &[&middle, &root]);
        assert_eq!(verify(&trusting(&root, IDENTITY, None), &bundle).unwrap().authority, "ca");
        // Without the certificate between there is no path, and a root in the bundle is not trusted for being there.
        let short = signed(&leaf_params(), &middle, &[]);
        assert_eq!(cause(&trusting(&root, IDENTITY, None), &short), Cause::UntrustedChain);
        let other = authority("root", None);
        assert_eq!(cause(&trusting(&other, IDENTITY, None), &bundle), Cause::UntrustedChain);
    }

    #[test]
    fn the_identity_is_required_and_exact() {
        let root = authority("root", None);
        let bundle = signed(&leaf_params(), &root, &[]);
        verify(&trusting(&root, IDENTITY, None), &bundle).unwrap();
        for other in ["weights-release@example.co", "Weights-release@example.com", "*@example.com", "example.com"] {
            let refusal = verify(&trusting(&root, other, None), &bundle).unwrap_err();
            assert_eq!(refusal.cause, Cause::UntrustedIdentity, "{other}");
            assert!(refusal.detail.contains(IDENTITY), "{}", refusal.detail);
        }
        for (san, identity) in [
            (SanType::URI("spiffe://example.com/release".try_into().unwrap()), "spiffe://example.com/release"),
            (SanType::DnsName("release.example.com".try_into().unwrap()), "release.example.com"),
        ] {
            let params = named(vec![san]);
            verify(&trusting(&root, identity, None), &signed(&params, &root, &[])).unwrap();
        }
        // An address in a name of another kind is no address; and the common name is no identity.
        let disguised = SanType::URI(IDENTITY.try_into().unwrap());
        let params = named(vec![disguised]);
        assert_eq!(cause(&trusting(&root, IDENTITY, None), &signed(&params, &root, &[])), Cause::UntrustedIdentity);
        let params = named(Vec::new());
        assert_eq!(cause(&trusting(&root, "release", None), &signed(&params, &root, &[])), Cause::UntrustedIdentity);
    }

    #[test]
    fn an_expired_leaf_is_refused_unless_the_time_is_pinned() {
        let root = authority("root", None);
        let mut params = leaf_params();
        params.not_before = now() - Duration::days(5);
        params.not_after = now() - Duration::days(3);
        let bundle = signed(&params, &root, &[]);
        let refusal = verify(&trusting(&root, IDENTITY, None), &bundle).unwrap_err();
        assert_eq!(refusal.cause, Cause::CertificateTime);
        assert!(refusal.detail.contains("a certificate expired at"), "{}", refusal.detail);
        let rfc3339 = |at: OffsetDateTime| at.format(&time::format_description::well_known::Rfc3339).unwrap();
        verify(&trusting(&root, IDENTITY, Some(&rfc3339(now() - Duration::days(4)))), &bundle).unwrap();
        let before = trusting(&root, IDENTITY, Some(&rfc3339(now() - Duration::days(6))));
        assert_eq!(cause(&before, &bundle), Cause::CertificateTime);
        let before_the_root = trusting(&root, IDENTITY, Some(&rfc3339(now() - Duration::days(60))));
        assert!(verify(&before_the_root, &bundle).unwrap_err().detail.contains("none of the roots is valid"));
    }

    #[test]
    fn a_certificate_that_may_not_sign_is_refused() {
        let root = authority("root", None);
        let of = |change: fn(&mut CertificateParams)| {
            let mut params = leaf_params();
            change(&mut params);
            verify(&trusting(&root, IDENTITY, None), &signed(&params, &root, &[])).map_err(|refusal| refusal.cause)
        };
        let code_signing_only = |params: &mut CertificateParams| {
            params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        };
        assert!(of(code_signing_only).is_ok());
        assert_eq!(of(|p| p.key_usages = vec![]).unwrap_err(), Cause::CertificateUsage);
        assert_eq!(of(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]).unwrap_err(), Cause::CertificateUsage);
        assert_eq!(
            of(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]).unwrap_err(),
            Cause::CertificateUsage
        );
        assert_eq!(of(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).unwrap_err(), Cause::CertificateUsage);
    }

    #[test]
    fn keys_certificates_and_keyless_are_not_taken_for_each_other() {
        let root = authority("root", None);
        let bundle = signed(&leaf_params(), &root, &[]);
        let keyless = r#"{"name":"k","sigstore":{"identity":"a@b","issuer":"https://c"}}"#.to_owned();
        assert_eq!(cause(&policy(&[key(P256)]), &bundle), Cause::UntrustedMethod);
        assert_eq!(cause(&policy(std::slice::from_ref(&keyless)), &bundle), Cause::UntrustedMethod);
        assert_eq!(cause(&trusting(&root, IDENTITY, None), FILES), Cause::UntrustedMethod);
        // The leaf named as a key: the key alone does not make it trusted.
        let mut confused: serde_json::Value = serde_json::from_str(&bundle).unwrap();
        confused["verificationMaterial"] = serde_json::json!({"publicKey": {"hint": ""}});
        assert_eq!(cause(&policy(&[key(P256)]), &confused.to_string()), Cause::UntrustedKey);
        // A chain where one keyless certificate should be.
        let single =
            serde_json::from_str::<serde_json::Value>(&bundle).unwrap()["verificationMaterial"]["x509CertificateChain"]
                ["certificates"][0]
                .clone();
        confused["verificationMaterial"] = serde_json::json!({"certificate": single, "tlogEntries": [{}]});
        assert_eq!(cause(&trusting(&root, IDENTITY, None), &confused.to_string()), Cause::UntrustedMethod);
        assert_eq!(cause(&policy(&[keyless]), &confused.to_string()), Cause::BundleInvalid);
    }

    #[test]
    fn a_changed_payload_under_a_good_certificate_is_noticed() {
        let root = authority("root", None);
        let bundle = signed(&leaf_params(), &root, &[]);
        let changed = with_payload(&bundle, |text| text.replace("config.json", "comfig.json"));
        assert_eq!(cause(&trusting(&root, IDENTITY, None), &changed), Cause::SignatureInvalid);
    }

    #[test]
    fn a_leaf_with_another_type_of_key_is_refused() {
        let root = authority("root", None);
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let leaf = leaf_params().signed_by(&key, &root.issuer).unwrap();
        let refusal = certificate::trusted_key(
            &[leaf.der().to_vec()],
            &certificate::Roots::from_pem(&root.pem).unwrap(),
            IDENTITY,
            now(),
        )
        .unwrap_err();
        assert_eq!(refusal.cause, Cause::BundleInvalid);
        assert!(refusal.detail.contains("it is an Ed25519 key"), "{}", refusal.detail);
    }
}
