//! What a rule may ask. A dump answers through [`crate::machine`], a pasted text through `stopcode-transcript`;
//! a rule never learns which of them it talks to, only how much each knows.

use std::borrow::Cow;
use stopcode_base::{Fact, VirtAddr};
use stopcode_kernel::{
    Context, DpcHistory, ErrorRecord, Exception, ImageCheck, Irp, Module, Place, Processor, Pte, Region,
    Stack, StopCode, System, Thread, UnloadedModule, Verifier,
};

/// What kind of witness this is: it bounds what can be proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WitnessKind {
    /// A dump: memory can be read, and absence can be shown.
    Dump,
    /// Pasted text: only what somebody printed.
    Text,
}

/// Something said in prose or in a debugger's further output that bears on the case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    /// What it is about.
    pub topic: Topic,
    /// What was said: a product, a tag, a status value, a line.
    pub text: String,
}

/// What a [`Remark`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Topic {
    /// A product or driver that prose names (`Kaspersky`).
    Product,
    /// The image that WinDbg itself blamed. Evidence at most, never an answer.
    DebuggerBlame,
    /// The service of the driver that the debugger found holding the power request of a 0x9F.
    RequestHolder,
    /// A result of `!chkimg`: code bytes that differ from the image.
    CodeMismatch,
    /// `MCi_STATUS` of a machine check, in hex.
    MachineCheckStatus,
    /// A pool tag that the debugger named.
    PoolTag,
    /// The number of bad pages that the memory manager had set aside.
    BadPages,
    /// A theory in the text about what happened, in its own words (`every single processor is frozen`).
    Theory,
    /// Something Windows had in progress: a PnP operation on a device, a logon step (black box).
    BlackBox,
    /// Any other line worth showing.
    Other,
}

/// A source of facts about one crash.
///
/// Every method answers from what is at hand and never fails: what is not known comes back empty or as a
/// [`Fact::Missing`] with its reason.
pub trait Witness {
    /// What kind this is.
    fn kind(&self) -> WitnessKind;
    /// The stop code, if there is one.
    fn stop(&self) -> Option<StopCode>;
    /// The system.
    fn system(&self) -> &System;
    /// The exception that led to the stop, where there was one.
    fn exception(&self) -> Fact<Exception>;
    /// The context to judge: the exception's where arguments or a trap frame give one, else the bug check's.
    fn context(&self) -> Fact<Context>;
    /// Stacks; the one to judge first.
    fn stacks(&self) -> &[Stack];
    /// Loaded modules.
    fn modules(&self) -> &[Module];
    /// Unloaded modules, newest first.
    fn unloaded(&self) -> &[UnloadedModule];
    /// Processors, by number.
    fn processors(&self) -> &[Processor];
    /// The thread that ran on the crashing processor.
    fn thread(&self) -> &Thread;
    /// Driver Verifier's state.
    fn verifier(&self) -> Fact<Verifier>;
    /// What an address belongs to.
    fn place(&self, address: VirtAddr) -> Place;
    /// Bytes from `address` on, as many of `limit` as are known.
    fn bytes(&self, address: VirtAddr, limit: usize) -> Cow<'_, [u8]>;
    /// The page-table entries that the witness holds for an address, lowest level first.
    fn page_table_entries(&self, address: VirtAddr) -> Vec<Pte>;
    /// Remarks: black boxes of a dump, prose and further output of a text.
    fn remarks(&self) -> &[Remark];

    /// The error record that a hardware stop points to.
    fn error_record(&self) -> Fact<ErrorRecord> {
        Fact::missing("no dump to read it from")
    }
    /// The I/O request at an address.
    fn irp(&self, _address: VirtAddr) -> Fact<Irp> {
        Fact::missing("no dump to read it from")
    }

    /// The part of the address space that an address is in.
    fn region(&self, _address: VirtAddr) -> Fact<Region> {
        Fact::missing("no dump to read it from")
    }
    /// A module's code compared with its file.
    fn check_image(&self, _module: &Module) -> Fact<ImageCheck> {
        Fact::missing("no dump to compare")
    }

    /// The name of the driver of a device object: `\Driver\disk`.
    fn device_driver(&self, _address: VirtAddr) -> Fact<String> {
        Fact::missing("no dump to read it from")
    }
    /// What the DPC watchdog wrote down.
    fn dpc_histories(&self) -> Fact<Vec<DpcHistory>> {
        Fact::missing("no dump to read it from")
    }
    /// Where any of these runs of bytes first stands in the image of a module, as far as it is known.
    fn first_in(&self, _module: &Module, _patterns: &[Vec<u8>]) -> Option<VirtAddr> {
        None
    }

    /// The module an address belongs to.
    fn module_at(&self, address: VirtAddr) -> Option<&Module> {
        self.modules().iter().find(|module| module.contains(address))
    }
}
