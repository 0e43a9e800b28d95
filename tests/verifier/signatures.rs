//! Signatures beside the digest: bundles of the Python reference over a model that is written here, and every way in which
//! the two lists can differ.

use std::ffi::OsString;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::symlink;

use weightlock::verifier::args::{Layout, ManifestArg, SignatureArg, Target};
use weightlock::verifier::engine::verify;
use weightlock::verifier::finding::{Reason, exit};
use weightlock::verifier::manifest::{DEFAULT_PATH, Manifest};
use weightlock::verifier::oms::authority::Authority;
use weightlock::verifier::oms::bundle::Bundle;
use weightlock::verifier::oms::{Allowance, Policy};
use weightlock::verifier::progress::Progress;
use weightlock::verifier::{signed, store};

use crate::volume::*;

const P256: &str = include_str!("../golden/oms/reference/p256.pub");
const P384: &str = include_str!("../golden/oms/reference/p384.pub");
pub const FILES: &str = include_str!("../golden/oms/reference/files-sha256-p256.sig");
const BLAKE2B: &str = include_str!("../golden/oms/reference/files-blake2b-p256.sig");
const BLAKE3: &str = include_str!("../golden/oms/reference/files-blake3-p256.sig");
const SHARDS: &str = include_str!("../golden/oms/reference/shards-sha256-p256.sig");
const SHARDS_BLAKE2B: &str = include_str!("../golden/oms/reference/shards-blake2b-p256.sig");
const SINGLE: &str = include_str!("../golden/oms/reference/single-p256.sig");

/// The content that tests/golden/oms/README.md describes.
fn weights() -> Vec<u8> {
    (0..2_500_000u64).map(|i| ((i * i + 7 * i) % 251) as u8).collect()
}

/// What a bundle signs.
pub fn statement_of(bundle: &[u8]) -> Vec<u8> {
    let mut bundle = Bundle::parse(Cursor::new(bundle)).unwrap();
    let mut statement = Vec::new();
    bundle.payload.read(|payload| payload.read_to_end(&mut statement)).unwrap().unwrap();
    statement
}

/// The model that the golden bundles are of, with some of its files changed, sealed, and a bundle put beside it.
pub fn model(bundle: &str, change: impl Fn(&mut Vec<(&str, Vec<u8>)>)) -> Volume {
    let mut files = vec![
        ("a.b", b"dot\n".to_vec()),
        ("a/b", b"slash\n".to_vec()),
        ("config.json", b"{}\n".to_vec()),
        ("empty", Vec::new()),
        ("weights.bin", weights()),
    ];
    change(&mut files);
    let files: Vec<_> = files.iter().map(|(path, content)| (*path, content.as_slice())).collect();
    let volume = sealed(&files);
    fs::write(volume.path("model.sig"), bundle).unwrap();
    volume
}

fn authority(pem: &str) -> Authority {
    Authority::parse(&serde_json::json!({"name": "release", "publicKey": {"pem": pem}}).to_string()).unwrap()
}

fn signature(allow: &[Allowance]) -> SignatureArg {
    let policy = Policy { authorities: vec![authority(P256)], allow: allow.to_vec() };
    SignatureArg { path: "model.sig".into(), policy }
}

fn target(volume: &Volume, allow: &[Allowance]) -> Target {
    Target { signature: Some(signature(allow)), ..volume.target() }
}

fn reasons(volume: &Volume) -> Vec<(Reason, String)> {
    findings(&target(volume, &[]))
}

#[test]
fn bundles_of_the_reference_hold_for_its_files() {
    for bundle in [FILES, BLAKE2B, BLAKE3, SHARDS, SHARDS_BLAKE2B] {
        let volume = model(bundle, |_| {});
        let result = verify(&[target(&volume, &[])], &mut Progress::silent());
        assert!(result.findings.is_empty(), "{:?}", result.findings);
        assert_eq!(result.artifacts[0].authority.as_deref(), Some("release"));
    }
    let single = model(SINGLE, |files| files.retain(|(path, _)| *path == "weights.bin"));
    assert_eq!(reasons(&single), []);
}

#[test]
fn one_changed_byte_is_noticed_whichever_list_it_stands_in() {
    for bundle in [FILES, BLAKE2B, BLAKE3, SHARDS, SHARDS_BLAKE2B] {
        // In the volume: the manifest says so.
        let volume = model(bundle, |_| {});
        let mut bytes = weights();
        bytes[2_000_000] ^= 1;
        fs::write(volume.path("weights.bin"), &bytes).unwrap();
        assert!(reasons(&volume).contains(&(Reason::HashMismatch, "weights.bin".into())), "{bundle}");
        // Before sealing: the manifest agrees with the volume, and the signature does not.
        let resealed = model(bundle, |files| files.iter_mut().last().unwrap().1[2_000_000] ^= 1);
        assert_eq!(reasons(&resealed), one(Reason::SignedOtherFiles, "weights.bin"));
        fs::remove_file(resealed.path("model.sig")).unwrap();
        assert_eq!(resealed.findings(), []);
    }
}

#[test]
fn the_lists_are_of_the_same_files() {
    let extra = model(FILES, |files| files.push(("evil.py", b"x".to_vec())));
    assert_eq!(reasons(&extra), one(Reason::SignedOtherFiles, "evil.py"));
    let less = model(FILES, |files| files.retain(|(path, _)| *path != "a.b"));
    assert_eq!(reasons(&less), one(Reason::SignedOtherFiles, "a.b"));
    let longer = model(SHARDS, |files| {
        files.iter_mut().for_each(|(path, content)| {
            if *path == "config.json" {
                content.push(b'\n');
            }
        })
    });
    assert_eq!(reasons(&longer), one(Reason::SignedOtherFiles, "config.json"));
    let renamed = model(FILES, |files| files[2].0 = "Config.json");
    assert_eq!(
        reasons(&renamed),
        [(Reason::SignedOtherFiles, "Config.json".into()), (Reason::SignedOtherFiles, "config.json".into())]
    );
    // A dot stands for a single file, and there are several.
    assert!(reasons(&model(SINGLE, |_| {})).contains(&(Reason::SignedOtherFiles, ".".into())));
}

#[test]
fn what_the_signer_left_out_is_refused_unless_it_is_allowed() {
    let volume = model(FILES, |files| files.push((".gitattributes", b"* lfs\n".to_vec())));
    assert_eq!(reasons(&volume), one(Reason::SignedWithIgnoredPaths, ".gitattributes"));
    assert_eq!(findings(&target(&volume, &[Allowance::IgnorePaths])), []);
    assert_eq!(
        reasons(&model(FILES, |files| files.push(("x/.gitignore", vec![])))),
        one(Reason::SignedOtherFiles, "x/.gitignore")
    );
}

#[test]
fn the_signature_must_be_there_and_be_a_file() {
    let volume = model(FILES, |_| {});
    fs::remove_file(volume.path("model.sig")).unwrap();
    assert_eq!(reasons(&volume), one(Reason::SignatureMissing, "model.sig"));
    fs::create_dir(volume.path("model.sig")).unwrap();
    assert_eq!(reasons(&volume), one(Reason::SignatureMissing, "model.sig"));
    fs::remove_dir(volume.path("model.sig")).unwrap();
    fs::write(volume.path("b"), FILES).unwrap();
    symlink("b", volume.path("model.sig")).unwrap();
    assert_eq!(reasons(&volume), one(Reason::Symlink, "model.sig"));
}

#[test]
fn a_manifest_may_list_the_signature() {
    let volume = model(FILES, |_| {});
    fs::remove_file(volume.path(DEFAULT_PATH)).unwrap();
    let manifest = manifest_of(volume.dir.path());
    assert!(manifest.find("model.sig").is_some());
    store::write(volume.dir.path(), None, DEFAULT_PATH, &manifest).unwrap();
    let listing = Target { digest: manifest.digest(), ..target(&volume, &[]) };
    assert_eq!(findings(&listing), []);
    fs::write(volume.path("model.sig"), format!("{FILES}\n")).unwrap();
    assert_eq!(findings(&listing), one(Reason::SizeMismatch, "model.sig"));
}

#[test]
fn a_signature_replaces_no_digest() {
    let volume = model(FILES, |_| {});
    let other = sealed(&[("config.json", b"{}".as_slice())]);
    let pinned = Target { digest: other.digest, ..target(&volume, &[]) };
    assert_eq!(findings(&pinned), one(Reason::DigestMismatch, DEFAULT_PATH));
}

#[test]
fn without_a_digest_the_signed_list_is_the_manifest() {
    let check = |volume: &Volume, allow: &[Allowance]| -> Vec<(Reason, String)> {
        let signature = signature(allow);
        let mut beside = Vec::new();
        let made = signed::manifest_of("orion", &signature, volume.dir.path(), None, &Layout::Directory, &mut beside);
        let manifest: Manifest = match made {
            Ok(manifest) => manifest,
            Err(found) => return found.kept().map(|finding| (finding.reason, finding.path.clone())).collect(),
        };
        let mut json = Vec::new();
        manifest.write_canonical(&mut json).unwrap();
        findings(&Target {
            digest: manifest.digest(),
            manifest: ManifestArg::Inline(String::from_utf8(json).unwrap()),
            signature: Some(signature),
            beside,
            ..volume.target()
        })
    };
    for bundle in [FILES, BLAKE2B, BLAKE3, SHARDS, SHARDS_BLAKE2B] {
        assert_eq!(check(&model(bundle, |_| {}), &[]), []);
        let changed = model(bundle, |files| files[2].1[0] ^= 1);
        assert_eq!(check(&changed, &[]), one(Reason::HashMismatch, "config.json"));
    }
    let single = model(SINGLE, |files| files.retain(|(path, _)| *path == "weights.bin"));
    assert_eq!(check(&single, &[]), []);
    let extra = model(FILES, |files| files.push(("evil.py", b"x".to_vec())));
    assert_eq!(check(&extra, &[]), one(Reason::ExtraFile, "evil.py"));
    let less = model(FILES, |files| files.retain(|(path, _)| *path != "a.b"));
    assert_eq!(check(&less, &[]), one(Reason::MissingFile, "a.b"));
    let git = model(FILES, |files| files.push((".git/config", b"x".to_vec())));
    assert_eq!(check(&git, &[]), one(Reason::SignedWithIgnoredPaths, ".git/config"));
    assert_eq!(check(&git, &[Allowance::IgnorePaths]), []);
}

#[test]
fn what_was_verified_is_not_drift_once_a_certificate_has_expired() {
    let volume = model(FILES, |_| {});
    let untrusted = SignatureArg { policy: Policy::default(), ..signature(&[]) };
    let target = Target { signature: Some(untrusted), ..volume.target() };
    assert_eq!(findings(&target), one(Reason::UntrustedMethod, "model.sig"));
    assert_eq!(findings(&target.without_signature()), []);
}

/// The arguments as admission renders them.
fn run(volume: &Volume, authority: &str, others: &[&str]) -> (u8, String, String) {
    let mut args = verify_args(volume);
    args.extend(["--signature", "model.sig", "--authority", authority].map(OsString::from));
    args.extend(others.iter().map(OsString::from));
    let (code, stdout, stderr, _) = program(&args.iter().map(OsString::as_os_str).collect::<Vec<_>>());
    (code, stdout, stderr)
}

#[test]
fn exit_codes_tell_causes_apart() {
    let key = |pem: &str| serde_json::json!({"name": "release", "publicKey": {"pem": pem}}).to_string();
    let volume = model(FILES, |_| {});
    let (code, stdout, _) = run(&volume, &key(P256), &[]);
    assert_eq!(code, exit::VERIFIED, "{stdout}");
    assert!(stdout.contains("5 files, 2500013 bytes (2.4 MiB), signed by \"release\"\n"), "{stdout}");

    let (code, stdout, _) = run(&volume, &key(P384), &[]);
    assert_eq!(code, exit::UNTRUSTED_SIGNER);
    assert!(
        stdout.contains("[UntrustedKey] \"model.sig\": authority \"release\": the bundle is of the key"),
        "{stdout}"
    );
    assert!(stdout.contains("Remedy: find out who signed"), "{stdout}");

    fs::write(volume.path("model.sig"), FILES.replace("v0.3", "v0.9")).unwrap();
    let (code, stdout, _) = run(&volume, &key(P256), &[]);
    assert_eq!(code, exit::SIGNATURE_INVALID);
    assert!(stdout.contains("[BundleInvalid] \"model.sig\": mediaType is"), "{stdout}");

    fs::remove_file(volume.path("model.sig")).unwrap();
    let (code, stdout, _) = run(&volume, &key(P256), &[]);
    assert_eq!(code, exit::SIGNATURE_MISSING);
    assert!(stdout.starts_with("Undecided (exit code 14)"), "{stdout}");

    let git = model(FILES, |files| files.push((".gitignore", vec![])));
    assert_eq!(run(&git, &key(P256), &[]).0, exit::SIGNED_LOOSELY);
    assert_eq!(run(&git, &key(P256), &["--allow-signed", "IgnorePaths"]).0, exit::VERIFIED);
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    let volume = model(FILES, |_| {});
    let key = serde_json::json!({"name": "release", "publicKey": {"pem": P256}}).to_string();
    for (authority, others, message) in [
        ("{}", &[][..], "--authority \"(unnamed)\" is no authority: missing field `name`"),
        (r#"{"name":"a"}"#, &[], "--authority \"a\" takes exactly one of: publicKey, certificate, sigstore"),
        (&key, &["--allow-signed", "Everything"], "is not a list of IgnorePaths, Symlinks, StatementV01"),
        (&key, &["--allow-signed", "Symlinks,Symlinks"], "names one of them twice"),
        (&key, &["--signature", "x"], "--signature is given twice"),
    ] {
        let (code, _, stderr) = run(&volume, authority, others);
        assert_eq!(code, exit::USAGE);
        assert!(stderr.contains(message), "{stderr}");
    }
    for (option, value, message) in [
        ("--signature", "model.sig", "--authority is missing"),
        ("--authority", key.as_str(), "--signature is missing"),
        ("--allow-signed", "Symlinks", "--signature is missing"),
    ] {
        let mut args = verify_args(&volume);
        args.extend([option, value].map(OsString::from));
        let (code, _, stderr, _) = program(&args.iter().map(OsString::as_os_str).collect::<Vec<_>>());
        assert_eq!(code, exit::USAGE);
        assert!(stderr.contains(message), "{stderr}");
    }
}
