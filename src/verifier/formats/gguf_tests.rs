use proptest::prelude::*;

use super::super::{Content, Format, recognise};
use super::*;

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A key-value pair of a scalar type.
fn pair(key: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    [text(key), value_type.to_le_bytes().into(), value.into()].concat()
}

fn tensor(name: &str, dimensions: &[u64], ggml_type: u32, offset: u64) -> Vec<u8> {
    let mut bytes = text(name);
    bytes.extend(u32::try_from(dimensions.len()).unwrap().to_le_bytes());
    dimensions.iter().for_each(|length| bytes.extend(length.to_le_bytes()));
    bytes.extend(ggml_type.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

fn file(version: u32, pairs: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((pairs.len() as u64).to_le_bytes());
    bytes.extend([pairs.concat(), tensors.concat()].concat());
    if !tensors.is_empty() {
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.resize(bytes.len() + data, 7);
    }
    bytes
}

fn problem(bytes: &[u8]) -> String {
    validate(&bytes).unwrap_err().to_string()
}

/// Two tensors: 64 elements of F32, and 64 of Q4_0.
fn sound() -> Vec<u8> {
    let list = [
        text("tokenizer.ggml.tokens"),
        9u32.to_le_bytes().into(),
        8u32.to_le_bytes().into(),
        2u64.to_le_bytes().into(),
        text("a"),
        text(""),
    ]
    .concat();
    let pairs = [
        pair("general.architecture", TEXT, &text("llama")),
        pair("general.alignment", U32, &32u32.to_le_bytes()),
        pair("x", BOOL, &[1]),
        list,
    ];
    file(3, &pairs, &[tensor("b", &[32, 2], 2, 256), tensor("a", &[64], 0, 0)], 256 + 36)
}

#[test]
fn a_sound_file_passes() {
    validate(&sound().as_slice()).unwrap();
    assert_eq!(recognise(&sound().as_slice()).unwrap(), Content::Weights(Format::Gguf));
    // Padded to the alignment at its end, and without any tensor.
    let mut padded = sound();
    padded.resize(padded.len().next_multiple_of(32), 0);
    validate(&padded.as_slice()).unwrap();
    validate(&file(2, &[], &[], 0).as_slice()).unwrap();
}

#[test]
fn what_is_wrong_is_said() {
    let one = |tensor: Vec<u8>, data: usize| file(3, &[], &[tensor], data);
    for (bytes, expected) in [
        (file(1, &[], &[], 0), "its version is 1"),
        (file(u32::from_be(3), &[], &[], 0), "its version is 50331648"),
        (one(tensor("a", &[8], 0, 0), 33), "which is not where the file ends"),
        (one(tensor("a", &[8], 0, 0), 31), "which is not where the file ends"),
        (one(tensor("a", &[8], 0, 32), 64), "leave a gap"),
        (one(tensor("a", &[8], 99, 0), 32), "unknown type 99"),
        (one(tensor("a", &[8], 2, 0), 32), "no multiple of 32"),
        (one(tensor("a", &[], 0, 0), 32), "0 dimensions"),
        (one(tensor("a", &[u64::MAX, 2], 0, 0), 32), "overflows"),
        (one(tensor(&"n".repeat(64), &[8], 0, 0), 32), "64 bytes, not 1 to 63"),
        (file(3, &[], &[tensor("a", &[8], 0, 0), tensor("b", &[8], 0, 16)], 64), "overlap or are not aligned"),
        (file(3, &[], &[tensor("a", &[8], 0, 0), tensor("a", &[8], 0, 32)], 64), "\"a\" is there twice"),
        (file(3, &[pair("k", BOOL, &[1]), pair("k", BOOL, &[1])], &[], 0), "\"k\" is there twice"),
        (file(3, &[pair("k", BOOL, &[2])], &[], 0), "a bool of \"k\" is 2"),
        (file(3, &[pair("k", 13, &[2])], &[], 0), "unknown type 13"),
        (file(3, &[pair("k", TEXT, &u64::MAX.to_le_bytes())], &[], 0), "a text of \"k\""),
        (file(3, &[pair("general.alignment", U32, &33u32.to_le_bytes())], &[], 0), "no power of two"),
        (file(3, &[pair("k", LIST, &[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])], &[], 0), "unknown type 9"),
        (MAGIC.to_vec(), "ends within its header"),
    ] {
        let said = problem(&bytes);
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }
    let mut many = file(3, &[], &[], 0);
    many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(problem(&many).contains("at most 1000000"));
}

proptest! {
    #[test]
    fn whatever_is_cut_off_is_missed(cut in 1usize..300) {
        let bytes = sound();
        let cut = cut.min(bytes.len() - 4);
        prop_assert!(validate(&&bytes[..bytes.len() - cut]).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(rest in proptest::collection::vec(any::<u8>(), 0..300), at in 4usize..200, byte: u8) {
        let _ = validate(&[MAGIC, &3u32.to_le_bytes(), &rest].concat().as_slice());
        let mut bytes = sound();
        bytes[at] = byte;
        let _ = validate(&bytes.as_slice());
    }
}
