//! Shapes of output that the cases do not show, in short texts of our own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

use stopcode_analysis::{Topic, Witness};
use stopcode_base::{Arch, Registers, VirtAddr};
use stopcode_kernel::{Hypervisor, StackKind, StopCode, Trust};
use stopcode_transcript::{Crash, parse};

fn one(text: &str) -> Crash {
    let mut crashes = parse(text.as_bytes()).unwrap();
    assert_eq!(crashes.len(), 1, "{text}");
    crashes.pop().unwrap()
}

fn remarks(crash: &Crash, topic: Topic) -> Vec<&str> {
    crash.remarks().iter().filter(|remark| remark.topic == topic).map(|remark| remark.text.as_str()).collect()
}

#[test]
fn a_newer_analysis() {
    let crash = one("\
Windows 10 Kernel Version 22621 MP (6 procs) Free x64
Product: WinNt, suite: TerminalServer SingleUserTS
Edition build lab: 22621.2506.amd64fre.ni_release_svc_prod3.231018-1809
Kernel base = 0xfffff805`4d200000 PsLoadedModuleList = 0xfffff805`4de134a0
Debug session time: Fri Nov  3 14:35:00.352 2023 (UTC + 1:00)
System Uptime: 0 days 0:17:02.325
2: kd> !analyze -v
DRIVER_IRQL_NOT_LESS_OR_EQUAL (d1)
An attempt was made to access a pageable (or completely invalid) address at an
interrupt request level (IRQL) that is too high. Kaspersky would not be prose here.
Arguments:
Arg1: ffff8001acdc6010, memory referenced
Arg2: 0000000000000002, IRQL
Arg3: 0000000000000000, value 0 = read operation, 1 = write operation
Arg4: fffff805736312d0, address which referenced memory

Debugging Details:
------------------

KEY_VALUES_STRING: 1

    Key  : Hypervisor.Flags.AnyHypervisorPresent
    Value: 1

BUGCHECK_CODE:  d1

BUGCHECK_P1: ffff8001acdc6010

BUGCHECK_P2: 2

BUGCHECK_P3: 0

BUGCHECK_P4: fffff805736312d0

READ_ADDRESS: fffff8054df1c468: Unable to get MiVisibleState
 ffff8001acdc6010 Paged pool

PROCESS_NAME:  notmyfault64.exe

CURRENT_IRQL:  2

TRAP_FRAME:  ffffc60b87e8ed40 -- (.trap 0xffffc60b87e8ed40)
NOTE: The trap frame does not contain all registers.
Some register values may be zeroed or incorrect.
rax=0000000001001010 rbx=0000000000000000 rcx=ffff8001ac000000
rdx=0000000000000000 rsi=0000000000000000 rdi=0000000000000000
rip=fffff805736312d0 rsp=ffffc60b87e8eed0 rbp=0000000000000002
 r8=ffff800199a00100  r9=000000000000000c r10=ffff800199a00100
r11=ffff8001acdc3080 r12=0000000000000000 r13=0000000000000000
r14=0000000000000000 r15=0000000000000000
iopl=0         nv up ei ng nz na po nc
myfault+0x12d0:
fffff805`736312d0 8b03            mov     eax,dword ptr [rbx] ds:00000000`00000000=????????
Resetting default scope

STACK_TEXT:
ffffc60b`87e8ebf8 fffff805`4d62c9a9     : 00000000`0000000a ffff8001`acdc6010 00000000`00000002 00000000`00000000 : nt!KeBugCheckEx
ffffc60b`87e8ec00 fffff805`4d628034     : 00000000`00000000 00000000`00000000 00000000`00000000 00000000`00000000 : nt!KiBugCheckDispatch+0x69
ffffc60b`87e8ed40 fffff805`736312d0     : 00000000`00000000 00000000`00000000 00000000`00000000 00000000`00000000 : nt!KiPageFault+0x474
ffffc60b`87e8eed0 fffff805`7363168e     : 00000000`00000000 00000000`00000000 00000000`00000000 00000000`00000000 : myfault+0x12d0

SYMBOL_NAME:  myfault+12d0

MODULE_NAME: myfault

IMAGE_NAME:  myfault.sys

DEBUG_FLR_IMAGE_TIMESTAMP:  632af3d8

STACK_COMMAND:  .cxr; .ecxr ; kb

FAILURE_BUCKET_ID:  AV_myfault!unknown_function
");
    let arguments = [0xffff_8001_acdc_6010, 2, 0, 0xffff_f805_7363_12d0];
    assert_eq!(crash.stop(), Some(StopCode { code: 0xd1, arguments }));
    let system = crash.system();
    assert_eq!((system.build, system.processors, system.arch), (Some(22621), Some(6), Some(Arch::X64)));
    assert_eq!(system.os_version.value().map(String::as_str), Some("10.0.22621"));
    assert_eq!(system.crash_time.get().unwrap().to_string(), "2023-11-03T13:35:00.3520000Z");
    assert_eq!(system.hypervisor.get(), Some(Hypervisor::Present));
    let context = crash.context();
    let context = context.value().unwrap();
    assert_eq!(context.trap_frame, Some(VirtAddr(0xffff_c60b_87e8_ed40)));
    assert_eq!(context.fault_address, Some(VirtAddr(0xffff_8001_acdc_6010)));
    assert_eq!(context.registers.stack_pointer(), VirtAddr(0xffff_c60b_87e8_eed0));
    assert_eq!(context.known >> 3 & 1, 0, "rbx is zeroed in a trap frame");
    assert_eq!(crash.bytes(context.registers.instruction(), 15).as_ref(), [0x8b, 0x03]);
    assert_eq!(crash.place(context.registers.instruction()).label().as_deref(), Some("myfault+0x12d0"));
    assert_eq!((crash.processors()[0].number, crash.processors()[0].irql), (2, Some(2)));
    assert_eq!(crash.stacks().len(), 1);
    assert_eq!(crash.stacks()[0].kind, StackKind::BugCheck);
    assert_eq!(remarks(&crash, Topic::DebuggerBlame)[0], "myfault.sys");
    assert_eq!(remarks(&crash, Topic::Product), Vec::<&str>::new());
    let myfault = crash.modules().iter().find(|module| module.image == "myfault.sys").unwrap();
    assert_eq!(myfault.time_date_stamp, Some(0x632a_f3d8));
    let nt = crash.modules().iter().find(|module| module.image == "ntoskrnl.exe").unwrap();
    assert_eq!(nt.base, VirtAddr(0xffff_f805_4d20_0000));
}

#[test]
fn two_stacks_and_a_selected_context() {
    let crash = one("\
3: kd> !analyze -v
SYSTEM_THREAD_EXCEPTION_NOT_HANDLED (7e)
Arguments:
Arg1: ffffffffc0000005, The exception code that was not handled
Arg2: fffff8076624f3d4, The address that the exception occurred at
Arg3: ffffa1088a4aebf8, Exception Record Address
Arg4: ffffa1088a4ae410, Context Record Address
3: kd> k
Child-SP          RetAddr               Call Site
ffffa108`8a4adb88 fffff807`66450c9c     nt!KeBugCheckEx
ffffa108`8a4adb90 fffff807`663f0e81     nt!PspSystemThreadStartup$filt$0+0x44
3: kd> .cxr ffffa1088a4ae410
rax=0000000000000000 rbx=0000000000000001 rcx=0000000000000003
rip=fffff8076624f3d4 rsp=ffffa1088a4aee30 rbp=0000000000000001
3: kd> kn
 # Child-SP          RetAddr               Call Site
00 ffffa108`8a4aee30 fffff807`662ad6b1     nt!RtlpHpVsFreeChunkInsert+0x1b4
01 ffffa108`8a4aee60 fffff807`66aad2b0     nt!RtlpHpFreeHeap+0x421
WARNING: Stack unwind information not available. Following frames may be wrong.
02 ffffa108`8a4aef00 fffff807`84da115b     evil+0x1000
1: kd> k
Child-SP          RetAddr               Call Site
ffffa108`11111100 fffff807`66450c00     nt!KiIdleLoop+0x10
ffffa108`11111140 00000000`00000000     nt!KiStartUp+0x10
");
    let kinds: Vec<_> =
        crash.stacks().iter().map(|stack| (stack.kind, stack.processor, stack.frames.len())).collect();
    assert_eq!(
        kinds,
        [
            (StackKind::Exception, Some(3), 3),
            (StackKind::BugCheck, Some(3), 2),
            (StackKind::Processor, Some(1), 2),
        ]
    );
    let frames = &crash.stacks()[0].frames;
    assert_eq!(frames[0].instruction, VirtAddr(0xffff_f807_6624_f3d4));
    assert_eq!((frames[2].trust, frames[2].gap_before, frames[1].gap_before), (Trust::Scan, true, false));
    let exception = crash.exception();
    let exception = exception.value().unwrap();
    assert_eq!((exception.code, exception.address), (0xc000_0005, VirtAddr(0xffff_f807_6624_f3d4)));
    assert_eq!(crash.context().value().unwrap().command, ".cxr 0xffffa1088a4ae410");
}

#[test]
fn several_crashes_in_one_text() {
    let text = "\
Loading Dump File [C:\\a.dmp]
Windows 7 Kernel Version 7601 (Service Pack 1) MP (8 procs) Free x64
System Uptime: 0 days 0:13:47.651
BugCheck 7F, {8, 80050033, 406f8, fffff800032aa875}
Probably caused by : iaStor.sys ( iaStor+253f5 )
Loading Dump File [C:\\b.dmp]
Windows 7 Kernel Version 7601 (Service Pack 1) MP (4 procs) Free x64
System Uptime: 1 days 0:00:00.000
BugCheck 7F, {8, 80050033, 406f8, fffff800032aa875}
Probably caused by : other.sys ( other+1 )
BugCheck D1, {0, 2, 0, fffff88006dd6c8f}
DRIVER_IRQL_NOT_LESS_OR_EQUAL (d1)
Arguments:
Arg1: 0000000000000000
Arg2: 0000000000000002
Arg3: 0000000000000000
Arg4: fffff88006dd6c8f
1: kd> vertarget
Windows 7 Kernel Version 7601 (Service Pack 1) MP (4 procs) Free x64
";
    let crashes = parse(text.as_bytes()).unwrap();
    let told: Vec<_> = crashes
        .iter()
        .map(|crash| {
            (
                crash.stop().unwrap().code,
                crash.system().processors,
                crash.system().uptime_seconds.get().is_some(),
            )
        })
        .collect();
    assert_eq!(told, [(0x7f, Some(8), true), (0x7f, Some(4), true), (0xd1, Some(4), false)]);
    assert_eq!(remarks(&crashes[0], Topic::DebuggerBlame), ["iastor.sys"]);
    assert_eq!(remarks(&crashes[1], Topic::DebuggerBlame), ["other.sys"]);
    assert_eq!(crashes[0].system().os_version.value().map(String::as_str), Some("6.1.7601"));
}

#[test]
fn module_lists() {
    let crash = one("\
BugCheck 1A, {41790, 1, 2, 3}
1: kd> lmt
start             end                 module name
fffff800`03254000 fffff800`03839000   nt         (pdb symbols)          c:\\symbols\\ntkrnlmp.pdb
    Loaded symbol image file: ntkrnlmp.exe
    Image name: ntkrnlmp.exe
    Timestamp:        Tue Mar 04 09:38:19 2014 (531590FB)
    CheckSum:         00554C03
    ImageSize:        005E5000
    File version:     6.1.7601.18409
    CompanyName:      Kaspersky is no remark here
fffff880`0181f000 fffff880`01bc3000   iaStor   iaStor.sys   Wed Feb 01 19:15:24 2012 (4F298EAC)
fffff880`02000000 fffff880`02010000   foo_bar    (deferred)
fffff880`03000000 fffff880`03010000   new        (deferred)
    Image path: \\SystemRoot\\System32\\drivers\\new.sys
    Timestamp:        E2F1A52B (This is a reproducible build file hash, not a timestamp)

Unloaded modules:
fffff880`04f2a000 fffff880`04f38000   crashdmp.sys
    Timestamp: unavailable (00000000)
fffff880`05f2a000 fffff880`05f38000   dump_ata.sys
1: kd> !thread
THREAD fffffa8006b3e060  Cid 0af4.0c08  Teb: 0000000000000000 Win32Thread: 0000000000000000 RUNNING on processor 1
Owning Process            fffffa80036d4040       Image:         game.exe
Stack Init fffff88003dcfd70 Current fffff88003dcf000
Base fffff88003dd0000 Limit fffff88003dca000 Call 0
1: kd> !pte fffff88001234000
                                           VA fffff88001234000
PXE at FFFFF6FB7DBEDF88    PPE at FFFFF6FB7DBF1000    PDE at FFFFF6FB7E200048    PTE at FFFFF6FC400091A0
contains 000000003D284863  contains 000000003D283863  contains 0000000000000000  not valid
1: kd> !errrec fffffa8005dc4028
Error         : BUSLG_OBS_ERR_*_NOTIMEOUT_ERR (Proc 4 Bank 4)
  Status        : 0xb200000000070f0f
1: kd> !pool fffffa8001234560
*fffffa8001234550 size:   40 previous size:   30  (Allocated) *Ntfr
1: kd> !verifier
Verify Flags Level 0x000209bb
1: kd> dps fffff880`03dcf000
fffff880`03dcf000  fffff800`032aa875 nt!KiIpiSendRequest+0x305
fffff880`03dcf008  00000000`00000004
");
    let [nt, storage, unknown, new] = crash.modules() else { panic!("{:?}", crash.modules()) };
    assert_eq!(
        (nt.image.as_str(), nt.version.as_deref(), nt.checksum),
        ("ntoskrnl.exe", Some("6.1.7601.18409"), Some(0x55_4c03))
    );
    assert_eq!(crash.system().os_version.value().map(String::as_str), Some("6.1.7601.18409"));
    assert_eq!((storage.image.as_str(), storage.time_date_stamp), ("iastor.sys", Some(0x4f29_8eac)));
    assert_eq!(unknown.image, "foo_bar.sys");
    assert!(new.link_date.reason().is_some() && new.time_date_stamp == Some(0xe2f1_a52b));
    assert_eq!(crash.unloaded().len(), 2);
    assert!(crash.place(VirtAddr(0xffff_f880_04f2_a010)).unloaded);
    let thread = crash.thread();
    assert_eq!(thread.stack_limit.get(), Some(VirtAddr(0xffff_f880_03dc_a000)));
    assert_eq!(thread.stack_base.get(), Some(VirtAddr(0xffff_f880_03dd_0000)));
    assert_eq!(
        (thread.process.value().map(String::as_str), thread.process_id.get()),
        (Some("game.exe"), Some(0xaf4))
    );
    let entries = crash.page_table_entries(VirtAddr(0xffff_f880_0123_4fff));
    assert_eq!(
        entries.iter().map(|entry| (entry.level, entry.valid())).collect::<Vec<_>>(),
        [(2, false), (3, true), (4, true)]
    );
    assert_eq!(remarks(&crash, Topic::MachineCheckStatus), ["0xb200000000070f0f"]);
    assert_eq!(remarks(&crash, Topic::PoolTag), ["Ntfr"]);
    assert_eq!(remarks(&crash, Topic::Product), Vec::<&str>::new());
    assert_eq!(crash.verifier().value().map(|verifier| verifier.flags), Some(0x209bb));
    let slots = crash.bytes(VirtAddr(0xffff_f880_03dc_f000), 16);
    assert_eq!(slots[..8], 0xffff_f800_032a_a875_u64.to_le_bytes());
    assert_eq!(slots[8..], 4_u64.to_le_bytes());
    assert_eq!(
        crash.place(VirtAddr(0xffff_f800_032a_a875)).label().as_deref(),
        Some("nt!KiIpiSendRequest+0x305")
    );
}

#[test]
fn differences_of_code() {
    let crash = one("\
BugCheck EF, {ffffd18e9cfbc140, 0, 0, 0}
CHKIMG_EXTENSION: !chkimg -lo 50 -d !FLTMGR
    fffff80316663ab5-fffff80316663ab6  2 bytes - FLTMGR!DeleteStreamListCtrlCallback+35
\t[ 48 ff:4c 8b ]
    fffff80316663abc - FLTMGR!DeleteStreamListCtrlCallback+3c (+0x07)
\t[ e9:e8 ]
3 errors : !FLTMGR (fffff80316663ab5-fffff80316663abc)

MEMORY_CORRUPTOR:  LARGE

BAD_PAGES_DETECTED: cec1

FREED_POOL_TAG:  Ntfr
");
    let differences = remarks(&crash, Topic::CodeMismatch);
    assert_eq!(differences.len(), 4, "{differences:?}");
    assert!(differences[1].starts_with("fffff80316663abc") && differences[1].ends_with("[ e9:e8 ]"));
    assert_eq!(remarks(&crash, Topic::BadPages), ["0xcec1"]);
    assert_eq!(remarks(&crash, Topic::PoolTag), ["Ntfr"]);
}

#[test]
fn thirty_two_bits() {
    let crash = one("\
kd> .bugcheck
Bugcheck code 0000000a
Arguments 00000000 0000001c 00000000 8046a86c
kd> kv
ChildEBP RetAddr  Args to Child
8013ed5c 801263ba 00000000 00000000 e12ab000 nt!DbgBreakPoint (FPO: [0,0,0])
8013eecc 801389ee 0000000a 00000000 0000001c nt!KeBugCheckEx+0x194
8013eed0 f78c1234 0000000a 00000000 0000001c nt!KiTrap0E+0x256 (FPO: [0,0] TrapFrame @ 8013eee8)
8013ef64 00000000 fe551aa1 ff690268 00000002 driver+0x1234
kd> .trap 8013eee8
eax=dec80201 ebx=ffdff420 ecx=8013c71c edx=000003f8 esi=00000000 edi=87038e10
eip=8046a86c esp=8013ef5c ebp=8013ef64 iopl=0         nv up ei pl nz na pe nc
");
    assert_eq!(crash.system().arch, Some(Arch::X86));
    assert_eq!(crash.stop().map(|stop| stop.arguments), Some([0, 0x1c, 0, 0x8046_a86c]));
    let frames = &crash.stacks()[0].frames;
    assert_eq!(frames.len(), 4);
    assert_eq!(frames[3].instruction, VirtAddr(0xf78c_1234));
    let context = crash.context();
    let context = context.value().unwrap();
    let Registers::X86(registers) = context.registers else { panic!("{context:?}") };
    assert_eq!((registers.eip, registers.esp(), registers.gpr[0]), (0x8046_a86c, 0x8013_ef5c, 0xdec8_0201));
    assert_eq!((registers.eflags, context.known), (0, 0xff));
    assert!(remarks(&crash, Topic::Other).iter().any(|text| text.contains("esp=8013ef5c")));
}

#[test]
fn a_stack_alone_and_arguments_from_the_blue_screen() {
    let alone = one(
        "fffff880`009b9de8 fffff800`0328b169 nt!KeBugCheckEx\nfffff880`009b9df0 fffff800`03289632 nt!KiBugCheckDispatch+0x69\n",
    );
    assert_eq!((alone.stop(), alone.stacks()[0].frames.len()), (None, 2));
    let screen = one(
        "My PC says *** STOP: 0x0000007F (0x0000000000000008, 0x0000000080050033, 0x00000000000406F8, 0xFFFFF800032AA875)\nEvery processor was frozen and so the interrupt stayed pending.",
    );
    assert_eq!(screen.stop().map(|stop| stop.code), Some(0x7f));
    assert_eq!(remarks(&screen, Topic::Theory).len(), 1);
}

#[test]
fn nothing_to_find() {
    let error = parse(b"Dear all,\nmy machine is slow. What can I do?\n").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("BUGCHECK_CODE") && text.contains("2 lines"), "{text}");
    assert!(parse(b"").is_err());
}

/// What people paste who never opened a debugger.
#[test]
fn reports_of_windows_and_of_other_programs() {
    let live = one(
        "Problem Event Name: LiveKernelEvent\nCode: 141\nParameter 1: ffffae8d57fc1010\nParameter 2: fffff8037b2c5c30\nParameter 3: 0\nParameter 4: 22d4\nOS version: 10_0_19041",
    );
    assert_eq!(
        live.stop(),
        Some(StopCode { code: 0x141, arguments: [0xffff_ae8d_57fc_1010, 0xffff_f803_7b2c_5c30, 0, 0x22d4] })
    );
    assert_eq!(live.system().live.get(), Some(true));
    let event = one(
        "The computer has rebooted from a bugcheck.  The bugcheck was: 0x00000124 (0x0000000000000000, 0xffffe001a3b4c028, 0x00000000b2000000, 0x0000000000030005). A dump was saved in: C:\\Windows\\MEMORY.DMP.",
    );
    assert_eq!((event.stop().unwrap().code, event.system().live.get()), (0x124, Some(false)));
    let asked = one("\
crash dump file: C:\\Windows\\Minidump\\051020-9359-01.dmp
This was probably caused by the following module: exvideo.sys (exvideo+0x8a1f2c)
Bugcheck code: 0xD1 (0xFFFFF80012341234, 0x2, 0x0, 0xFFFFF8001ABC1234)
Error: DRIVER_IRQL_NOT_LESS_OR_EQUAL");
    assert_eq!(asked.stop().unwrap().code, 0xd1);
    let blamed: Vec<&str> = asked.remarks().iter().map(|remark| remark.text.as_str()).collect();
    assert!(blamed.iter().any(|text| text.contains("exvideo.sys")), "{blamed:?}");
}

/// A page that lost its line breaks.
#[test]
fn an_analysis_on_one_line() {
    let crash = one("\
kd> !analyze -v * * * Bugcheck Analysis * * *
CRITICAL_SERVICE_FAILED (5a) Arguments: Arg1: 0000000000000001 Arg2: ffffd80f4bfe7070 Arg3: ffffb00b0513d320 Arg4: ffffffffc0000428 Debugging
Details: ------------------ DUMP_FILE_ATTRIBUTES: 0x8 BUILD_VERSION_STRING: 10.0.14393.1770 (rs1_release.170917-1700)
PROCESS_NAME: System CURRENT_IRQL: 0 IMAGE_NAME: filecrypt.sys FAILURE_BUCKET_ID: 0x5A_c0000428_IMAGE_filecrypt.sys");
    let arguments = [1, 0xffff_d80f_4bfe_7070, 0xffff_b00b_0513_d320, 0xffff_ffff_c000_0428];
    assert_eq!(crash.stop(), Some(StopCode { code: 0x5a, arguments }));
    assert_eq!(crash.system().build, Some(14393));
    assert_eq!(crash.system().live.get(), Some(false));
}

/// What the debugger's bucket and symbol say of whom it blames.
#[test]
fn blame_is_an_image_and_nothing_else() {
    let of = |fields: &str| {
        one(&format!(
            "DRIVER_POWER_STATE_FAILURE (9f)\nArguments:\nArg1: 3\nArg2: 1\nArg3: 2\nArg4: 3\n\n{fields}"
        ))
    };
    let named = of(
        "SYMBOL_NAME:  pci!PciX+1\nMODULE_NAME: pci\nIMAGE_NAME:  pci.sys\nFAILURE_BUCKET_ID:  0x9F_3_POWER_DOWN_Some_Card_IMAGE_pci.sys",
    );
    assert_eq!(remarks(&named, Topic::DebuggerBlame), ["pci.sys"]);
    assert_eq!(remarks(&named, Topic::RequestHolder), ["Some_Card"]);
    let by_bucket = of("FAILURE_BUCKET_ID:  LKD_0x141_Tdr:6_IMAGE_exvideo.sys_Arch");
    assert_eq!(remarks(&by_bucket, Topic::DebuggerBlame), ["exvideo.sys"]);
    assert_eq!(by_bucket.system().live.get(), Some(true));
    let by_symbol = of("SYMBOL_NAME:  exdriver!Work+12\nFAILURE_BUCKET_ID:  AV_exdriver!Work");
    assert_eq!(remarks(&by_symbol, Topic::DebuggerBlame), ["exdriver.sys"]);
}
