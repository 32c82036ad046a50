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
    /// Comes with Windows and does the work of others with what they hand it: frameworks, port and class drivers. It
    /// stands on most stacks, and seldom is the cause.
    Carrier,
    /// Comes with Windows and does work of its own.
    Inbox,
    /// Does not come with Windows, or is not known to.
    ThirdParty,
}

/// Whether Windows wrote the dump and went on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Live {
    Yes,
    /// The code is one that Windows reports without stopping, too.
    Perhaps,
    No,
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

    /// By what the dump or the text says of itself, else by the stop code.
    pub(crate) fn live(&self) -> Live {
        let known = self.stop.as_ref().and_then(|stop| knowledge::bug_check(stop.base));
        match (self.witness.system().live.get(), known) {
            (Some(true), _) => Live::Yes,
            (None, Some(known)) if known.live_dump => {
                // Such names are given to reports only.
                let only = known.name.contains("LIVEDUMP") || known.name.contains("LIVE_DUMP");
                if only { Live::Yes } else { Live::Perhaps }
            }
            (Some(false) | None, _) => Live::No,
        }
    }

    /// True for a dump, where absence can be shown.
    pub(crate) fn is_dump(&self) -> bool {
        self.witness.kind() == WitnessKind::Dump
    }

    /// True for a dump of x64 Windows.
    pub(crate) fn x64_dump(&self) -> bool {
        self.is_dump() && self.witness.system().arch == Some(stopcode_base::Arch::X64)
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
    #[expect(clippy::unused_self, reason = "rules ask the facts, whatever these need for an answer")]
    pub(crate) fn standees(&self, stack: &'w Stack) -> impl Iterator<Item = Standee<'w>> + '_ {
        let kernel = |frame: &&Frame| !is_user_mode(frame.stack_pointer);
        stack.frames.iter().take_while(kernel).enumerate().filter_map(|(index, frame)| {
            let image = frame.place.image.as_deref()?;
            Some(Standee { index, frame, standing: standing(image) })
        })
    }

    /// The image of the first driver on the judged stack that does not come with Windows.
    pub(crate) fn nearest_third_party(&self) -> Option<&'w str> {
        let standee = self.standees(self.judged()?).find(|s| s.standing == Standing::ThirdParty)?;
        standee.frame.place.image.as_deref()
    }

    /// The module with this lower-case image name.
    pub(crate) fn module(&self, image: &str) -> Option<&'w Module> {
        self.witness.modules().iter().find(|module| module.image == image)
    }

    /// A driver as a suspect, with its product where it is known.
    #[expect(clippy::unused_self, reason = "rules ask the facts, whatever these need for an answer")]
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

/// A stack pointer of user mode: below 2 GB on any Windows, below 128 TB on 64-bit ones. Zero where none is known.
const fn is_user_mode(pointer: VirtAddr) -> bool {
    const GB_2: u64 = 0x8000_0000;
    const GB_4: u64 = 0x1_0000_0000;
    const TB_128: u64 = 0x8000_0000_0000;
    pointer.0 != 0 && (pointer.0 < GB_2 || pointer.0 >= GB_4 && pointer.0 < TB_128)
}

/// Frameworks, port and class drivers of Windows: they call into the drivers they carry, with pointers these gave them.
const CARRIERS: [&str; 27] = [
    "ataport.sys",
    "bthport.sys",
    "classpnp.sys",
    "dxgkrnl.sys",
    "dxgmms1.sys",
    "dxgmms2.sys",
    "fltmgr.sys",
    "fwpkclnt.sys",
    "hidclass.sys",
    "ks.sys",
    "ksecdd.sys",
    "ndis.sys",
    "netio.sys",
    "nwifi.sys",
    "portcls.sys",
    "scsiport.sys",
    "spaceport.sys",
    "storport.sys",
    "tdi.sys",
    "ucx01000.sys",
    "udecx.sys",
    "usbd.sys",
    "usbport.sys",
    "videoprt.sys",
    "watchdog.sys",
    "wdf01000.sys",
    "wdfldr.sys",
];

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
        _ if CARRIERS.contains(&image) => Standing::Carrier,
        Some(known) if known.inbox => Standing::Inbox,
        _ => Standing::ThirdParty,
    }
}
