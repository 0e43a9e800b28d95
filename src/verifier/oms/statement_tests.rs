use super::*;
use crate::verifier::oms::files::{Collected, SignedFile};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn hex(byte: u8, length: usize) -> String {
    format!("{byte:02x}").repeat(length)
}

/// A statement about these resources, with the right root.
fn statement(serialization: Value, resources: Value) -> Value {
    let mut hasher = Sha256::new();
    for resource in resources.as_array().unwrap() {
        let digest: Digest = serde_json::from_value(resource["digest"].clone()).unwrap();
        hasher.update(digest.bytes());
    }
    let root: [u8; 32] = hasher.finalize().into();
    json!({
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "model", "digest": {"sha256": Digest::new(&root).to_string()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"serialization": serialization, "resources": resources},
    })
}

fn files(names: &[&str]) -> Value {
    let resources: Vec<_> = names
        .iter()
        .zip(1..)
        .map(|(name, byte)| json!({"name": name, "algorithm": "sha256", "digest": hex(byte, 32)}))
        .collect();
    statement(json!({"method": "files", "hash_type": "sha256", "allow_symlinks": false}), resources.into())
}

fn shards(names: &[&str], algorithm: &str) -> Value {
    let resources: Vec<_> = names
        .iter()
        .zip(1..)
        .map(|(name, byte)| json!({"name": name, "algorithm": algorithm, "digest": hex(byte, 32)}))
        .collect();
    let serialization = json!({"method": "shards", "hash_type": "sha256", "allow_symlinks": false, "shard_size": 10});
    statement(serialization, resources.into())
}

/// A statement and the files that it lists.
#[derive(Debug, PartialEq)]
struct Parsed {
    statement: Statement,
    files: Vec<SignedFile>,
}

fn parse(value: &Value) -> Result<Parsed, StatementError> {
    parse_text(&value.to_string())
}

fn parse_text(text: &str) -> Result<Parsed, StatementError> {
    let statement = Statement::parse(text.as_bytes())?;
    let mut collected = Collected::default();
    statement.list(text.as_bytes(), &mut |item| {
        collected.add(item);
        Ok(())
    })?;
    Ok(Parsed { statement, files: collected.files()? })
}

fn with(mut value: Value, pointer: &str, to: Value) -> Value {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(member.into(), to);
    value
}

#[test]
fn both_orders_of_the_list_are_read() {
    // By code points, as the specification has it, and by steps of the path, as the Python reference does.
    for names in [["a.b", "a/b"], ["a/b", "a.b"]] {
        let paths = parse(&files(&names)).unwrap().files;
        let paths: Vec<_> = paths.iter().map(|file| &*file.path).collect();
        assert_eq!(paths, ["a.b", "a/b"]);
    }
}

#[test]
fn a_single_file_may_be_named_by_a_dot() {
    assert_eq!(&*parse(&files(&["."])).unwrap().files[0].path, ".");
    assert_eq!(&*parse(&shards(&[".:0:3"], "sha256")).unwrap().files[0].path, ".");
    let error = parse(&files(&[".", "a"])).unwrap_err().to_string();
    assert!(error.contains("stands for a single file, and there are others"), "{error}");
}

#[test]
fn shards_follow_each_other() {
    for algorithm in ["sha256", "sha256-sharded-10"] {
        let files = parse(&shards(&["a:b:0:10", "a:b:10:13", "c:0:4"], algorithm)).unwrap().files;
        let files: Vec<_> = files.iter().map(|f| (&*f.path, f.digests.len(), f.size)).collect();
        assert_eq!(files, [("a:b", 2, Some(13)), ("c", 1, Some(4))]);
    }
    for (names, message) in [
        (&["a"][..], "\"a\" is not PATH:START:END"),
        (&["a:0"], "\"a:0\" is not PATH:START:END"),
        (&["a:0:+1"], "is not PATH:START:END"),
        (&["a:0:01"], "is not PATH:START:END"),
        (&["a:0:99999999999999999999"], "is not PATH:START:END"),
        (&["a:1:2"], "does not begin at a multiple of shard_size"),
        (&["a:10:12"], "they do not begin at 0"),
        (&["a:0:0"], "is empty"),
        (&["a:3:2"], "ends before it begins"),
        (&["a:0:11"], "longer than shard_size"),
        (&["a:0:10", "a:20:22"], "there is a gap"),
        (&["a:0:9", "a:10:12"], "shorter than shard_size"),
        (&["a:0:10", "a:0:10"], "\"a:0:10\" is listed twice"),
        (&["a:0:10", "a:0:2"], "is listed twice"),
        (&["../a:0:10"], "\"../a\" has a '.' or '..' step"),
    ] {
        let error = parse(&shards(names, "sha256")).unwrap_err().to_string();
        assert!(error.contains(message), "{names:?}: {error}");
    }
    let error = parse(&shards(&["a:0:1"], "sha256-sharded-11")).unwrap_err().to_string();
    assert!(error.contains("has algorithm \"sha256-sharded-11\", and hash_type is sha256"), "{error}");
    let error = parse(&with(
        files(&["a"]),
        "/predicate/resources",
        json!([
            {"name": "a", "algorithm": "sha256-sharded-10", "digest": hex(1, 32)}
        ]),
    ))
    .unwrap_err()
    .to_string();
    assert!(error.contains("has algorithm"), "{error}");
}

#[test]
fn the_shard_size_may_have_a_fraction_of_zero() {
    let size = |text: &str| {
        let json =
            shards(&["a:0:5"], "sha256").to_string().replace("\"shard_size\":10", &format!("\"shard_size\":{text}"));
        parse_text(&json).map(|parsed| parsed.statement.serialization.hashing.shard_size)
    };
    assert_eq!(size("1000000000"), Ok(Some(1_000_000_000)));
    assert_eq!(size("1000000000.0"), Ok(Some(1_000_000_000)));
    assert_eq!(size("1e9"), Ok(Some(1_000_000_000)));
    for bad in ["0", "-1", "10.5", "1e30", "\"10\"", "true"] {
        assert!(size(bad).is_err(), "{bad}");
    }
}

#[test]
fn each_hash_has_its_length() {
    for (algorithm, length) in [("sha256", 32), ("blake2b", 64), ("blake3", 32)] {
        let of = |length| {
            let resources = json!([{"name": "a", "algorithm": algorithm, "digest": hex(7, length)}]);
            statement(json!({"method": "files", "hash_type": algorithm, "allow_symlinks": true}), resources)
        };
        let parsed = parse(&of(length)).unwrap().statement;
        assert_eq!(parsed.serialization.hashing.algorithm.name(), algorithm);
        assert!(parsed.serialization.allow_symlinks);
        let error = parse(&of(length - 1)).unwrap_err().to_string();
        assert!(error.contains("has a digest of"), "{error}");
    }
    let mut upper = files(&["a"]);
    upper["predicate"]["resources"][0]["digest"] = hex(0xab, 32).to_uppercase().into();
    assert!(parse(&upper).unwrap_err().to_string().contains("is not lower-case hex"));
}

#[test]
fn names_stay_inside_and_are_given_once() {
    for (name, message) in [
        ("../a", "has a '.' or '..' step"),
        ("a/../b", "has a '.' or '..' step"),
        ("./a", "has a '.' or '..' step"),
        ("/a", "is absolute"),
        ("a//b", "has an empty step"),
        ("a/", "has an empty step"),
        ("", "is empty"),
        ("a\0b", "has a NUL"),
    ] {
        let error = parse(&files(&[name])).unwrap_err().to_string();
        assert!(error.contains(message), "{name:?}: {error}");
    }
    assert_eq!(parse(&files(&["a", "b", "a"])).unwrap_err(), StatementError::Files(FilesError::Duplicate("a".into())));
    assert_eq!(parse(&files(&[])).unwrap_err(), StatementError::Files(FilesError::Empty));
}

#[test]
fn the_root_is_computed_in_the_listed_order() {
    let mut swapped = files(&["a", "b"]);
    swapped["predicate"]["resources"].as_array_mut().unwrap().swap(0, 1);
    assert!(matches!(parse(&swapped), Err(StatementError::Root { .. })));
    let renamed = with(
        files(&["a"]),
        "/predicate/resources",
        json!([
            {"name": "z", "algorithm": "sha256", "digest": hex(1, 32)}
        ]),
    );
    // Names are not in the root: this is why it identifies nothing.
    assert_eq!(parse(&renamed).unwrap().statement.root, parse(&files(&["a"])).unwrap().statement.root);
}

#[test]
fn unknown_members_of_the_predicate_are_refused_and_of_resources_are_not() {
    let base = files(&["a"]);
    for pointer in ["/extra", "/predicate/extra", "/predicate/serialization/extra"] {
        let error = parse(&with(base.clone(), pointer, 1.into())).unwrap_err().to_string();
        assert!(error.contains("unknown field `extra`"), "{error}");
    }
    let described = with(
        base.clone(),
        "/predicate/resources",
        json!([
            {"name": "a", "algorithm": "sha256", "digest": hex(1, 32), "mediaType": "x", "annotations": {"a": [1, null]}}
        ]),
    );
    parse(&described).unwrap();
    parse(&with(base, "/subject/0/uri", "x".into())).unwrap();
}

#[test]
fn repeated_members_are_refused_everywhere() {
    let text = files(&["a"]).to_string();
    let name = r#""name":"a""#;
    for (from, to) in [
        (name, r#""name":"b","name":"a""#),
        (name, r#""name":"a","uri":1,"uri":2"#),
        (name, r#""name":"a","annotations":{"b":1,"b":2}"#),
        (r#""method":"files""#, r#""method":"files","method":"files""#),
        (r#""name":"model""#, r#""name":"model","name":"other""#),
        (r#""predicateType":"#, r#""predicateType":"x","predicateType":"#),
        (r#""digest":{"sha256":"#, r#""digest":{"sha1":"","sha1":"","sha256":"#),
    ] {
        let twice = text.replacen(from, to, 1);
        assert_ne!(twice, text, "{from}");
        let error = parse_text(&twice).unwrap_err().to_string();
        assert!(error.contains("duplicate field"), "{to}: {error}");
    }
}

#[test]
fn types_and_subjects_are_exact() {
    let base = files(&["a"]);
    let error = |value: Value| parse(&value).unwrap_err();
    assert!(matches!(error(with(base.clone(), "/_type", "x".into())), StatementError::Type { field: "_type", .. }));
    assert!(matches!(
        error(with(base.clone(), "/predicateType", "x".into())),
        StatementError::Type { field: "predicateType", .. }
    ));
    assert_eq!(error(with(base.clone(), "/subject", json!([]))), StatementError::Subjects(0));
    let two = json!([base["subject"][0], base["subject"][0]]);
    assert_eq!(error(with(base.clone(), "/subject", two)), StatementError::Subjects(2));
    let unnamed = error(with(base.clone(), "/subject/0/name", "".into()));
    assert_eq!(unnamed, StatementError::Subject("has an empty name"));
    let other = error(with(base, "/subject/0/digest", json!({"sha512": "00"})));
    assert_eq!(other, StatementError::Subject("has no digest.sha256"));
}

#[test]
fn the_serialization_is_consistent() {
    for (serialization, message) in [
        (json!({"method": "files", "hash_type": "md5", "allow_symlinks": false}), "has hash_type \"md5\""),
        (json!({"method": "tensors", "hash_type": "sha256", "allow_symlinks": false}), "has method \"tensors\""),
        (json!({"method": "shards", "hash_type": "sha256", "allow_symlinks": false}), "has no shard_size"),
        (
            json!({"method": "files", "hash_type": "sha256", "allow_symlinks": false, "shard_size": 1}),
            "has a shard_size",
        ),
        (json!({"method": "files", "hash_type": "sha256"}), "missing field `allow_symlinks`"),
    ] {
        let error = parse(&with(files(&["a"]), "/predicate/serialization", serialization)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn ignored_paths_cover_what_is_beneath_them_and_nothing_else() {
    let ignoring = with(files(&["a"]), "/predicate/serialization/ignore_paths", json!(["cache", "model.sig", "d/"]));
    let statement = parse(&ignoring).unwrap().statement;
    for path in ["cache", "cache/x", "model.sig", "d/x", ".git/config", ".gitignore"] {
        assert!(statement.ignores(path), "{path}");
    }
    for path in ["cache2", "x/cache", "a", "x/.git/config", ".gitmodules"] {
        assert!(!statement.ignores(path), "{path}");
    }
}

#[test]
fn the_predicate_before_1_0_is_told_apart() {
    let old = json!({
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": "a", "digest": {"sha256": hex(1, 32)}},
            {"name": "b/c", "digest": {"sha256": hex(2, 32)}},
        ],
        "predicateType": OLD_PREDICATE_TYPE,
        "predicate": {},
    });
    let Parsed { statement, files } = parse(&old).unwrap();
    assert!(statement.old_predicate);
    assert_eq!(files.iter().map(|file| &*file.path).collect::<Vec<_>>(), ["a", "b/c"]);
    assert!(parse(&with(old.clone(), "/predicate", json!({"x": 1}))).is_err());
    let twice = old.to_string().replacen("\"b/c\"", "\"a\"", 1);
    assert_eq!(parse_text(&twice), Err(StatementError::Files(FilesError::Duplicate("a".into()))));
}
