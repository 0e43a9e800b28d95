//! The table of reasons that scenarios play on a real node, played in directories; and that no reason is left out of it.

use std::collections::BTreeSet;

use weightlock::verifier::args::{Layout, ManifestArg, SignatureArg, Target};
use weightlock::verifier::engine::verify;
use weightlock::verifier::finding::Reason;
use weightlock::verifier::formats::Format;
use weightlock::verifier::manifest::DEFAULT_PATH;
use weightlock::verifier::oms::Policy;
use weightlock::verifier::oms::authority::Authority;
use weightlock::verifier::progress::Progress;

use crate::sigstore;

#[path = "../../e2e/scenarios/reasons/table.rs"]
mod rows;
#[path = "../../e2e/scenarios/reasons/signers.rs"]
mod signers;

use rows::{BUNDLE, Base, Change, FILES, MOVING, REVISION, Row, SIGNATURES};

/// What root may make or read, or mounts: it takes a node.
const TAKES_A_NODE: [Reason; 4] =
    [Reason::Device, Reason::MountPoint, Reason::UnreadableFile, Reason::UnreadableDirectory];

/// Reasons that no volume of a node here gives, why, and the file of the test that they have instead.
const NOT_ON_A_NODE: &[(Reason, &str, &str)] = &[
    (Reason::StaleHandle, "no NFS: the kernel has no server for it", "tests/verifier/network.rs"),
    (Reason::DirectoryLoop, "no file system here has directories within themselves", "src/verifier/walk.rs"),
    (Reason::UnknownType, "every file here is of a type of POSIX", "src/verifier/walk.rs"),
    (Reason::TooManyFiles, "of `digest` only; nothing that a pod is started with", "tests/verifier/program.rs"),
];

fn all() -> impl Iterator<Item = &'static Row> {
    FILES.iter().chain(SIGNATURES).chain(MOVING)
}

#[test]
fn each_row_gives_its_reason_and_its_twin_none() {
    let signers = signers::Signers::new();
    for row in all().filter(|row| row.found.is_none_or(|(reason, _)| !TAKES_A_NODE.contains(&reason))) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("w");
        std::fs::create_dir(&root).unwrap();
        let declared = row.lay(&root, &signers);
        let mut json = Vec::new();
        declared.manifest.write_canonical(&mut json).unwrap();
        let target = Target {
            artifact: row.name.into(),
            digest: declared.manifest.digest(),
            root: root.clone(),
            path: None,
            manifest: match row.base {
                Base::Listed => ManifestArg::Path(DEFAULT_PATH.into()),
                _ => ManifestArg::Inline(String::from_utf8(json).unwrap()),
            },
            layout: match row.base {
                Base::Cache => Layout::HuggingFaceCache { revision: REVISION.into() },
                _ => Layout::Directory,
            },
            formats: if row.base == Base::Formats { vec![Format::Safetensors] } else { Vec::new() },
            signature: declared.authority.map(|authority| {
                let authorities = vec![Authority::parse(&authority.to_string()).unwrap()];
                SignatureArg { path: BUNDLE.into(), policy: Policy { authorities, allow: Vec::new() } }
            }),
            beside: Vec::new(),
        };
        if let Change::While(change) = row.change {
            rows::when_read(&root, change);
        }
        let found = verify(&[target], &mut Progress::silent()).findings;
        match row.found {
            None => assert!(found.is_empty(), "{}: {found:?}", row.name),
            Some((reason, path)) => {
                assert_eq!(found.reason().map(Reason::exit_code), Some(reason.exit_code()), "{}: {found:?}", row.name);
                let has = found.kept().any(|finding| finding.reason == reason && finding.path.starts_with(path));
                assert!(has, "{}: {found:?}", row.name);
            }
        }
    }
}

/// A reason that is new fails this until a scenario shows it, or it is said why none can and another test does.
#[test]
fn every_reason_has_a_scenario_or_says_why_not() {
    let source = include_str!("../../src/verifier/finding/reason.rs");
    let (_, rest) = source.split_once("pub enum Reason {\n").unwrap();
    let (variants, _) = rest.split_once("\n}").unwrap();
    let known: BTreeSet<&str> = variants
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
        .map(|line| line.trim_end_matches(','))
        .collect();
    assert!(known.len() >= 50, "{known:?}");
    let name = |reason: Reason| format!("{reason:?}");
    let played: BTreeSet<String> = all().filter_map(|row| row.found).map(|(reason, _)| name(reason)).collect();
    let excused: BTreeSet<String> = NOT_ON_A_NODE.iter().map(|(reason, _, _)| name(*reason)).collect();
    let missing: Vec<_> = known.iter().filter(|name| !played.contains(**name) && !excused.contains(**name)).collect();
    assert!(missing.is_empty(), "neither in the table nor excused in NOT_ON_A_NODE: {missing:?}");
    assert!(played.is_disjoint(&excused), "{:?}", played.intersection(&excused));
    let names: BTreeSet<_> = all().map(|row| row.name).collect();
    assert_eq!(names.len(), all().count(), "two rows have one name");
}

/// What no scenario shows is tested in the file that is named.
#[test]
fn what_is_excused_has_a_test_of_its_own() {
    for (reason, why, file) in NOT_ON_A_NODE {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let source = std::fs::read_to_string(&path).unwrap();
        let tests = source.split_once("#[cfg(test)]").map_or(source.as_str(), |(_, tests)| tests);
        assert!(tests.contains("#[test]") && tests.contains(&format!("{reason:?}")), "{reason:?} ({why}): {file}");
    }
}
