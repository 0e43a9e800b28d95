//! A sealed volume on disk, and the verifier at work on it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use weightlock::verifier::algorithm::Hashing;
use weightlock::verifier::args::{DigestArgs, Layout, ManifestArg, Target};
use weightlock::verifier::engine::{digest, verify};
use weightlock::verifier::finding::Reason;
use weightlock::verifier::manifest::{DEFAULT_PATH, Hash, Manifest};
use weightlock::verifier::progress::{Progress, Style};
use weightlock::verifier::{Surroundings, run, store};

pub struct Volume {
    pub dir: tempfile::TempDir,
    pub digest: Hash,
}

pub fn digest_args(root: &Path) -> DigestArgs {
    DigestArgs {
        except: Vec::new(),
        root: root.into(),
        path: None,
        manifest: Some(DEFAULT_PATH.into()),
        hashing: Hashing::default(),
        threads: None,
        layout: Layout::Directory,
        max_files: None,
        write_manifest: false,
    }
}

pub fn manifest_of(root: &Path) -> Manifest {
    digest("t", &digest_args(root), &mut Progress::silent()).unwrap_or_else(|findings| panic!("{findings:?}"))
}

/// A sealed volume with some files, its manifest within.
pub fn volume() -> Volume {
    sealed(&[("config.json", b"{}".as_slice()), ("model-1.safetensors", &[1; 5000]), ("tokenizer/vocab.txt", b"")])
}

pub fn sealed(files: &[(&str, &[u8])]) -> Volume {
    sealed_as(Hashing::default(), files)
}

pub fn sealed_as(hashing: Hashing, files: &[(&str, &[u8])]) -> Volume {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let args = DigestArgs { hashing, ..digest_args(dir.path()) };
    let manifest = digest("t", &args, &mut Progress::silent()).unwrap_or_else(|findings| panic!("{findings:?}"));
    store::write(dir.path(), None, DEFAULT_PATH, &manifest).unwrap();
    Volume { digest: manifest.digest(), dir }
}

impl Volume {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn target(&self) -> Target {
        Target {
            artifact: "orion".into(),
            digest: self.digest,
            root: self.dir.path().into(),
            path: None,
            manifest: ManifestArg::Path(DEFAULT_PATH.into()),
            layout: Layout::Directory,
            formats: Vec::new(),
            signature: None,
            beside: Vec::new(),
        }
    }

    /// Reason and path of everything that is found.
    pub fn findings(&self) -> Vec<(Reason, String)> {
        findings(&self.target())
    }
}

pub fn findings(target: &Target) -> Vec<(Reason, String)> {
    let result = verify(std::slice::from_ref(target), &mut Progress::silent());
    result.findings.kept().map(|finding| (finding.reason, finding.path.clone())).collect()
}

pub fn one(reason: Reason, path: &str) -> Vec<(Reason, String)> {
    vec![(reason, path.into())]
}

/// Exit code, standard output, standard error and termination message of the whole program.
pub fn program(args: &[&std::ffi::OsStr]) -> (u8, String, String, String) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut around = Surroundings {
        stdout: &mut stdout,
        stderr: &mut stderr,
        style: Style::Lines,
        termination_log: log.path(),
        stoppable: &AtomicBool::new(false),
    };
    let code = run(args.iter().map(OsString::from), &mut around);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(stdout), text(stderr), fs::read_to_string(log.path()).unwrap())
}

pub fn verify_args(volume: &Volume) -> Vec<OsString> {
    let digest = volume.digest.digest();
    let root = volume.dir.path().as_os_str().to_owned();
    let mut args: Vec<OsString> =
        ["--artifact", "orion", "--digest", &digest, "--manifest", DEFAULT_PATH, "--root"].map(OsString::from).into();
    args.push(root);
    args
}

pub fn verify_program(volume: &Volume) -> (u8, String, String, String) {
    let args = verify_args(volume);
    program(&args.iter().map(OsString::as_os_str).collect::<Vec<_>>())
}
