//! Random trees verify; after one random mutation they never do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use weightlock::verifier::algorithm::{Algorithm, Hashing};
use weightlock::verifier::finding::exit;

use crate::volume::*;

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
    Case { file: usize },
    Hole { file: usize },
    Fifo { name: String },
    HardLink { file: usize },
    NotUtf8 { file: usize },
    IntoDirectory { file: usize },
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
        file().prop_map(|file| Mutation::Case { file }),
        file().prop_map(|file| Mutation::Hole { file }),
        "[a-z]{1,3}".prop_map(|name| Mutation::Fifo { name: format!("{name}.pipe") }),
        file().prop_map(|file| Mutation::HardLink { file }),
        file().prop_map(|file| Mutation::NotUtf8 { file }),
        file().prop_map(|file| Mutation::IntoDirectory { file }),
    ]
}

fn hashing() -> impl Strategy<Value = Hashing> {
    let algorithm = prop::sample::select(Algorithm::ALL.as_slice());
    (algorithm, prop::option::of(Just(1 << 20))).prop_map(|(algorithm, shard_size)| Hashing { algorithm, shard_size })
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
        Mutation::Case { file } => {
            let path = &pick(file).0;
            let (parent, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(parent, name)| (parent, name));
            let changed = root.join(parent).join(name.to_uppercase());
            if changed.exists() {
                return false;
            }
            fs::rename(root.join(path), changed).unwrap();
        }
        Mutation::Hole { file } => {
            let (path, content) = pick(file);
            if content.iter().all(|byte| *byte == 0) {
                return false;
            }
            fs::File::create(root.join(path)).unwrap().set_len(content.len() as u64).unwrap();
        }
        Mutation::Fifo { name } => {
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, root.join(name), fifo, 0o600.into(), 0).unwrap();
        }
        Mutation::HardLink { file } => {
            fs::hard_link(root.join(&pick(file).0), root.with_extension("outside")).unwrap();
        }
        Mutation::NotUtf8 { file } => {
            use std::os::unix::ffi::OsStrExt as _;
            let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
            fs::rename(root.join(&pick(file).0), root.join(name)).unwrap();
        }
        Mutation::IntoDirectory { file } => {
            let path = root.join(&pick(file).0);
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_random_tree_verifies_and_after_one_random_mutation_never_does(
        // Names of files end in a digit and names of directories do not: no file is the directory of another.
        hashing in hashing(),
        tree in prop::collection::btree_map("([a-c]{1,2}/){0,3}[a-zé ]{1,4}[0-9]", prop::collection::vec(any::<u8>(), 0..300), 1..12),
        mutation in mutation(),
    ) {
        let files: Vec<(String, Vec<u8>)> = tree.into_iter().collect();
        let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
        let volume = sealed_as(hashing, &borrowed);
        prop_assert_eq!(volume.findings(), []);
        prop_assume!(apply(volume.dir.path(), &files, &mutation));
        let outside = volume.dir.path().with_extension("outside");
        let found = volume.findings();
        let code = verify_program(&volume).0;
        let _ = fs::remove_file(outside);
        prop_assert_ne!(found, []);
        prop_assert_ne!(code, exit::VERIFIED);
    }
}
