//! How much memory the program takes, as the kernel counts it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use weightlock::verifier::finding::exit;
use weightlock::verifier::manifest::{DEFAULT_PATH, Manifest};
use weightlock::verifier::oms::bundle::MAX_KEYLESS_BYTES;

use crate::bundles::{statement, with_key};
use crate::signatures::{FILES, model, statement_of};
use crate::sigstore::{IDENTITY, ISSUER, Instance, Making, hex};
use crate::volume::*;

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
const BUNDLE: &str = "model.sig";
const LIMIT: usize = MAX_KEYLESS_BYTES as usize;

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

/// The same as a cache of Hugging Face.
fn many_in_cache(root: &Path, files: usize) {
    let snapshot = root.join("snapshots").join(REVISION);
    fs::create_dir_all(root.join("blobs")).unwrap();
    for number in 0..files {
        let directory = snapshot.join(format!("shard-{:04}/layer", number / 1000));
        if number % 1000 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        let blob = format!("blobs/{}", hex(&Sha256::digest(number.to_le_bytes())));
        fs::write(root.join(&blob), number.to_le_bytes()).unwrap();
        let name = directory.join(format!("model-{number:07}-of-many.safetensors"));
        symlink(Path::new("../../../..").join(blob), name).unwrap();
    }
}

/// Runs the program and returns its output and the most memory it had resident, in bytes.
fn peak(args: &[&str]) -> (String, u64) {
    // Another build of the program, for the figures of the documentation.
    let built = std::env::var("WEIGHTLOCK_VERIFY").ok();
    let program = built.as_deref().unwrap_or(env!("CARGO_BIN_EXE_weightlock-verify"));
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

/// Peaks of making the manifest, of verifying, and of verifying with the signature of a key: one of the same digests, and
/// one of others, so that the content is hashed in two ways. On as many threads as there can be.
fn peaks(files: usize, hash: &str, other_hash: &str) -> [u64; 4] {
    let dir = tempfile::tempdir().unwrap();
    many(dir.path(), files);
    let root = dir.path().to_str().unwrap();
    let digest = |args: &[&str]| {
        let (log, peak) = peak(&[&["digest", "--threads", "64", "--root", root], args].concat());
        (weightlock::verifier::transcript::read(&log).unwrap().0, peak)
    };
    let manifest = || Manifest::parse(fs::File::open(dir.path().join(DEFAULT_PATH)).unwrap()).unwrap();
    // The other manifest gives way to the one that is verified.
    digest(&["--hash", other_hash, "--write-manifest"]);
    let otherwise = with_key(&statement(&manifest()));
    let (summary, made) = digest(&["--hash", hash, "--write-manifest"]);
    let signed = with_key(&statement(&manifest()));
    let group = ["--artifact", "a", "--digest", &summary.digest, "--root", root, "--manifest", DEFAULT_PATH];
    let verify = |others: &[&str]| peak(&[["--threads", "64"].as_slice(), &group, others].concat()).1;
    let verified = verify(&[]);
    let [signed, otherwise] = [signed, otherwise].map(|(bundle, authority)| {
        fs::write(dir.path().join(BUNDLE), bundle.to_string()).unwrap();
        verify(&["--signature", BUNDLE, "--authority", &authority.to_string()])
    });
    [made, verified, signed, otherwise]
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
    let few = peaks(1_000, "sha256", "blake2b");
    let many = peaks(21_000, "sha256", "blake2b");
    for (few, many) in few.iter().zip(&many) {
        let each = many.saturating_sub(*few) / 20_000;
        assert!(*many <= 64 * MIB && each <= 250, "{} KiB, {each} bytes for each file", many >> 10);
    }
    // The larger bundle has 6 MiB, the smaller one a twentieth of it.
    let [_, verified, signed, _] = [0, 1, 2, 3].map(|at| many[at].saturating_sub(few[at]));
    assert!(signed <= verified + 3 * MIB, "{} KiB with a signature, {} KiB without", signed >> 10, verified >> 10);
}

/// Peaks of making the manifest of a cache, and of verifying it.
fn peaks_of_cache(files: usize) -> [u64; 2] {
    let dir = tempfile::tempdir().unwrap();
    many_in_cache(dir.path(), files);
    let root = dir.path().to_str().unwrap();
    let layout = ["--threads", "64", "--root", root, "--layout", "HuggingFaceCache", "--revision", REVISION];
    let (log, made) = peak(&[["digest", "--write-manifest"].as_slice(), &layout].concat());
    let digest = weightlock::verifier::transcript::read(&log).unwrap().0.digest;
    let [threads, group] = [&layout[..2], &layout[2..]];
    let verify = ["--artifact", "a", "--digest", &digest, "--manifest", DEFAULT_PATH];
    [made, peak(&[threads, &verify, group].concat()).1]
}

#[test]
fn caches_of_hugging_face_take_little_more() {
    let [few, many] = [1_000, 11_000].map(peaks_of_cache);
    for (few, many) in few.iter().zip(&many) {
        let each = many.saturating_sub(*few) / 10_000;
        assert!(*many <= 64 * MIB && each <= 350, "{} KiB, {each} bytes for each file", many >> 10);
    }
}

/// The bundle of a keyless signature is held in memory, so it is limited.
#[test]
fn the_largest_keyless_bundle_leaves_room_for_its_files() {
    let volume = model(FILES, |_| {});
    let instance = Instance::new();
    let root = instance.trusted_root().to_string();
    let authority = json!({"name": "k", "sigstore": {"identity": IDENTITY, "issuer": ISSUER, "trustedRoot": root}});
    let mut statement = statement_of(FILES.as_bytes());
    // Base64 makes four bytes of three; the evidence takes less than 16 KiB.
    statement.resize(LIMIT / 4 * 3 - (12 << 10), b' ');
    let bundle = instance.sign(&statement, Making::default()).to_string();
    assert!(bundle.len() <= LIMIT && bundle.len() > LIMIT - (16 << 10), "{}", bundle.len());
    fs::write(volume.path(BUNDLE), bundle).unwrap();
    let mut args: Vec<String> = verify_args(&volume).into_iter().map(|arg| arg.into_string().unwrap()).collect();
    args.extend(["--signature".into(), BUNDLE.into(), "--authority".into(), authority.to_string()]);
    let (_, peak) = peak(&args.iter().map(String::as_str).collect::<Vec<_>>());
    // So large a bundle is of some 60,000 files, which take 9 MiB besides.
    assert!(peak <= (64 - 9) * MIB, "{} KiB", peak >> 10);
}

/// The figures of docs/verification.md.
#[test]
#[ignore = "makes 2,200,000 files"]
fn a_million_files_take_200_bytes_each_beyond_64_mebibytes() {
    for (hash, other_hash) in [("sha256", "blake2b"), ("blake2b", "sha256")] {
        let base = peaks(100_000, hash, other_hash);
        let most = peaks(1_000_000, hash, other_hash);
        let of = ["digest", "verify", "verify signed", "verify signed otherwise"];
        for ((what, base), most) in of.into_iter().zip(base).zip(most) {
            let each = most.saturating_sub(base) / 900_000;
            let (base, most) = (base >> 10, most >> 10);
            println!("{hash}, {what}: {base} KiB at 100,000 files, {most} KiB at 1,000,000: {each} bytes each");
            assert!(base <= 64 << 10 && each <= 200);
        }
    }
}
