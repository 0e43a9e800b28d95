use proptest::prelude::*;

use super::super::{Content, Format, recognise};
use super::*;

/// A file with this header and so many bytes of data.
pub fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![7; data]].concat()
}

fn problem(header: &str, data: usize) -> String {
    validate(&file(header, data).as_slice()).unwrap_err().to_string()
}

#[test]
fn a_sound_file_passes() {
    for (header, data) in [
        ("{}", 0),
        (r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}   "#, 16),
        (
            r#"{"b":{"dtype":"BF16","shape":[3],"data_offsets":[4,10]},"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#,
            10,
        ),
        (r#"{"e":{"dtype":"U8","shape":[0,7],"data_offsets":[0,0]}}"#, 0),
        (r#"{"q":{"dtype":"F4","shape":[6],"data_offsets":[0,3]}}"#, 3),
    ] {
        validate(&file(header, data).as_slice()).unwrap_or_else(|error| panic!("{header}: {error}"));
        assert_eq!(recognise(&file(header, data).as_slice()).unwrap(), Content::Weights(Format::Safetensors));
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (header, data, expected) in [
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, "need 8 bytes"),
        (r#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, 4, "unknown dtype \"F33\""),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 9, "cover 4 bytes, but 9 follow"),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "leave a gap at byte 0"),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
            6,
            "overlap at byte 2",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
            2,
            "\"a\" is there twice",
        ),
        (r#"{"__metadata__":{"x":"1","x":"2"}}"#, 0, "\"x\" is there twice"),
        (r#"{"__metadata__":{"x":1}}"#, 0, "expected a string"),
        (r#"{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#, 1, "duplicate field"),
        (r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#, 1, "unknown field"),
        (r#"{"a":{"dtype":"U8","shape":[18446744073709551615,2],"data_offsets":[0,1]}}"#, 1, "overflows"),
        (r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#, 1, "invalid"),
        (r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}"#, 1, "has the offsets [1, 0]"),
        (r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#, 1, "does not end at a byte"),
        ("{} {}", 0, "trailing characters"),
    ] {
        let said = problem(header, data);
        assert!(said.contains(expected), "{header}: {said:?} does not say {expected:?}");
    }
    let long = [&(MAX_HEADER + 1).to_le_bytes()[..], b"{}"].concat();
    assert!(validate(&long.as_slice()).unwrap_err().to_string().contains("more than 100000000"));
    let short = [&9u64.to_le_bytes()[..], b"{}"].concat();
    assert!(validate(&short.as_slice()).unwrap_err().to_string().contains("the file only 10"));
}

proptest! {
    /// Tensors in any order, one after the other: sound. One number of the header another: not, unless it says the same.
    #[test]
    fn one_offset_that_is_wrong_is_caught(lengths in proptest::collection::vec(0u64..50, 1..8), victim in any::<prop::sample::Index>(), by in 1u64..5, grow: bool) {
        let header = |change: Option<(usize, bool)>| {
            let mut at = 0;
            let mut entries: Vec<String> = lengths.iter().enumerate().map(|(index, length)| {
                let (begin, end) = (at, at + length);
                at = end;
                let (begin, end) = match change {
                    Some((victim, true)) if victim == index => (begin, end + by),
                    Some((victim, false)) if victim == index => (begin + by, end + by),
                    _ => (begin, end),
                };
                format!(r#""t{index}":{{"dtype":"U8","shape":[{length}],"data_offsets":[{begin},{end}]}}"#)
            }).collect();
            entries.reverse();
            (format!("{{{}}}", entries.join(",")), usize::try_from(at).unwrap())
        };
        let (good, data) = header(None);
        prop_assert!(validate(&file(&good, data).as_slice()).is_ok());
        let victim = victim.index(lengths.len());
        let (bad, data) = header(Some((victim, grow)));
        // An empty tensor that moves to where another begins or ends leaves no gap, and overlaps nothing.
        let begins: Vec<u64> = (0..=lengths.len()).map(|count| lengths[..count].iter().sum()).collect();
        let sound = !grow && lengths[victim] == 0 && begins.contains(&(begins[victim] + by));
        prop_assert_eq!(validate(&file(&bad, data).as_slice()).is_ok(), sound);
    }

    #[test]
    fn no_bytes_make_it_panic(header in proptest::collection::vec(any::<u8>(), 0..200), length: u16) {
        let bytes = [&u64::from(length).to_le_bytes()[..], b"{", &header].concat();
        let _ = validate(&bytes.as_slice());
    }
}
