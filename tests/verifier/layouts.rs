//! The layout of Hugging Face's cache: one revision, its links, and nothing beside them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use weightlock::verifier::args::{DigestArgs, Layout, ManifestArg, Target};
use weightlock::verifier::engine::digest;
use weightlock::verifier::finding::{Reason, exit};
use weightlock::verifier::manifest::Manifest;
use weightlock::verifier::progress::Progress;

use crate::volume::{digest_args, findings, one, program};

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffff";

pub struct Cache {
    pub dir: tempfile::TempDir,
    pub target: Target,
}

impl Cache {
    /// Pins what is there now but for some files, as somebody would who may declare.
    pub fn pin(&mut self, except: Vec<String>) -> Manifest {
        let args = DigestArgs {
            path: self.target.path.clone(),
            manifest: None,
            layout: self.target.layout.clone(),
            except,
            ..digest_args(self.dir.path())
        };
        let manifest = digest("t", &args, &mut Progress::silent()).unwrap_or_else(|findings| panic!("{findings:?}"));
        let mut json = Vec::new();
        manifest.write_canonical(&mut json).unwrap();
        self.target.digest = manifest.digest();
        self.target.manifest = ManifestArg::Inline(String::from_utf8(json).unwrap());
        manifest
    }

    /// A path within the repository directory.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("hub/models--org--orion").join(path)
    }

    pub fn snapshot(&self, path: &str) -> PathBuf {
        self.path(&format!("snapshots/{REVISION}/{path}"))
    }

    pub fn link(&self, to: &str, name: &str) {
        let at = self.snapshot(name);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(to, at).unwrap();
    }

    pub fn findings(&self) -> Vec<(Reason, String)> {
        findings(&self.target)
    }

    /// The one reason, after a change to a sound cache.
    fn reason(change: impl FnOnce(&Self)) -> (Reason, String) {
        let cache = cache();
        change(&cache);
        let found = cache.findings();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0.exit_code(), exit::LAYOUT, "{found:?}");
        found[0].clone()
    }
}

/// A cache as `snapshot_download` leaves it, with refs, locks and marks, and its manifest inline.
pub fn cache() -> Cache {
    let dir = tempfile::tempdir().unwrap();
    let target = Target {
        signature: None,
        beside: Vec::new(),
        artifact: "orion".into(),
        digest: weightlock::verifier::manifest::Hash([0; 32]),
        root: dir.path().into(),
        path: Some("hub/models--org--orion".into()),
        manifest: ManifestArg::Inline(String::new()),
        layout: Layout::HuggingFaceCache { revision: REVISION.into() },
        formats: Vec::new(),
    };
    let mut cache = Cache { dir, target };
    for (path, content) in [
        ("blobs/aa", b"{}".as_slice()),
        ("blobs/bb", &[1; 5000]),
        ("blobs/aa.lock", b""),
        ("refs/main", REVISION.as_bytes()),
        ("refs/pr/1", format!("{REVISION}\n").as_bytes()),
        (&format!(".no_exist/{OTHER}/adapter_config.json"), b""),
        ("../.locks/models--org--orion/aa.lock", b""),
    ] {
        fs::create_dir_all(cache.path(path).parent().unwrap()).unwrap();
        fs::write(cache.path(path), content).unwrap();
    }
    cache.link("../../blobs/aa", "config.json");
    cache.link("../../blobs/bb", "model.safetensors");
    cache.link("../../../blobs/aa", "onnx/config.json");
    fs::write(cache.snapshot("plain.txt"), "no link").unwrap();
    let manifest = cache.pin(vec![]);
    let names: Vec<_> = manifest.files().iter().map(|file| file.path).collect();
    assert_eq!(names, ["config.json", "model.safetensors", "onnx/config.json", "plain.txt"]);
    cache
}

/// Where a file is takes memory as well as its name.
#[test]
fn paths_of_blobs_count_for_the_paths_that_a_manifest_may_have() {
    let mut cache = cache();
    let blob = format!("blobs/{}aa", format!("{}/", "x".repeat(250)).repeat(15));
    fs::create_dir_all(cache.path(&blob).parent().unwrap()).unwrap();
    fs::write(cache.path(&blob), "{}").unwrap();
    let names: Vec<_> = (0..2400).map(|number| format!("file-{number:04}")).collect();
    names[1..].iter().for_each(|name| cache.link("../../blobs/aa", name));
    cache.link(&format!("../../{blob}"), &names[0]);
    cache.pin(vec![]);
    assert_eq!(cache.findings(), []);
    for name in &names[1..] {
        fs::remove_file(cache.snapshot(name)).unwrap();
        cache.link(&format!("../../{blob}"), name);
    }
    let found = cache.findings();
    assert!(matches!(found.as_slice(), [(Reason::ManifestInvalid, _)]), "{found:?}");
    let args = DigestArgs {
        path: cache.target.path.clone(),
        layout: cache.target.layout.clone(),
        ..digest_args(cache.dir.path())
    };
    let refused = digest("t", &args, &mut Progress::silent()).unwrap_err();
    assert!(refused.counts().contains_key(&Reason::TooManyFiles), "{refused:?}");
}

#[test]
fn one_revision_with_its_refs_locks_and_marks_is_verified() {
    assert_eq!(cache().findings(), []);
    // Another chain of links to the same bytes is the same artifact.
    let cache = cache();
    fs::remove_file(cache.snapshot("config.json")).unwrap();
    cache.link("onnx/config.json", "config.json");
    assert_eq!(cache.findings(), []);
}

#[test]
fn a_link_out_of_the_repository_is_refused() {
    for target in [
        "/etc/passwd",
        "../../../models--org--other/blobs/aa",
        "../../../../etc/passwd",
        "../../blobs/../../../x",
        "../../refs/main",
    ] {
        let found = Cache::reason(|cache| {
            fs::remove_file(cache.snapshot("plain.txt")).unwrap();
            cache.link(target, "plain.txt");
        });
        assert_eq!(found, (Reason::LinkOutside, format!("snapshots/{REVISION}/plain.txt")), "{target}");
    }
    // A directory that is a link, on the way.
    let cache = cache();
    fs::rename(cache.path("blobs"), cache.path("real")).unwrap();
    symlink("real", cache.path("blobs")).unwrap();
    assert!(cache.findings().iter().any(|(reason, _)| *reason == Reason::LinkOutside), "{:?}", cache.findings());
}

#[test]
fn a_link_to_nowhere_and_a_circle_are_refused() {
    let at = |name: &str| format!("snapshots/{REVISION}/{name}");
    assert_eq!(Cache::reason(|cache| cache.link("../../blobs/none", "new")), (Reason::LinkDangling, at("new")));
    assert_eq!(Cache::reason(|cache| cache.link("new", "new")), (Reason::LinkLoop, at("new")));
}

#[test]
fn what_is_beside_the_revision_is_refused() {
    for (path, content) in [
        (format!("snapshots/{OTHER}/model.safetensors"), "another revision"),
        ("blobs/cc".into(), "a blob of none"),
        ("blobs/cc.incomplete".into(), ""),
        ("refs/dev".into(), OTHER),
        ("refs/long".into(), &*"0".repeat(200)),
        (".no_exist/x/model.bin".into(), "not empty"),
        (".locks/x.lock".into(), "not empty"),
        ("weights.bin".into(), "stray"),
    ] {
        let found = Cache::reason(|cache| {
            fs::create_dir_all(cache.path(&path).parent().unwrap()).unwrap();
            fs::write(cache.path(&path), content).unwrap();
        });
        assert_eq!(found, (Reason::BesideSnapshot, path));
    }
    let found = Cache::reason(|cache| symlink(format!("snapshots/{REVISION}"), cache.path("latest")).unwrap());
    assert_eq!(found, (Reason::BesideSnapshot, "latest".into()));
}

#[test]
fn a_revision_that_is_not_there_is_named() {
    let mut cache = cache();
    cache.target.layout = Layout::HuggingFaceCache { revision: OTHER.into() };
    assert_eq!(cache.findings()[0], (Reason::RevisionMissing, format!("snapshots/{OTHER}")));
}

#[test]
fn names_and_bytes_count_as_everywhere() {
    let cache = self::cache();
    fs::write(cache.path("blobs/bb"), [2; 5000]).unwrap();
    assert_eq!(cache.findings(), one(Reason::HashMismatch, "model.safetensors"));
    let cache = self::cache();
    cache.link("../../blobs/aa", "extra.json");
    assert_eq!(cache.findings(), one(Reason::ExtraFile, "extra.json"));
    let cache = self::cache();
    fs::remove_file(cache.snapshot("plain.txt")).unwrap();
    assert_eq!(cache.findings(), one(Reason::MissingFile, "plain.txt"));
    let cache = self::cache();
    fs::hard_link(cache.path("blobs/bb"), cache.dir.path().join("outside")).unwrap();
    assert_eq!(cache.findings(), one(Reason::HardLinkOutside, "blobs/bb"));
}

#[test]
fn the_program_takes_layout_and_revision_together() {
    let cache = cache();
    let root = cache.dir.path().to_str().unwrap().to_owned();
    let run = |more: &[&str]| {
        let mut args: Vec<String> =
            ["digest", "--root", &root, "--path", "hub/models--org--orion"].map(String::from).into();
        args.extend(more.iter().map(|arg| (*arg).to_string()));
        program(&args.iter().map(|arg| std::ffi::OsStr::new(arg.as_str())).collect::<Vec<_>>())
    };
    let (code, stdout, ..) = run(&["--layout", "HuggingFaceCache", "--revision", REVISION]);
    assert_eq!(code, exit::VERIFIED, "{stdout}");
    assert!(stdout.contains(&cache.target.digest.digest()), "{stdout}");
    assert_eq!(run(&["--layout", "HuggingFaceCache"]).0, exit::USAGE);
    assert_eq!(run(&["--revision", REVISION]).0, exit::USAGE);
    assert_eq!(run(&["--layout", "HuggingFaceCache", "--revision", "main"]).0, exit::USAGE);
    // Without the layout, its links are links.
    assert_eq!(run(&[]).0, exit::REFUSED_TYPE);
}
