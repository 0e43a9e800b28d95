//! What can be wrong with a volume, a row for each reason: how a sound tree is laid, what is done to it, and what has to be
//! found. Scenarios play it on the disk of a node; tests/verifier plays it in a directory, and watches that no reason is
//! left out.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mkdirat, mknodat, open, openat};
use serde_json::Value;
use weightlock::verifier::algorithm::Hashing;
use weightlock::verifier::args::{DigestArgs, Layout};
use weightlock::verifier::engine::digest;
use weightlock::verifier::finding::Reason;
use weightlock::verifier::manifest::{DEFAULT_PATH, Manifest};
use weightlock::verifier::progress::Progress;
use weightlock::verifier::store;

use super::signers::{self, Signers};

/// The revision of the caches.
pub const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
/// Bytes of the file that takes long enough to read for something to happen meanwhile.
const LARGE: u64 = 256 << 20;
/// That file.
pub const SLOW: &str = "large";
/// The bundle.
pub const BUNDLE: &str = "model.sig";

/// The sound tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Files, their manifest in the artifact.
    Plain,
    /// Files, their manifest beside them.
    Listed,
    /// Files of which the format is checked.
    Formats,
    /// One revision in a cache.
    Cache,
    /// The model that the golden bundles are of.
    Signed,
    /// A large file.
    Large,
}

/// When something is done to the tree.
#[derive(Clone, Copy)]
pub enum Change {
    /// Nothing is.
    Never,
    /// Before it is declared: the manifest lists it.
    Before(fn(&Path)),
    /// After that.
    After(fn(&Path)),
    /// While [`SLOW`] is read.
    While(fn(&Path)),
}

/// A tree and what is to be found in it.
#[derive(Clone, Copy)]
pub struct Row {
    /// A label, unique in the table.
    pub name: &'static str,
    pub base: Base,
    pub change: Change,
    /// Bundle and authority, where a signature is asked for.
    pub signature: Option<signers::Made>,
    /// Reason and the beginning of the path; none for the honest twin.
    pub found: Option<(Reason, &'static str)>,
}

/// What is declared of a tree.
pub struct Declared {
    pub manifest: Manifest,
    /// The authority to trust.
    pub authority: Option<Value>,
}

const fn twin(name: &'static str, base: Base) -> Row {
    Row { name, base, change: Change::Never, signature: None, found: None }
}

const fn row(name: &'static str, base: Base, change: Change, reason: Reason, path: &'static str) -> Row {
    Row { name, base, change, signature: None, found: Some((reason, path)) }
}

const fn signed(name: &'static str, made: signers::Made, found: Option<(Reason, &'static str)>) -> Row {
    Row { name, base: Base::Signed, change: Change::Never, signature: Some(made), found }
}

/// Files, formats and layouts.
pub const FILES: &[Row] = &[
    twin("plain", Base::Plain),
    row("size", Base::Plain, Change::After(|d| put(d, "config.json", b"{ }")), Reason::SizeMismatch, "config.json"),
    row("byte", Base::Plain, Change::After(|d| put(d, "config.json", b"[]")), Reason::HashMismatch, "config.json"),
    row("hole", Base::Plain, Change::After(hole), Reason::SparseFile, "model.bin"),
    row("extra", Base::Plain, Change::After(|d| put(d, "shards/2", b"x")), Reason::ExtraFile, "shards/2"),
    row(
        "missing",
        Base::Plain,
        Change::After(|d| fs::remove_file(d.join("config.json")).unwrap()),
        Reason::MissingFile,
        "config.json",
    ),
    row(
        "renamed",
        Base::Plain,
        Change::After(|d| rename(d, "config.json", "config.txt")),
        Reason::Renamed,
        "config.txt",
    ),
    row(
        "case",
        Base::Plain,
        Change::After(|d| rename(d, "config.json", "Config.JSON")),
        Reason::CaseChanged,
        "Config.JSON",
    ),
    row(
        "symlink",
        Base::Plain,
        Change::After(|d| symlink("config.json", d.join("new")).unwrap()),
        Reason::Symlink,
        "new",
    ),
    row("device", Base::Plain, Change::After(|d| node(d, FileType::CharacterDevice)), Reason::Device, "node"),
    row("fifo", Base::Plain, Change::After(|d| node(d, FileType::Fifo)), Reason::Fifo, "node"),
    row("socket", Base::Plain, Change::After(|d| node(d, FileType::Socket)), Reason::Socket, "node"),
    row(
        "hardlink",
        Base::Plain,
        Change::After(|d| fs::hard_link(d.join("config.json"), d.join("../name")).unwrap()),
        Reason::HardLinkOutside,
        "config.json",
    ),
    // What is mounted there is left to who plays it.
    row("mount", Base::Plain, Change::After(|d| fs::create_dir(d.join(MOUNTED)).unwrap()), Reason::MountPoint, MOUNTED),
    row(
        "utf8",
        Base::Plain,
        Change::After(|d| fs::write(d.join(std::ffi::OsStr::from_bytes(b"w\xff")), "x").unwrap()),
        Reason::NonUtf8Name,
        "w\u{fffd}",
    ),
    row("deep", Base::Plain, Change::After(deep), Reason::TooDeep, "ddd"),
    row("file", Base::Plain, Change::After(|d| hide(d, "config.json")), Reason::UnreadableFile, "config.json"),
    row("directory", Base::Plain, Change::After(|d| hide(d, "shards")), Reason::UnreadableDirectory, "shards"),
    twin("listed", Base::Listed),
    row(
        "unlisted",
        Base::Listed,
        Change::After(|d| fs::remove_file(d.join(DEFAULT_PATH)).unwrap()),
        Reason::ManifestMissing,
        DEFAULT_PATH,
    ),
    row(
        "nolist",
        Base::Listed,
        Change::After(|d| put(d, DEFAULT_PATH, br#"{"files":[],"version":1}"#)),
        Reason::ManifestInvalid,
        DEFAULT_PATH,
    ),
    row("otherlist", Base::Listed, Change::After(other_manifest), Reason::DigestMismatch, DEFAULT_PATH),
    twin("formats", Base::Formats),
    row(
        "format",
        Base::Formats,
        Change::Before(|d| put(d, "more.bin", b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.")),
        Reason::FormatNotAllowed,
        "more.bin",
    ),
    row(
        "malformed",
        Base::Formats,
        Change::Before(|d| put(d, "model.safetensors", &safetensors(5))),
        Reason::MalformedContent,
        "model.safetensors",
    ),
    twin("cache", Base::Cache),
    row(
        "revision",
        Base::Cache,
        Change::After(|d| rename(d, SNAPSHOT, "snapshots/ffffffffffffffffffffffffffffffffffffffff")),
        Reason::RevisionMissing,
        SNAPSHOT,
    ),
    row(
        "outside",
        Base::Cache,
        Change::After(|d| symlink("../../../x", d.join(SNAPSHOT).join("new")).unwrap()),
        Reason::LinkOutside,
        NEW,
    ),
    row(
        "dangling",
        Base::Cache,
        Change::After(|d| symlink("../../blobs/none", d.join(SNAPSHOT).join("new")).unwrap()),
        Reason::LinkDangling,
        NEW,
    ),
    row(
        "loop",
        Base::Cache,
        Change::After(|d| symlink("new", d.join(SNAPSHOT).join("new")).unwrap()),
        Reason::LinkLoop,
        NEW,
    ),
    row("beside", Base::Cache, Change::After(|d| put(d, "blobs/cc", b"of none")), Reason::BesideSnapshot, "blobs/cc"),
];

/// Signatures, each beside files that are as the manifest says.
pub const SIGNATURES: &[Row] = &[
    signed("key", signers::key, None),
    signed("nobundle", signers::missing, Some((Reason::SignatureMissing, BUNDLE))),
    signed("bundle", signers::no_bundle, Some((Reason::BundleInvalid, BUNDLE))),
    signed("statement", signers::no_statement, Some((Reason::StatementInvalid, BUNDLE))),
    signed("forged", signers::forged, Some((Reason::SignatureInvalid, BUNDLE))),
    signed("otherkey", signers::other_key, Some((Reason::UntrustedKey, BUNDLE))),
    signed("method", signers::other_method, Some((Reason::UntrustedMethod, BUNDLE))),
    signed("old", signers::old_predicate, Some((Reason::SignedWithOldPredicate, BUNDLE))),
    signed("links", signers::symlinks, Some((Reason::SignedWithSymlinks, BUNDLE))),
    Row {
        change: Change::Before(|d| put(d, "evil.py", b"x")),
        ..signed("otherfiles", signers::key, Some((Reason::SignedOtherFiles, "evil.py")))
    },
    Row {
        change: Change::Before(|d| put(d, ".gitattributes", b"* lfs\n")),
        ..signed("ignored", signers::key, Some((Reason::SignedWithIgnoredPaths, ".gitattributes")))
    },
    signed("certificate", signers::certificate, None),
    signed("expired", signers::at_another_time, Some((Reason::CertificateTime, BUNDLE))),
    signed("identity", signers::other_identity, Some((Reason::UntrustedIdentity, BUNDLE))),
    signed("chain", signers::other_root, Some((Reason::UntrustedChain, BUNDLE))),
    signed("usage", signers::other_usage, Some((Reason::CertificateUsage, BUNDLE))),
    signed("keyless", signers::keyless, None),
    signed("issuer", signers::other_issuer, Some((Reason::UntrustedIssuer, BUNDLE))),
    signed("timeless", signers::without_time, Some((Reason::TransparencyLog, BUNDLE))),
    signed("unproved", signers::not_in_the_log, Some((Reason::InclusionProof, BUNDLE))),
    signed("unpromised", signers::not_by_the_log, Some((Reason::LogSignature, BUNDLE))),
    signed("entry", signers::other_entry, Some((Reason::OtherLogEntry, BUNDLE))),
    signed("unlogged", signers::certificate_not_logged, Some((Reason::CertificateLog, BUNDLE))),
    signed("otherlog", signers::other_log, Some((Reason::UntrustedLog, BUNDLE))),
];

/// Somebody writes while the verifier reads.
pub const MOVING: &[Row] = &[
    twin("still", Base::Large),
    row("grew", Base::Large, Change::While(|d| resize(d, LARGE + 1)), Reason::Grew, SLOW),
    row("truncated", Base::Large, Change::While(|d| resize(d, LARGE / 2)), Reason::Truncated, SLOW),
    row(
        "written",
        Base::Large,
        Change::While(|d| put(d, "config.json", b"{}")),
        Reason::ChangedWhileRead,
        "config.json",
    ),
];

/// Directory that row `mount` mounts something at.
pub const MOUNTED: &str = "mounted";
const SNAPSHOT: &str = "snapshots/0123456789abcdef0123456789abcdef01234567";
const NEW: &str = "snapshots/0123456789abcdef0123456789abcdef01234567/new";

impl Row {
    /// Lays the tree into an empty directory, and does to it what is done before anybody reads.
    pub fn lay(&self, dir: &Path, signers: &Signers) -> Declared {
        lay(self.base, dir);
        if let Change::Before(change) = self.change {
            change(dir);
        }
        let manifest = list(self.base, dir);
        if self.base == Base::Listed {
            store::write(dir, None, DEFAULT_PATH, &manifest).unwrap();
        }
        let authority = self.signature.map(|made| {
            let (bundle, authority) = made(signers);
            if let Some(bundle) = bundle {
                put(dir, BUNDLE, bundle.as_bytes());
            }
            authority
        });
        if let Change::After(change) = self.change {
            change(dir);
        }
        Declared { manifest, authority }
    }
}

fn layout(base: Base) -> Layout {
    match base {
        Base::Cache => Layout::HuggingFaceCache { revision: REVISION.into() },
        _ => Layout::Directory,
    }
}

fn list(base: Base, root: &Path) -> Manifest {
    let args = DigestArgs {
        except: Vec::new(),
        root: root.into(),
        path: None,
        manifest: None,
        hashing: Hashing::default(),
        threads: None,
        layout: layout(base),
        max_files: None,
        write_manifest: false,
    };
    digest("t", &args, &mut Progress::silent()).unwrap_or_else(|findings| panic!("{findings:?}"))
}

fn lay(base: Base, dir: &Path) {
    match base {
        Base::Plain | Base::Listed => {
            put(dir, "config.json", b"{}");
            put(dir, "model.bin", &[7; 300_000]);
            put(dir, "shards/1", b"one");
        }
        Base::Formats => {
            put(dir, "config.json", b"{}");
            put(dir, "model.safetensors", &safetensors(4));
        }
        Base::Cache => {
            put(dir, "blobs/aa", b"{}");
            put(dir, "refs/main", REVISION.as_bytes());
            fs::create_dir_all(dir.join(SNAPSHOT)).unwrap();
            symlink("../../blobs/aa", dir.join(SNAPSHOT).join("config.json")).unwrap();
        }
        Base::Signed => {
            for (path, content) in
                [("a.b", b"dot\n".as_slice()), ("a/b", b"slash\n"), ("config.json", b"{}\n"), ("empty", b"")]
            {
                put(dir, path, content);
            }
            let weights: Vec<u8> = (0..2_500_000u64).map(|i| ((i * i + 7 * i) % 251) as u8).collect();
            put(dir, "weights.bin", &weights);
        }
        Base::Large => {
            put(dir, "config.json", b"{}");
            fs::File::create(dir.join(SLOW)).unwrap().set_len(LARGE).unwrap();
        }
    }
}

fn put(dir: &Path, path: &str, content: &[u8]) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A file in the format safetensors: four bytes of content, of which its header says `length`.
fn safetensors(length: u8) -> Vec<u8> {
    let header = format!(r#"{{"t":{{"dtype":"U8","shape":[{length}],"data_offsets":[0,{length}]}}}}"#);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), b"1234"].concat()
}

fn rename(dir: &Path, from: &str, to: &str) {
    fs::rename(dir.join(from), dir.join(to)).unwrap();
}

fn hide(dir: &Path, path: &str) {
    fs::set_permissions(dir.join(path), fs::Permissions::from_mode(0o000)).unwrap();
}

fn node(dir: &Path, kind: FileType) {
    let number = if kind == FileType::CharacterDevice { makedev(1, 3) } else { 0 };
    mknodat(CWD, dir.join("node"), kind, 0o644.into(), number).unwrap();
}

/// As a download that was cut short, and then padded, leaves it.
fn hole(dir: &Path) {
    let file = fs::OpenOptions::new().write(true).open(dir.join("model.bin")).unwrap();
    file.set_len(100_000).unwrap();
    file.set_len(300_000).unwrap();
}

fn resize(dir: &Path, size: u64) {
    fs::OpenOptions::new().write(true).open(dir.join(SLOW)).unwrap().set_len(size).unwrap();
}

fn deep(dir: &Path) {
    let step = "d".repeat(250);
    let mut at = open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    for _ in 0..17 {
        mkdirat(&at, &step, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, &step, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
}

fn other_manifest(dir: &Path) {
    let text = fs::read_to_string(dir.join(DEFAULT_PATH)).unwrap();
    let other = text.replacen("config.json", "comfig.json", 1);
    assert_ne!(text, other);
    put(dir, DEFAULT_PATH, other.as_bytes());
}

/// Does `change` in a thread once [`SLOW`] is being read.
pub fn when_read(dir: &Path, change: fn(&Path)) {
    use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
    let dir = dir.to_owned();
    let watch = init(CreateFlags::CLOEXEC).unwrap();
    add_watch(&watch, dir.join(SLOW), WatchFlags::ACCESS).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        // It waits; whoever is never read is told by what was expected and not found.
        if Reader::new(watch, &mut buffer).next().is_ok() {
            change(&dir);
        }
    });
}
