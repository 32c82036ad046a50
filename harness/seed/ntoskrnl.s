# The kernel, as far as the crash of the post runs through it: the functions that the post shows, with its frame sizes
# and return addresses, and below them a cached read of a file that has to be paged in twice. Invented but for those.

.include "frames.inc"

# --- processor 4, as the post shows it ---------------------------------------------------------------------------

FUNCTION KeBugCheckEx
        mov [rsp + 8], rcx
        mov [rsp + 0x10], rdx
        mov [rsp + 0x18], r8
        mov [rsp + 0x20], r9
        pushfq
        .seh_stackalloc 8
        sub rsp, 0x30
        .seh_stackalloc 0x30
        .seh_endprologue
        cli
        hlt
END KeBugCheckEx

# ecx: the code; edx, r8, r9, r10: its arguments. Keeps a KEXCEPTION_FRAME.
FUNCTION KiBugCheckDispatch
        sub rsp, 0x138
        .seh_stackalloc 0x138
        mov [rsp + 0x100], rbx
        .seh_savereg rbx, 0x100
        mov [rsp + 0x108], rdi
        .seh_savereg rdi, 0x108
        mov [rsp + 0x110], rsi
        .seh_savereg rsi, 0x110
        mov [rsp + 0x118], r12
        .seh_savereg r12, 0x118
        mov [rsp + 0x120], r13
        .seh_savereg r13, 0x120
        mov [rsp + 0x128], r14
        .seh_savereg r14, 0x128
        mov [rsp + 0x130], r15
        .seh_savereg r15, 0x130
        .seh_endprologue
        mov [rsp + 0x20], r10
        CALL_RETURNING_AT KiBugCheckDispatch, 0x69, KeBugCheckEx
        nop
END KiBugCheckDispatch

# The start of every trap entry: the processor has pushed a machine frame and an error code.
.macro TRAP_ENTRY
        .seh_pushframe code
        push rbp
        .seh_pushreg rbp
        sub rsp, 0x158
        .seh_stackalloc 0x158
        lea rbp, [rsp + 0x80]
        .seh_setframe rbp, 0x80
        .seh_endprologue
        mov [rbp - 0x50], rax
        mov [rbp - 0x48], rcx
        mov [rbp - 0x40], rdx
        mov [rbp - 0x38], r8
        mov [rbp - 0x30], r9
        mov [rbp - 0x28], r10
        mov [rbp - 0x20], r11
        mov [rbp + 0xc0], rbx
        mov [rbp + 0xc8], rdi
        mov [rbp + 0xd0], rsi
        stmxcsr [rbp - 0x54]
.endm

FUNCTION KiDoubleFaultAbort
        TRAP_ENTRY
        mov byte ptr [rbp - 0x57], 2
        mov byte ptr [rbp - 0x55], 1
        mov r10, [rbp + 0xe8]
        mov r9, cr4
        mov r8, cr0
        mov edx, 8
        mov ecx, 0x7f
        CALL_RETURNING_AT KiDoubleFaultAbort, 0xb2, KiBugCheckDispatch
        nop
END KiDoubleFaultAbort

FUNCTION KiIpiSendRequest
        push rbp
        .seh_pushreg rbp
        push rsi
        .seh_pushreg rsi
        push rdi
        .seh_pushreg rdi
        push r12
        .seh_pushreg r12
        push r13
        .seh_pushreg r13
        push r14
        .seh_pushreg r14
        push r15
        .seh_pushreg r15
        sub rsp, 0x80
        .seh_stackalloc 0x80
        .seh_endprologue
        mov r12, rcx
        xor esi, esi
        test rcx, rcx
        jz 2f
        .org KiIpiSendRequest + 0x1d7, 0x90
1:      mov [rsp + 0x70], eax
        .org KiIpiSendRequest + 0x2db, 0x90
        add rsp, 0x80
        pop r15
        pop r14
        pop r13
        pop r12
        pop rdi
        # KiIpiSendRequest+0x2eb: from here on as the post's `ub` prints it.
        pop rsi
        pop rbp
        ret
        .byte 0x8b, 0xc6                        # mov eax, esi
        jmp 1b
2:      movzx ecx, word ptr [rip + KeActiveProcessors]
        movzx eax, word ptr [rip + KeActiveProcessors + 2]
        .byte 0x8b, 0xfa                        # mov edi, edx
        # KiIpiSendRequest+0x305, where the post stops: the copy of the set of processors, the first write so low.
        mov [rsp + 0x22], ax
        mov [rsp + 0x20], cx
        jmp 1b
END KiIpiSendRequest

FUNCTION KeFlushMultipleRangeTb
        push rbx
        .seh_pushreg rbx
        push rdi
        .seh_pushreg rdi
        sub rsp, 0xb8
        .seh_stackalloc 0xb8
        .seh_endprologue
        mov ebx, ecx
        mov rdi, rdx
        xor ecx, ecx
        mov edx, 5
        CALL_RETURNING_AT KeFlushMultipleRangeTb, 0x22a, KiIpiSendRequest
        nop
END KeFlushMultipleRangeTb

# The post's frame between MiEmptyWorkingSet and KeFlushMultipleRangeTb is a part of a function that the linker moved
# away from the rest; its own table entry leads to that of the function. Which function it was the post does not show.
        .section .text$MiFreeWsleList, "xr"
        .globl MiFreeWsleList
MiFreeWsleList:
        push rbx
.LMiFreeWsleList1:
        push rsi
.LMiFreeWsleList2:
        sub rsp, 0x1d8
.LMiFreeWsleList3:
        mov rbx, rcx
        mov esi, 0x21
        jmp .LMiFreeWsleListCold
        int3
.LMiFreeWsleListEnd:

        .section .cold, "xr"
.LMiFreeWsleListCold:
        lea rdx, [rsp + 0x40]
        mov ecx, esi
        .org .LMiFreeWsleListCold + 0x33, 0x90
        call KeFlushMultipleRangeTb
        nop
        jmp MiFreeWsleList
        int3
.LMiFreeWsleListColdEnd:

        .section .xdata$MiFreeWsleList, "dr"
.LMiFreeWsleListUnwind:
        .byte 1, .LMiFreeWsleList3 - MiFreeWsleList, 4, 0
        .byte .LMiFreeWsleList3 - MiFreeWsleList, 0x01  # sub rsp, 8 * the next word
        .short 0x1d8 / 8
        .byte .LMiFreeWsleList2 - MiFreeWsleList, 0x60  # push rsi
        .byte .LMiFreeWsleList1 - MiFreeWsleList, 0x30  # push rbx
.LMiFreeWsleListColdUnwind:
        .byte 0x21, 0, 0, 0                             # chained, nothing of its own
        .rva MiFreeWsleList, .LMiFreeWsleListEnd, .LMiFreeWsleListUnwind
        .section .pdata$MiFreeWsleList, "dr"
        .rva MiFreeWsleList, .LMiFreeWsleListEnd, .LMiFreeWsleListUnwind
        .rva .LMiFreeWsleListCold, .LMiFreeWsleListColdEnd, .LMiFreeWsleListColdUnwind

# The nearest name before that part is a string's.
        .section .literal, "xr"
        .globl "??_C@_1BG@CABLGOII@?$AAS@FNODOBFM@"
"??_C@_1BG@CABLGOII@?$AAS@FNODOBFM@":
        .byte 0x53, 0, 0, 0

FUNCTION MiEmptyWorkingSet
        push rbx
        .seh_pushreg rbx
        push rsi
        .seh_pushreg rsi
        push r12
        .seh_pushreg r12
        sub rsp, 0x90
        .seh_stackalloc 0x90
        .seh_endprologue
        mov rbx, rcx
        mov esi, edx
        mov [rsp + 0x60], rcx
        CALL_RETURNING_AT MiEmptyWorkingSet, 0x24a, MiFreeWsleList
        nop
END MiEmptyWorkingSet

FUNCTION MiTrimAllSystemPagableMemory
        mov [rsp + 8], rbx
        push rdi
        .seh_pushreg rdi
        sub rsp, 0x50
        .seh_stackalloc 0x50
        .seh_savereg rbx, 0x60
        .seh_endprologue
        mov edi, ecx
        lea rbx, [rip + MmSystemCacheWs]
        mov rcx, rbx
        mov edx, 1
        CALL_RETURNING_AT MiTrimAllSystemPagableMemory, 0x218, MiEmptyWorkingSet
        nop
END MiTrimAllSystemPagableMemory

FUNCTION MmVerifierTrimMemory
        push rbx
        .seh_pushreg rbx
        sub rsp, 0x20
        .seh_stackalloc 0x20
        .seh_endprologue
        mov ecx, 1
        CALL_RETURNING_AT MmVerifierTrimMemory, 0xf1, MiTrimAllSystemPagableMemory
        nop
END MmVerifierTrimMemory

# cl: the level to raise to; dl: the level now.
FUNCTION ViKeRaiseIrqlSanityChecks
        push rbx
        .seh_pushreg rbx
        push rdi
        .seh_pushreg rdi
        sub rsp, 0x28
        .seh_stackalloc 0x28
        .seh_endprologue
        movzx ebx, cl
        movzx edi, dl
        CALL_RETURNING_AT ViKeRaiseIrqlSanityChecks, 0xcf, MmVerifierTrimMemory
        nop
END ViKeRaiseIrqlSanityChecks

FUNCTION VerifierKeAcquireSpinLockRaiseToDpc
        mov [rsp + 8], rbx
        mov [rsp + 0x10], rsi
        push rdi
        .seh_pushreg rdi
        sub rsp, 0x50
        .seh_stackalloc 0x50
        .seh_savereg rbx, 0x60
        .seh_savereg rsi, 0x68
        .seh_endprologue
        mov rdi, rcx
        mov rbx, [rsp + 0x58]
        mov esi, 2
        mov ecx, esi
        xor edx, edx
        CALL_RETURNING_AT VerifierKeAcquireSpinLockRaiseToDpc, 0x54, ViKeRaiseIrqlSanityChecks
        nop
END VerifierKeAcquireSpinLockRaiseToDpc

# --- what the post does not show: invented -----------------------------------------------------------------------

FUNCTION KiPageFault
        TRAP_ENTRY
        mov byte ptr [rbp - 0x55], 1
        mov rcx, cr2
        mov [rbp + 0x50], rcx
        mov rdx, rcx
        CALL_RETURNING_AT KiPageFault, 0x16e, MmAccessFault
        nop
END KiPageFault

# The processor comes here from user mode with the user's stack pointer, and its return address in rcx.
        .section .text$KiSystemCall64, "xr"
        .globl KiSystemCall64
        .seh_proc KiSystemCall64
KiSystemCall64:
        .seh_pushframe code
        mov gs:[0x10], rsp
        mov rsp, gs:[0x1a8]
        push 0x2b
        push qword ptr gs:[0x10]
        push r11
        push 0x33
        push rcx
        mov rcx, r10
        push 0
        push rbp
        .seh_pushreg rbp
        sub rsp, 0x158
        .seh_stackalloc 0x158
        lea rbp, [rsp + 0x80]
        .seh_setframe rbp, 0x80
        .seh_endprologue
        mov [rbp + 0xc0], rbx
        mov [rbp + 0xc8], rdi
        mov [rbp + 0xd0], rsi
        mov [rbp - 0x50], rax
        mov [rbp - 0x48], rcx
        mov [rbp - 0x40], rdx
        mov [rbp - 0x38], r8
        mov [rbp - 0x30], r9
        stmxcsr [rbp - 0x54]
        mov byte ptr [rbp - 0x58], 1
        mov byte ptr [rbp - 0x55], 2
        .org KiSystemCall64 + 0x240, 0x90
        .globl KiSystemServiceCopyEnd
KiSystemServiceCopyEnd:
        CALL_RETURNING_AT KiSystemServiceCopyEnd, 0x13, NtReadFile
        nop
END KiSystemCall64

# Down the device stack: r15 points to the dispatch routines that are still to come. No Windows does it so; what
# counts is that each returns where the verifier's own call of a driver does.
FUNCTION IovCallDriver, .vrfy
        PROLOGUE_HOME 0x60
        mov rax, [r15]
        add r15, 8
        .org IovCallDriver + 0x564, 0x90
        call rax
        nop
END IovCallDriver

        .section .text$IofCallDriver, "xr"
        .globl IofCallDriver
IofCallDriver:
        jmp qword ptr [rip + pIofCallDriver]
        int3

        .section .text$memcpy, "xr"
        .globl memcpy
memcpy: mov rax, rcx
        mov r11, [rdx]
        mov [rcx], r11
        ret
        int3

KEEP NtReadFile, 0x130, RBX, IopSynchronousServiceTail, ObReferenceObjectByHandle, PAGE
KEEP IopSynchronousServiceTail, 0x90, HOME, IofCallDriver, ExAllocatePoolWithTag, PAGE

FUNCTION CcCopyRead, PAGE
        PROLOGUE_HOME 0x190
        call ExAcquireResourceSharedLite
        movabs rdx, 0xfffff98006a80000
        lea rcx, [rsp + 0x80]
        call memcpy
        nop
END CcCopyRead

KEEP MmAccessFault, 0x1b0, FRAME, MiDispatchFault, KeAcquireInStackQueuedSpinLock
KEEP MiDispatchFault, 0x150, HOME, MiIssueHardFault, MiResolveMappedFileFault
KEEP MiIssueHardFault, 0x110, RBX, IoPageRead, KeAcquireInStackQueuedSpinLock
KEEP IoPageRead, 0x50, RBX, IofCallDriver, IoAllocateIrp

KEEP CcMapData, 0x100, FRAME, CcMapAndRead, CcGetVirtualAddress, PAGE
KEEP CcMapAndRead, 0xa0, HOME, MmCheckCachedPageState, ExAcquireResourceSharedLite, PAGE
KEEP MmCheckCachedPageState, 0x100, RBX, MmAccessFault, KeAcquireInStackQueuedSpinLock

VISIT ObReferenceObjectByHandle, 0x80, KeAcquireInStackQueuedSpinLock, PAGE
VISIT ExAllocatePoolWithTag, 0xa0, MiAllocatePoolPages
VISIT MiAllocatePoolPages, 0x120, KeAcquireInStackQueuedSpinLock
VISIT ExAcquireResourceSharedLite, 0x90, KeAcquireInStackQueuedSpinLock
VISIT CcGetVirtualAddress, 0x80, ExAcquireResourceSharedLite, PAGE
VISIT IoAllocateIrp, 0x60, ExAllocatePoolWithTag
VISIT MiResolveMappedFileFault, 0x1a0, ExAllocatePoolWithTag
VISIT KeAcquireInStackQueuedSpinLock, 0x40, KxAcquireSpinLock
LEAF KxAcquireSpinLock

# An idle processor.
FUNCTION KiIdleLoop
        sub rsp, 0x28
        .seh_stackalloc 0x28
        .seh_endprologue
        CALL_RETURNING_AT KiIdleLoop, 0x4c, PoIdle
        nop
END KiIdleLoop

FUNCTION PoIdle
        PROLOGUE_RBX 0x90
        mov rax, [r15]
        call rax
        nop
END PoIdle

        .section .data$KeActiveProcessors, "dw"
        .globl KeActiveProcessors
KeActiveProcessors:
        .short 1, 4
        .long 0
        .quad 0xff, 0, 0, 0
        .section .data$pIofCallDriver, "dw"
        .globl pIofCallDriver
pIofCallDriver:
        .quad IovCallDriver
        .section .data$MmSystemCacheWs, "dw"
        .globl MmSystemCacheWs
MmSystemCacheWs:
        .zero 0x40
