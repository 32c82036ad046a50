//! Modules: the loader's lists, the images themselves, and the names of addresses in them.

pub(crate) mod code;
pub(crate) mod compare;
pub(crate) mod images;
pub(crate) mod lines;
pub(crate) mod loaded;
pub(crate) mod module;
