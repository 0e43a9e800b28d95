//! Bundles over the model of tests/golden/oms, and the authority that an artifact trusts beside each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType,
};
use serde_json::{Value, json};

use super::sigstore::{self, Instance, Making};

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/oms/", $name))
    };
}

const KEY: &str = golden!("reference/p256.pub");
const BY_KEY: &str = golden!("reference/files-sha256-p256.sig");
const IDENTITY: &str = "weights-release@example.com";

/// The bundle, if there is one, and the authority.
pub type Made = fn(&Signers) -> (Option<String>, Value);

/// An authority of certificates and an instance of Sigstore, each beside a stranger.
pub struct Signers {
    root: Root,
    stranger: Root,
    instance: Instance,
    other_instance: Instance,
}

struct Root {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Root {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The statement of the golden bundle, signed with a certificate for this usage.
    fn sign(&self, usage: KeyUsagePurpose) -> String {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::Rfc822Name(IDENTITY.try_into().unwrap())];
        params.key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let mut bundle: Value = serde_json::from_str(BY_KEY).unwrap();
        let kind = bundle["dsseEnvelope"]["payloadType"].as_str().unwrap().to_owned();
        let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
        // PAE of DSSE v1.
        let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
        signed.extend(payload);
        let random = ring::rand::SystemRandom::new();
        let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der(), &random).unwrap();
        let signature = STANDARD.encode(pair.sign(&random, &signed).unwrap());
        bundle["dsseEnvelope"]["signatures"] = json!([{"sig": signature, "keyid": ""}]);
        let chain = json!({"certificates": [{"rawBytes": STANDARD.encode(leaf.der())}]});
        bundle["verificationMaterial"] = json!({"x509CertificateChain": chain, "tlogEntries": []});
        bundle.to_string()
    }

    fn trusted(&self, identity: &str) -> Value {
        json!({"name": "ca", "certificate": {"rootsPem": self.pem, "identity": identity}})
    }
}

impl Signers {
    pub fn new() -> Self {
        Self { root: Root::new(), stranger: Root::new(), instance: Instance::new(), other_instance: Instance::new() }
    }

    /// The statement of the golden bundle, signed without a key of one's own, and who is trusted for it.
    fn keyless(&self, making: Making<'_>) -> (Value, Value) {
        let bundle: Value = serde_json::from_str(BY_KEY).unwrap();
        let statement = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
        let trusted = json!({"identity": sigstore::IDENTITY, "issuer": sigstore::ISSUER, "trustedRoot": self.instance.trusted_root().to_string()});
        (self.instance.sign(&statement, making), json!({"name": "keyless", "sigstore": trusted}))
    }
}

/// What is at a place of a bundle, with its last bit flipped.
fn flip(bundle: &mut Value, pointer: &str) {
    let place = bundle.pointer_mut(pointer).unwrap();
    let mut bytes = STANDARD.decode(place.as_str().unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    *place = STANDARD.encode(bytes).into();
}

const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

fn trusted_key() -> Value {
    json!({"name": "release", "publicKey": {"pem": KEY}})
}

pub fn key(_: &Signers) -> (Option<String>, Value) {
    (Some(BY_KEY.into()), trusted_key())
}

pub fn missing(_: &Signers) -> (Option<String>, Value) {
    (None, trusted_key())
}

pub fn no_bundle(_: &Signers) -> (Option<String>, Value) {
    (Some("{}".into()), trusted_key())
}

pub fn no_statement(_: &Signers) -> (Option<String>, Value) {
    let mut bundle: Value = serde_json::from_str(BY_KEY).unwrap();
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let other = String::from_utf8(payload).unwrap().replacen("\"digest\": \"", "\"digest\": \"00", 1);
    bundle["dsseEnvelope"]["payload"] = STANDARD.encode(other).into();
    (Some(bundle.to_string()), trusted_key())
}

pub fn forged(_: &Signers) -> (Option<String>, Value) {
    let mut bundle: Value = serde_json::from_str(BY_KEY).unwrap();
    let other: Value = serde_json::from_str(golden!("reference/files-blake3-p256.sig")).unwrap();
    bundle["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"].clone();
    (Some(bundle.to_string()), trusted_key())
}

pub fn other_key(_: &Signers) -> (Option<String>, Value) {
    let pem = golden!("reference/p384.pub");
    (Some(BY_KEY.into()), json!({"name": "release", "publicKey": {"pem": pem}}))
}

pub fn other_method(signers: &Signers) -> (Option<String>, Value) {
    (Some(BY_KEY.into()), signers.root.trusted(IDENTITY))
}

pub fn old_predicate(_: &Signers) -> (Option<String>, Value) {
    (Some(golden!("reference/v01-p256.sig").into()), trusted_key())
}

pub fn symlinks(_: &Signers) -> (Option<String>, Value) {
    (Some(golden!("reference/symlinks-p256.sig").into()), trusted_key())
}

pub fn certificate(signers: &Signers) -> (Option<String>, Value) {
    (Some(signers.root.sign(KeyUsagePurpose::DigitalSignature)), signers.root.trusted(IDENTITY))
}

pub fn at_another_time(signers: &Signers) -> (Option<String>, Value) {
    let mut authority = signers.root.trusted(IDENTITY);
    authority["certificate"]["validAt"] = "2019-01-01T00:00:00Z".into();
    (Some(signers.root.sign(KeyUsagePurpose::DigitalSignature)), authority)
}

pub fn other_identity(signers: &Signers) -> (Option<String>, Value) {
    (Some(signers.root.sign(KeyUsagePurpose::DigitalSignature)), signers.root.trusted("intern@example.com"))
}

pub fn other_root(signers: &Signers) -> (Option<String>, Value) {
    (Some(signers.stranger.sign(KeyUsagePurpose::DigitalSignature)), signers.root.trusted(IDENTITY))
}

pub fn other_usage(signers: &Signers) -> (Option<String>, Value) {
    (Some(signers.root.sign(KeyUsagePurpose::KeyAgreement)), signers.root.trusted(IDENTITY))
}

pub fn keyless(signers: &Signers) -> (Option<String>, Value) {
    let (bundle, authority) = signers.keyless(Making::default());
    (Some(bundle.to_string()), authority)
}

pub fn other_issuer(signers: &Signers) -> (Option<String>, Value) {
    let (bundle, mut authority) = signers.keyless(Making::default());
    authority["sigstore"]["issuer"] = "https://accounts.example.org".into();
    (Some(bundle.to_string()), authority)
}

pub fn without_time(signers: &Signers) -> (Option<String>, Value) {
    let (mut bundle, authority) = signers.keyless(Making::default());
    bundle.pointer_mut(ENTRY).unwrap()["inclusionPromise"] = Value::Null;
    (Some(bundle.to_string()), authority)
}

pub fn not_in_the_log(signers: &Signers) -> (Option<String>, Value) {
    let (mut bundle, authority) = signers.keyless(Making::default());
    flip(&mut bundle, &format!("{ENTRY}/inclusionProof/rootHash"));
    (Some(bundle.to_string()), authority)
}

pub fn not_by_the_log(signers: &Signers) -> (Option<String>, Value) {
    let (mut bundle, authority) = signers.keyless(Making::default());
    flip(&mut bundle, &format!("{ENTRY}/inclusionPromise/signedEntryTimestamp"));
    (Some(bundle.to_string()), authority)
}

pub fn other_entry(signers: &Signers) -> (Option<String>, Value) {
    let (bundle, authority) = signers.keyless(Making { logged: Some(b"{}"), ..Making::default() });
    (Some(bundle.to_string()), authority)
}

pub fn certificate_not_logged(signers: &Signers) -> (Option<String>, Value) {
    let (bundle, authority) = signers.keyless(Making { certificate_is_logged: false, ..Making::default() });
    (Some(bundle.to_string()), authority)
}

pub fn other_log(signers: &Signers) -> (Option<String>, Value) {
    let (bundle, mut authority) = signers.keyless(Making::default());
    let mut trusted = signers.instance.trusted_root();
    trusted["tlogs"] = signers.other_instance.trusted_root()["tlogs"].clone();
    authority["sigstore"]["trustedRoot"] = trusted.to_string().into();
    (Some(bundle.to_string()), authority)
}
