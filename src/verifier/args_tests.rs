use super::*;

fn args(line: &str) -> Result<Command, UsageError> {
    parse(line.split_whitespace().map(OsString::from))
}

fn digest() -> String {
    format!("sha256:{}", "0a".repeat(32))
}

#[test]
fn groups_are_read_in_order() {
    let d = digest();
    let line = format!(
        "--report=json --artifact a --digest {d} --root /w/0 --path v3 --manifest m.json --artifact b --digest {d} --root /w/1 --manifest-inline {{}}"
    );
    let Ok(Command::Verify { targets, report, threads: None, again: None }) = args(&line) else { panic!("{line}") };
    assert_eq!(report, ReportFormat::Json);
    assert_eq!(targets.len(), 2);
    assert_eq!((targets[0].artifact.as_str(), targets[0].path.as_deref()), ("a", Some("v3")));
    assert_eq!(targets[0].manifest, ManifestArg::Path("m.json".into()));
    assert_eq!((targets[1].root.to_str(), &targets[1].path), (Some("/w/1"), &None));
    assert_eq!(targets[1].manifest, ManifestArg::Inline("{}".into()));
}

#[test]
fn every_mistake_is_named_with_its_remedy() {
    let d = digest();
    for (line, message) in [
        (String::new(), "no artifact given: begin with --artifact NAME (see --help)"),
        ("--root /w".into(), "--root is given before --artifact: each group begins with --artifact NAME"),
        ("--artifact a --root /w --manifest m".into(), r#"--digest is missing for artifact "a": add it"#),
        (format!("--artifact a --digest {d} --manifest m"), r#"--root is missing for artifact "a": add it"#),
        (format!("--artifact a --digest {d} --root /w"), r#"--manifest is missing for artifact "a": add it"#),
        (
            format!("--artifact a --digest {d} --root /w --root /x --manifest m"),
            r#"--root is given twice for artifact "a": give it once"#,
        ),
        (
            format!("--artifact a --digest {d} --root /w --manifest m --manifest n"),
            r#"--manifest is given twice for artifact "a": give it once"#,
        ),
        (
            format!("--artifact a --digest {d} --root /w --manifest m --manifest-inline {{}}"),
            r#"more than one of --manifest, --manifest-inline and --manifest-dir is given for artifact "a": give one of them"#,
        ),
        (
            format!("--artifact a --digest {d} --root /w --manifest-dir /m --manifest m"),
            r#"more than one of --manifest, --manifest-inline and --manifest-dir is given for artifact "a": give one of them"#,
        ),
        (
            "--artifact a --manifest-dir m".into(),
            r#"--manifest-dir "m" is not absolute: give the path at which the volume is mounted"#,
        ),
        (
            "--artifact a --digest sha256:AB".into(),
            r#"--digest "sha256:AB" is not sha256: and 64 lower-case hex digits: give the artifact's spec.manifestDigest"#,
        ),
        ("--artifact a --root w".into(), r#"--root "w" is not absolute: give the path at which the volume is mounted"#),
        ("--artifact a --path ../w".into(), r#"--path "../w" has a '.' or '..' step"#),
        (
            "--artifact a --manifest /w".into(),
            r#"--manifest "/w" is absolute: it must be relative to the directory of the artifact"#,
        ),
        ("--artifact a --force".into(), "invalid option '--force' (see --help)"),
        ("--artifact a extra".into(), "unexpected argument \"extra\" (see --help)"),
        ("--report yaml".into(), r#"--report "yaml" is neither text nor json"#),
        ("digest".into(), "--root is missing: add it"),
        ("digest --root /w --max-files many".into(), r#"--max-files "many" is not a number of files"#),
        ("--every 0".into(), r#"--every "0" is not a whole number of at least 1"#),
        ("--threads -1".into(), r#"--threads "-1" is not a whole number of at least 1"#),
        (
            format!("--every 60 --artifact a --digest {d} --root /w --manifest m"),
            "--max-bytes-per-second is missing for re-verification: add it",
        ),
        (
            format!("--max-bytes-per-second 60 --artifact a --digest {d} --root /w --manifest m"),
            "--every is missing for re-verification: add it",
        ),
        (
            format!("--threads 2 --every 1 --max-bytes-per-second 60 --artifact a --digest {d} --root /w --manifest m"),
            "--threads and --every are both given: re-verification has one thread (see --help)",
        ),
        ("digest --root /w --hash md5".into(), r#"--hash "md5" is none of sha256, blake2b and blake3"#),
        (
            "digest --root /w --shard-size +1Gi".into(),
            r#"--shard-size "+1Gi" is not a number of bytes, such as 1Gi or 1000000000"#,
        ),
        (
            "digest --root /w --shard-size 1k".into(),
            r#"--shard-size "1k" cannot be: shardSize is 1000: it must be at least 1048576 and at most 1125899906842624 bytes"#,
        ),
        (
            "digest --root /w --revision 1".into(),
            r#"--revision "1" is no commit: give its 40 (or 64) lower-case hex digits, not a branch or a tag"#,
        ),
        (
            "digest --root /w --layout Directory".into(),
            r#"--layout "Directory" is not HuggingFaceCache: leave it out for a plain directory"#,
        ),
        (
            "--artifact a --formats ,".into(),
            r#"--formats "," names a format that is not known: give some of Safetensors, GGUF, ONNX, Pickle, NumPy, HDF5, TensorFlow, Other"#,
        ),
        ("--artifact a --formats GGUF,GGUF".into(), r#"--formats "GGUF,GGUF" names a format twice"#),
        ("digest --root /w --root /w".into(), "--root is given twice: give it once"),
    ] {
        assert_eq!(args(&line).map_err(|error| error.to_string()), Err(message.to_string()), "{line}");
    }
}

#[test]
fn re_verification_has_interval_and_rate() {
    let line = format!(
        "--every 86400 --max-bytes-per-second 200000000 --artifact a --digest {} --root /w --manifest m",
        digest()
    );
    let Ok(Command::Verify { again: Some(again), .. }) = args(&line) else { panic!("{line}") };
    assert_eq!((again.every, again.max_bytes_per_second.get()), (Duration::from_secs(86_400), 200_000_000));
}

#[test]
fn sizes_of_shards_have_the_units_of_kubernetes() {
    for (text, size) in [("1Gi", 1 << 30), ("1000000000", 1_000_000_000), ("2M", 2_000_000), ("1Ti", 1 << 40)] {
        assert_eq!(parse_shard_size(text), Ok(size));
    }
}

#[test]
fn digest_has_defaults() {
    let expected = DigestArgs {
        except: Vec::new(),
        root: "/w".into(),
        path: None,
        manifest: None,
        hashing: Hashing::default(),
        threads: None,
        layout: Layout::Directory,
        max_files: None,
        write_manifest: false,
    };
    assert_eq!(args("digest --root /w"), Ok(Command::Digest(expected.clone())));
    let written = DigestArgs { manifest: Some(".weightlock/manifest.json".into()), write_manifest: true, ..expected };
    assert_eq!(args("digest --root /w --write-manifest"), Ok(Command::Digest(written)));
}

#[test]
fn the_help_names_every_exit_code() {
    use super::super::finding::exit::*;
    for code in [
        USAGE,
        MANIFEST_MISSING,
        MANIFEST_INVALID,
        DIGEST_MISMATCH,
        CONTENT_MISMATCH,
        EXTRA_FILE,
        MISSING_FILE,
        REFUSED_TYPE,
        DRIFT,
        FORMAT,
        LAYOUT,
        UNREADABLE,
        TOO_MANY_FILES,
        OUTPUT,
        INTERRUPTED,
        TERMINATED,
    ] {
        assert!(HELP.contains(&code.to_string()), "{code}");
    }
}

#[test]
fn layout_and_formats_belong_to_a_group() {
    let revision = "0123456789abcdef0123456789abcdef01234567";
    let line = format!(
        "--artifact a --digest sha256:{} --root /w --manifest m --layout HuggingFaceCache --revision {revision} --formats GGUF,Other",
        "0".repeat(64)
    );
    let Ok(Command::Verify { targets, .. }) = args(&line) else { panic!("{:?}", args(&line)) };
    assert_eq!(targets[0].layout, Layout::HuggingFaceCache { revision: revision.into() });
    assert_eq!(targets[0].formats, [Format::Gguf, Format::Other]);
}
