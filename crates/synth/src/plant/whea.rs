//! 0x124: the hardware reports an error, in a WHEA_ERROR_RECORD; or a driver only says so.
//!
//! The record and its sections are those of UEFI's Common Platform Error Record, and of the public WDK headers.

use super::access::enter;
use super::driver::{PROLOG, RSP};
use super::scene::Scene;
use super::{Culprit, Plot};
use crate::machine::{Code, Trap};
use crate::record::Record;
use crate::{Bytes, Hex};
use stopcode_base::FileTime;

/// WHEA_XPF_MCA_SECTION, {8a1e1d01-42f9-4557-9c33-565e5cc3f7e8}.
const MCA: [u8; 16] =
    [0x01, 0x1d, 0x1e, 0x8a, 0xf9, 0x42, 0x57, 0x45, 0x9c, 0x33, 0x56, 0x5e, 0x5c, 0xc3, 0xf7, 0xe8];
/// WHEA_PCIEXPRESS_ERROR_SECTION, {d995e954-bbc1-430f-ad91-b44dcb3c6f35}.
const PCIE: [u8; 16] =
    [0x54, 0xe9, 0x95, 0xd9, 0xc1, 0xbb, 0x0f, 0x43, 0xad, 0x91, 0xb4, 0x4d, 0xcb, 0x3c, 0x6f, 0x35];
/// Notification by machine check, {e8f56ffe-919c-4cc5-ba88-65abe14913bb}, and by a PCI Express root error,
/// {cf93c01f-1a16-4dfc-b8bc-9c4daf67c104}.
const BY_MACHINE_CHECK: [u8; 16] =
    [0xfe, 0x6f, 0xf5, 0xe8, 0x9c, 0x91, 0xc5, 0x4c, 0xba, 0x88, 0x65, 0xab, 0xe1, 0x49, 0x13, 0xbb];
const BY_PCIE: [u8; 16] =
    [0x1f, 0xc0, 0x93, 0xcf, 0x16, 0x1a, 0xfc, 0x4d, 0xb8, 0xbc, 0x9c, 0x4d, 0xaf, 0x67, 0xc1, 0x04];
/// Microsoft as the creator, {cf07c4bd-b789-4e18-b3c4-1f732cb57131}.
const CREATOR: [u8; 16] =
    [0xbd, 0xc4, 0x07, 0xcf, 0x89, 0xb7, 0x18, 0x4e, 0xb3, 0xc4, 0x1f, 0x73, 0x2c, 0xb5, 0x71, 0x31];
/// Valid, uncorrected, enabled, processor context corrupt.
const FATAL: u64 = 0xb200_0000_0000_0000;
const ADDRESS_VALID: u64 = 1 << 58;
const HEADER: usize = 0x80;
const DESCRIPTOR: usize = 0x48;

/// A machine check, or a driver that stops the system with its code.
pub(super) fn machine_check(scene: &mut Scene, hardware: bool) -> Plot {
    // Bank and error code: a cache, the internal timer, the bus, the memory controller.
    let (bank, code, memory) = scene
        .rng
        .pick(&[
            (0, 0x0135, false),
            (1, 0x0151, false),
            (3, 0x0400, false),
            (4, 0x0e0b, false),
            (7, 0x009f, true),
            (8, 0x0090, true),
        ])
        .unwrap_or((0, 0x0135, false));
    let status = FATAL | if memory { ADDRESS_VALID } else { 0 } | code;
    let address = scene.rng.below(1 << 34) & !0x3f;
    if !hardware {
        return by_driver(scene, [0, 0, status >> 32, status & 0xffff_ffff]);
    }
    let processor = scene.machine.crash_processor;
    let mut section = Record::zeroed(0x110);
    section.u32(0, 1).u32(4, 1).u64(8, now(scene)).u32(0x10, processor).u64(0x18, 5);
    section.u32(0x28, bank).u64(0x30, status).u64(0x38, if memory { address } else { 0 });
    let record = record(scene, MCA, BY_MACHINE_CHECK, &section.into_bytes());
    // The machine check came while the processor idled or ran anything else.
    let mut registers = scene.registers();
    registers.rip = Hex(scene.nt("KiIdleLoop", 0x60));
    registers.set(RSP, scene.chain.sp);
    let at = scene.chain.trap(registers.rip.0);
    scene.machine.traps.push(Trap {
        at: Hex(at),
        registers,
        error_code: Hex(0),
        fault_address: Hex(0),
        previous_irql: scene.irql(),
        user: false,
    });
    for (function, offset, frame) in [
        ("KiMcheckAbort", 0x277, 0x138),
        ("KxMcheckAbort", 0x6e, 0x38),
        ("HalHandleMcheck", 0x38, 0x68),
        ("HalpMcaReportError", 0xb1, 0x58),
        ("WheaReportHwError", 0x3e2, 0x48),
    ] {
        let ret = scene.nt(function, offset);
        scene.chain.call(ret, frame);
    }
    let ret = scene.nt("HalBugCheckSystem", 0xca);
    scene.bug_check_from(ret, 0x124, [0, record, status >> 32, status & 0xffff_ffff], registers);
    let culprit = if memory { Culprit::Memory } else { Culprit::Processor };
    Plot { culprit, flip: None, story: format!("bank {bank} of processor {processor} reports {status:#x}") }
}

/// An error of a PCI Express device, or a driver that stops the system with its code.
pub(super) fn pcie(scene: &mut Scene, hardware: bool) -> Plot {
    // Data link protocol, surprise down, poisoned, completion timeout, malformed.
    let status = scene.rng.pick(&[0x10_u32, 0x20, 0x1000, 0x4000, 0x4_0000]).unwrap_or(0x10);
    let bus = 1 + scene.rng.below(5) as u8;
    let device = scene.rng.below(4) as u8;
    if !hardware {
        return by_driver(scene, [4, 0, 0, 0]);
    }
    let mut section = Record::zeroed(0xd0);
    // Valid: port type, version, command, device, capability and error information.
    section.u64(0, 0xcf).u32(8, 4).u32(0xc, 0x0101).u16(0x10, 0x0507).u16(0x12, 0x4010);
    section.u16(0x18, 0x8086).u16(0x1a, 0xa110).put(0x1c, &[0, 4, 6]).u8(0x1f, 0).u8(0x20, device);
    section.u8(0x23, bus).u32(0x70, 0x0001_0001).u32(0x74, status).u32(0x7c, 0x0046_2030);
    let record = record(scene, PCIE, BY_PCIE, &section.into_bytes());
    let registers = scene.registers();
    for (function, offset, frame) in [
        ("PpmIdleExecuteTransition", 0x1c, 0x78),
        ("WheapAttemptErrorRecovery", 0x90, 0x58),
        ("WheaReportHwError", 0x3e2, 0x48),
    ] {
        let ret = scene.nt(function, offset);
        scene.chain.call(ret, frame);
    }
    let ret = scene.nt("HalBugCheckSystem", 0xca);
    scene.bug_check_from(ret, 0x124, [4, record, 0, 0], registers);
    Plot {
        culprit: Culprit::PcieDevice,
        flip: None,
        story: format!("bus {bus}, device {device} reports {status:#x}"),
    }
}

/// The driver calls `KeBugCheckEx` itself.
fn by_driver(scene: &mut Scene, arguments: [u64; 4]) -> Plot {
    let frame = 0x48 + 0x10 * scene.rng.below(3) as u8;
    // call [rip+...]: through the import table, which the image's read-only data holds.
    let body = [0xff, 0x15, 0, 0, 0, 0, 0x90];
    let inner = scene.driver.function(frame, &body);
    enter(scene, inner);
    let registers = scene.registers();
    let ret = scene.driver.base + inner.start + PROLOG + 6;
    scene.bug_check_from(ret, 0x124, arguments, registers);
    let name = scene.driver.name.clone();
    Plot {
        culprit: Culprit::Driver(name.clone()),
        flip: None,
        story: format!("{name} stopped the system itself; there is no record of an error"),
    }
}

fn now(scene: &Scene) -> u64 {
    FileTime::from_unix(scene.machine.crash_time).0
}

/// A WHEA_ERROR_RECORD of one section in pool of its own; gives its address.
fn record(scene: &mut Scene, section: [u8; 16], notified: [u8; 16], content: &[u8]) -> u64 {
    let at = (scene.pool.at & !0xf_ffff) + 0x30_0000 + scene.rng.below(0x80) * 0x1000 + 0x28;
    let offset = HEADER + DESCRIPTOR;
    let mut r = Record::zeroed(offset + content.len());
    r.put(0, b"CPER").u16(4, 0x0210).u32(6, u32::MAX).u16(0xa, 1).u32(0xc, 1).u32(0x10, 2);
    r.u32(0x14, (offset + content.len()) as u32).u64(0x18, now(scene));
    r.put(0x40, &CREATOR).put(0x50, &notified).u64(0x60, scene.rng.word() >> 8);
    r.u32(HEADER, offset as u32).u32(HEADER + 4, content.len() as u32).u16(HEADER + 8, 0x0300);
    r.u32(HEADER + 0xc, 1).put(HEADER + 0x10, &section).u32(HEADER + 0x30, 1).put(offset, content);
    let bytes = Bytes::from(r.into_bytes());
    scene.machine.memory.push(Code { at: Hex(at), bytes, about: "the error record".to_owned() });
    at
}
