use super::super::algorithm::State;
use super::super::beneath::OpenError;
use super::*;

struct Tree {
    _dir: tempfile::TempDir,
    root: Beneath,
    prints: Fingerprints,
}

fn tree(files: &[(&str, &[u8])]) -> Tree {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        std::fs::write(dir.path().join(path), content).unwrap();
    }
    let root = Beneath::open(dir.path()).unwrap();
    let prints = Fingerprints::new(root.fd());
    Tree { _dir: dir, root, prints }
}

fn resource(path: &str, size: usize, algorithm: Algorithm) -> Resource<'_> {
    Resource { path, size: size as u64, range: None, algorithm, listed: None }
}

fn expected(algorithm: Algorithm, content: &[u8]) -> Digest {
    let mut state = State::new(algorithm);
    state.update(content);
    state.finish()
}

fn hash(tree: &Tree, resources: &[Resource<'_>], threads: usize) -> Vec<Option<Result<Digest, HashError>>> {
    let mut results = vec![None; resources.len()];
    let how = How { threads, cache: Cache::Keep, pace: None };
    let mut progress = Progress::silent();
    let done = hash_all(&tree.root, &tree.prints, resources, &how, &mut progress, &mut |index, result| {
        assert!(results[index].replace(result).is_none(), "{index} came twice");
    });
    assert_eq!(done, Ok(()));
    results
}

#[test]
fn every_resource_has_one_result_on_any_number_of_threads() {
    let content: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let names: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &content[..name.len() * 3000])).collect();
    let tree = tree(&files);
    let mut resources = Vec::new();
    let mut wanted = Vec::new();
    for (number, (path, content)) in files.iter().enumerate() {
        let algorithm = Algorithm::ALL[number % 3];
        resources.push(resource(path, content.len(), algorithm));
        wanted.push(Some(Ok(expected(algorithm, content))));
    }
    resources.push(resource("none", 1, Algorithm::Sha256));
    wanted.push(Some(Err(HashError::Open(OpenError::Missing))));
    for threads in [1, 2, 7, MAX_THREADS] {
        assert_eq!(hash(&tree, &resources, threads), wanted);
    }
}

#[test]
fn blake3_of_a_large_file_is_merged_of_its_subtrees() {
    let content: Vec<u8> = (0..(40_u32 << 20) + 3).map(|at| (at >> 7) as u8).collect();
    let tree = tree(&[("f", &content)]);
    let whole = resource("f", content.len(), Algorithm::Blake3);
    assert_eq!(parts(&whole).0, 3);
    let part = Resource { range: Some(5..(33 << 20)), ..whole.clone() };
    let results = hash(&tree, &[whole, part.clone(), Resource { size: 1, ..part }], 3);
    assert_eq!(results[0], Some(Ok(expected(Algorithm::Blake3, &content))));
    assert_eq!(results[1], Some(Ok(expected(Algorithm::Blake3, &content[5..33 << 20]))));
    assert_eq!(results[2], Some(Err(HashError::Size { found: content.len() as u64, expected: 1 })));
}

#[test]
fn the_largest_come_first_and_small_ones_as_listed() {
    let sizes = [1, LARGE_BYTES, 0, 3 * LARGE_BYTES, 2, 2 * LARGE_BYTES];
    let resources: Vec<_> = sizes.iter().map(|size| resource("f", *size as usize, Algorithm::Sha256)).collect();
    assert_eq!(order(resources.as_slice()), [3, 5, 1, 0, 2, 4]);
}

#[test]
fn nothing_to_hash_is_no_result() {
    assert_eq!(hash(&tree(&[]), &[], 2), []);
}

#[test]
fn progress_is_the_sum_over_all_threads() {
    let tree = tree(&[("a", &[1; 700_000]), ("b", &[2; 300_000])]);
    let resources = [resource("a", 700_000, Algorithm::Sha256), resource("b", 300_000, Algorithm::Blake2b)];
    let mut progress = Progress::silent();
    let how = How { threads: 2, cache: Cache::Keep, pace: None };
    hash_all(&tree.root, &tree.prints, resources.as_slice(), &how, &mut progress, &mut |_, _| {}).unwrap();
    assert_eq!(progress.done(), 1_000_000);
}
