//! File systems that behave as network file systems may, made with FUSE in a mount namespace of the test's own.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request, SessionACL,
};
use weightlock::verifier::algorithm::{Algorithm, Hashing};
use weightlock::verifier::args::{ManifestArg, Target};
use weightlock::verifier::finding::{Reason, exit};

use crate::volume::*;

const BYTES: usize = 700_000;
const AT_ONCE: Duration = Duration::from_secs(1);
/// Set for the process that has a mount namespace of its own.
const OWN_NAMESPACE: &str = "WEIGHTLOCK_TEST_OWN_MOUNTS";

/// What is peculiar about the file `w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quirk {
    Nothing,
    /// No read returns more than this many bytes.
    ShortReads(u32),
    OpenFails(i32),
    ReadFails(i32),
    /// Once it is read it has so many bytes.
    Becomes(usize),
    Blocks,
}

/// A root with the file `w` and the directory `d`, in which is the file `v`.
struct Served {
    quirk: Quirk,
    /// Whether reads go past the page cache, so that nothing can be mapped either.
    direct: bool,
    content: Vec<u8>,
    looked_up: AtomicU64,
    size: AtomicU64,
    /// Answers that are never given: one that is dropped would be an error.
    unanswered: Mutex<Vec<ReplyData>>,
}

const DIRECTORY: u64 = 2;
const LARGE: u64 = 3;
const SMALL: u64 = 4;

impl Served {
    fn new(quirk: Quirk, direct: bool) -> Self {
        let content = content();
        let size = AtomicU64::new(content.len() as u64);
        Self { quirk, direct, content, looked_up: AtomicU64::new(0), size, unanswered: Mutex::default() }
    }

    fn attributes(&self, node: u64) -> FileAttr {
        let directory = matches!(node % 8, 1 | DIRECTORY);
        let size = match node % 8 {
            LARGE => self.size.load(Ordering::SeqCst),
            SMALL => 5,
            _ => 0,
        };
        FileAttr {
            ino: INodeNo(node),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if directory { FileType::Directory } else { FileType::RegularFile },
            perm: if directory { 0o755 } else { 0o644 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let kind = match (parent.0 % 8, name.to_str()) {
            (1, Some("d")) => DIRECTORY,
            (1, Some("w")) => LARGE,
            (DIRECTORY, Some("v")) => SMALL,
            _ => return reply.error(Errno::ENOENT),
        };
        // Another number each time, of generation 0, and nothing is cached.
        let node = (self.looked_up.fetch_add(1, Ordering::SeqCst) + 1) * 8 + kind;
        reply.entry(&Duration::ZERO, &self.attributes(node), Generation(0));
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &self.attributes(node.0));
    }

    fn readdir(&self, _: &Request, node: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names: &[&str] = if node.0 % 8 == DIRECTORY { &[".", "..", "v"] } else { &[".", "..", "w", "d"] };
        for (index, name) in names.iter().enumerate().skip(offset as usize) {
            // The type that a listing gives is worse than unknown: it is wrong.
            if reply.add(INodeNo(99), index as u64 + 1, FileType::Socket, name) {
                break;
            }
        }
        reply.ok();
    }

    fn open(&self, _: &Request, node: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.quirk {
            Quirk::OpenFails(error) if node.0 % 8 == LARGE => reply.error(Errno::from_i32(error)),
            _ => {
                let flags = if self.direct { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() };
                reply.opened(FileHandle(0), flags);
            }
        }
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if node.0 % 8 == SMALL {
            return reply.data(&b"small"[(offset as usize).min(5)..]);
        }
        let mut most = size as usize;
        match self.quirk {
            Quirk::ReadFails(error) => return reply.error(Errno::from_i32(error)),
            Quirk::Blocks => return self.unanswered.lock().unwrap().push(reply),
            Quirk::ShortReads(bytes) => most = most.min(bytes as usize),
            Quirk::Becomes(size) => self.size.store(size as u64, Ordering::SeqCst),
            Quirk::Nothing | Quirk::OpenFails(_) => {}
        }
        let size = self.size.load(Ordering::SeqCst) as usize;
        let mut now = self.content.clone();
        now.resize(size, 7);
        let start = (offset as usize).min(size);
        reply.data(&now[start..(start + most).min(size)]);
    }
}

fn content() -> Vec<u8> {
    (0..BYTES).map(|at| (at * 7 / 3) as u8).collect()
}

fn serve(quirk: Quirk, direct: bool, at: &Path) -> BackgroundSession {
    let mut config = Config::default();
    config.acl = SessionACL::All;
    fuser::spawn_mount(Served::new(quirk, direct), at, &config)
        .unwrap_or_else(|error| panic!("a FUSE file system cannot be mounted (it needs /dev/fuse): {error}"))
}

/// The same files on an ordinary file system, and the target that expects them at `at`.
fn expected(hashing: Hashing, at: &Path) -> (Target, String) {
    let volume = sealed_as(hashing, &[("w", &content()), ("d/v", b"small")]);
    let manifest = std::fs::read_to_string(volume.path(weightlock::verifier::manifest::DEFAULT_PATH)).unwrap();
    let inline = ManifestArg::Inline(manifest.clone());
    (Target { root: at.into(), manifest: inline, ..volume.target() }, manifest)
}

/// Runs one test of this program again, in a mount namespace of its own; true in that process.
fn in_own_namespace(test: &str) -> bool {
    if std::env::var_os(OWN_NAMESPACE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let command = command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    let output = command.env(OWN_NAMESPACE, "1").output().expect("unshare (util-linux) is needed to mount");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && said.contains("1 passed"),
        "in a mount namespace of its own (needs root or user namespaces, and /dev/fuse): {said}"
    );
    false
}

#[test]
fn network_file_systems_are_read_and_their_failures_have_reasons() {
    if !in_own_namespace("network::network_file_systems_are_read_and_their_failures_have_reasons") {
        return;
    }
    let (eio, stale) = (rustix::io::Errno::IO.raw_os_error(), rustix::io::Errno::STALE.raw_os_error());
    let cases: [(Quirk, Option<Reason>); 8] = [
        (Quirk::Nothing, None),
        (Quirk::ShortReads(BYTES as u32), None),
        (Quirk::ReadFails(eio), Some(Reason::UnreadableFile)),
        (Quirk::OpenFails(eio), Some(Reason::UnreadableFile)),
        (Quirk::ReadFails(stale), Some(Reason::StaleHandle)),
        (Quirk::OpenFails(stale), Some(Reason::StaleHandle)),
        (Quirk::Becomes(BYTES + 1), Some(Reason::Grew)),
        (Quirk::Becomes(BYTES / 2), Some(Reason::Truncated)),
    ];
    // In the page cache a short read ends the file, so only what goes past it may be short.
    let short =
        [(Quirk::ShortReads(997), None), (Quirk::ShortReads(4097), None)].map(|(quirk, reason)| (quirk, reason, true));
    let both = cases.iter().flat_map(|(quirk, reason)| [false, true].map(|direct| (*quirk, *reason, direct)));
    let at = tempfile::tempdir().unwrap();
    for (quirk, reason, direct) in both.chain(short) {
        for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
            let (target, _) = expected(Hashing { algorithm, shard_size: None }, at.path());
            let session = serve(quirk, direct, at.path());
            let found = findings(&target);
            session.umount_and_join().unwrap();
            let context = format!("{quirk:?}, past the page cache: {direct}, {algorithm}: {found:?}");
            match reason {
                None => assert_eq!(found, [], "{context}"),
                Some(reason) => {
                    assert!(found.contains(&(reason, "w".into())), "{context}");
                    assert!(found.iter().all(|(_, path)| path == "w"), "{context}");
                }
            }
        }
    }
}

#[test]
fn a_read_that_never_ends_does_not_hold_up_sigterm() {
    if !in_own_namespace("network::a_read_that_never_ends_does_not_hold_up_sigterm") {
        return;
    }
    let at = tempfile::tempdir().unwrap();
    let (target, manifest) = expected(Hashing::default(), at.path());
    // Through the page cache. Past it the verifier did not end within the second (docs/verification.md).
    let _session = serve(Quirk::Blocks, false, at.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_weightlock-verify"))
        .args(["--artifact", "orion", "--digest", &target.digest.digest(), "--manifest-inline", &manifest, "--root"])
        .arg(at.path())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().unwrap(), None, "it ended although a read has no answer");
    let asked = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    // Waited for with an end: what the kernel cannot end would be waited for as long as the read.
    let ended = loop {
        match child.try_wait().unwrap() {
            Some(ended) => break ended,
            None if asked.elapsed() > AT_ONCE => {
                panic!("it did not end within {AT_ONCE:?}")
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    assert_eq!((ended.code(), ended.signal()), (Some(exit::TERMINATED.into()), None));
}
