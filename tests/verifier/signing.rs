//! `kubectl weightlock sign`: what it signs is verified by the verifier, for every key, method and hash; and what it cannot
//! sign with is refused by the name of the option.

use std::fs;
use std::path::{Path, PathBuf};

use p521::elliptic_curve::pkcs8::{EncodePrivateKey as _, LineEnding};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};
use serde_json::{Value, json};
use weightlock::cli::CliError;
use weightlock::cli::sign::{MethodArg, SignArgs, run};
use weightlock::verifier::args::{SignatureArg, Target};
use weightlock::verifier::finding::Reason;
use weightlock::verifier::manifest::DEFAULT_PATH;
use weightlock::verifier::oms::authority::Authority;
use weightlock::verifier::oms::keys;
use weightlock::verifier::oms::{Allowance, Policy};
use weightlock::verifier::store;

use crate::volume::{Volume, findings, manifest_of, one, sealed, volume};

pub const IDENTITY: &str = "weights-release@example.com";

/// A directory for keys and certificates, apart from what is signed.
pub struct Desk(tempfile::TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A private key as a file, and the authority that trusts it.
    pub fn key(&self, kind: Kind) -> (PathBuf, Value) {
        let (pem, spki) = kind.generate();
        let path = self.file("key.pem", pem);
        (path, json!({"name": "release", "publicKey": {"pem": keys::pem(&spki)}}))
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    P256,
    P384,
    P521,
}

impl Kind {
    /// PKCS#8 in PEM, and the DER of the public key.
    fn generate(self) -> (String, Vec<u8>) {
        use rcgen::PublicKeyData as _;
        let of = |algorithm| {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            (pair.serialize_pem(), pair.subject_public_key_info())
        };
        match self {
            Self::P256 => of(&PKCS_ECDSA_P256_SHA256),
            Self::P384 => of(&PKCS_ECDSA_P384_SHA384),
            Self::P521 => {
                use p521::elliptic_curve::pkcs8::EncodePublicKey as _;
                let mut scalar = [0; 66];
                ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut scalar[1..]).unwrap();
                let key = p521::SecretKey::from_slice(&scalar).unwrap();
                let public = key.public_key().to_public_key_der().unwrap();
                (key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(), public.as_bytes().to_vec())
            }
        }
    }
}

/// Arguments with a key and nothing else.
pub fn with_key(directory: &Path, key: PathBuf) -> SignArgs {
    SignArgs {
        directory: directory.into(),
        private_key: key,
        password_file: None,
        certificate: None,
        certificate_chain: Vec::new(),
        method: MethodArg::Files,
        shard_size: None,
        hash: "sha256".into(),
        ignore_paths: Vec::new(),
        signature: None,
    }
}

/// Signs; what was printed, or what was said of it.
pub fn sign(args: &SignArgs) -> Result<String, CliError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    run(args, &mut out, &mut err).map(|()| String::from_utf8(out).unwrap())
}

/// The volume as it is now, sealed anew, with the signature that is asked for.
fn asked(volume: &Volume, authority: &Value, allow: &[Allowance]) -> Target {
    let policy = Policy { authorities: vec![Authority::parse(&authority.to_string()).unwrap()], allow: allow.to_vec() };
    let _ = fs::remove_file(volume.path(DEFAULT_PATH));
    let manifest = manifest_of(volume.dir.path());
    store::write(volume.dir.path(), None, DEFAULT_PATH, &manifest).unwrap();
    let signature = Some(SignatureArg { path: "model.sig".into(), policy });
    Target { digest: manifest.digest(), signature, ..volume.target() }
}

/// Files of which one has several shards, one has exactly two, and one is empty.
fn shards() -> Volume {
    let long: Vec<u8> = (0..(5 << 19) + 7u32).map(|i| (i % 253) as u8).collect();
    sealed(&[("a/b", b"slash"), ("a.b", b"dot"), ("empty", b""), ("even.bin", &[9; 2 << 20]), ("weights.bin", &long)])
}

#[test]
fn what_is_signed_is_verified_for_every_method_and_hash() {
    for (method, shard_size) in
        [(MethodArg::Files, None), (MethodArg::Shards, Some(1 << 20)), (MethodArg::Shards, None)]
    {
        for hash in ["sha256", "blake2b", "blake3"] {
            let (desk, volume) = (Desk::new(), shards());
            let (key, authority) = desk.key(Kind::P256);
            let args = SignArgs { method, shard_size, hash: hash.into(), ..with_key(volume.dir.path(), key) };
            let said = sign(&args).unwrap();
            assert!(said.starts_with("Signed: 5 files, ") && said.contains("\nKey: "), "{said}");
            assert_eq!(findings(&asked(&volume, &authority, &[])), [], "{method:?} {hash}");
            // A byte of the last shard, one of a file with two, and a name: sealed anew, so that only the signature knows.
            let mut bytes = fs::read(volume.path("weights.bin")).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(volume.path("weights.bin"), bytes).unwrap();
            let target = asked(&volume, &authority, &[]);
            let reasons = [Reason::SignedOtherFiles, Reason::HashMismatch];
            let found = findings(&target);
            assert!(
                matches!(found.as_slice(), [(reason, path)] if reasons.contains(reason) && path == "weights.bin"),
                "{method:?} {hash}: {found:?}"
            );
            fs::rename(volume.path("a.b"), volume.path("a.c")).unwrap();
            let found = findings(&asked(&volume, &authority, &[]));
            assert!(found.contains(&(Reason::SignedOtherFiles, "a.c".into())), "{method:?} {hash}: {found:?}");
        }
    }
}

#[test]
fn every_curve_signs_and_no_other_key_is_taken_for_it() {
    for kind in [Kind::P256, Kind::P384, Kind::P521] {
        let (desk, volume) = (Desk::new(), volume());
        let (key, authority) = desk.key(kind);
        sign(&with_key(volume.dir.path(), key)).unwrap();
        assert_eq!(findings(&asked(&volume, &authority, &[])), [], "{kind:?}");
        let (_, stranger) = desk.key(kind);
        assert_eq!(findings(&asked(&volume, &stranger, &[])), one(Reason::UntrustedKey, "model.sig"), "{kind:?}");
    }
}

/// A root, an authority beneath it, and a leaf with its key: as files, and the root's PEM.
pub struct Chain {
    pub root: String,
    pub issuing: String,
    pub leaf: String,
    pub key: String,
}

impl Chain {
    pub fn new() -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (params, KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap())
        };
        let (root_params, root_key) = authority("root");
        let (issuing_params, issuing_key) = authority("issuing");
        let root = root_params.self_signed(&root_key).unwrap().pem();
        let by_root = Issuer::new(root_params, root_key);
        let issuing = issuing_params.signed_by(&issuing_key, &by_root).unwrap().pem();
        let by_issuing = Issuer::new(issuing_params, issuing_key);
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::Rfc822Name(IDENTITY.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let leaf = params.signed_by(&key, &by_issuing).unwrap().pem();
        Self { root, issuing, leaf, key: key.serialize_pem() }
    }

    pub fn args(&self, directory: &Path, desk: &Desk) -> SignArgs {
        SignArgs {
            certificate: Some(desk.file("leaf.crt", &self.leaf)),
            certificate_chain: vec![desk.file("issuing.crt", &self.issuing)],
            ..with_key(directory, desk.file("leaf.key", &self.key))
        }
    }

    pub fn trusted(&self) -> Value {
        json!({"name": "ca", "certificate": {"rootsPem": self.root, "identity": IDENTITY}})
    }
}

#[test]
fn a_certificate_signs_in_the_name_of_its_identity() {
    let (desk, volume, chain) = (Desk::new(), volume(), Chain::new());
    sign(&chain.args(volume.dir.path(), &desk)).unwrap();
    assert_eq!(findings(&asked(&volume, &chain.trusted(), &[])), []);
    let mut other = chain.trusted();
    other["certificate"]["identity"] = "intern@example.com".into();
    assert_eq!(findings(&asked(&volume, &other, &[])), one(Reason::UntrustedIdentity, "model.sig"));
    assert_eq!(findings(&asked(&volume, &Chain::new().trusted(), &[])), one(Reason::UntrustedChain, "model.sig"));
    // The chain is needed, and it is the bundle that carries it.
    let short = SignArgs { certificate_chain: Vec::new(), ..chain.args(volume.dir.path(), &desk) };
    sign(&short).unwrap();
    assert_eq!(findings(&asked(&volume, &chain.trusted(), &[])), one(Reason::UntrustedChain, "model.sig"));
}

#[test]
fn what_is_left_out_is_said_in_the_statement_and_has_to_be_allowed() {
    let (desk, volume) = (Desk::new(), volume());
    let (key, authority) = desk.key(Kind::P256);
    let args = SignArgs { ignore_paths: vec!["tokenizer/".into()], ..with_key(volume.dir.path(), key) };
    assert!(sign(&args).unwrap().starts_with("Signed: 2 files, "));
    let left_out = one(Reason::SignedWithIgnoredPaths, "tokenizer/vocab.txt");
    assert_eq!(findings(&asked(&volume, &authority, &[])), left_out);
    assert_eq!(findings(&asked(&volume, &authority, &[Allowance::IgnorePaths])), []);
}

/// PKCS#8 of a key of this algorithm, its parameters too if there are any; nobody looks at the key itself.
fn pkcs8(algorithm: &[u8]) -> String {
    let sequence = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        [vec![tag, u8::try_from(content.len()).unwrap()], content].concat()
    };
    let key = sequence(0x30, &[&[2, 1, 0], &sequence(0x30, &[algorithm]), &sequence(4, &[&[1, 2, 3]])]);
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
    format!("-----BEGIN PRIVATE KEY-----\n{encoded}\n-----END PRIVATE KEY-----\n")
}

#[test]
fn keys_that_cannot_sign_are_refused_by_name_and_kind() {
    const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    // An elliptic curve, and secp256k1 in particular.
    const KOBLITZ: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x0a];
    let (desk, volume) = (Desk::new(), volume());
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
    let (_, trusted) = desk.key(Kind::P256);
    let public = trusted["publicKey"]["pem"].as_str().unwrap().to_owned();
    for (content, problem) in [
        (ed25519, "is an Ed25519 key: OMS v1.0 signs with ECDSA on P-256, P-384 or P-521"),
        (pkcs8(RSA), "is an RSA key: OMS v1.0 signs with ECDSA"),
        (pkcs8(KOBLITZ), "is an ECDSA key on another curve, or damaged"),
        (public, "is \"PUBLIC KEY\": give a private key in PEM"),
        ("secret".into(), "is no private key in PEM"),
    ] {
        let key = desk.file("bad.pem", content);
        let error = sign(&with_key(volume.dir.path(), key.clone())).unwrap_err();
        let expected = format!("--private-key {:?} {problem}", key.display().to_string());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(matches!(error, CliError::Value { option: "--private-key", .. }), "{error:?}");
    }
    let absent = sign(&with_key(volume.dir.path(), desk.0.path().join("absent.pem"))).unwrap_err().to_string();
    assert!(absent.starts_with("cannot read ") && absent.contains("absent.pem"), "{absent}");
    assert!(!volume.path("model.sig").exists());
}

/// A key that is for this test only. OpenSSL 3 made it: `openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8
/// -passout 'pass:for tests only'`.
const ENCRYPTED: &str = include_str!("../golden/oms/ours/encrypted.pem");

#[test]
fn an_encrypted_key_needs_its_password() {
    let (desk, volume) = (Desk::new(), volume());
    let args = with_key(volume.dir.path(), desk.file("key.pem", ENCRYPTED));
    let good = SignArgs { password_file: Some(desk.file("good", "for tests only\n")), ..args.clone() };
    sign(&good).unwrap();
    let error = sign(&SignArgs { password_file: Some(desk.file("bad", "guess")), ..args.clone() }).unwrap_err();
    assert!(error.to_string().contains("cannot be decrypted") && error.to_string().contains("check the password"));
    assert!(matches!(error, CliError::Value { option: "--private-key", .. }), "{error:?}");
    let error = sign(&SignArgs { password_file: Some(desk.file("binary", [0xff])), ..args.clone() }).unwrap_err();
    assert!(matches!(error, CliError::Value { option: "--password-file", .. }), "{error:?}");
    let error = sign(&args).unwrap_err().to_string();
    assert!(error.ends_with("is encrypted: give --password-file, or set WEIGHTLOCK_KEY_PASSWORD"), "{error}");
}

#[test]
fn certificates_that_do_not_fit_are_refused_by_name() {
    let (desk, volume, chain) = (Desk::new(), volume(), Chain::new());
    let args = chain.args(volume.dir.path(), &desk);
    let other = Some(desk.file("other.crt", Chain::new().leaf));
    let several = Some(desk.file("several.crt", format!("{}{}", chain.leaf, chain.issuing)));
    let none = Some(desk.file("none.crt", "no certificate"));
    for (args, option, problem) in [
        (SignArgs { certificate: other, ..args.clone() }, "--certificate", "is not of the private key"),
        (SignArgs { certificate: several, ..args.clone() }, "--certificate", "holds several"),
        (SignArgs { certificate: none.clone(), ..args.clone() }, "--certificate", "has no PEM block \"CERTIFICATE\""),
        (
            SignArgs { certificate_chain: none.into_iter().collect(), ..args },
            "--certificate-chain",
            "has no PEM block \"CERTIFICATE\"",
        ),
    ] {
        let error = sign(&args).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{option} ")) && error.contains(problem), "{error}");
    }
}

#[test]
fn what_cannot_be_signed_is_refused_by_name() {
    let (desk, volume) = (Desk::new(), volume());
    let (key, _) = desk.key(Kind::P256);
    let args = with_key(volume.dir.path(), key);
    for (args, expected) in [
        (SignArgs { hash: "md5".into(), ..args.clone() }, "--hash \"md5\" is none of: sha256, blake2b, blake3"),
        (SignArgs { shard_size: Some(1 << 20), ..args.clone() }, "--shard-size \"1048576\" needs --method shards"),
        (
            SignArgs { method: MethodArg::Shards, shard_size: Some(1), ..args.clone() },
            "--shard-size \"1\" shardSize is 1: it must be at least",
        ),
        (SignArgs { ignore_paths: vec!["../x".into()], ..args.clone() }, "--ignore-path \"../x\" "),
        (SignArgs { ignore_paths: vec!["*.bin".into()], ..args.clone() }, "--ignore-path \"*.bin\" has one of * ? ["),
        (SignArgs { directory: volume.path("config.json"), ..args.clone() }, "DIRECTORY "),
    ] {
        let error = sign(&args).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    std::os::unix::fs::symlink("config.json", volume.path("link")).unwrap();
    let error = sign(&args).unwrap_err();
    assert!(matches!(&error, CliError::Digest { report, .. } if report.contains("[Symlink] \"link\"")), "{error}");
}
