//! Volumes that change while they are read, and re-verification.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use weightlock::verifier::algorithm::{Algorithm, Hashing};
use weightlock::verifier::args::{DigestArgs, SignatureArg, Target};
use weightlock::verifier::engine::{digest, verify};
use weightlock::verifier::finding::{Reason, exit};
use weightlock::verifier::manifest::DEFAULT_PATH;
use weightlock::verifier::oms::Policy;
use weightlock::verifier::oms::authority::Authority;
use weightlock::verifier::progress::{Progress, Style};
use weightlock::verifier::store;

use crate::bundles::{statement, with_key};
use crate::program::process;
use crate::volume::*;

/// Changes something when the first progress is shown: the content is being read then.
struct Once<F: FnMut()>(Option<F>);

impl<F: FnMut()> Write for Once<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(mut change) = self.0.take() {
            change();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A volume with a file that takes a second or so to hash, and no space.
fn slow() -> Volume {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in [("a", "first"), ("z/last", "last!")] {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), content).unwrap();
    }
    fs::File::create(dir.path().join("large")).unwrap().set_len(1 << 30).unwrap();
    // Shards, so that all threads have part in the large file.
    let hashing = Hashing { algorithm: Algorithm::Sha256, shard_size: Some(64 << 20) };
    let args = DigestArgs { hashing, ..digest_args(dir.path()) };
    let manifest = digest("t", &args, &mut Progress::silent()).unwrap();
    store::write(dir.path(), None, DEFAULT_PATH, &manifest).unwrap();
    Volume { digest: manifest.digest(), dir }
}

fn changed_by(volume: &Volume, change: impl FnMut()) -> Vec<(Reason, String)> {
    changes(&volume.target(), change)
}

fn changes(target: &Target, change: impl FnMut()) -> Vec<(Reason, String)> {
    let mut once = Once(Some(change));
    let mut progress = Progress::new(Style::Bar, &mut once);
    let result = verify(std::slice::from_ref(target), &mut progress);
    assert!(result.content_read);
    assert!(once.0.is_none(), "it was done before anything could change");
    // What is found when a file is read may be found again when the tree is looked at once more.
    let mut found: Vec<_> = result.findings.kept().map(|finding| (finding.reason, finding.path.clone())).collect();
    found.dedup();
    found
}

#[test]
fn whatever_changes_while_the_artifact_is_read_is_noticed() {
    let volume = slow();
    let changed = |path: &str| one(Reason::ChangedWhileRead, path);
    assert_eq!(changed_by(&volume, || {}), []);

    assert_eq!(changed_by(&volume, || fs::write(volume.path("new"), "").unwrap()), changed("new"));
    fs::remove_file(volume.path("new")).unwrap();

    // The same bytes as another file.
    let replace = || {
        fs::write(volume.path("copy"), "first").unwrap();
        fs::rename(volume.path("copy"), volume.path("a")).unwrap();
    };
    assert_eq!(changed_by(&volume, replace), changed("a"));

    // The same bytes written again to the same file.
    assert_eq!(changed_by(&volume, || fs::write(volume.path("z/last"), "last!").unwrap()), changed("z/last"));

    let size = fs::metadata(volume.path("large")).unwrap().len();
    let resize =
        |size: u64| fs::OpenOptions::new().write(true).open(volume.path("large")).unwrap().set_len(size).unwrap();
    let found = changed_by(&volume, || resize(size + 1));
    assert!(found.contains(&(Reason::Grew, "large".into())), "{found:?}");
    resize(size);
    let found = changed_by(&volume, || resize(size / 2));
    assert!(found.contains(&(Reason::Truncated, "large".into())), "{found:?}");
    resize(size);

    assert_eq!(changed_by(&volume, || fs::remove_file(volume.path("a")).unwrap()), changed("a"));
}

/// The digests of a signer who hashed in another way are read again when the content was hashed as the manifest says.
#[test]
fn a_bundle_that_changes_before_its_digests_are_used_is_noticed() {
    let volume = slow();
    let hashing = Hashing { algorithm: Algorithm::Blake3, shard_size: None };
    let manifest = digest("t", &DigestArgs { hashing, ..digest_args(volume.dir.path()) }, &mut Progress::silent());
    let (bundle, authority) = with_key(&statement(&manifest.unwrap()));
    let bundle = bundle.to_string();
    let policy = Policy { authorities: vec![Authority::parse(&authority.to_string()).unwrap()], allow: vec![] };
    let signature = SignatureArg { path: "model.sig".into(), policy };
    let target = Target { signature: Some(signature), ..volume.target() };
    fs::write(volume.path("model.sig"), &bundle).unwrap();
    assert_eq!(changes(&target, || {}), []);

    // The same length and still Base64: a digest would be another.
    let at = bundle.find("payload\":\"").unwrap() + bundle.len() / 2;
    let mut changed = bundle.into_bytes();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let change = || fs::write(volume.path("model.sig"), &changed).unwrap();
    assert_eq!(changes(&target, change), one(Reason::ChangedWhileRead, "model.sig"));
}

#[test]
fn a_hole_where_content_should_be_is_told() {
    let volume = sealed(&[("w", &[7; 300_000])]);
    let file = fs::OpenOptions::new().write(true).open(volume.path("w")).unwrap();
    file.set_len(100_000).unwrap();
    file.set_len(300_000).unwrap();
    assert_eq!(volume.findings(), one(Reason::SparseFile, "w"));
    let (code, _, _, message) = verify_program(&volume);
    assert_eq!(code, exit::CONTENT_MISMATCH);
    assert!(message.contains("; nothing was ever written to bytes 102400 to 300000\n"), "{message}");
    assert!(message.contains("a download or a copy that was cut short leaves holes"), "{message}");

    // A hole where zeros belong is right.
    let zeros = sealed(&[("w", &[0; 300_000])]);
    fs::File::create(zeros.path("w")).unwrap().set_len(300_000).unwrap();
    assert_eq!(zeros.findings(), []);
}

struct Sidecar {
    child: std::process::Child,
    log: std::path::PathBuf,
}

impl Sidecar {
    fn start(volume: &Volume) -> Self {
        Self::with(volume, verify_args(volume))
    }

    fn with(volume: &Volume, args: Vec<OsString>) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(volume.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let log = volume.dir.path().with_extension("log");
        let file = fs::File::create(&log).unwrap();
        let child = process(volume)
            .args(["--every", "1", "--max-bytes-per-second", "100000000"])
            .args(args)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn wait_for(&mut self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert_eq!(self.child.try_wait().unwrap(), None, "{}", self.log());
            assert!(started.elapsed() < Duration::from_secs(60), "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Exit code and log.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let log = self.log();
        for extension in ["log", "verify"] {
            fs::remove_file(self.log.with_extension(extension)).unwrap();
        }
        (code, log)
    }
}

#[test]
fn drift_ends_re_verification_with_its_own_code() {
    let volume = volume();
    let mut sidecar = Sidecar::start(&volume);
    sidecar.wait_for("Verified: WeightArtifact \"orion\"");
    fs::write(volume.path("config.json"), "[]").unwrap();
    let (code, log) = sidecar.end();
    assert_eq!(code, Some(exit::DRIFT.into()), "{log}");
    assert!(log.starts_with("Re-verification every 1.0s, at most 95.4 MiB/s: no pass has ended yet.\n"), "{log}");
    let drift =
        "Drifted (exit code 25): 1 finding in WeightArtifact \"orion\"\n[HashMismatch] \"config.json\": sha256 is ";
    assert!(log.contains(drift), "{log}");
}

#[test]
fn re_verification_that_is_told_to_stop_has_not_failed() {
    let volume = volume();
    let mut sidecar = Sidecar::start(&volume);
    sidecar.wait_for("Verified: WeightArtifact \"orion\"");
    let asked = Instant::now();
    sidecar.stop();
    let (code, log) = sidecar.end();
    assert_eq!(code, Some(exit::VERIFIED.into()), "{log}");
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[test]
fn what_cannot_be_decided_is_tried_once_more_and_is_no_success() {
    let volume = volume();
    hide(&volume.path("tokenizer"), true);
    let (code, log) = Sidecar::start(&volume).end();
    assert_eq!(code, Some(exit::UNREADABLE.into()), "{log}");
    assert_eq!(log.matches("Undecided (exit code 30): 1 finding").count(), 2, "{log}");

    // Stopped after a pass that could not decide, it is not a success either.
    let mut sidecar = Sidecar::start(&volume);
    sidecar.wait_for("tried once more");
    sidecar.stop();
    let (code, log) = sidecar.end();
    assert_eq!(code, Some(exit::TERMINATED.into()), "{log}");

    // A pass that verifies makes good for one that could not decide.
    let mut sidecar = Sidecar::start(&volume);
    sidecar.wait_for("tried once more");
    hide(&volume.path("tokenizer"), false);
    sidecar.wait_for("Verified: WeightArtifact \"orion\"");
    sidecar.stop();
    let (code, log) = sidecar.end();
    assert_eq!(code, Some(exit::VERIFIED.into()), "{log}");
}

/// Whoever may write objects in the namespace of a pod must not be able to have its weights blocked everywhere.
#[test]
fn a_manifest_that_is_replaced_where_it_was_brought_is_no_drift() {
    let volume = volume();
    let shards = tempfile::tempdir_in(volume.dir.path().parent().unwrap()).unwrap();
    let shard = shards.path().join("0");
    fs::rename(volume.path(DEFAULT_PATH), &shard).unwrap();
    hide(shards.path(), false);
    let mut args = verify_args(&volume);
    let at = args.iter().position(|arg| arg == "--manifest").unwrap();
    args[at] = "--manifest-dir".into();
    args[at + 1] = shards.path().into();

    let mut sidecar = Sidecar::with(&volume, args.clone());
    sidecar.wait_for("Verified: WeightArtifact \"orion\"");
    fs::write(&shard, "{}").unwrap();
    let passes = sidecar.log().matches("Verified:").count();
    while sidecar.log().matches("Verified:").count() < passes + 2 {
        assert_eq!(sidecar.child.try_wait().unwrap(), None, "{}", sidecar.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::write(volume.path("config.json"), "[]").unwrap();
    let (code, log) = sidecar.end();
    assert_eq!(code, Some(exit::DRIFT.into()), "{log}");

    // One that starts with another manifest says so, and not that the weights changed.
    let (code, log) = Sidecar::with(&volume, args).end();
    assert_eq!(code, Some(exit::MANIFEST_INVALID.into()), "{log}");
    assert!(log.contains("[ManifestInvalid] \"--manifest-dir\": "), "{log}");
}

fn hide(path: &Path, hidden: bool) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(if hidden { 0 } else { 0o755 })).unwrap();
}
