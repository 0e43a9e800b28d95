//! Each reason to refuse, with its honest twin.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use weightlock::verifier::args::{DigestArgs, ManifestArg, Target};
use weightlock::verifier::engine::{digest, verify};
use weightlock::verifier::finding::{Reason, exit};
use weightlock::verifier::manifest::DEFAULT_PATH;
use weightlock::verifier::progress::Progress;
use weightlock::verifier::store;

use crate::volume::*;

#[test]
fn an_untouched_volume_is_verified() {
    let volume = volume();
    assert_eq!(volume.findings(), []);
    let (code, stdout, _, message) = verify_program(&volume);
    assert_eq!(code, exit::VERIFIED);
    let head = format!("Verified: WeightArtifact \"orion\" {}: 3 files, ", volume.digest.digest());
    // The controller reads the size from here.
    let size: u64 =
        stdout.strip_prefix(&head).and_then(|rest| rest.split_once(" bytes (4.9 KiB)\n")).unwrap().0.parse().unwrap();
    assert_eq!(size / 100, 50);
    assert_eq!(stdout, message);
}

#[test]
fn an_empty_directory_is_no_file() {
    let volume = volume();
    fs::create_dir_all(volume.path("lost+found")).unwrap();
    fs::create_dir_all(volume.path(".weightlock/x")).unwrap();
    assert_eq!(volume.findings(), []);
}

#[test]
fn a_changed_byte_is_a_hash_mismatch() {
    let volume = volume();
    let mut bytes = fs::read(volume.path("model-1.safetensors")).unwrap();
    bytes[4999] ^= 1;
    fs::write(volume.path("model-1.safetensors"), bytes).unwrap();
    assert_eq!(volume.findings(), one(Reason::HashMismatch, "model-1.safetensors"));
    let (code, stdout, _, message) = verify_program(&volume);
    assert_eq!(code, exit::CONTENT_MISMATCH);
    assert_eq!(stdout, message);
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines[0], "Refused (exit code 20): 1 finding in WeightArtifact \"orion\"");
    assert!(lines[1].starts_with("[HashMismatch] \"model-1.safetensors\": sha256 is "), "{}", lines[1]);
    assert!(lines[2].starts_with("Remedy: treat the volume as tampered with"), "{}", lines[2]);
}

#[test]
fn another_size_is_a_size_mismatch_and_nothing_is_read() {
    let volume = volume();
    fs::write(volume.path("config.json"), "{ }").unwrap();
    assert_eq!(volume.findings(), one(Reason::SizeMismatch, "config.json"));
    assert!(!verify(&[volume.target()], &mut Progress::silent()).content_read);
}

#[test]
fn a_file_too_many_is_extra_wherever_it_is() {
    for path in
        ["pickle.bin", "tokenizer/evil.py", "new/dir/x", ".hidden", ".weightlock/manifest.json.bak", "Config.json"]
    {
        let volume = volume();
        fs::create_dir_all(volume.path(path).parent().unwrap()).unwrap();
        fs::write(volume.path(path), "x").unwrap();
        assert_eq!(volume.findings(), one(Reason::ExtraFile, path));
        assert_eq!(verify_program(&volume).0, exit::EXTRA_FILE);
    }
}

#[test]
fn a_file_too_few_is_missing_and_one_of_another_name_is_renamed() {
    let volume = volume();
    fs::remove_file(volume.path("config.json")).unwrap();
    assert_eq!(volume.findings(), one(Reason::MissingFile, "config.json"));
    assert_eq!(verify_program(&volume).0, exit::MISSING_FILE);
    // What has another content is no renamed file.
    fs::write(volume.path("config.txt"), "[]").unwrap();
    assert_eq!(
        volume.findings(),
        [(Reason::ExtraFile, "config.txt".into()), (Reason::MissingFile, "config.json".into())]
    );
    fs::write(volume.path("config.txt"), "{}").unwrap();
    assert_eq!(volume.findings(), one(Reason::Renamed, "config.txt"));
    let (code, _, _, message) = verify_program(&volume);
    assert_eq!(code, exit::MISSING_FILE);
    assert!(
        message.contains(r#"[Renamed] "config.txt": the manifest lists this content as "config.json""#),
        "{message}"
    );

    fs::rename(volume.path("config.txt"), volume.path("Config.JSON")).unwrap();
    assert_eq!(volume.findings(), one(Reason::CaseChanged, "Config.JSON"));
    let (code, _, _, message) = verify_program(&volume);
    assert_eq!(code, exit::MISSING_FILE);
    assert!(message.contains("does not keep the case of names"), "{message}");
    fs::rename(volume.path("Config.JSON"), volume.path("config.json")).unwrap();
    assert_eq!(volume.findings(), []);
}

#[test]
fn links_are_refused_even_to_the_same_bytes() {
    let volume = volume();
    fs::rename(volume.path("config.json"), volume.path("tokenizer/vocab.txt")).unwrap();
    symlink("tokenizer/vocab.txt", volume.path("config.json")).unwrap();
    assert!(volume.findings().contains(&(Reason::Symlink, "config.json".into())));

    let volume = self::volume();
    fs::rename(volume.path("tokenizer"), volume.path(".weightlock/t")).unwrap();
    symlink(".weightlock/t", volume.path("tokenizer")).unwrap();
    assert!(volume.findings().contains(&(Reason::Symlink, "tokenizer".into())));

    let volume = self::volume();
    symlink("/etc/passwd", volume.path("passwd")).unwrap();
    assert_eq!(volume.findings(), one(Reason::Symlink, "passwd"));
    assert_eq!(verify_program(&volume).0, exit::REFUSED_TYPE);
}

#[test]
fn fifos_sockets_and_devices_are_refused() {
    let volume = volume();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, volume.path("pipe"), fifo, 0o600.into(), 0).unwrap();
    assert_eq!(volume.findings(), one(Reason::Fifo, "pipe"));
    fs::remove_file(volume.path("pipe")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(volume.path("socket")).unwrap();
    assert_eq!(volume.findings(), one(Reason::Socket, "socket"));

    // Not everyone may make a device; everyone has /dev.
    let dev = digest("dev", &digest_args(Path::new("/dev")), &mut Progress::silent()).unwrap_err();
    assert!(dev.counts().contains_key(&Reason::Device), "{dev:?}");
}

#[test]
fn a_hard_link_may_not_lead_out_of_the_artifact() {
    let volume = volume();
    fs::remove_file(volume.path("tokenizer/vocab.txt")).unwrap();
    fs::write(volume.path("a"), "same").unwrap();
    fs::hard_link(volume.path("a"), volume.path("b")).unwrap();
    let inside = manifest_of(volume.dir.path());
    assert_eq!(inside.files().len(), 4);

    let elsewhere = tempfile::tempdir_in(volume.dir.path().parent().unwrap()).unwrap();
    fs::hard_link(volume.path("a"), elsewhere.path().join("x")).unwrap();
    let findings = digest("t", &digest_args(volume.dir.path()), &mut Progress::silent()).unwrap_err();
    let found: Vec<_> = findings.kept().map(|finding| (finding.reason, finding.detail.as_str())).collect();
    assert_eq!(found, [(Reason::HardLinkOutside, "1 of its 3 names are elsewhere")]);
}

#[test]
fn a_hard_link_to_the_manifest_is_noticed_too() {
    let volume = volume();
    let elsewhere = tempfile::tempdir_in(volume.dir.path().parent().unwrap()).unwrap();
    fs::hard_link(volume.path(DEFAULT_PATH), elsewhere.path().join("x")).unwrap();
    assert_eq!(volume.findings(), one(Reason::HardLinkOutside, DEFAULT_PATH));
}

#[test]
fn a_name_that_is_not_utf8_is_refused() {
    let volume = volume();
    fs::write(volume.dir.path().join(std::ffi::OsStr::from_bytes(b"w\xff")), "x").unwrap();
    assert_eq!(volume.findings(), one(Reason::NonUtf8Name, "w\u{fffd}"));
    assert_eq!(verify_program(&volume).0, exit::REFUSED_TYPE);
}

#[test]
fn what_is_mounted_within_is_not_part_of_it() {
    let findings = digest("t", &digest_args(Path::new("/dev")), &mut Progress::silent()).unwrap_err();
    assert!(findings.counts().contains_key(&Reason::MountPoint), "{findings:?}");
}

#[test]
fn the_manifest_must_be_there_sound_and_the_pinned_one() {
    let volume = volume();
    fs::remove_file(volume.path(DEFAULT_PATH)).unwrap();
    assert_eq!(volume.findings(), one(Reason::ManifestMissing, DEFAULT_PATH));
    assert_eq!(verify_program(&volume).0, exit::MANIFEST_MISSING);

    fs::write(volume.path(DEFAULT_PATH), r#"{"files":[],"version":1}"#).unwrap();
    assert_eq!(volume.findings(), one(Reason::ManifestInvalid, DEFAULT_PATH));
    assert_eq!(verify_program(&volume).0, exit::MANIFEST_INVALID);

    let other = sealed(&[("config.json", b"{}")]);
    fs::copy(other.path(DEFAULT_PATH), volume.path(DEFAULT_PATH)).unwrap();
    assert_eq!(volume.findings(), one(Reason::DigestMismatch, DEFAULT_PATH));
    assert_eq!(verify_program(&volume).0, exit::DIGEST_MISMATCH);

    fs::remove_file(volume.path(DEFAULT_PATH)).unwrap();
    symlink(other.path(DEFAULT_PATH), volume.path(DEFAULT_PATH)).unwrap();
    assert_eq!(volume.findings(), one(Reason::Symlink, DEFAULT_PATH));
}

#[test]
fn an_inline_manifest_excludes_nothing() {
    let volume = volume();
    let mut json = Vec::new();
    manifest_of(volume.dir.path()).write_canonical(&mut json).unwrap();
    let inline = Target { manifest: ManifestArg::Inline(String::from_utf8(json).unwrap()), ..volume.target() };
    assert_eq!(findings(&inline), one(Reason::ExtraFile, DEFAULT_PATH));
    fs::remove_file(volume.path(DEFAULT_PATH)).unwrap();
    assert_eq!(findings(&inline), []);
}

/// The manifest is beside the volume, in shards; the digest pins what they are together.
#[test]
fn a_manifest_in_shards_is_pinned_as_a_whole() {
    let volume = volume();
    fs::remove_file(volume.path(DEFAULT_PATH)).unwrap();
    let mut json = Vec::new();
    manifest_of(volume.dir.path()).write_canonical(&mut json).unwrap();
    let (first, second) = json.split_at(json.len() / 2);
    let shards = tempfile::tempdir().unwrap();
    fs::write(shards.path().join("0"), first).unwrap();
    fs::write(shards.path().join("1"), second).unwrap();
    let target = Target { manifest: ManifestArg::Shards(shards.path().into()), ..volume.target() };
    assert_eq!(findings(&target), []);

    let other = String::from_utf8(second.to_vec()).unwrap().replacen("\"size\":", "\"size\":1", 1);
    fs::write(shards.path().join("1"), other).unwrap();
    assert_eq!(findings(&target), one(Reason::DigestMismatch, "--manifest-dir"));
    fs::remove_file(shards.path().join("1")).unwrap();
    assert_eq!(findings(&target), one(Reason::ManifestInvalid, "--manifest-dir"));
    fs::remove_file(shards.path().join("0")).unwrap();
    assert_eq!(findings(&target), one(Reason::ManifestMissing, "--manifest-dir"));
}

#[test]
fn path_narrows_to_a_directory_of_the_volume() {
    let outer = tempfile::tempdir().unwrap();
    fs::create_dir(outer.path().join("v3")).unwrap();
    fs::write(outer.path().join("v3/w"), "x").unwrap();
    fs::write(outer.path().join("neighbour"), "x").unwrap();
    let args = DigestArgs { path: Some("v3".into()), ..digest_args(outer.path()) };
    let manifest = digest("t", &args, &mut Progress::silent()).unwrap();
    store::write(outer.path(), Some("v3"), DEFAULT_PATH, &manifest).unwrap();
    let target = Target {
        artifact: "t".into(),
        digest: manifest.digest(),
        root: outer.path().into(),
        path: Some("v3".into()),
        manifest: ManifestArg::Path(DEFAULT_PATH.into()),
        layout: Default::default(),
        formats: Vec::new(),
        signature: None,
        beside: Vec::new(),
    };
    assert_eq!(findings(&target), []);
    assert_eq!(findings(&Target { path: Some("v4".into()), ..target.clone() }), one(Reason::MissingFile, "v4"));
    symlink("v3", outer.path().join("v4")).unwrap();
    assert_eq!(findings(&Target { path: Some("v4".into()), ..target }), one(Reason::Symlink, "v4"));
}

#[test]
fn other_hashes_and_shards_are_verified_and_tell_where_they_differ() {
    use weightlock::verifier::algorithm::{Algorithm, Hashing};
    let mut content = vec![1; (2 << 20) + 9];
    for algorithm in Algorithm::ALL {
        for (shard_size, place) in [(None, String::new()), (Some(1 << 20), " of bytes 1048576 to 2097152".into())] {
            let volume = sealed_as(Hashing { algorithm, shard_size }, &[("w", &content), ("empty", b"")]);
            assert_eq!(volume.findings(), []);
            content[(1 << 20) + 5] ^= 1;
            fs::write(volume.path("w"), &content).unwrap();
            let (code, _, _, message) = verify_program(&volume);
            assert_eq!(code, exit::CONTENT_MISMATCH);
            assert!(message.contains(&format!("[HashMismatch] \"w\": {algorithm}{place} is ")), "{message}");
        }
    }
}

#[test]
fn a_directory_deeper_than_a_path_can_say_is_refused() {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let volume = volume();
    let step = "d".repeat(250);
    let mut at = open(volume.dir.path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    for _ in 0..17 {
        mkdirat(&at, &step, Mode::RWXU).unwrap();
        at = openat(&at, &step, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    let found = volume.findings();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0, found[0].1.len()), (Reason::TooDeep, 17 * 251 - 1));
    assert_eq!(verify_program(&volume).0, exit::REFUSED_TYPE);
}
