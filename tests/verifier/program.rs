//! The whole program: arguments, reports, exit codes, signals.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use weightlock::verifier::finding::exit;
use weightlock::verifier::manifest::{DEFAULT_PATH, Hash};

use crate::volume::*;

/// The program as a process of its own; as an ordinary user even if the tests are run by root.
pub fn process(volume: &Volume) -> std::process::Command {
    let copy = volume.dir.path().with_extension("verify");
    fs::copy(env!("CARGO_BIN_EXE_weightlock-verify"), &copy).unwrap();
    let mut command = std::process::Command::new(copy);
    if rustix::process::geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
    }
    command
}

#[test]
fn what_cannot_be_read_is_undecided() {
    let volume = volume();
    let mode = |path: &str, mode| fs::set_permissions(volume.path(path), fs::Permissions::from_mode(mode)).unwrap();
    let mut command = process(&volume);
    command.args(verify_args(&volume));
    let mut outcome = || {
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    mode("", 0o755);
    assert_eq!(outcome().0, Some(exit::VERIFIED.into()));

    mode("config.json", 0);
    let (code, text) = outcome();
    assert_eq!(code, Some(exit::UNREADABLE.into()));
    assert!(text.contains("[UnreadableFile] \"config.json\": cannot be opened: Permission denied"), "{text}");
    mode("config.json", 0o644);

    mode("tokenizer", 0);
    let (code, text) = outcome();
    assert!(text.contains("[UnreadableDirectory] \"tokenizer\": cannot be opened: Permission denied"), "{text}");
    // That the file within is not seen does not make it missing.
    assert_eq!(code, Some(exit::UNREADABLE.into()));
    assert!(text.starts_with("Undecided (exit code 30): 1 finding "), "{text}");
    mode("tokenizer", 0o755);

    mode(DEFAULT_PATH, 0);
    let (code, text) = outcome();
    assert_eq!(code, Some(exit::MANIFEST_MISSING.into()));
    assert!(text.contains("the manifest cannot be opened: Permission denied"), "{text}");
    fs::remove_file(volume.dir.path().with_extension("verify")).unwrap();
}

#[test]
fn sigterm_ends_it_at_once_with_its_own_code() {
    let volume = volume();
    fs::set_permissions(volume.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // A sparse file takes long to hash and no space.
    fs::File::create(volume.path("large")).unwrap().set_len(1 << 40).unwrap();
    let mut command = process(&volume);
    let mut child = command.arg("digest").arg("--root").arg(volume.dir.path()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(child.try_wait().unwrap(), None);
    let asked = std::time::Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(exit::TERMINATED.into()));
    assert!(asked.elapsed() < std::time::Duration::from_secs(1));
    fs::remove_file(volume.dir.path().with_extension("verify")).unwrap();
}

#[test]
fn one_bad_artifact_among_good_ones_decides() {
    let (good, bad) = (volume(), sealed(&[("x", b"x")]));
    fs::write(bad.path("x"), "y").unwrap();
    let mut args = verify_args(&good);
    args.extend(verify_args(&bad));
    let args: Vec<_> = args.iter().map(OsString::as_os_str).collect();
    assert_eq!(program(&args).0, exit::CONTENT_MISMATCH);
}

#[test]
fn wrong_arguments_are_said_in_the_termination_message() {
    let (code, _, stderr, message) = program(&["--root".as_ref(), "/w".as_ref()]);
    assert_eq!(code, exit::USAGE);
    assert_eq!(
        message,
        "Undecided (exit code 10): wrong arguments: --root is given before --artifact: each group begins with --artifact NAME\n"
    );
    assert_eq!(stderr, message);
}

#[test]
fn digest_prints_what_register_reads_and_limits_the_number_of_files() {
    let volume = volume();
    let root = volume.dir.path().as_os_str();
    let except = |more: &[&str]| {
        let args = ["digest", "--manifest", DEFAULT_PATH].iter().chain(more).map(std::ffi::OsStr::new);
        program(&args.chain(["--root".as_ref(), root]).collect::<Vec<_>>())
    };
    let (code, stdout, _, message) = except(&[]);
    assert_eq!(code, exit::VERIFIED);
    let (summary, manifest) = weightlock::verifier::transcript::read(&stdout).unwrap();
    assert_eq!(manifest.unwrap().digest(), volume.digest);
    assert_eq!(message, format!("Hashed: 3 files, 4.9 KiB, {}\n", summary.digest));

    let (code, _, _, message) = except(&["--max-files", "2"]);
    assert_eq!(code, exit::TOO_MANY_FILES);
    assert!(message.contains("[TooManyFiles]"), "{message}");
    assert!(message.contains("this is one file more than the 2 that are allowed"), "{message}");
    assert_eq!(except(&["--max-files", "3"]).0, exit::VERIFIED);
}

#[test]
fn digest_writes_the_manifest_and_then_it_verifies() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("w"), "x").unwrap();
    fs::create_dir(dir.path().join(".weightlock")).unwrap();
    fs::write(dir.path().join(".weightlock/manifest.json.new"), "left by an attempt that was killed").unwrap();
    let root = dir.path().as_os_str();
    let (code, stdout, ..) = program(&["digest".as_ref(), "--write-manifest".as_ref(), "--root".as_ref(), root]);
    assert_eq!(code, exit::VERIFIED);
    let (summary, printed) = weightlock::verifier::transcript::read(&stdout).unwrap();
    assert_eq!((summary.files, printed), (1, None));
    let volume = Volume { digest: Hash::parse_digest(&summary.digest).unwrap(), dir };
    assert_eq!(volume.findings(), []);
}

#[test]
fn digest_of_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().as_os_str();
    let (code, _, _, message) = program(&["digest".as_ref(), "--root".as_ref(), root]);
    assert_eq!(code, exit::MISSING_FILE);
    assert!(message.contains("there is no file at all"), "{message}");
}

#[test]
fn the_json_report_is_stable() {
    let volume = sealed(&[("w", b"abc")]);
    fs::write(volume.path("w"), "abd").unwrap();
    let mut args = verify_args(&volume);
    args.insert(0, "--report=json".into());
    let (_, stdout, ..) = program(&args.iter().map(OsString::as_os_str).collect::<Vec<_>>());
    let (head, _) = stdout.rsplit_once(",\"milliseconds\":").unwrap();
    assert_eq!(head, include_str!("../golden/verifier-report.json").trim_end());
}
