//! Keyless signatures of a model, from a certificate's issue to the verdict of the program; and every part of the evidence
//! changed by itself.

use std::ffi::OsString;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::Duration;
use weightlock::verifier::finding::{Reason, exit};
use weightlock::verifier::oms::bundle::MAX_KEYLESS_BYTES;

use crate::signatures::{FILES, model, statement_of};
use crate::sigstore::{IDENTITY, ISSUER, Instance, Making};
use crate::volume::{Volume, verify_args};

const BUNDLE: &str = "model.sig";
const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

/// The statement of a golden bundle: it is of the files of the model.
fn statement() -> Vec<u8> {
    statement_of(FILES.as_bytes())
}

fn authority(trusted_root: &Value) -> Value {
    json!({
        "name": "keyless",
        "sigstore": {"identity": IDENTITY, "issuer": ISSUER, "trustedRoot": trusted_root.to_string()},
    })
}

/// Runs the program on the model with this bundle; its exit code and what it said.
fn run(volume: &Volume, bundle: &Value, authority: &Value) -> (u8, String) {
    fs::write(volume.path(BUNDLE), bundle.to_string()).unwrap();
    let mut args = verify_args(volume);
    args.extend(["--signature", BUNDLE, "--authority", &authority.to_string()].map(OsString::from));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_weightlock-verify")).args(args).output().unwrap();
    let code = output.status.code().unwrap();
    (u8::try_from(code).unwrap(), String::from_utf8(output.stdout).unwrap())
}

struct Stage {
    instance: Instance,
    volume: Volume,
    bundle: Value,
}

impl Stage {
    /// The honest twin of everything that is refused: as it is here, it is accepted.
    fn new() -> Self {
        let instance = Instance::new();
        let bundle = instance.sign(&statement(), Making::default());
        let stage = Self { volume: model(FILES, |_| {}), bundle, instance };
        let (code, said) = run(&stage.volume, &stage.bundle, &stage.trusting());
        assert_eq!(code, exit::VERIFIED, "{said}");
        assert!(said.contains("signed by \"keyless\""), "{said}");
        stage
    }

    fn trusting(&self) -> Value {
        authority(&self.instance.trusted_root())
    }

    /// Asserts the only reason why a bundle is refused, and that it says why.
    fn refused(&self, bundle: &Value, authority: &Value, reason: Reason, detail: &str) {
        let (code, said) = run(&self.volume, bundle, authority);
        assert_eq!(code, reason.exit_code(), "{said}");
        let finding = format!("[{reason:?}] {BUNDLE:?}: authority \"keyless\": ");
        assert!(said.contains(&finding) && said.contains(detail), "{reason:?}: {said}");
        assert_eq!(said.matches(&format!("{BUNDLE:?}: ")).count(), 1, "{said}");
    }

    /// The bundle with what is at a place changed.
    fn with(&self, pointer: &str, to: impl Into<Value>) -> Value {
        let mut bundle = self.bundle.clone();
        let place = bundle.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"));
        let to = to.into();
        assert_ne!(*place, to);
        *place = to;
        bundle
    }

    /// The bundle with the last bit of what is at a place flipped.
    fn flipped(&self, pointer: &str) -> Value {
        let text = self.bundle.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}"));
        let mut bytes = STANDARD.decode(text).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        self.with(pointer, STANDARD.encode(bytes))
    }
}

#[test]
fn a_keyless_signature_is_of_the_files_and_of_no_others() {
    let stage = Stage::new();
    // It is the statement that is compared with the volume, whoever signed it.
    fs::write(stage.volume.path("config.json"), "[]\n").unwrap();
    let (code, said) = run(&stage.volume, &stage.bundle, &stage.trusting());
    assert_eq!((code, said.contains("[HashMismatch] \"config.json\"")), (exit::CONTENT_MISMATCH, true), "{said}");
}

#[test]
fn another_identity_or_issuer_is_not_the_one_that_is_trusted() {
    let stage = Stage::new();
    for other in ["weights-release@example.com.evil.example", "Weights-release@example.com", "https://example.com/ci"] {
        let mut authority = stage.trusting();
        authority["sigstore"]["identity"] = other.into();
        stage.refused(&stage.bundle, &authority, Reason::UntrustedIdentity, IDENTITY);
    }
    for other in ["https://accounts.example.com/", "https://accounts.example"] {
        let mut authority = stage.trusting();
        authority["sigstore"]["issuer"] = other.into();
        stage.refused(&stage.bundle, &authority, Reason::UntrustedIssuer, ISSUER);
    }
}

#[test]
fn a_certificate_that_had_expired_when_it_was_logged_is_refused() {
    let stage = Stage::new();
    let late = stage.instance.sign(&statement(), Making { lifetime: Duration::seconds(10), ..Making::default() });
    stage.refused(&late, &stage.trusting(), Reason::CertificateTime, "CertExpired");
}

#[test]
fn the_certificate_must_be_in_a_certificate_log() {
    let stage = Stage::new();
    let unlogged = stage.instance.sign(&statement(), Making { certificate_is_logged: false, ..Making::default() });
    stage.refused(&unlogged, &stage.trusting(), Reason::CertificateLog, "missing SCT extension");
    // A timestamp by another key under the log's name; the certificate itself is as it was.
    let stranger = Instance::new();
    let mut trusted = stage.instance.trusted_root();
    trusted["ctlogs"][0]["publicKey"] = stranger.trusted_root()["ctlogs"][0]["publicKey"].clone();
    stage.refused(&stage.bundle, &authority(&trusted), Reason::CertificateLog, "SCT signature verification failed");
}

#[test]
fn a_changed_certificate_is_not_of_the_authority() {
    let stage = Stage::new();
    let changed = stage.flipped("/verificationMaterial/certificate/rawBytes");
    stage.refused(&changed, &stage.trusting(), Reason::UntrustedChain, "certificate chain is invalid");
}

#[test]
fn the_entry_must_be_proved_to_be_in_the_log() {
    let stage = Stage::new();
    let proof = |member: &str| format!("{ENTRY}/inclusionProof/{member}");
    let others = json!([STANDARD.encode([7; 32]), STANDARD.encode([8; 32])]);
    for changed in [
        stage.flipped(&proof("hashes/0")),
        stage.with(&proof("hashes"), others),
        stage.with(&proof("hashes"), json!([])),
        stage.flipped(&proof("rootHash")),
        stage.with(&proof("logIndex"), "0"),
        stage.with(&proof("treeSize"), "2"),
        stage.with(&format!("{ENTRY}/inclusionProof"), Value::Null),
    ] {
        stage.refused(&changed, &stage.trusting(), Reason::InclusionProof, "nclusion proof");
    }
}

#[test]
fn the_log_must_have_signed_promise_and_checkpoint() {
    let stage = Stage::new();
    let promise = format!("{ENTRY}/inclusionPromise/signedEntryTimestamp");
    stage.refused(&stage.flipped(&promise), &stage.trusting(), Reason::LogSignature, "SET verification failed");
    // It signed another time, and another place in the log.
    let time = stage.with(&format!("{ENTRY}/integratedTime"), "1740830431");
    stage.refused(&time, &stage.trusting(), Reason::LogSignature, "SET verification failed");
    let index = stage.with(&format!("{ENTRY}/logIndex"), "2");
    stage.refused(&index, &stage.trusting(), Reason::LogSignature, "SET verification failed");

    let checkpoint = format!("{ENTRY}/inclusionProof/checkpoint/envelope");
    let text = stage.bundle.pointer(&checkpoint).and_then(Value::as_str).unwrap().to_owned();
    let renamed = stage.with(&checkpoint, text.replacen("log.example.com - 1", "log.example.com - 2", 1));
    stage.refused(&renamed, &stage.trusting(), Reason::LogSignature, "invalid checkpoint");
    let stranger = Instance::new().sign(&statement(), Making::default());
    let (_, by_another) = stranger.pointer(&checkpoint).and_then(Value::as_str).unwrap().split_once("\n\n").unwrap();
    let (note, _) = text.split_once("\n\n").unwrap();
    let forged = stage.with(&checkpoint, format!("{note}\n\n{by_another}"));
    stage.refused(&forged, &stage.trusting(), Reason::LogSignature, "invalid checkpoint");
}

#[test]
fn without_a_promise_there_is_no_time_to_judge_the_certificate_by() {
    let stage = Stage::new();
    let timeless = stage.with(&format!("{ENTRY}/inclusionPromise"), Value::Null);
    stage.refused(&timeless, &stage.trusting(), Reason::TransparencyLog, "No verified timestamp found");
}

#[test]
fn logs_and_authorities_that_the_trusted_root_lacks_are_not_trusted() {
    let stage = Stage::new();
    let stranger = Instance::new().trusted_root();
    for (logs, others, detail) in [
        ("tlogs", stranger["tlogs"].clone(), "No log key valid"),
        ("tlogs", json!([]), "No log key valid"),
        ("ctlogs", stranger["ctlogs"].clone(), "key not found or not valid at 2025-03-01T12:00:00Z"),
        ("ctlogs", json!([]), "no CT log keys in trusted root"),
    ] {
        let mut trusted = stage.instance.trusted_root();
        trusted[logs] = others;
        stage.refused(&stage.bundle, &authority(&trusted), Reason::UntrustedLog, detail);
    }
    let mut trusted = stage.instance.trusted_root();
    trusted["certificateAuthorities"] = stranger["certificateAuthorities"].clone();
    stage.refused(&stage.bundle, &authority(&trusted), Reason::UntrustedChain, "certificate chain is invalid");
    // Nor does the public instance vouch for it, which counts where no root is given.
    let mut public = stage.trusting();
    public["sigstore"].as_object_mut().unwrap().remove("trustedRoot");
    stage.refused(&stage.bundle, &public, Reason::UntrustedLog, "No log key valid");
}

#[test]
fn an_entry_of_another_payload_says_nothing_of_this_one() {
    let stage = Stage::new();
    let other = Making { logged: Some(b"{}"), ..Making::default() };
    let bundle = stage.instance.sign(&statement(), other);
    stage.refused(&bundle, &stage.trusting(), Reason::OtherLogEntry, "DSSE payload hash mismatch");
    // An entry that is sound and of somebody else.
    let elsewhere = stage.instance.sign(&statement(), Making::default());
    let borrowed = stage.with(ENTRY, elsewhere.pointer(ENTRY).unwrap().clone());
    stage.refused(&borrowed, &stage.trusting(), Reason::OtherLogEntry, "does not match");
}

#[test]
fn a_changed_statement_is_not_what_was_signed() {
    let stage = Stage::new();
    let text = String::from_utf8(statement()).unwrap();
    let changed = stage.with("/dsseEnvelope/payload", STANDARD.encode(text.replace("config.json", "comfig.json")));
    stage.refused(&changed, &stage.trusting(), Reason::SignatureInvalid, "DSSE signature verification failed");
}

#[test]
fn a_keyless_bundle_that_would_not_fit_into_memory_is_refused() {
    let stage = Stage::new();
    let mut statement = statement();
    statement.resize(MAX_KEYLESS_BYTES as usize / 4 * 3, b' ');
    let large = stage.instance.sign(&statement, Making::default());
    stage.refused(&large, &stage.trusting(), Reason::BundleInvalid, "it is keyless and has more than 16777216 bytes");
}
