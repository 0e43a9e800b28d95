//! Bundles of the public instance of sigstore and of its staging instance (tests/golden/oms/README.md). Their statements
//! are not about models; everything around the statement is what a keyless signature of a model has.

use super::*;
use crate::verifier::oms::bundle::Bundle;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::io::Cursor;

const REKOR_V1: &str = include_str!("../../../tests/golden/oms/sigstore/rekor-v1.json");
const REKOR_V2: &str = include_str!("../../../tests/golden/oms/sigstore/rekor-v2.json");
const WORKFLOW: &str = "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main";
const ACTIONS: &str = "https://token.actions.githubusercontent.com";
const SUBJECT: [u8; 32] = [
    0x54, 0x30, 0x34, 0x91, 0xa8, 0x41, 0x8f, 0xbe, 0xd2, 0x43, 0x44, 0xb5, 0x13, 0x54, 0x61, 0x82, 0xc2, 0x9b, 0x43,
    0xbf, 0x28, 0x2c, 0xeb, 0x43, 0x3a, 0xf6, 0x5e, 0x22, 0x99, 0xf9, 0x27, 0x1f,
];

fn public() -> Root {
    Root::parse(None).unwrap()
}

fn staging() -> Root {
    Root::parse(Some(sigstore_trust_root::SIGSTORE_STAGING_TRUSTED_ROOT)).unwrap()
}

fn check(text: &str, root: &Root, identity: &str, issuer: &str) -> Result<(), Cause> {
    let mut bundle = Bundle::parse(Cursor::new(text)).unwrap();
    verify(&mut bundle.payload, SUBJECT, root, identity, issuer).map_err(|refusal| refusal.cause)
}

#[test]
fn real_bundles_are_verified_offline() {
    assert_eq!(check(REKOR_V1, &public(), WORKFLOW, ACTIONS), Ok(()));
    assert_eq!(check(REKOR_V2, &staging(), "jku@goto.fi", "https://github.com/login/oauth"), Ok(()));
}

#[test]
fn identity_and_issuer_are_exact() {
    for identity in ["https://github.com/prefix-dev/sigstore-example", "jku@goto.fi", "*", &WORKFLOW.to_uppercase()] {
        assert_eq!(check(REKOR_V1, &public(), identity, ACTIONS), Err(Cause::UntrustedIdentity), "{identity}");
    }
    for issuer in ["https://token.actions.githubusercontent.com/", "https://accounts.google.com"] {
        assert_eq!(check(REKOR_V1, &public(), WORKFLOW, issuer), Err(Cause::UntrustedIssuer), "{issuer}");
    }
}

#[test]
fn another_instance_is_not_trusted() {
    assert!(check(REKOR_V1, &staging(), WORKFLOW, ACTIONS).is_err());
    assert!(check(REKOR_V2, &public(), "jku@goto.fi", "https://github.com/login/oauth").is_err());
}

fn changed(pointer: &str, to: Value) -> String {
    let mut bundle: Value = serde_json::from_str(REKOR_V1).unwrap();
    let place = bundle.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"));
    assert_ne!(*place, to);
    *place = to;
    bundle.to_string()
}

#[test]
fn every_part_of_the_evidence_counts() {
    let flipped = |pointer: &str| {
        let bundle: Value = serde_json::from_str(REKOR_V1).unwrap();
        let mut bytes = STANDARD.decode(bundle.pointer(pointer).unwrap().as_str().unwrap()).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        changed(pointer, STANDARD.encode(bytes).into())
    };
    let entry = "/verificationMaterial/tlogEntries/0";
    for text in [
        flipped("/dsseEnvelope/payload"),
        flipped("/dsseEnvelope/signatures/0/sig"),
        flipped("/verificationMaterial/certificate/rawBytes"),
        flipped(&format!("{entry}/inclusionPromise/signedEntryTimestamp")),
        flipped(&format!("{entry}/inclusionProof/rootHash")),
        flipped(&format!("{entry}/inclusionProof/hashes/0")),
        flipped(&format!("{entry}/canonicalizedBody")),
        changed(&format!("{entry}/integratedTime"), "1".into()),
        changed(&format!("{entry}/inclusionProof/checkpoint/envelope"), "x".into()),
        changed(&format!("{entry}/inclusionProof"), Value::Null),
        changed(&format!("{entry}/logId/keyId"), STANDARD.encode([0; 32]).into()),
    ] {
        assert!(check(&text, &public(), WORKFLOW, ACTIONS).is_err(), "{text}");
    }
}

#[test]
fn another_subject_is_not_what_was_signed() {
    let mut bundle = Bundle::parse(Cursor::new(REKOR_V1)).unwrap();
    let refusal = verify(&mut bundle.payload, [0; 32], &public(), WORKFLOW, ACTIONS).unwrap_err();
    assert!(refusal.detail.contains("does not match"), "{}", refusal.detail);
}

/// A source that is one bundle while it is parsed, and another when its whole text is read.
struct Moving(Cursor<&'static str>, u32);

impl Read for Moving {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for Moving {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.1 += u32::from(to == std::io::SeekFrom::Start(0));
        if self.1 == 2 {
            *self.0.get_mut() = REKOR_V1;
        }
        self.0.seek(to)
    }
}

#[test]
fn what_was_parsed_is_what_is_verified() {
    let mut bundle = Bundle::parse(Moving(Cursor::new(REKOR_V2), 0)).unwrap();
    let refusal = verify(&mut bundle.payload, SUBJECT, &public(), WORKFLOW, ACTIONS).unwrap_err();
    assert_eq!(refusal.detail, "its payload is read in two ways");
}
