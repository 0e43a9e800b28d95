//! One test per rule, each with the neighbour that is allowed, and properties of all of them.
//!
//! The small cluster they play in is made by `support::small`.

mod support;

mod identity;
