//! Bundles of any manifest, signed with a key.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use weightlock::verifier::manifest::Manifest;
use weightlock::verifier::oms::bundle::{MEDIA_TYPE, PAYLOAD_TYPE};
use weightlock::verifier::oms::keys;
use weightlock::verifier::oms::payload::pre_authentication_encoding;

use crate::sigstore::hex;

/// The statement of what a manifest lists, laid out as the reference writes it: with a line for each member.
pub fn statement(manifest: &Manifest) -> String {
    let algorithm = manifest.hashing().algorithm;
    let mut root = Sha256::new();
    let mut resources = String::new();
    for (index, file) in manifest.files().iter().enumerate() {
        let digest = manifest.digests(index);
        root.update(digest);
        let (path, digest, comma) = (file.path, hex(digest), if index == 0 { "" } else { "," });
        write!(
            resources,
            "{comma}\n      {{\n        \"algorithm\": \"{algorithm}\",\n        \"digest\": \"{digest}\",\n        \"name\": \"{path}\"\n      }}"
        )
        .unwrap();
    }
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": hex(&root.finalize())}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": algorithm.name(), "allow_symlinks": false},
            "resources": [],
        },
    });
    format!("{statement:#}").replace("\"resources\": []", &format!("\"resources\": [{resources}\n    ]"))
}

/// Signs a statement with a key; the bundle, and the authority that trusts it.
pub fn with_key(statement: &str) -> (Value, Value) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let signature = key.sign(&pre_authentication_encoding(statement.as_bytes())).unwrap();
    let bundle = json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(statement),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": STANDARD.encode(signature)}],
        },
    });
    (bundle, json!({"name": "key", "publicKey": {"pem": keys::pem(&key.subject_public_key_info())}}))
}
