//! How a field is read out of memory: words, structures by their layout, lists, types.

pub(crate) mod bytes;
pub(crate) mod list;
pub(crate) mod object;
pub(crate) mod own_types;
pub(crate) mod types;
