//! How many threads there are under a CPU limit: real control groups, as a container has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A control group, removed with those within it.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where this process is in the hierarchy that limits CPU time: that of version 1 if it is there, as the kernel has each
/// controller in one of them only.
fn own() -> (Version, PathBuf) {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for (version, kind) in [(Version::One, "cgroup"), (Version::Two, "cgroup2")] {
        let path = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let of = match version {
                Version::One => controllers.split(',').any(|controller| controller == "cpu"),
                Version::Two => controllers.is_empty(),
            };
            of.then(|| path.trim_start_matches('/').to_owned())
        });
        let mount = mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut after = after.split(' ');
            let right = after.next()? == kind
                && (version == Version::Two || after.nth(1)?.split(',').any(|option| option == "cpu"));
            right.then(|| before.split(' ').nth(4).map(PathBuf::from))?
        });
        if let (Some(path), Some(mount)) = (path, mount) {
            return (version, mount.join(path));
        }
    }
    panic!("no control groups: is /sys/fs/cgroup mounted?");
}

fn make(version: Version, at: PathBuf, milli: Option<u32>) -> Group {
    const NEEDS: &str = "needs root and a control group with the cpu controller that may be written";
    let above = at.parent().unwrap();
    if version == Version::Two {
        fs::write(above.join("cgroup.subtree_control"), "+cpu")
            .unwrap_or_else(|error| panic!("{NEEDS}: {}: {error}", above.display()));
    }
    fs::create_dir(&at).unwrap_or_else(|error| panic!("{NEEDS}: {}: {error}", at.display()));
    let group = Group(at);
    let quota = milli.map(|milli| (milli * 100).to_string());
    let (file, text) = match version {
        Version::One => ("cpu.cfs_quota_us", quota.unwrap_or("-1".into())),
        Version::Two => ("cpu.max", format!("{} 100000", quota.as_deref().unwrap_or("max"))),
    };
    fs::write(group.0.join(file), text).unwrap_or_else(|error| panic!("{NEEDS}: {file}: {error}"));
    group
}

/// Most threads of a verifier that hashes in the group; one of them is the main thread, which hashes nothing.
fn threads(group: &Path, volume: &Path) -> usize {
    let mut child = Command::new("sh")
        .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$1\" digest --hash blake3 --root \"$2\""])
        .args([group, Path::new(env!("CARGO_BIN_EXE_weightlock-verify")), volume])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (started, tasks) = (Instant::now(), format!("/proc/{}/task", child.id()));
    let mut most = 0;
    while started.elapsed() < Duration::from_secs(2) {
        most = most.max(fs::read_dir(&tasks).map_or(0, Iterator::count));
        assert_eq!(child.try_wait().unwrap(), None, "it ended before its threads were counted");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    most - 1
}

#[test]
fn there_are_as_many_threads_as_the_tightest_cpu_limit_allows() {
    let volume = tempfile::tempdir().unwrap();
    // A sparse file takes long to hash and no space; BLAKE3 has work for any number of threads in it.
    fs::File::create(volume.path().join("large")).unwrap().set_len(1 << 40).unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    let (version, own) = own();
    let name = |what: &str| format!("weightlock-test-{}-{what}", std::process::id());
    for (what, outer, inner, expected) in [
        ("none", None, None, cores),
        ("half", None, Some(500), 1),
        ("one", None, Some(1000), 1),
        ("above", Some(1000), None, 1),
        ("tightest", Some(1000), Some(500), 1),
        ("plenty", Some(64_000), Some(64_000), cores),
    ] {
        let outer = make(version, own.join(name(what)), outer);
        let inner = make(version, outer.0.join("inner"), inner);
        assert_eq!(threads(&inner.0, volume.path()), expected, "limit: {what}");
    }
}
