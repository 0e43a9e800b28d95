//! BLAKE3 of one file on several threads: the hash is a tree, and its subtrees are computed apart (BLAKE3 paper, section 2.1).

use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use std::ops::Range;

use super::algorithm::Digest;

/// Bytes of a subtree: a power of two, large enough that opening the file again for it costs nothing.
const BYTES: u64 = 16 << 20;
/// Most subtrees of a file, so that their values stay small whatever its size.
const MOST: u64 = 1 << 14;

/// Bytes of each subtree of an input of this length but the last, which may be shorter.
pub fn bytes(input: u64) -> u64 {
    let mut bytes = BYTES;
    while input.div_ceil(bytes) > MOST {
        bytes *= 2;
    }
    bytes
}

/// The value of a subtree, `offset` bytes after the beginning of the input, that is not the whole tree.
pub struct Subtree(Box<blake3::Hasher>);

impl Subtree {
    /// A subtree without input yet.
    pub fn new(offset: u64) -> Self {
        let mut hasher = Box::new(blake3::Hasher::new());
        hasher.set_input_offset(offset);
        Self(hasher)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The value.
    pub fn finish(self) -> ChainingValue {
        self.0.finalize_non_root()
    }
}

/// The hash of an input, of the values of its subtrees in order. There are at least two: the root is computed in another way
/// than an inner node.
pub fn root(values: &[ChainingValue]) -> Option<Digest> {
    if values.len() < 2 {
        return None;
    }
    let (left, right) = values.split_at(left_of(values.len()));
    Some(Digest::new(merge_subtrees_root(&inner(left)?, &inner(right)?, Mode::Hash).as_bytes()))
}

fn inner(values: &[ChainingValue]) -> Option<ChainingValue> {
    match values {
        [] => None,
        [value] => Some(*value),
        _ => {
            let (left, right) = values.split_at(left_of(values.len()));
            Some(merge_subtrees_non_root(&inner(left)?, &inner(right)?, Mode::Hash))
        }
    }
}

/// The left half of a node is the largest complete tree that leaves something for the right.
fn left_of(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

/// Where subtree `index` of an input is.
pub fn range(input: &Range<u64>, bytes: u64, index: u64) -> Range<u64> {
    let start = input.start + index * bytes;
    start..input.end.min(start + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_subtrees_are_the_hash_of_the_whole() {
        let content: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
        for length in [2049, 4096, 4097, 6144, 8192, 10_000, 14_336, 32_768, 40_000] {
            let whole = &content[..length];
            let values: Vec<_> = (0..(length as u64).div_ceil(2048))
                .map(|index| {
                    let range = range(&(0..length as u64), 2048, index);
                    let mut subtree = Subtree::new(range.start);
                    subtree.update(&whole[range.start as usize..range.end as usize]);
                    subtree.finish()
                })
                .collect();
            assert_eq!(root(&values), Some(Digest::new(blake3::hash(whole).as_bytes())), "{length}");
        }
        assert_eq!(root(&[[0; 32]]), None);
    }

    #[test]
    fn a_file_of_any_size_has_few_subtrees() {
        assert_eq!(bytes(1), BYTES);
        for size in [1 << 40, u64::MAX >> 1] {
            assert!(bytes(size).is_power_of_two() && size.div_ceil(bytes(size)) <= MOST);
        }
    }
}
