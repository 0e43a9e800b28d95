//! A signature beside the digest: whose it is decides, and nothing in the volume says whom to trust.

use serde_json::{Value, json};

use crate::content::stopped;
use crate::harness::*;

/// A key pair: the private key in a file beside the weights' directory, the public key as PEM.
fn key(s: &Stage, name: &str) -> (tempfile::NamedTempFile, String) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let file = tempfile::Builder::new().prefix(&format!("{}-{name}", s.id)).tempfile().unwrap();
    std::fs::write(file.path(), pair.serialize_pem()).unwrap();
    (file, pair.public_key_pem())
}

/// Signs the directory of the weights into its `model.sig`.
async fn sign(weights: &Weights, key: &tempfile::NamedTempFile) {
    let directory = weights.host_dir.to_str().unwrap();
    let bundle = weights.host_dir.join("model.sig");
    let _ = std::fs::remove_file(&bundle);
    let (bundle, key) = (bundle.to_str().unwrap(), key.path().to_str().unwrap());
    weightlock(&["sign", directory, "--private-key", key, "--signature", bundle], "").await.success();
}

/// The honest pod runs. One that finds the signature of a stranger, a signature that was altered, or none, does not, though
/// every byte of the weights is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_run_if_an_authority_signed_them() {
    scenario("signed", |s| async move {
        let ns = s.inference().await;
        let weights = s.weights(&ns, "w", &[("config.json", b"{}"), ("model.safetensors", b"signed")]).await;
        let ((release, public), (stranger, _)) = (key(&s, "release"), key(&s, "stranger"));
        sign(&weights, &release).await;
        let mut declared: Value = artifact(&s.id, &weights, &[&s.id]);
        declared["spec"]["signature"] = json!({
            "bundlePath": "model.sig",
            "authorities": [{"name": "release", "publicKey": {"pem": public}}],
        });
        s.create(declared).await.unwrap();
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        s.create(model_server(&ns, "good", "vllm", "w")).await.unwrap();
        s.phase(&ns, "good", "Running").await;

        let bundle = weights.host_dir.join("model.sig");
        let signed = std::fs::read_to_string(&bundle).unwrap();
        sign(&weights, &stranger).await;
        s.create(model_server(&ns, "stranger", "vllm", "w")).await.unwrap();
        let message = stopped(&s, &ns, "stranger", 16).await;
        assert!(message.contains("[UntrustedKey] \"model.sig\""), "{message}");

        let mut altered: Value = serde_json::from_str(&signed).unwrap();
        let strange: Value = serde_json::from_slice(&std::fs::read(&bundle).unwrap()).unwrap();
        altered["dsseEnvelope"]["signatures"] = strange["dsseEnvelope"]["signatures"].clone();
        std::fs::write(&bundle, altered.to_string()).unwrap();
        s.create(model_server(&ns, "altered", "vllm", "w")).await.unwrap();
        let message = stopped(&s, &ns, "altered", 15).await;
        assert!(message.contains("[SignatureInvalid] \"model.sig\""), "{message}");

        std::fs::remove_file(&bundle).unwrap();
        s.create(model_server(&ns, "unsigned", "vllm", "w")).await.unwrap();
        let message = stopped(&s, &ns, "unsigned", 14).await;
        assert!(message.contains("[SignatureMissing]"), "{message}");
    })
    .await;
}
