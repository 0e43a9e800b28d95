//! What must hold of each parser, whatever it is given: it does not panic, and what it accepts is sound; and of the
//! decision ([`decide`]). The fuzz targets try to break it; an ordinary test replays the corpus.

pub mod decide;

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use weightlock::verifier::formats::{Content, Format, recognise};
use weightlock::verifier::manifest::{Manifest, check_path};
use weightlock::verifier::oms::bundle::Bundle;
use weightlock::verifier::oms::files::{Collected, SINGLE_FILE};
use weightlock::verifier::oms::statement::Statement;
use weightlock::verifier::transcript;

/// What is tried on an input.
pub type Check = fn(&[u8]);

/// All of them, by name.
pub const ALL: &[(&str, Check)] = &[
    ("bundle", bundle),
    ("statement", statement),
    ("manifest", manifest),
    ("safetensors", safetensors),
    ("gguf", gguf),
    ("decide", decide::check),
];

/// Longest data that stands behind a header which is tried.
const MAX_TENSOR_BYTES: u64 = 1 << 16;

/// A bundle: its payload is the same as one that JSON's own parser reads, and the statement within is sound.
pub fn bundle(data: &[u8]) {
    let Ok(mut bundle) = Bundle::parse(Cursor::new(data)) else { return };
    let mut payload = Vec::new();
    bundle.payload.read(|source| source.read_to_end(&mut payload)).unwrap().unwrap();
    let json: serde_json::Value = serde_json::from_slice(data).unwrap();
    assert_eq!(json["dsseEnvelope"]["payload"].as_str(), Some(STANDARD.encode(&payload).as_str()));
    statement(&payload);
}

/// A statement: its files are sorted, each once, with names that stay inside and digests of the right length.
pub fn statement(data: &[u8]) {
    let Ok(statement) = Statement::parse(data) else { return };
    let mut collected = Collected::default();
    let listed = statement.list(data, &mut |item| {
        collected.add(item);
        Ok(())
    });
    let Ok(files) = listed.map_err(|_| ()).and_then(|()| collected.files().map_err(|_| ())) else { return };
    assert!(!files.is_empty());
    assert!(files.windows(2).all(|pair| pair[0].path.as_bytes() < pair[1].path.as_bytes()));
    let expected = statement.serialization.hashing.algorithm.digest_bytes();
    for file in &files {
        assert!(check_path(&file.path).is_ok() || (&*file.path == SINGLE_FILE && files.len() == 1));
        assert!(file.digests.iter().all(|digest| digest.bytes().len() == expected));
        let shards = match (statement.serialization.hashing.shard_size, file.size) {
            (None, None) => 1,
            (Some(shard), Some(size)) => size.div_ceil(shard),
            other => panic!("{other:?}"),
        };
        assert_eq!(file.digests.len() as u64, shards);
    }
}

/// A manifest: its files are sorted, each once, with paths that stay inside and as many digests as they ask for; and it is the
/// same after it was written, as a whole or into a log.
pub fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::parse(data) else { return };
    let (files, hashing) = (manifest.files(), manifest.hashing());
    assert!(!files.is_empty());
    assert!(files.iter().is_sorted_by(|one, next| one.path.as_bytes() < next.path.as_bytes()));
    for (index, file) in files.iter().enumerate() {
        assert!(check_path(file.path).is_ok());
        assert_eq!(manifest.find(file.path), Some(index));
        let digests = hashing.digests(file.size) * hashing.algorithm.digest_bytes() as u64;
        assert_eq!(manifest.digests(index).len() as u64, digests);
    }
    let mut canonical = Vec::new();
    assert!(manifest.write_canonical(&mut canonical).is_ok());
    assert_eq!(Manifest::parse(canonical.as_slice()).as_ref(), Ok(&manifest));
    let mut log = Vec::new();
    assert!(transcript::write(&manifest, true, &mut log).is_ok());
    let summary = transcript::summary(&manifest);
    let log = String::from_utf8_lossy(&log);
    assert_eq!(transcript::read(&log), Ok((summary, Some(manifest))));
}

/// The header of a safetensors file, with the data that it asks for behind it: if it is accepted, then the tensors fill the
/// data from its first byte to its last, each once. Also the input as it stands.
pub fn safetensors(data: &[u8]) {
    let _ = recognise(&data);
    let header: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let mut spans: Vec<[u64; 2]> = header
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "__metadata__")
        .filter_map(|(_, tensor)| serde_json::from_value(tensor.get("data_offsets")?.clone()).ok())
        .collect();
    spans.sort_unstable();
    let end = spans.iter().map(|span| span[1]).max().unwrap_or(0);
    if end > MAX_TENSOR_BYTES {
        return;
    }
    let file = [&(data.len() as u64).to_le_bytes(), data, &vec![0; end as usize]].concat();
    if !matches!(recognise(&file.as_slice()), Ok(Content::Weights(Format::Safetensors))) {
        return;
    }
    let mut at = 0;
    for [start, end] in spans {
        assert_eq!(start, at);
        assert!(end >= start);
        at = end;
    }
    assert_eq!(at, end);
    // One byte more or less of data than the header describes is not accepted.
    let longer = [file.as_slice(), b"\0"].concat();
    assert!(!matches!(recognise(&longer.as_slice()), Ok(Content::Weights(Format::Safetensors))));
    if end > 0 {
        assert!(!matches!(recognise(&&file[..file.len() - 1]), Ok(Content::Weights(Format::Safetensors))));
    }
}

/// A GGUF file: what is accepted has the magic and a known version.
pub fn gguf(data: &[u8]) {
    if !matches!(recognise(&data), Ok(Content::Weights(Format::Gguf))) {
        return;
    }
    assert_eq!(data.get(..4), Some(b"GGUF".as_slice()));
    assert!(matches!(data.get(4..8), Some([2 | 3, 0, 0, 0])));
}
