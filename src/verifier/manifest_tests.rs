use super::*;

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(files: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(format!(r#"{{"version":1,"files":[{files}]}}"#).as_bytes())
}

fn file(path: &str) -> String {
    format!(r#"{{"path":{},"size":0,"sha256":"{EMPTY}"}}"#, serde_json::to_string(path).unwrap())
}

#[test]
fn canonical_form_and_its_digest_do_not_depend_on_order_and_white_space() {
    let manifest = parse(&format!(" {} ,\n {}", file("b"), file("a/ü\"\n"))).unwrap();
    let mut canonical = Vec::new();
    manifest.write_canonical(&mut canonical).unwrap();
    let expected = format!(
        r#"{{"files":[{{"path":"a/ü\"\n","sha256":"{EMPTY}","size":0}},{{"path":"b","sha256":"{EMPTY}","size":0}}],"version":1}}"#
    );
    assert_eq!(String::from_utf8(canonical.clone()).unwrap(), expected);
    assert_eq!(manifest.digest().0, <[u8; 32]>::from(Sha256::digest(&canonical)));
    assert_eq!(Manifest::parse(canonical.as_slice()).unwrap(), manifest);
}

#[test]
fn digest_is_the_one_that_sha256sum_gives() {
    // printf '{"files":[{"path":"a","sha256":"e3b0…b855","size":0}],"version":1}' | sha256sum
    assert_eq!(
        parse(&file("a")).unwrap().digest().digest(),
        "sha256:4056f20558675a01a93e7bc84e3593757e32c16810aebb71cf03b3cb562f7b6b"
    );
}

#[test]
fn refuses_what_is_not_a_path() {
    for (path, problem) in [
        ("", "is empty"),
        ("/etc/passwd", "is absolute: it must be relative to the directory of the artifact"),
        ("a/../../b", "has a '.' or '..' step"),
        ("./a", "has a '.' or '..' step"),
        ("a//b", "has an empty step"),
        ("a/", "has an empty step"),
        ("a\0b", "has a NUL in it"),
        (&"x".repeat(256), "has a step longer than 255 bytes"),
        (&"x/".repeat(2048), "is longer than 4095 bytes"),
    ] {
        assert_eq!(parse(&file(path)), Err(ManifestError::Path { path: path.into(), problem }));
    }
    assert!(parse(&file("..a/b..")).is_ok());
}

#[test]
fn refuses_lists_that_contradict_themselves() {
    assert_eq!(parse(&format!("{},{}", file("a"), file("a"))), Err(ManifestError::Duplicate("a".into())));
    // "a-" sorts between "a" and "a/b": neighbours alone would not tell.
    assert_eq!(
        parse(&format!("{},{},{}", file("a"), file("a-"), file("a/b"))),
        Err(ManifestError::FileAndDirectory { file: "a".into(), inner: "a/b".into() })
    );
    assert_eq!(parse(""), Err(ManifestError::Empty));
    let huge = file("a").replace(":0,", &format!(":{},", i64::MAX)) + "," + &file("b").replace(":0,", ":1,");
    assert_eq!(parse(&huge), Err(ManifestError::Size));
}

#[test]
fn refuses_json_that_says_more_or_less() {
    let cases = [
        (r#"{"files":[],"version":1,"comment":""}"#.to_string(), "unknown field `comment`"),
        (r#"{"files":[]}"#.into(), "missing field `version`"),
        (r#"{"version":1,"version":1,"files":[]}"#.into(), "duplicate field `version`"),
        (
            format!(r#"{{"version":1,"files":[{{"path":"a","size":0,"sha256":"{EMPTY}","mode":7}}]}}"#),
            "unknown field `mode`",
        ),
        (
            format!(r#"{{"version":1,"files":[{{"path":"a","path":"b","size":0,"sha256":"{EMPTY}"}}]}}"#),
            "duplicate field `path`",
        ),
        (
            format!(r#"{{"version":1,"files":[{{"path":"a","size":-1,"sha256":"{EMPTY}"}}]}}"#),
            "invalid value: integer `-1`",
        ),
        (
            format!(r#"{{"version":1,"files":[{{"path":"a","size":1.0,"sha256":"{EMPTY}"}}]}}"#),
            "invalid type: floating point",
        ),
        (
            format!(r#"{{"version":1,"files":[{{"path":"a","size":0,"sha256":"{}"}}]}}"#, EMPTY.to_uppercase()),
            "is not 64 lower-case hex digits",
        ),
        (format!(r#"{{"version":1,"files":[{}]}} x"#, file("a")), "trailing characters"),
        ("[".repeat(100_000), "invalid type: sequence"),
    ];
    for (json, message) in cases {
        match Manifest::parse(json.as_bytes()) {
            Err(ManifestError::Json(text)) => assert!(text.contains(message), "{text}"),
            other => panic!("{json}: {other:?}"),
        }
    }
    let next = format!(r#"{{"version":2,"files":[{}]}}"#, file("a"));
    assert_eq!(Manifest::parse(next.as_bytes()), Err(ManifestError::Version(2)));
}

#[test]
fn refuses_more_bytes_than_a_manifest_may_have() {
    let endless = io::Read::chain(br#"{"version":1,"files":["#.as_slice(), io::repeat(b' '));
    assert_eq!(Manifest::parse_within(endless, 1 << 16), Err(ManifestError::TooLarge));
}
