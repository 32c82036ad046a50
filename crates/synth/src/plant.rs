//! Machines with a known fault in them, to measure an analyst by.
//!
//! Each fault of the hardware has a *twin*: a bug of a driver that ends in the same stop code, on a machine that looks
//! the same otherwise. What tells them apart is what the memory says, and [`Truth`] says what that is.
//!
//! Everything follows from the seed: build, addresses, driver names, where the driver ran, which registers and which
//! instruction it used, which bit. Code bytes decode to the access that faults with the registers of the context; the
//! stack holds the chain of calls; arguments, exception record and trap frame say the same. Function addresses that the
//! public symbols' table of kernels does not hold are made up.

#![allow(clippy::large_types_passed_by_value, reason = "a register set is a value: who gets one changes it")]

mod access;
mod arm64;
mod driver;
mod kernel;
mod pool;
mod reported;
mod rng;
mod scene;
mod stack;
mod whea;

use crate::machine::{Arch, Machine};
use crate::{Error, Hex};
use rng::Rng;
use scene::Scene;
use serde::{Deserialize, Serialize};

/// What is planted: faults of the hardware, each followed by its twin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A bit flipped in a pointer that a driver keeps in pool.
    PointerBit,
    /// A driver reads a pointer from pool that it has freed, and that others have filled since.
    UseAfterFree,
    /// A bit flipped in a null pointer, which then passed the check for null.
    NullBit,
    /// A driver does not check a pointer for null.
    NullDereference,
    /// The valid bit flipped in the page-table entry of a page that a driver uses.
    PteValidBit,
    /// A driver touches pageable memory, which is not in memory, where paging is not possible.
    WrongIrql,
    /// A bit flipped in a page-table entry that is to be zero.
    PteBit,
    /// A driver wrote over a page-table entry that is to be zero.
    PteOverwritten,
    /// A bit flipped in a link of a list.
    ListBit,
    /// A driver put an entry into a list twice, or freed one that was in it.
    ListCorruption,
    /// A bit flipped in an instruction of a driver.
    OpcodeBit,
    /// A driver jumped through a pointer that leads into the middle of an instruction.
    BadJump,
    /// A bit flipped in the stack pointer.
    StackPointerBit,
    /// A driver calls itself until the stack is used up.
    StackOverflow,
    /// A bit flipped in the header of a block of pool.
    PoolHeaderBit,
    /// A driver writes past the end of its block of pool, over the next one's header.
    PoolOverflow,
    /// The processor reports an error that it cannot correct.
    MachineCheck,
    /// A driver stops the system with the same code, and there is no record of an error.
    MachineCheckByDriver,
    /// A PCI Express device or its slot reports an error that cannot be corrected.
    PcieError,
    /// A driver stops the system with the same code, and there is no record of an error.
    PcieErrorByDriver,
}

impl Class {
    /// Every class; those at even places are of the hardware, and each is followed by its twin.
    pub const ALL: [Self; 20] = [
        Self::PointerBit,
        Self::UseAfterFree,
        Self::NullBit,
        Self::NullDereference,
        Self::PteValidBit,
        Self::WrongIrql,
        Self::PteBit,
        Self::PteOverwritten,
        Self::ListBit,
        Self::ListCorruption,
        Self::OpcodeBit,
        Self::BadJump,
        Self::StackPointerBit,
        Self::StackOverflow,
        Self::PoolHeaderBit,
        Self::PoolOverflow,
        Self::MachineCheck,
        Self::MachineCheckByDriver,
        Self::PcieError,
        Self::PcieErrorByDriver,
    ];

    /// True where the hardware is at fault.
    #[must_use]
    pub fn is_hardware(self) -> bool {
        self.place().is_multiple_of(2)
    }

    /// The class that ends in the same stop code with the other one at fault.
    #[must_use]
    pub fn twin(self) -> Self {
        Self::ALL.get(self.place() ^ 1).copied().unwrap_or(self)
    }

    /// The word for it in file names: `pointer-bit`.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    /// True for the classes that machines of the architecture are planted with: on ARM64 the accesses, page-table entries and
    /// lists of drivers.
    #[must_use]
    pub fn is_of(self, arch: Arch) -> bool {
        match arch {
            Arch::X64 => true,
            Arch::Arm64 => {
                self.place() < Self::PteBit.place() || matches!(self, Self::ListBit | Self::ListCorruption)
            }
            Arch::X86 => false,
        }
    }

    /// Builds that stop in this way: fast fail came with Windows 8, and the pool of Windows 10 2004 is another one.
    fn fits(self, build: u32) -> bool {
        match self {
            Self::ListBit | Self::ListCorruption => build >= 9200,
            Self::PoolHeaderBit | Self::PoolOverflow => build < 19041,
            _ => true,
        }
    }

    fn place(self) -> usize {
        Self::ALL.iter().position(|class| *class == self).unwrap_or(0)
    }
}

/// Who is at fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Culprit {
    /// Memory, or what carries its contents.
    Memory,
    /// The processor.
    Processor,
    /// A PCI Express device.
    PcieDevice,
    /// The driver of that file name.
    Driver(String),
}

/// A bit that is not what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flip {
    /// Where the value lies; zero for a register.
    pub at: Hex,
    /// Which bit of it.
    pub bit: u32,
    /// The value before.
    pub was: Hex,
    /// The value now.
    pub is: Hex,
}

/// What is true of a planted fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Truth {
    /// The seed it was planted with.
    pub seed: u64,
    /// What was planted.
    pub class: Class,
    /// True where the hardware is at fault.
    pub hardware: bool,
    /// Who is.
    pub culprit: Culprit,
    /// The stop code.
    pub stop_code: Hex,
    /// The Windows build.
    pub build: u32,
    /// The driver whose code faulted or whose data it was: the victim, where the hardware is at fault.
    pub driver: String,
    /// The flipped bit, where there is one.
    pub flip: Option<Flip>,
    /// What happened, in a sentence.
    pub story: String,
}

impl Truth {
    /// The driver's file as it was written: its name, and its bytes without what flipped in memory. Who has it can
    /// compare the code with it.
    #[must_use]
    pub fn file_of_driver(&self, machine: &Machine) -> Option<(&str, Vec<u8>)> {
        let module = machine.modules.iter().find(|module| module.path.ends_with(&self.driver))?;
        let mut file = module.contents.clone();
        let flip = self.flip.filter(|_| self.class == Class::OpcodeBit);
        let slot = flip.and_then(|flip| {
            let offset = usize::try_from(flip.at.0.checked_sub(module.base.0)?).ok()?;
            Some((file.get_mut(offset)?, flip.was.0.to_le_bytes()[0]))
        });
        if let Some((slot, was)) = slot {
            *slot = was;
        }
        (!file.is_empty()).then_some((self.driver.as_str(), file))
    }
}

/// What a scenario finds out while it is laid out.
struct Plot {
    culprit: Culprit,
    flip: Option<Flip>,
    story: String,
}

/// A machine that has crashed of this, and the truth of it. A class and its twin of the same seed have the same stop
/// code and, but for what is planted, the same machine.
///
/// # Errors
/// None that a seed brings about; those of [`crate::container::write`] would come from the description.
pub fn plant(seed: u64, class: Class) -> Result<(Machine, Truth), Error> {
    let mut scene = Scene::fitting(rng(seed, class), |build| class.fits(build))?;
    let hardware = class.is_hardware();
    let plot = match class {
        Class::PointerBit | Class::UseAfterFree => access::pointer(&mut scene, hardware),
        Class::NullBit | Class::NullDereference => access::null(&mut scene, hardware),
        Class::PteValidBit | Class::WrongIrql => access::paged(&mut scene, hardware),
        Class::OpcodeBit | Class::BadJump => access::opcode(&mut scene, hardware),
        Class::PteBit | Class::PteOverwritten => reported::pte(&mut scene, hardware),
        Class::ListBit | Class::ListCorruption => reported::list(&mut scene, hardware),
        Class::PoolHeaderBit | Class::PoolOverflow => reported::pool(&mut scene, hardware),
        Class::StackPointerBit | Class::StackOverflow => stack::double_fault(&mut scene, hardware),
        Class::MachineCheck | Class::MachineCheckByDriver => whea::machine_check(&mut scene, hardware),
        Class::PcieError | Class::PcieErrorByDriver => whea::pcie(&mut scene, hardware),
    };
    let machine = scene.finish();
    let truth = truth(seed, class, &machine, plot);
    Ok((machine, truth))
}

/// The same on a processor of another architecture.
///
/// # Errors
/// [`Error::Contradiction`] for a class that [is not planted](Class::is_of) there.
pub fn plant_on(arch: Arch, seed: u64, class: Class) -> Result<(Machine, Truth), Error> {
    if !class.is_of(arch) {
        return Err(Error::Contradiction(format!("{}, which is not planted on {arch:?}", class.name())));
    }
    if arch == Arch::X64 {
        return plant(seed, class);
    }
    let (machine, plot) = arm64::plant(rng(seed, class), class)?;
    let truth = truth(seed, class, &machine, plot);
    Ok((machine, truth))
}

/// A twin draws the same numbers up to where it differs.
fn rng(seed: u64, class: Class) -> Rng {
    Rng::new(seed ^ ((class.place() as u64 / 2) << 48))
}

/// The driver with the fault is the last module that was loaded.
fn truth(seed: u64, class: Class, machine: &Machine, plot: Plot) -> Truth {
    let path = machine.modules.last().map_or("", |module| module.path.as_str());
    Truth {
        seed,
        class,
        hardware: class.is_hardware(),
        culprit: plot.culprit,
        stop_code: machine.bug_check.code,
        build: machine.build,
        driver: path.rsplit('\\').next().unwrap_or_default().to_owned(),
        flip: plot.flip,
        story: plot.story,
    }
}
