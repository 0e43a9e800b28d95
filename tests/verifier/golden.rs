//! Bundles that this verifier's own signer made once (tests/golden/oms/README.md): every later version must read them.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use weightlock::verifier::args::{SignatureArg, Target};
use weightlock::verifier::finding::Reason;
use weightlock::verifier::oms::Policy;
use weightlock::verifier::oms::authority::Authority;

use crate::signatures::model;
use crate::volume::{findings, one};

/// Each bundle of the model, its name, and the authority that signed it.
fn bundles() -> Vec<(String, String, Value)> {
    let text = fs::read_to_string(directory().join("authorities.json")).unwrap();
    let authorities: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    let read = |name: &str| fs::read_to_string(directory().join(name)).unwrap();
    authorities.into_iter().map(|(name, authority)| (read(&name), name, authority)).collect()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/oms/ours")
}

#[test]
fn bundles_that_were_made_once_are_still_verified() {
    let bundles = bundles();
    for name in [
        "files-sha256-p256.sig",
        "files-sha256-p384.sig",
        "files-sha256-p521.sig",
        "files-blake2b-p256.sig",
        "files-blake3-p256.sig",
        "shards-sha256-p256.sig",
        "shards-blake2b-p256.sig",
        "shards-blake3-p256.sig",
        "certificate.sig",
        "keyless.sig",
    ] {
        let (bundle, _, authority) = bundles.iter().find(|(_, known, _)| known == name).unwrap();
        let volume = model(bundle, |_| {});
        let asked = |authority: &Value| {
            let policy =
                Policy { authorities: vec![Authority::parse(&authority.to_string()).unwrap()], allow: Vec::new() };
            Target { signature: Some(SignatureArg { path: "model.sig".into(), policy }), ..volume.target() }
        };
        assert_eq!(findings(&asked(authority)), [], "{name}");
        // And not by anybody else.
        let stranger = json!({"name": "s", "sigstore": {"identity": "a@example.com", "issuer": "https://example.com"}});
        let reason = if name == "keyless.sig" { Reason::UntrustedLog } else { Reason::UntrustedMethod };
        assert_eq!(findings(&asked(&stranger)), one(reason, "model.sig"), "{name}");
        fs::write(volume.path("config.json"), "[]\n").unwrap();
        let mut expected = one(Reason::HashMismatch, "config.json");
        if name.contains("blake") || name.contains("shards") {
            // The manifest is of SHA-256: what is signed is hashed besides.
            expected.insert(0, (Reason::SignedOtherFiles, "config.json".into()));
        }
        assert_eq!(findings(&asked(authority)), expected, "{name}");
    }
    assert_eq!(bundles.len(), 10);
}

/// Makes them anew. Only for a new kind of bundle: what is there must stay.
#[cfg(feature = "operator")]
#[test]
#[ignore = "writes tests/golden/oms/ours"]
fn golden_bundles_are_made() {
    use crate::signatures::statement_of;
    use crate::signing::{Chain, Desk, Kind, sign, with_key};
    use crate::sigstore::{IDENTITY, ISSUER, Instance, Making};
    use weightlock::cli::sign::{MethodArg, SignArgs};

    let volume = model("", |_| {});
    fs::remove_file(volume.path("model.sig")).unwrap();
    fs::remove_dir_all(volume.path(".weightlock")).unwrap();
    let mut authorities = serde_json::Map::new();
    let desk = Desk::new();
    let mut keep = |name: &str, args: SignArgs, authority: Value| {
        let to = directory().join(name);
        if !to.exists() {
            sign(&SignArgs { signature: Some(to), ..args }).unwrap();
            authorities.insert(name.into(), authority);
        }
    };
    for (name, kind, method, hash) in [
        ("files-sha256-p256.sig", Kind::P256, MethodArg::Files, "sha256"),
        ("files-sha256-p384.sig", Kind::P384, MethodArg::Files, "sha256"),
        ("files-sha256-p521.sig", Kind::P521, MethodArg::Files, "sha256"),
        ("files-blake2b-p256.sig", Kind::P256, MethodArg::Files, "blake2b"),
        ("files-blake3-p256.sig", Kind::P256, MethodArg::Files, "blake3"),
        ("shards-sha256-p256.sig", Kind::P256, MethodArg::Shards, "sha256"),
        ("shards-blake2b-p256.sig", Kind::P256, MethodArg::Shards, "blake2b"),
        ("shards-blake3-p256.sig", Kind::P256, MethodArg::Shards, "blake3"),
    ] {
        let (key, authority) = desk.key(kind);
        let shard_size = (method == MethodArg::Shards).then_some(1 << 20);
        let args = SignArgs { method, shard_size, hash: hash.into(), ..with_key(volume.dir.path(), key) };
        keep(name, args, authority);
    }
    let chain = Chain::new();
    let mut trusted = chain.trusted();
    trusted["certificate"]["validAt"] = "2025-03-01T12:00:00Z".into();
    keep("certificate.sig", chain.args(volume.dir.path(), &desk), trusted);

    let keyless = directory().join("keyless.sig");
    if !keyless.exists() {
        let made = fs::read(directory().join("files-sha256-p256.sig")).unwrap();
        let statement = statement_of(&made);
        let instance = Instance::new();
        fs::write(&keyless, instance.sign(&statement, Making::default()).to_string()).unwrap();
        let root = instance.trusted_root().to_string();
        let sigstore = json!({"identity": IDENTITY, "issuer": ISSUER, "trustedRoot": root});
        authorities.insert("keyless.sig".into(), json!({"name": "keyless", "sigstore": sigstore}));
    }
    let to = directory().join("authorities.json");
    let known = fs::read_to_string(&to).unwrap_or_else(|_| "{}".into());
    let mut all: serde_json::Map<String, Value> = serde_json::from_str(&known).unwrap();
    all.extend(authorities);
    fs::write(to, format!("{:#}\n", Value::from(all))).unwrap();
}
