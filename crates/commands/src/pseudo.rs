//! The debugger's own registers: `$ip`, `$thread`, `$peb` and their kin.

use crate::registers;
use crate::session::Session;
use stopcode_base::{Arch, Fact, Memory, VirtAddr};
use stopcode_kernel::{KernelProcess, KernelThread};

/// `PEB.ImageBaseAddress`, in every Windows.
const IMAGE_BASE: [u64; 2] = [0x8, 0x10];
/// Where `e_lfanew` lies, and `AddressOfEntryPoint` from the PE signature on.
const E_LFANEW: u64 = 0x3c;
const ENTRY_POINT: u64 = 0x28;

/// The value of a register of the debugger's, by its name without the `$`. `None` if there is none of this name; an error, in
/// words, if it is not known here.
pub(crate) fn register(session: &Session, name: &str) -> Option<Result<u64, String>> {
    let machine = session.machine();
    let stop = machine.stop();
    let scope = || session.scope().map_err(|_| "no registers are in this dump".to_owned());
    let address = |address: Result<VirtAddr, String>| address.map(|address| address.0);
    Some(match name {
        "ip" => scope().map(|scope| scope.registers.instruction().0),
        "sp" | "csp" => scope().map(|scope| scope.registers.stack_pointer().0),
        "ra" => scope().and_then(|scope| {
            let stack = scope.stack(&machine);
            match stack.frames.get(session.frame() + 1) {
                Some(caller) if !caller.gap_before => Ok(caller.instruction.0),
                _ => Err("the caller of this frame is not known".to_owned()),
            }
        }),
        "retreg" => {
            let register = match machine.arch() {
                Arch::Arm64 => "x0",
                Arch::X86 => "eax",
                _ => "rax",
            };
            let held = scope().ok().and_then(|scope| registers::of_processor(scope, register));
            held.unwrap_or_else(|| Err(format!("{register} is not in this dump")))
        }
        "thread" => address(session.thread()),
        "proc" => address(session.process()),
        "teb" => of_thread(session, |thread| &thread.teb),
        "peb" => of_process(session, |process| &process.peb),
        "exentry" => entry(session),
        "tid" => identity(thread(session), |thread| &thread.thread_id),
        "tpid" => identity(process(session), |process| &process.id),
        "p" => Ok(session.last()),
        "ptrsize" => Ok(machine.arch().pointer_size()),
        "pagesize" => Ok(0x1000),
        "frame" => Ok(session.frame() as u64),
        "bug_code" => Ok(stop.code.into()),
        _ => match name.strip_prefix("bug_param") {
            Some(number) => {
                let index = number.parse::<usize>().ok()?.checked_sub(1)?;
                Ok(*stop.arguments.get(index)?)
            }
            None => Ok(session.temporary(&format!("${name}"))?),
        },
    })
}

fn thread(session: &Session) -> Result<KernelThread, String> {
    session.thread().and_then(|at| told(session.machine().thread_at(at)))
}

fn process(session: &Session) -> Result<KernelProcess, String> {
    session.process().and_then(|at| told(session.machine().process_at(at)))
}

fn told<T>(fact: Fact<T>) -> Result<T, String> {
    match fact {
        Fact::Known { value, .. } => Ok(value),
        Fact::Missing { reason } => Err(reason.into_owned()),
    }
}

fn identity<T>(object: Result<T, String>, field: impl Fn(&T) -> &Fact<u64>) -> Result<u64, String> {
    told(field(&object?).clone())
}

fn of_thread(session: &Session, field: impl Fn(&KernelThread) -> &Fact<VirtAddr>) -> Result<u64, String> {
    told(field(&thread(session)?).clone()).map(|at| at.0)
}

fn of_process(session: &Session, field: impl Fn(&KernelProcess) -> &Fact<VirtAddr>) -> Result<u64, String> {
    told(field(&process(session)?).clone()).map(|at| at.0)
}

/// Where the program of the selected process begins: its PEB leads to its image, and that to its first instruction.
fn entry(session: &Session) -> Result<u64, String> {
    let peb = of_process(session, |process| &process.peb)?;
    if peb == 0 {
        return Err("the process has no PEB, as System has none".to_owned());
    }
    let machine = session.machine();
    let memory = session.memory(&machine);
    let wide = machine.arch() != Arch::X86;
    let at = VirtAddr(peb).plus(IMAGE_BASE.get(usize::from(wide)).copied().unwrap_or_default());
    let base = if wide { memory.read_u64(at) } else { memory.read_u32(at).map(u64::from) };
    let word = |at: VirtAddr| memory.read_u32(at).map_err(|miss| miss.to_string());
    let base = VirtAddr(base.map_err(|miss| format!("the PEB: {miss}"))?);
    let header = base.plus(word(base.plus(E_LFANEW))?.into());
    Ok(base.plus(word(header.plus(ENTRY_POINT))?.into()).0)
}
