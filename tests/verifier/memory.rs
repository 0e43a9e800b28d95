//! How much memory the program takes, as the kernel counts it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use weightlock::verifier::finding::exit;
use weightlock::verifier::manifest::DEFAULT_PATH;

use crate::volume::*;

/// A tree of so many small files.
fn many(root: &Path, files: usize) {
    for number in 0..files {
        let directory = root.join(format!("shard-{:04}/layer", number / 1000));
        if number % 1000 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        fs::write(directory.join(format!("model-{number:07}-of-many.safetensors")), number.to_le_bytes()).unwrap();
    }
}

/// Runs the program and returns its output and the most memory it had resident, in bytes.
fn peak(args: &[&str]) -> (String, u64) {
    let program = env!("CARGO_BIN_EXE_weightlock-verify");
    let mut child =
        std::process::Command::new(program).args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).map_or(0, |kib| kib.parse().unwrap());
        most = most.max(kib << 10);
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(exit::VERIFIED.into()));
    (String::from_utf8(output.stdout).unwrap(), most)
}

/// Peaks of making the manifest and of verifying, on as many threads as there can be.
fn peaks(files: usize, hash: &str) -> [u64; 2] {
    let dir = tempfile::tempdir().unwrap();
    many(dir.path(), files);
    let root = dir.path().to_str().unwrap();
    let (log, made) = peak(&["digest", "--threads", "64", "--hash", hash, "--write-manifest", "--root", root]);
    let (summary, _) = weightlock::verifier::transcript::read(&log).unwrap();
    let group = ["--artifact", "a", "--digest", &summary.digest, "--root", root, "--manifest", DEFAULT_PATH];
    let (_, verified) = peak(&[["--threads", "64"].as_slice(), &group].concat());
    [made, verified]
}

const MIB: u64 = 1 << 20;

#[test]
fn memory_is_bounded_at_any_size_and_any_number_of_threads() {
    // A sparse file takes no space.
    let volume = volume();
    fs::File::create(volume.path("large")).unwrap().set_len(512 << 20).unwrap();
    let root = volume.dir.path().to_str().unwrap();
    for hash in ["sha256", "blake3"] {
        let (_, peak) = peak(&["digest", "--threads", "64", "--hash", hash, "--root", root]);
        assert!(peak > MIB && peak <= 40 * MIB, "{hash}: {} KiB", peak >> 10);
    }
    let [few_made, few_verified] = peaks(1_000, "blake2b");
    let [made, verified] = peaks(21_000, "blake2b");
    for (few, many) in [(few_made, made), (few_verified, verified)] {
        let each = many.saturating_sub(few) / 20_000;
        assert!(many <= 64 * MIB && each <= 250, "{} KiB, {each} bytes for each file", many >> 10);
    }
}

/// The figures of docs/verification.md.
#[test]
#[ignore = "makes 1,200,000 files"]
fn a_million_files_take_200_bytes_each_beyond_64_mebibytes() {
    for hash in ["sha256", "blake2b"] {
        let base = peaks(100_000, hash);
        let most = peaks(1_000_000, hash);
        for (base, most) in base.into_iter().zip(most) {
            let each = most.saturating_sub(base) / 900_000;
            println!("{hash}: {} KiB at 100,000 files, {} KiB at 1,000,000: {each} bytes each", base >> 10, most >> 10);
            assert!(base <= 64 * MIB && each <= 200);
        }
    }
}
