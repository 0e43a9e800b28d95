//! Many short texts in little memory.

use std::ops::Range;

/// A list of texts: one text of all and where each is in it. An allocation for each would take half as much again. All of
/// them have less than 2^32 bytes, which is for the caller to see to.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    all: String,
    places: Vec<Range<u32>>,
}

impl Texts {
    /// So many empty texts.
    pub fn empty(count: usize) -> Self {
        Self { all: String::new(), places: vec![0..0; count] }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds one.
    pub fn push(&mut self, text: &str) {
        let place = self.append(text);
        self.places.push(place);
    }

    /// Puts one in the place of another.
    pub fn set(&mut self, index: usize, text: &str) {
        self.places[index] = self.append(text);
    }

    fn append(&mut self, text: &str) -> Range<u32> {
        let start = self.all.len();
        self.all.push_str(text);
        start as u32..self.all.len() as u32
    }

    /// The one at this index.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.places.get(index).map(|place| self.text(place))
    }

    fn text(&self, place: &Range<u32>) -> &str {
        &self.all[place.start as usize..place.end as usize]
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.places.iter().map(|place| self.text(place))
    }

    /// Exchanges two of them.
    pub fn swap(&mut self, one: usize, other: usize) {
        self.places.swap(one, other);
    }

    /// Index of a text, if they are sorted by their bytes.
    pub fn find(&self, text: &str) -> Option<usize> {
        self.places.binary_search_by(|place| self.text(place).cmp(text)).ok()
    }
}
