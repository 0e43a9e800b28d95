//! What must hold of each parser, whatever it is given: it does not panic, and what it accepts is sound. The fuzz targets
//! try to break it; an ordinary test replays the corpus.

use weightlock::verifier::manifest::check_path;
use weightlock::verifier::oms::bundle::{Bundle, Payload};
use weightlock::verifier::oms::files::SINGLE_FILE;
use weightlock::verifier::oms::statement::Statement;

/// What is tried on an input.
pub type Check = fn(&[u8]);

/// All of them, by name.
pub const ALL: &[(&str, Check)] = &[("bundle", bundle), ("statement", statement)];

/// A bundle: its payload is encoded as DSSE says, and the statement within is sound.
pub fn bundle(data: &[u8]) {
    let Ok(bundle) = Bundle::parse(data) else { return };
    assert_eq!(bundle.payload, Payload::new(bundle.payload.statement()));
    statement(bundle.payload.statement());
}

/// A statement: its files are sorted, each once, with names that stay inside and digests of the right length.
pub fn statement(data: &[u8]) {
    let Ok(statement) = Statement::parse(data) else { return };
    assert!(!statement.files.is_empty());
    assert!(statement.files.windows(2).all(|pair| pair[0].path.as_bytes() < pair[1].path.as_bytes()));
    let expected = statement.serialization.hashing.algorithm.digest_bytes();
    for file in &statement.files {
        assert!(check_path(&file.path).is_ok() || (&*file.path == SINGLE_FILE && statement.files.len() == 1));
        assert!(file.digests.iter().all(|digest| digest.bytes().len() == expected));
        let shards = match (statement.serialization.hashing.shard_size, file.size) {
            (None, None) => 1,
            (Some(shard), Some(size)) => size.div_ceil(shard),
            other => panic!("{other:?}"),
        };
        assert_eq!(file.digests.len() as u64, shards);
    }
}
