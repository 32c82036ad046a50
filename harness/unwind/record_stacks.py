#!/usr/bin/env python3
"""Runs compiled x64 functions that call each other, and records whole stacks with the calls that are live on them.

usage: record_stacks.py IMAGE OUT [--stacks N] [--seed S]

Direct calls inside the image are followed, calls through pointers go to a function drawn by chance, calls out of the
image are stepped over. All runs share one stack that is never cleared, so that it holds what calls long over have left,
as a kernel stack does. Now and then the stack is written down, and which of its words are live return addresses.
Needs unicorn and capstone. The record's form is in README.md.
"""
import argparse, random, struct, sys
import capstone
from capstone import x86_const as cx
from unicorn import x86_const as ux
import emulate
import record
from emulate import DATA, DATA_SIZE, RETURN, STACK, STACK_SIZE
from record import GPR, RIP, VOLATILE

TOP = STACK + STACK_SIZE - 0x2000
DEEPEST, RUN_STEPS, WHOLE = 24, 6000, 0x4000


class Recorder(record.Recorder):
    def __init__(self, image, rng, out):
        super().__init__(image, rng, out)
        self.starts = sorted(image.functions)
        self.pieces = [piece for pieces in image.functions.values() for piece in pieces]
        self.covered = {rva for begin, end in self.pieces for rva in range(begin, end)}
        self.records = 0

    def inside(self, rva):
        return rva in self.covered

    def stack(self, stacks):
        self.uc.mem_write(STACK, bytes(STACK_SIZE))
        while self.records < stacks:
            self.uc.mem_write(self.image.base, bytes(self.image.bytes))
            self.uc.mem_write(DATA, self.data)
            self.enter()
            self.live = [(self.entry, RETURN)]
            self.wait, self.wanted = 50, self.rng.randrange(4, 20)
            self.emulate(self.image.base + self.rng.choice(self.starts))

    def step(self, uc, address, size, _):
        rva = address - self.image.base
        self.steps += 1
        rsp = uc.reg_read(GPR[4])
        # A return: the call that it ends is not live any more.
        while self.live and rsp > self.live[-1][0]:
            slot, back = self.live.pop()
            if rsp != slot + 8 or address != back:
                return uc.emu_stop()
        if not self.live or not self.inside(rva) or self.steps > RUN_STEPS:
            return uc.emu_stop()
        slot, back = self.live[-1]
        if struct.unpack("<Q", uc.mem_read(slot, 8))[0] != back or rsp < TOP - WHOLE:
            return uc.emu_stop()  # a forced path overwrote its return address
        instruction = self.decode(address, size)
        if instruction is None:
            return uc.emu_stop()
        self.wait -= 1
        if self.wait < 0 and len(self.live) > self.wanted:
            self.wait, self.wanted = self.rng.randrange(200, 1000), self.rng.randrange(4, 20)
            self.write(rva, rsp)
        group, after = instruction.group, address + instruction.size
        if group(capstone.CS_GRP_CALL):
            return self.call(uc, instruction, after, rsp)
        if group(capstone.CS_GRP_INT) or instruction.id in (cx.X86_INS_HLT, cx.X86_INS_INT3, cx.X86_INS_UD2):
            return uc.emu_stop()
        if any(o.type == cx.X86_OP_MEM and o.access & capstone.CS_AC_WRITE and (o.mem.index or self.is_wild(o.mem))
               for o in instruction.operands):
            return self.go(after)
        if group(capstone.CS_GRP_PRIVILEGE) or instruction.mnemonic.startswith("rep"):
            return self.go(after)
        if group(capstone.CS_GRP_JUMP) and instruction.mnemonic != "jmp":
            return self.go(self.rng.choice([after, instruction.operands[0].imm]))

    def call(self, uc, instruction, after, rsp):
        operand = instruction.operands[0]
        target = operand.imm if operand.type == cx.X86_OP_IMM else None
        if target is None and self.rng.random() < 0.7:
            target = self.image.base + self.rng.choice(self.starts)
        keeps_rax = bytes(self.image.bytes[after - self.image.base:][:3]) in (b"\x48\x2b\xe0", b"\x48\x29\xc4")
        known = target is not None and target - self.image.base in self.image.functions
        if not known or keeps_rax or len(self.live) >= DEEPEST or self.rng.random() < 0.1:
            for n in VOLATILE:
                if not (n == 0 and keeps_rax):
                    uc.reg_write(GPR[n], self.rng.choice([0, 1, DATA + 0x8000]))
            return self.go(after)
        uc.mem_write(rsp - 8, struct.pack("<Q", after))
        uc.reg_write(GPR[4], rsp - 8)
        self.live.append((rsp - 8, after))
        return self.go(target)

    def write(self, rva, rsp):
        # The last live word is the shadow stack's own, which leads nowhere.
        live = list(reversed(self.live[1:]))
        self.records += 1
        self.out.write(struct.pack("<IIQ", rva, len(live), rsp))
        for slot, back in live:
            self.out.write(struct.pack("<QI", slot, back - self.image.base))
        length = self.entry - rsp
        self.out.write(struct.pack("<I", length) + self.uc.mem_read(rsp, length))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("out")
    parser.add_argument("--stacks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args()
    image = record.Image(options.image)
    with open(options.out, "wb") as out:
        out.write(b"SCUC" + struct.pack("<QII", image.base, *image.pdata))
        recorder = Recorder(image, random.Random(options.seed), out)
        recorder.stack(options.stacks)
    print(f"{recorder.records} stacks")


if __name__ == "__main__":
    sys.exit(main())
