# An idle processor. Invented.
.include "frames.inc"
FUNCTION C1Idle
        PROLOGUE_RBX 0x30
        call C1Halt
        nop
END C1Idle
        .section .text$C1Halt, "xr"
        .globl C1Halt
C1Halt: sti
        hlt
        ret
        int3
