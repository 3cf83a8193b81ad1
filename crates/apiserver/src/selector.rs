//! Label and field selectors of list, watch and delete-collection requests.
//!
//! Both are parsed once per request into a value whose `matches` allocates nothing.
//! Syntax errors are 400 answers with upstream's texts (SPEC 60 §8).

mod field;
mod label;

pub use field::{FieldSelector, SelectableField, SupportedFields};
pub use label::{LabelSelector, MAX_TERMS};
