//! A crash while its text is being read: everything found so far, as printed.

use crate::frame::RawFrame;
use crate::site::Site;
use std::collections::{BTreeMap, BTreeSet};
use stopcode_analysis::{Remark, Topic};
use stopcode_base::{Arch, FileTime, VirtAddr};
use stopcode_kernel::{Hypervisor, Pte, StopCode, UnloadedModule};

/// A value and the line it was read from, in words.
pub(crate) type Said<T> = Option<(T, &'static str)>;

/// More remarks than this of one crash are dropped: the text repeats itself.
const MOST_REMARKS: usize = 512;

/// A stop code as far as it was printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stop {
    pub(crate) code: u32,
    pub(crate) arguments: [Option<u64>; 4],
}

impl Stop {
    /// True if both may be of one crash: equal but for bit 28, and nothing both tell is different.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        const MINIDUMP_BIT: u32 = 0x1000_0000;
        let same = |(a, b): (&Option<u64>, &Option<u64>)| match (a, b) {
            // One output may print the 32 bits that the other sign-extends.
            (Some(a), Some(b)) => a == b || (*a as u32 == *b as u32 && extended(*a) && extended(*b)),
            _ => true,
        };
        self.code | MINIDUMP_BIT == other.code | MINIDUMP_BIT
            && self.arguments.iter().zip(&other.arguments).all(same)
    }

    /// Some argument is known.
    pub(crate) fn has_arguments(&self) -> bool {
        self.arguments.iter().any(Option::is_some)
    }

    /// Takes over what `other` knows more.
    pub(crate) fn complete(&mut self, other: &Self) {
        for (mine, theirs) in self.arguments.iter_mut().zip(other.arguments) {
            *mine = mine.or(theirs);
        }
    }

    /// The stop code with 0 for arguments that were not printed.
    pub(crate) fn value(&self) -> StopCode {
        StopCode { code: self.code, arguments: self.arguments.map(Option::unwrap_or_default) }
    }
}

/// A stop found in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) stop: Stop,
    /// What told it.
    pub(crate) source: &'static str,
    /// How many lines it takes.
    pub(crate) lines: usize,
    /// The arguments had 16 digits or 8, where they are padded.
    pub(crate) wide: Option<bool>,
}

fn extended(value: u64) -> bool {
    matches!(value >> 32, 0 | 0xffff_ffff)
}

/// What set the registers that were printed next.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Origin {
    /// A bare `r`, or nothing that was seen.
    #[default]
    Current,
    /// `.trap`, or `TRAP_FRAME`.
    Trap(Option<u64>),
    /// `.cxr`, or `CONTEXT`.
    Context(Option<u64>),
    /// `.frame`: some caller on the stack.
    Frame,
}

/// Registers as printed, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RegisterSet {
    pub(crate) origin: Origin,
    pub(crate) values: BTreeMap<String, u64>,
}

/// A stack as printed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RawStack {
    pub(crate) frames: Vec<RawFrame>,
    /// Index of the first frame behind a warning that unwind information is missing.
    pub(crate) doubtful_from: Option<usize>,
    /// The processor of the prompt it was printed at.
    pub(crate) processor: Option<u32>,
    /// A context was selected for it (`.trap`, `.cxr`, or the analysis did).
    pub(crate) selected: bool,
    /// Some context was printed before it.
    pub(crate) after_context: bool,
    /// Printed by `!thread` for this thread.
    pub(crate) thread: Option<u64>,
    /// Printed by `!analyze`.
    pub(crate) analyzed: bool,
}

/// A module as printed by `lm` or named by `!analyze`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RawModule {
    pub(crate) display: String,
    pub(crate) image: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) start: Option<u64>,
    pub(crate) end: Option<u64>,
    pub(crate) stamp: Option<u32>,
    /// The stamp is a hash (`/Brepro`), as the debugger said.
    pub(crate) hashed: bool,
    pub(crate) date: Option<FileTime>,
    pub(crate) checksum: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) version: Option<String>,
    /// Only exports named its functions.
    pub(crate) exports_only: bool,
}

impl RawModule {
    /// Takes over what `other` knows more.
    pub(crate) fn complete(&mut self, other: Self) {
        macro_rules! fill {
            ($($field:ident),*) => { $( if self.$field.is_none() { self.$field = other.$field; } )* };
        }
        fill!(image, path, start, end, stamp, date, checksum, size, version);
        self.hashed |= other.hashed;
        self.exports_only |= other.exports_only;
    }
}

/// A processor as printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RawProcessor {
    pub(crate) ipi_frozen: Option<u32>,
    pub(crate) prcb: Option<u64>,
    pub(crate) thread: Option<u64>,
    pub(crate) idle_thread: Option<u64>,
    pub(crate) irql: Option<u8>,
}

/// Everything read of one crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) stop: Said<Stop>,
    pub(crate) arch: Option<Arch>,
    /// Addresses were printed with 16 digits, with 8.
    pub(crate) wide: bool,
    pub(crate) narrow: bool,
    pub(crate) product: Option<String>,
    /// The banner says that this is a server.
    pub(crate) server: bool,
    pub(crate) build: Option<u32>,
    pub(crate) os_version: Said<String>,
    pub(crate) processor_count: Option<u32>,
    pub(crate) uptime: Said<f64>,
    pub(crate) crash_time: Said<FileTime>,
    pub(crate) processor_name: Option<String>,
    pub(crate) machine_parts: BTreeMap<&'static str, String>,
    pub(crate) hypervisor: Said<Hypervisor>,
    /// A live dump, or a crash.
    pub(crate) live: Said<bool>,
    pub(crate) exception_code: Option<u32>,
    pub(crate) exception_address: Option<u64>,
    pub(crate) exception_parameters: BTreeMap<u32, u64>,
    pub(crate) fault_address: Option<u64>,
    pub(crate) faulting_site: Option<Site>,
    pub(crate) current_irql: Option<u8>,
    pub(crate) process: Said<String>,
    pub(crate) process_id: Said<u64>,
    pub(crate) thread: Said<u64>,
    pub(crate) stack_base: Said<u64>,
    pub(crate) stack_limit: Said<u64>,
    pub(crate) verifier: Option<u32>,
    pub(crate) stacks: Vec<RawStack>,
    pub(crate) registers: Vec<RegisterSet>,
    pub(crate) modules: Vec<RawModule>,
    pub(crate) module_index: BTreeMap<String, usize>,
    pub(crate) unloaded: Vec<UnloadedModule>,
    pub(crate) processors: BTreeMap<u32, RawProcessor>,
    /// Processor of the first prompt.
    pub(crate) first_prompt: Option<u32>,
    /// Processor of the prompt at which `!analyze` was asked.
    pub(crate) analyzed_on: Option<u32>,
    pub(crate) code: BTreeMap<u64, Vec<u8>>,
    pub(crate) sites: BTreeMap<u64, Site>,
    pub(crate) ptes: Vec<(u64, Vec<Pte>)>,
    pub(crate) image_names: BTreeMap<String, String>,
    /// Modules (lower case) of which only exports had names.
    pub(crate) exports_only: BTreeSet<String>,
    pub(crate) blamed_image: Option<String>,
    pub(crate) blamed_module: Option<String>,
    pub(crate) blamed_stamp: Option<u32>,
    pub(crate) blamed_version: Option<String>,
    pub(crate) remarks: Vec<Remark>,
    pub(crate) said: BTreeSet<(u8, String)>,
    pub(crate) prose: Vec<String>,
}

impl Draft {
    /// Adds a remark once.
    pub(crate) fn remark(&mut self, topic: Topic, text: impl Into<String>) {
        let text: String = text.into();
        let text = text.trim();
        let key = (topic as u8, text.to_lowercase());
        if !text.is_empty() && self.remarks.len() < MOST_REMARKS && self.said.insert(key) {
            self.remarks.push(Remark { topic, text: text.to_owned() });
        }
    }

    /// Records a module, joined with what is known under its name.
    pub(crate) fn module(&mut self, module: RawModule) -> usize {
        let key = module.display.to_ascii_lowercase();
        if let Some(index) = self.module_index.get(&key).copied() {
            if let Some(known) = self.modules.get_mut(index) {
                known.complete(module);
            }
            return index;
        }
        self.module_index.insert(key, self.modules.len());
        self.modules.push(module);
        self.modules.len() - 1
    }

    /// Notes that the module with this stem has this image name.
    pub(crate) fn image_name(&mut self, image: &str) {
        let image = stopcode_base::file_name(image.trim());
        if let Some((stem, _)) =
            image.rsplit_once('.').filter(|(stem, _)| !stem.is_empty() && image.len() < 200)
        {
            self.image_names.entry(stem.to_ascii_lowercase()).or_insert_with(|| image.to_ascii_lowercase());
        }
    }

    /// Notes that `address` has this name.
    pub(crate) fn name(&mut self, address: u64, site: &Site) {
        if address != 0 && site.raw.is_none() {
            self.sites.entry(address).or_insert_with(|| site.clone());
        }
    }

    /// Notes the bytes at `address`; the first text to tell them counts.
    pub(crate) fn bytes(&mut self, address: VirtAddr, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.code.entry(address.0).or_insert(bytes);
        }
    }

    /// Notes the width of an address.
    pub(crate) fn width(&mut self, wide: bool) {
        self.wide |= wide;
        self.narrow |= !wide;
    }

    /// True if there is anything to judge: a stop, or a stack of two frames.
    pub(crate) fn is_crash(&self) -> bool {
        self.stop.is_some() || self.stacks.iter().any(|stack| stack.frames.len() >= 2)
    }

    /// Takes in a later part of the text that turned out to be about the same crash.
    pub(crate) fn absorb(&mut self, later: Self) {
        macro_rules! fill {
            ($($field:ident),*) => { $( if self.$field.is_none() { self.$field = later.$field; } )* };
        }
        macro_rules! join {
            ($($field:ident),*) => { $( for (key, value) in later.$field { self.$field.entry(key).or_insert(value); } )* };
        }
        match (&mut self.stop, later.stop) {
            (Some((mine, _)), Some((theirs, _))) => mine.complete(&theirs),
            (mine, theirs) => *mine = mine.take().or(theirs),
        }
        fill!(
            arch,
            product,
            build,
            os_version,
            processor_count,
            uptime,
            crash_time,
            processor_name,
            hypervisor,
            live
        );
        fill!(
            exception_code,
            exception_address,
            fault_address,
            faulting_site,
            current_irql,
            process,
            process_id
        );
        fill!(thread, stack_base, stack_limit, verifier, first_prompt, analyzed_on);
        fill!(blamed_image, blamed_module, blamed_stamp, blamed_version);
        join!(exception_parameters, machine_parts, processors, code, sites, image_names);
        self.exports_only.extend(later.exports_only);
        self.server |= later.server;
        self.wide |= later.wide;
        self.narrow |= later.narrow;
        self.stacks.extend(later.stacks);
        self.registers.extend(later.registers);
        self.unloaded.extend(later.unloaded);
        self.ptes.extend(later.ptes);
        self.prose.extend(later.prose);
        for module in later.modules {
            self.module(module);
        }
        for remark in later.remarks {
            self.remark(remark.topic, remark.text);
        }
    }
}
