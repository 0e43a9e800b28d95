use super::*;
use proptest::prelude::*;
use sha2::Sha512;

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
    let next = format!(r#"{{"version":3,"files":[{}]}}"#, file("a"));
    assert_eq!(Manifest::parse(next.as_bytes()), Err(ManifestError::Version(3)));
}

fn long(byte: &str) -> String {
    byte.repeat(64)
}

#[test]
fn other_hashes_and_shards_have_one_canonical_form_each() {
    let (short, long) = ("a0".repeat(32), long("b1"));
    for canonical in [
        format!(r#"{{"files":[{{"digest":"{short}","path":"a","size":5}}],"hash":"blake3","version":2}}"#),
        format!(r#"{{"files":[{{"digest":"{long}","path":"a","size":5}}],"hash":"blake2b","version":2}}"#),
        format!(
            r#"{{"files":[{{"digests":[],"path":"a","size":0}},{{"digests":["{short}","{EMPTY}"],"path":"b","size":1048577}},{{"digests":["{short}"],"path":"c","size":1048576}}],"hash":"sha256","shardSize":1048576,"version":2}}"#
        ),
    ] {
        let manifest = Manifest::parse(canonical.as_bytes()).unwrap();
        let mut written = Vec::new();
        manifest.write_canonical(&mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), canonical);
    }
}

#[test]
fn digests_stay_with_their_files_in_whatever_order_these_come() {
    let files = |names: [&str; 3]| {
        let mut files = Files::default();
        names.iter().for_each(|name| files.push(name, name.len() as u64 * 700_000, 1).unwrap());
        files
    };
    let hashing = Hashing { algorithm: super::super::algorithm::Algorithm::Sha256, shard_size: Some(1 << 20) };
    // One shard, two shards, three shards.
    let sizes: Vec<u64> = files(["c", "aa", "bbbb"]).iter().map(|file| hashing.digests(file.size)).collect();
    assert_eq!(sizes, [1, 2, 3]);
    let digests = |names: [&str; 3]| -> Vec<u8> {
        names
            .iter()
            .flat_map(|name| vec![name.as_bytes()[0]; 32 * hashing.digests(name.len() as u64 * 700_000) as usize])
            .collect()
    };
    let one = Manifest::new(hashing, files(["c", "aa", "bbbb"]), digests(["c", "aa", "bbbb"])).unwrap();
    let other = Manifest::new(hashing, files(["aa", "bbbb", "c"]), digests(["aa", "bbbb", "c"])).unwrap();
    assert_eq!(one, other);
    assert_eq!(one.digests(1), [b'b'; 96]);
    assert_eq!(one.digest_of(1, 2), Some(Digest::new(&[b'b'; 32])));
    assert_eq!(one.digest_of(2, 1), None);
    assert_eq!(one.sha256_of(0), None);
}

proptest! {
    #[test]
    fn any_order_of_the_same_files_is_the_same_manifest(
        listed in prop::collection::btree_map("[a-d]{1,3}(-[a-d]{1,2})?", 0_u64..4 << 20, 1..40).prop_map(Vec::from_iter),
        seed in prop::collection::vec(any::<u32>(), 40),
        shard_size in prop::option::of(Just(1 << 20)),
    ) {
        let hashing = Hashing { algorithm: super::super::algorithm::Algorithm::Blake2b, shard_size };
        let mut shuffled: Vec<_> = listed.iter().zip(seed).collect();
        shuffled.sort_by_key(|(_, key)| *key);
        let manifest = |listed: &[(String, u64)]| {
            let (mut files, mut digests) = (Files::default(), Vec::new());
            for (path, size) in listed {
                files.push(path, *size, hashing.digests(*size)).unwrap();
                for shard in 0..hashing.digests(*size) {
                    digests.extend_from_slice(Sha512::digest(format!("{path}:{shard}")).as_slice());
                }
            }
            Manifest::new(hashing, files, digests).unwrap()
        };
        let sorted = manifest(&listed);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(file, _)| file.clone()).collect();
        let same = manifest(&shuffled);
        prop_assert_eq!(&same, &sorted);
        for (index, (path, size)) in listed.iter().enumerate() {
            prop_assert_eq!(same.files().at(index), File { path, size: *size });
            prop_assert_eq!(same.find(path), Some(index));
            for shard in 0..hashing.digests(*size) {
                let expected = Sha512::digest(format!("{path}:{shard}"));
                prop_assert_eq!(same.digest_of(index, shard as usize), Some(Digest::new(&expected)));
                let number = same.places().of(index).start + shard as usize;
                prop_assert_eq!(same.places().file(number), (index, shard as usize));
            }
        }
    }
}

#[test]
fn digests_of_another_hash_take_the_place_of_its_own() {
    let mut manifest = Manifest::of_sha256([("b", Hash([2; 32]), 3 << 20), ("a", Hash([1; 32]), 0)]).unwrap();
    let hashing =
        |shard_size| Hashing { algorithm: super::super::algorithm::Algorithm::Blake2b, shard_size: Some(shard_size) };
    assert!(matches!(manifest.rehash(hashing(7)), Err(ManifestError::Hashing(_))));
    assert_eq!(manifest.sha256_of(1), Some(Hash([2; 32])));

    manifest.rehash(hashing(1 << 20)).unwrap();
    assert_eq!(
        (manifest.hashing(), manifest.digests(0), manifest.digests(1)),
        (hashing(1 << 20), &[][..], &[0; 192][..])
    );
    manifest.set_digest(1, &[7; 64]);
    // Of another length, and beyond the last.
    manifest.set_digest(0, &[7; 32]);
    manifest.set_digest(3, &[7; 64]);
    assert_eq!(manifest.digests(1), [[0; 64], [7; 64], [0; 64]].concat());
}

#[test]
fn refuses_digests_that_do_not_fit_hash_version_or_size() {
    let (short, long) = ("a0".repeat(32), long("b1"));
    let text = |files: &str, rest: &str| format!(r#"{{"files":[{files}],{rest}}}"#);
    let digest = |value: &str| format!(r#"{{"digest":"{value}","path":"a","size":5}}"#);
    let shards = |values: &str| format!(r#"{{"digests":[{values}],"path":"a","size":5}}"#);
    let other = digest(&short).replace(r#""a""#, r#""b""#);
    for (json, message) in [
        (text(&digest(&short), r#""version":2"#), "hash is missing"),
        (text(&digest(&short), r#""hash":"md5","version":2"#), "hash \"md5\" is none of sha256, blake2b, blake3"),
        (text(&digest(&short), r#""hash":null,"version":2"#), "invalid type: null"),
        (text(&file("a"), r#""hash":"sha256","version":2"#), "that is version 1"),
        (text(&file("a"), r#""hash":"sha256","version":1"#), "hash and shardSize are members of version 2"),
        (text(&digest(&short), r#""version":1"#), "files have digest, and sha256 is expected"),
        (text(&file("a"), r#""hash":"blake3","version":2"#), "files have sha256, and digest is expected"),
        (
            text(&digest(&short), r#""hash":"blake3","shardSize":1048576,"version":2"#),
            "files have digest, and digests is expected",
        ),
        (text(&digest(&long), r#""hash":"blake3","version":2"#), "the digests have 64 bytes, and 32 are expected"),
        (text(&digest(&short), r#""hash":"blake2b","version":2"#), "the digests have 32 bytes, and 64 are expected"),
        (text(&digest("A0"), r#""hash":"blake3","version":2"#), "is not 64 or 128 lower-case hex digits"),
        (
            text(&digest(&short.to_uppercase()), r#""hash":"blake3","version":2"#),
            "is not 64 or 128 lower-case hex digits",
        ),
        (text(&format!("{},{other}", digest(&long)), r#""hash":"blake3","version":2"#), "unlike the files before it"),
        (text(&format!("{},{other}", file("a")), r#""hash":"blake3","version":2"#), "unlike the files before it"),
        (
            text(&format!(r#"{{"digest":"{short}","path":"a","sha256":"{short}","size":5}}"#), r#""version":1"#),
            "more than one of sha256, digest and digests",
        ),
        (text(r#"{"path":"a","size":5}"#, r#""version":1"#), "has no sha256, digest or digests"),
        (
            text(&shards(""), r#""hash":"blake3","shardSize":1048576,"version":2"#),
            "has 0 bytes of digests, and 32 are expected of 5 bytes",
        ),
        (
            text(&shards(&format!(r#""{short}","{short}""#)), r#""hash":"blake3","shardSize":1048576,"version":2"#),
            "has 64 bytes of digests, and 32 are expected",
        ),
        (
            text(&shards(&format!(r#""{short}","{long}""#)), r#""hash":"blake3","shardSize":1048576,"version":2"#),
            "digests are of different lengths",
        ),
        (
            text(&shards(&format!(r#""{short}""#)), r#""hash":"blake3","shardSize":1000,"version":2"#),
            "must be at least 1048576",
        ),
    ] {
        let error = Manifest::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(message), "{json}: {error}");
    }
}

#[test]
fn refuses_paths_that_would_take_too_much_memory() {
    let step = "x".repeat(250);
    let path = |number: usize| format!("{number:05}/{}", [step.as_str(); 15].join("/"));
    let listed = (0..4000).map(|number| (path(number), Hash([0; 32]), 0));
    match Manifest::of_sha256(listed) {
        Err(ManifestError::LongPaths { files, bytes }) => assert!(bytes > 8 << 20 && files < 4000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refuses_more_bytes_than_a_manifest_may_have() {
    let endless = io::Read::chain(br#"{"version":1,"files":["#.as_slice(), io::repeat(b' '));
    assert_eq!(Manifest::parse_within(endless, 1 << 16), Err(ManifestError::TooLarge));
}
