//! The verifier against directories on disk: each reason with its honest twin, and random mutations of random trees.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use weightlock::verifier::args::{DigestArgs, ManifestArg, Target};
use weightlock::verifier::engine::{digest, verify};
use weightlock::verifier::finding::{Reason, exit};
use weightlock::verifier::manifest::{DEFAULT_PATH, Hash, Manifest};
use weightlock::verifier::progress::{Progress, Style};
use weightlock::verifier::{Surroundings, run, store};

struct Volume {
    dir: tempfile::TempDir,
    digest: Hash,
}

fn digest_args(root: &Path) -> DigestArgs {
    DigestArgs {
        root: root.into(),
        path: None,
        manifest: Some(DEFAULT_PATH.into()),
        max_files: None,
        write_manifest: false,
    }
}

fn manifest_of(root: &Path) -> Manifest {
    digest("t", &digest_args(root), &mut Progress::silent()).unwrap_or_else(|findings| panic!("{findings:?}"))
}

/// A sealed volume with some files, its manifest within.
fn volume() -> Volume {
    sealed(&[("config.json", b"{}".as_slice()), ("model-1.safetensors", &[1; 5000]), ("tokenizer/vocab.txt", b"")])
}

fn sealed(files: &[(&str, &[u8])]) -> Volume {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let manifest = manifest_of(dir.path());
    store::write(dir.path(), None, DEFAULT_PATH, &manifest).unwrap();
    Volume { digest: manifest.digest(), dir }
}

impl Volume {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn target(&self) -> Target {
        Target {
            artifact: "orion".into(),
            digest: self.digest,
            root: self.dir.path().into(),
            path: None,
            manifest: ManifestArg::Path(DEFAULT_PATH.into()),
        }
    }

    /// Reason and path of everything that is found.
    fn findings(&self) -> Vec<(Reason, String)> {
        findings(&self.target())
    }
}

fn findings(target: &Target) -> Vec<(Reason, String)> {
    let result = verify(std::slice::from_ref(target), &mut Progress::silent());
    result.findings.kept().map(|finding| (finding.reason, finding.path.clone())).collect()
}

fn one(reason: Reason, path: &str) -> Vec<(Reason, String)> {
    vec![(reason, path.into())]
}

/// Exit code, standard output, standard error and termination message of the whole program.
fn program(args: &[&std::ffi::OsStr]) -> (u8, String, String, String) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut around =
        Surroundings { stdout: &mut stdout, stderr: &mut stderr, style: Style::Lines, termination_log: log.path() };
    let code = run(args.iter().map(OsString::from), &mut around);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(stdout), text(stderr), fs::read_to_string(log.path()).unwrap())
}

fn verify_args(volume: &Volume) -> Vec<OsString> {
    let digest = volume.digest.digest();
    let root = volume.dir.path().as_os_str().to_owned();
    let mut args: Vec<OsString> =
        ["--artifact", "orion", "--digest", &digest, "--manifest", DEFAULT_PATH, "--root"].map(OsString::from).into();
    args.push(root);
    args
}

fn verify_program(volume: &Volume) -> (u8, String, String, String) {
    let args = verify_args(volume);
    program(&args.iter().map(OsString::as_os_str).collect::<Vec<_>>())
}

#[test]
fn an_untouched_volume_is_verified() {
    let volume = volume();
    assert_eq!(volume.findings(), []);
    let (code, stdout, _, message) = verify_program(&volume);
    assert_eq!(code, exit::VERIFIED);
    assert!(
        stdout
            .starts_with(&format!("Verified: WeightArtifact \"orion\" {}: 3 files, 4.9 KiB\n", volume.digest.digest()))
    );
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
fn a_file_too_few_is_missing_and_a_renamed_one_both() {
    let volume = volume();
    fs::remove_file(volume.path("config.json")).unwrap();
    assert_eq!(volume.findings(), one(Reason::MissingFile, "config.json"));
    assert_eq!(verify_program(&volume).0, exit::MISSING_FILE);
    fs::write(volume.path("Config.json"), "{}").unwrap();
    assert_eq!(
        volume.findings(),
        [(Reason::ExtraFile, "Config.json".into()), (Reason::MissingFile, "config.json".into())]
    );
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

/// The program as a process of its own; as an ordinary user even if the tests are run by root.
fn process(volume: &Volume) -> std::process::Command {
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
    };
    assert_eq!(findings(&target), []);
    assert_eq!(findings(&Target { path: Some("v4".into()), ..target.clone() }), one(Reason::MissingFile, "v4"));
    symlink("v3", outer.path().join("v4")).unwrap();
    assert_eq!(findings(&Target { path: Some("v4".into()), ..target }), one(Reason::Symlink, "v4"));
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
    assert_eq!(head, include_str!("golden/verifier-report.json").trim_end());
}

/// One change of a tree.
#[derive(Clone, Debug)]
enum Mutation {
    Flip { file: usize, byte: usize },
    Truncate { file: usize },
    Append { file: usize },
    Remove { file: usize },
    Rename { file: usize },
    Add { name: String },
    Link { file: usize },
    Swap { one: usize, other: usize },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let file = any::<usize>;
    prop_oneof![
        (file(), any::<usize>()).prop_map(|(file, byte)| Mutation::Flip { file, byte }),
        file().prop_map(|file| Mutation::Truncate { file }),
        file().prop_map(|file| Mutation::Append { file }),
        file().prop_map(|file| Mutation::Remove { file }),
        file().prop_map(|file| Mutation::Rename { file }),
        "[a-z]{1,3}(/[a-z]{1,3}){0,2}".prop_map(|name| Mutation::Add { name: format!("new/{name}") }),
        file().prop_map(|file| Mutation::Link { file }),
        (file(), file()).prop_map(|(one, other)| Mutation::Swap { one, other }),
    ]
}

/// Applies it; `false` if it changed nothing.
fn apply(root: &Path, files: &[(String, Vec<u8>)], mutation: &Mutation) -> bool {
    let pick = |index: &usize| &files[index % files.len()];
    match mutation {
        Mutation::Flip { file, byte } => {
            let (path, mut content) = pick(file).clone();
            if content.is_empty() {
                return false;
            }
            let at = byte % content.len();
            content[at] ^= 1;
            fs::write(root.join(path), content).unwrap();
        }
        Mutation::Truncate { file } => {
            let (path, content) = pick(file);
            if content.is_empty() {
                return false;
            }
            fs::write(root.join(path), &content[1..]).unwrap();
        }
        Mutation::Append { file } => {
            let (path, content) = pick(file);
            fs::write(root.join(path), [content.as_slice(), b"\0"].concat()).unwrap();
        }
        Mutation::Remove { file } => fs::remove_file(root.join(&pick(file).0)).unwrap(),
        Mutation::Rename { file } => {
            let path = &pick(file).0;
            fs::rename(root.join(path), root.join(format!("{path}.x"))).unwrap();
        }
        Mutation::Add { name } => {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        Mutation::Link { file } => {
            let path = root.join(&pick(file).0);
            let aside = path.with_extension("aside");
            fs::rename(&path, &aside).unwrap();
            symlink(&aside, &path).unwrap();
        }
        Mutation::Swap { one, other } => {
            let ((one, first), (other, second)) = (pick(one), pick(other));
            if first == second {
                return false;
            }
            fs::write(root.join(one), second).unwrap();
            fs::write(root.join(other), first).unwrap();
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_random_tree_verifies_and_after_one_random_mutation_never_does(
        // Names of files end in a digit and names of directories do not: no file is the directory of another.
        tree in prop::collection::btree_map("([a-c]{1,2}/){0,3}[a-zé ]{1,4}[0-9]", prop::collection::vec(any::<u8>(), 0..300), 1..12),
        mutation in mutation(),
    ) {
        let files: Vec<(String, Vec<u8>)> = tree.into_iter().collect();
        let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
        let volume = sealed(&borrowed);
        prop_assert_eq!(volume.findings(), []);
        prop_assume!(apply(volume.dir.path(), &files, &mutation));
        prop_assert_ne!(volume.findings(), []);
        prop_assert_ne!(verify_program(&volume).0, exit::VERIFIED);
    }
}
