//! Signatures of what lies in Hugging Face's cache. The signer had plain files; the links of the cache are not signed, but
//! what they give their names is.

use std::fs;

use weightlock::verifier::args::SignatureArg;
use weightlock::verifier::finding::Reason;
use weightlock::verifier::oms::Policy;
use weightlock::verifier::oms::authority::Authority;

use crate::layouts::{Cache, cache};
use crate::signing::{Desk, Kind, sign, with_key};
use crate::volume::one;

const BUNDLE: &str = "model.sig";

/// A cache whose revision was signed as plain files before it was published, with the bundle in the repository directory.
fn signed() -> Cache {
    let mut cache = cache();
    let plain = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "onnx/config.json", "plain.txt"] {
        let to = plain.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(cache.snapshot(name), to).unwrap();
    }
    let desk = Desk::new();
    let (key, authority) = desk.key(Kind::P256);
    sign(&with_key(plain.path(), key)).unwrap();
    fs::copy(plain.path().join(BUNDLE), cache.path(BUNDLE)).unwrap();
    let authorities = vec![Authority::parse(&authority.to_string()).unwrap()];
    cache.target.signature =
        Some(SignatureArg { path: BUNDLE.into(), policy: Policy { authorities, allow: Vec::new() } });
    cache
}

/// Pins what is there now, as somebody would who may declare and may not sign.
fn sealed_anew(mut cache: Cache) -> Cache {
    cache.pin(vec![BUNDLE.into()]);
    cache
}

#[test]
fn a_revision_is_verified_by_the_signature_of_its_files() {
    assert_eq!(signed().findings(), []);
    assert_eq!(sealed_anew(signed()).findings(), []);
}

#[test]
fn a_blob_that_was_changed_is_not_what_was_signed() {
    let cache = signed();
    fs::write(cache.path("blobs/bb"), [2; 5000]).unwrap();
    assert_eq!(cache.findings(), one(Reason::HashMismatch, "model.safetensors"));
    assert_eq!(sealed_anew(cache).findings(), one(Reason::SignedOtherFiles, "model.safetensors"));
}

#[test]
fn a_link_to_another_signed_blob_gives_a_name_to_bytes_that_were_not_signed_under_it() {
    let cache = signed();
    fs::remove_file(cache.snapshot("plain.txt")).unwrap();
    cache.link("../../blobs/aa", "plain.txt");
    assert_eq!(sealed_anew(cache).findings(), one(Reason::SignedOtherFiles, "plain.txt"));
}

#[test]
fn a_file_that_nobody_signed_is_refused_wherever_its_link_leads() {
    let cache = signed();
    cache.link("../../blobs/aa", "modeling_orion.py");
    assert_eq!(sealed_anew(cache).findings(), one(Reason::SignedOtherFiles, "modeling_orion.py"));
    let cache = signed();
    fs::remove_file(cache.snapshot("onnx/config.json")).unwrap();
    assert_eq!(sealed_anew(cache).findings(), one(Reason::SignedOtherFiles, "onnx/config.json"));
}

#[test]
fn the_bundle_is_a_file_of_the_repository_directory() {
    let cache = signed();
    fs::rename(cache.path(BUNDLE), cache.path("blobs/cc")).unwrap();
    std::os::unix::fs::symlink("blobs/cc", cache.path(BUNDLE)).unwrap();
    assert_eq!(cache.findings(), one(Reason::Symlink, BUNDLE));
    // Another bundle beside it belongs to no file of the revision.
    let cache = signed();
    fs::copy(cache.path(BUNDLE), cache.path("other.sig")).unwrap();
    assert_eq!(cache.findings(), one(Reason::BesideSnapshot, "other.sig"));
}
