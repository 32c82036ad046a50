//! Hardware and firmware: the machine's make, machine checks, error records, black boxes.

pub(crate) mod blackbox;
pub(crate) mod mca;
pub(crate) mod sources;
pub(crate) mod system;
pub(crate) mod whea;
