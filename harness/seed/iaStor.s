# The storage driver of the post: its two return addresses and frame sizes, the third return address, and the rest
# invented.
.include "frames.inc"

FUNCTION Lock
        sub rsp, 0x28
        .seh_stackalloc 0x28
        .seh_endprologue
        mov [rsp + 0x20], rcx
        .org Lock + 0x2f, 0x90
        call qword ptr [rip + __imp_KeAcquireSpinLockRaiseToDpc]
        nop
END Lock

FUNCTION Submit
        push rbx
        .seh_pushreg rbx
        push rsi
        .seh_pushreg rsi
        sub rsp, 0x38
        .seh_stackalloc 0x38
        .seh_endprologue
        mov rbx, rcx
        lea rsi, [rsp + 0x20]
        CALL_RETURNING_AT Submit, 0x32, Lock
        nop
END Submit

FUNCTION Start
        PROLOGUE_HOME 0x60
        CALL_RETURNING_AT Start, 0x69, Submit
        nop
END Start

KEEP Queue, 0x90, FRAME, Start, Visit
KEEP Dispatch, 0x70, RBX, Queue, Visit
VISIT Visit, 0x50, Leaf
LEAF Leaf

# Under the verifier an import is bound to the verifier's own function.
        .section .idata$KeAcquireSpinLockRaiseToDpc, "dr"
__imp_KeAcquireSpinLockRaiseToDpc:
        .quad VerifierKeAcquireSpinLockRaiseToDpc
