//! What unwinding by data needs of an image, and why it may have to stop.

use crate::{FrameData, X64Rules};
use std::fmt;
use stopcode_base::{Memory, Miss, VirtAddr};

/// A loaded image, as far as unwinding needs it.
#[derive(Clone, Copy)]
pub struct ImageView<'a> {
    /// Where it is loaded: what its RVAs count from.
    pub base: VirtAddr,
    /// RVA and size in bytes of its function table (`.pdata`, data directory 3); size 0 if it has none.
    pub pdata: (u32, u32),
    /// Its bytes, at the addresses they are loaded at.
    pub memory: &'a dyn Memory,
}

impl ImageView<'_> {
    pub(crate) fn rva(&self, address: VirtAddr) -> Option<u32> {
        u32::try_from(address.offset_from(self.base)?).ok()
    }

    pub(crate) fn read(&self, rva: u32, buffer: &mut [u8]) -> Result<(), Miss> {
        self.memory.read(self.base.plus(u64::from(rva)), buffer)
    }
}

impl fmt::Debug for ImageView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageView")
            .field("base", &self.base)
            .field("pdata", &self.pdata)
            .finish_non_exhaustive()
    }
}

/// The images the caller has.
pub trait Images {
    /// The image that `address` lies in, if there is one.
    fn image_at(&self, address: VirtAddr) -> Option<ImageView<'_>>;

    /// What the PDB of the image at `address` tells of how the x86 code there uses the stack; nothing unless overridden.
    fn frame_data(&self, address: VirtAddr) -> Option<FrameData<'_>> {
        let _ = address;
        None
    }

    /// What is remembered of x64 images from one frame and walk to the next; nothing unless overridden. Only for images
    /// whose bytes stay what they are.
    fn rules(&self) -> Option<&X64Rules> {
        None
    }
}

/// No images at all: what a minidump alone has.
#[derive(Clone, Copy, Debug)]
pub struct NoImages;

impl Images for NoImages {
    fn image_at(&self, _: VirtAddr) -> Option<ImageView<'_>> {
        None
    }
}

/// Why unwind data did not lead from a frame to its caller. Nothing is guessed instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// No image is at hand for the address.
    NoImage,
    /// The image has no function table.
    NoFunctionTable,
    /// A call was made from code that no entry of the function table covers: only leaf functions have none, and
    /// they do not call.
    NoEntry,
    /// The function table or the unwind data cannot be read.
    DataMissing(Miss),
    /// The code at the instruction pointer cannot be read, so whether an epilogue runs is not known.
    CodeMissing(Miss),
    /// Unwind data of a version that is not understood; 3 is an experimental one of MASM's.
    Version(u8),
    /// A code that the version does not have.
    Code(u8),
    /// Unwind data that contradicts itself: a code cut short, a function that ends before it begins.
    Malformed,
    /// More chained or indirect entries than any linker makes: a circle.
    ChainTooLong,
    /// The stack pointer was kept in this register (in the processor's numbering), and its value is not known.
    RegisterUnknown(u8),
    /// The word that holds the return address or the caller's stack pointer cannot be read.
    StackMissing(Miss),
    /// The word where the return address belongs does not lead into code: the stack was overwritten, or it was not
    /// the stack.
    NotCode {
        /// Where the word lies.
        slot: VirtAddr,
        /// The word.
        value: VirtAddr,
    },
    /// What lies where the processor should have pushed its registers has a code segment that Windows does not use.
    NotMachineFrame {
        /// Where it should be.
        at: VirtAddr,
        /// The selector found.
        cs: u16,
    },
    /// The unwind data leads to a stack pointer that cannot be followed.
    Unusable {
        /// The stack pointer.
        pointer: VirtAddr,
        /// What is wrong with it.
        why: crate::UnusableStack,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoImage => f.write_str("no image is at hand for this address"),
            Self::NoFunctionTable => f.write_str("the image has no function table"),
            Self::NoEntry => f.write_str("the function table does not cover code that made a call"),
            Self::DataMissing(miss) => write!(f, "the unwind data is missing: {miss}"),
            Self::CodeMissing(miss) => write!(f, "the code is missing: {miss}"),
            Self::Version(version) => write!(f, "unwind data of version {version} is not understood"),
            Self::Code(code) => write!(f, "unwind code {code:#04x} is not understood"),
            Self::Malformed => f.write_str("the unwind data contradicts itself"),
            Self::ChainTooLong => f.write_str("the unwind data is chained in a circle"),
            Self::RegisterUnknown(number) => {
                write!(f, "the frame hangs on register {number}, which is not known")
            }
            Self::StackMissing(miss) => write!(f, "the stack's memory is missing: {miss}"),
            Self::NotCode { slot, value } => {
                write!(f, "the return address {value} at {slot} does not lead into code")
            }
            Self::NotMachineFrame { at, cs } => {
                write!(f, "no machine frame lies at {at}: its code segment is {cs:#x}")
            }
            Self::Unusable { pointer, .. } => {
                write!(f, "the unwind data leads to {pointer}, which is no stack")
            }
        }
    }
}

/// How a frame stands on its instruction pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stands {
    /// The processor was interrupted there: the instruction has not run yet.
    Interrupted,
    /// A call returns there: the instruction before it is the one that runs, and it may be the function's last.
    AfterCall,
}
