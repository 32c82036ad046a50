//! Why a description cannot be written.

/// A machine description that cannot become a dump.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a machine description.
    #[error("not a machine description: {0}")]
    Json(#[from] serde_json::Error),
    /// No layouts are kept for this build.
    #[error("no layout of build {0} is kept")]
    UnknownBuild(u32),
    /// A structure or field whose place in a build is not known.
    #[error("where build {build} keeps {what} is not known")]
    UnknownField {
        /// The structure, or the structure and field.
        what: String,
        /// The build.
        build: u32,
    },
    /// A file that the description names cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Its path.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A name the debugger block has no field for.
    #[error("`{0}` is no variable that KDDEBUGGER_DATA64 points to")]
    UnknownGlobal(String),
    /// Something that a dump cannot be without.
    #[error("the description has no {0}")]
    Missing(String),
    /// Bytes for a place that no stack, code window or memory block covers.
    #[error("{what} at {at:#x}: nothing described there to write into")]
    Outside {
        /// What was to be written.
        what: String,
        /// Where.
        at: u64,
    },
    /// Two parts of the description that cannot both be true.
    #[error("contradiction: {0}")]
    Contradiction(String),
    /// Something larger than a dump of this kind holds.
    #[error("{0} is too large")]
    TooLarge(String),
}
