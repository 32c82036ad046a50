//! What every rule wants to know, worked out once: who stands on the stack, which code ran, what the arguments are.

use crate::verdict::{Suspect, SuspectKind};
use crate::witness::{Witness, WitnessKind};
use std::cell::OnceCell;
use stopcode_base::{VirtAddr, X64Registers};
use stopcode_image::{Instruction, KnownRegisters, decode_x64};
use stopcode_kernel::{Context, Exception, Frame, Module, Place, Stack, StackKind};
use stopcode_knowledge as knowledge;

/// How near a module stands to Windows itself. A prior on blame, never a verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// The kernel, the HAL and what they are made of: on every stack.
    Core,
    /// Comes with Windows and carries the work of others (class drivers, port drivers, frameworks) or its own.
    Inbox,
    /// Does not come with Windows, or is not known to.
    ThirdParty,
}

/// The stop code, understood.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) code: u32,
    pub(crate) base: u32,
    pub(crate) arguments: [u64; 4],
    pub(crate) name: Option<String>,
}

impl Stop {
    /// Argument 1 to 4.
    pub(crate) fn arg(&self, number: usize) -> u64 {
        number.checked_sub(1).and_then(|index| self.arguments.get(index)).copied().unwrap_or(0)
    }
}

/// A frame with who it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standee<'a> {
    pub(crate) index: usize,
    pub(crate) frame: &'a Frame,
    pub(crate) standing: Standing,
}

/// The facts of one case, worked out when asked for.
pub(crate) struct Facts<'w> {
    pub(crate) witness: &'w dyn Witness,
    pub(crate) stop: Option<Stop>,
    exception: OnceCell<Option<Exception>>,
    context: OnceCell<Option<Context>>,
    instruction: OnceCell<Option<Instruction>>,
}

impl<'w> Facts<'w> {
    pub(crate) fn new(witness: &'w dyn Witness) -> Self {
        let stop = witness.stop().map(|stop| {
            let base = knowledge::base_code(stop.code);
            let name = knowledge::bug_check(base.base).map(|known| known.name);
            Stop { code: stop.code, base: base.base, arguments: stop.arguments, name }
        });
        Self {
            witness,
            stop,
            exception: OnceCell::new(),
            context: OnceCell::new(),
            instruction: OnceCell::new(),
        }
    }

    /// True for a dump, where absence can be shown.
    pub(crate) fn is_dump(&self) -> bool {
        self.witness.kind() == WitnessKind::Dump
    }

    /// The exception that led to the stop.
    pub(crate) fn exception(&self) -> Option<&Exception> {
        self.exception.get_or_init(|| self.witness.exception().value().cloned()).as_ref()
    }

    /// The context to judge.
    pub(crate) fn context(&self) -> Option<&Context> {
        self.context.get_or_init(|| self.witness.context().value().cloned()).as_ref()
    }

    /// x64 registers of the context to judge.
    pub(crate) fn x64(&self) -> Option<&X64Registers> {
        match &self.context()?.registers {
            stopcode_base::Registers::X64(registers) => Some(registers),
            _ => None,
        }
    }

    /// The instruction that was running, decoded from the bytes the witness holds.
    pub(crate) fn instruction(&self) -> Option<&Instruction> {
        let decode = || {
            let registers = KnownRegisters { registers: *self.x64()?, known: self.context()?.known as u16 };
            let at = VirtAddr(registers.registers.rip);
            decode_x64(&self.witness.bytes(at, 15), at, Some(&registers))
        };
        self.instruction.get_or_init(decode).as_ref()
    }

    /// The stack to judge.
    pub(crate) fn judged(&self) -> Option<&'w Stack> {
        self.witness.stacks().first()
    }

    /// The stack from the call to KeBugCheckEx.
    pub(crate) fn bug_check_stack(&self) -> Option<&'w Stack> {
        self.witness.stacks().iter().find(|stack| stack.kind == StackKind::BugCheck)
    }

    /// The address whose code is to be explained: where the exception was raised, else where the context stands.
    pub(crate) fn code_address(&self) -> Option<VirtAddr> {
        self.exception()
            .map(|exception| exception.address)
            .or_else(|| self.context().map(|context| context.registers.instruction()))
    }

    /// Frames of a stack with their standing, those outside all modules left out.
    pub(crate) fn standees(&self, stack: &'w Stack) -> impl Iterator<Item = Standee<'w>> + '_ {
        stack.frames.iter().enumerate().filter_map(|(index, frame)| {
            let image = frame.place.image.as_deref()?;
            Some(Standee { index, frame, standing: self.standing(image) })
        })
    }

    /// How near an image stands to Windows.
    pub(crate) fn standing(&self, image: &str) -> Standing {
        standing(image)
    }

    /// The module with this lower-case image name.
    pub(crate) fn module(&self, image: &str) -> Option<&'w Module> {
        self.witness.modules().iter().find(|module| module.image == image)
    }

    /// A driver as a suspect, with its product where it is known.
    pub(crate) fn driver_suspect(&self, image: &str) -> Suspect {
        if standing(image) == Standing::Core {
            return Suspect {
                kind: SuspectKind::Os,
                module: Some(image.to_owned()),
                name: format!("Windows ({image})"),
            };
        }
        let name = match knowledge::driver(image) {
            Some(known) => match known.product.as_str() {
                "" => format!("{image} ({})", known.vendor),
                product if product.contains(known.vendor.as_str()) => format!("{image} ({product})"),
                product => format!("{image} ({product}, {})", known.vendor),
            },
            None => image.to_owned(),
        };
        Suspect { kind: SuspectKind::Driver, module: Some(image.to_owned()), name }
    }

    /// `nt!KiPageFault+0x35`, `amdppm+0x334c`, or the bare address.
    pub(crate) fn label(&self, address: VirtAddr) -> String {
        self.witness.place(address).label().unwrap_or_else(|| address.windbg())
    }

    /// What an address belongs to.
    pub(crate) fn place(&self, address: VirtAddr) -> Place {
        self.witness.place(address)
    }
}

/// How near an image stands to Windows, by its name alone.
pub(crate) fn standing(image: &str) -> Standing {
    const CORE: [&str; 14] = [
        "ntoskrnl.exe",
        "ntkrnlmp.exe",
        "ntkrnlpa.exe",
        "ntkrpamp.exe",
        "ntkrla57.exe",
        "hal.dll",
        "halmacpi.dll",
        "kd.dll",
        "kdcom.dll",
        "ci.dll",
        "pshed.dll",
        "bootvid.dll",
        "verifier.sys",
        "werkernel.sys",
    ];
    if CORE.contains(&image) {
        return Standing::Core;
    }
    match knowledge::driver(image) {
        Some(known) if known.inbox => Standing::Inbox,
        _ => Standing::ThirdParty,
    }
}
