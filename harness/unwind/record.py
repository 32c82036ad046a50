#!/usr/bin/env python3
"""Runs functions of a compiled x64 image in an emulator and records what an unwinder must say.

usage: record.py IMAGE OUT [--functions N] [--seed S] [--runs R] [--every]

Functions are drawn by the seed. Each is run from its first instruction with known non-volatile registers and a known
return address: the shadow stack. Calls are stepped over (volatile registers get new values), conditional jumps go
where code has not been seen yet or by chance, so most of a function is reached. At an instruction seen for the first
few times the registers and the live stack are written down; at calls, also as they are while the callee runs.

Needs unicorn and capstone (pip install unicorn capstone). The record's form is in README.md.
"""
import random, struct, sys
from collections import defaultdict
import capstone
from capstone import x86_const as cx
from unicorn import Uc, UC_ARCH_X86, UC_MODE_64
from unicorn import x86_const as ux
import emulate
from emulate import DATA, HOME, MAX_STACK, MAX_STEPS, RETURN, STACK, STACK_SIZE

GPR = [getattr(ux, "UC_X86_REG_" + r) for r in
       "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15".split()]
XMM = [getattr(ux, f"UC_X86_REG_XMM{n}") for n in range(16)]
RIP = ux.UC_X86_REG_RIP
VOLATILE = [0, 1, 2, 8, 9, 10, 11]


def writes(instruction, operand):
    """Whether an operand is written. Capstone takes the stores of `movups` and its kin for reads."""
    moved_to = instruction.mnemonic.startswith("mov") and operand.type == cx.X86_OP_MEM and (
        instruction.operands[0].type == cx.X86_OP_MEM)
    return bool(operand.access & capstone.CS_AC_WRITE) or moved_to


class Image(emulate.Image):
    def drawable(self):
        """Functions by their first instruction, with all their pieces."""
        at, size = self.pdata
        self.entries = [struct.unpack_from("<III", self.bytes, at + i) for i in range(0, size - 11, 12)]
        pieces = defaultdict(list)
        for entry in self.entries:
            pieces[self.primary(entry)[0]].append(entry[:2])
        return dict(pieces)

    def handler_data(self, piece):
        info = next(entry[2] for entry in self.entries if entry[:2] == piece)
        if info & 1 or not self.bytes[info] >> 3 & 3:
            return None
        count = self.bytes[info + 2]
        return info + 8 + 2 * (count + count % 2)

    def is_frameless(self, piece):
        info = next(entry[2] for entry in self.entries if entry[:2] == piece)
        return not info & 1 and not self.bytes[info] >> 3 & 4 and self.bytes[info + 2] == 0

    def primary(self, entry):
        while True:
            if entry[2] & 1:
                entry = struct.unpack_from("<III", self.bytes, entry[2] & ~1)
                continue
            head, _, count, _ = struct.unpack_from("<BBBB", self.bytes, entry[2])
            if not head >> 3 & 4:
                return entry
            entry = struct.unpack_from("<III", self.bytes, entry[2] + 4 + 2 * (count + count % 2))


class Recorder(emulate.Recorder):
    def __init__(self, image, rng, out):
        self.md = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.md.detail = True
        self.cache = {}
        super().__init__(image, rng, out, Uc(UC_ARCH_X86, UC_MODE_64), RIP)

    def decode(self, address, size):
        if address not in self.cache:
            at = address - self.image.base
            found = list(self.md.disasm(bytes(self.image.bytes[at:at + 15]), address, 1))
            self.cache[address] = found[0] if found else None
        return self.cache[address]

    def code(self):
        """The function's instructions, and those of them that leave it: returns and tail jumps."""
        instructions, ends = set(), set()
        for begin, end in self.outside_tables():
            for found in self.md.disasm(bytes(self.image.bytes[begin:end]), self.image.base + begin):
                rva = found.address - self.image.base
                if found.id not in (cx.X86_INS_INT3, cx.X86_INS_NOP):
                    instructions.add(rva)
                if found.group(capstone.CS_GRP_RET) or self.is_tail_jump(found):
                    ends.add(rva)
        return instructions, ends

    def ends_block(self, rva, after):
        """Between this instruction and the next that counts stands what stops or fills, or it goes elsewhere itself."""
        found = self.decode(self.image.base + rva, 0)
        stops = cx.X86_INS_INT, cx.X86_INS_UD2, cx.X86_INS_HLT
        leaves = found is None or found.mnemonic == "jmp" or found.group(capstone.CS_GRP_RET) or found.id in stops
        return leaves or rva + found.size < after

    def is_tail_jump(self, found):
        """To another function, through memory, or in the form kept for it (REX.W)."""
        if found.mnemonic != "jmp":
            return False
        operand = found.operands[0]
        if operand.type == cx.X86_OP_IMM:
            return not self.inside(operand.imm - self.image.base)
        return operand.type == cx.X86_OP_MEM and operand.mem.base == cx.X86_REG_RIP or found.rex >> 3 & 1 == 1

    def enter(self):
        uc, rng = self.uc, self.rng
        self.entry = STACK + STACK_SIZE - 0x2000 - 8
        uc.mem_write(self.entry, struct.pack("<Q", RETURN))
        values = [self.pointer() for _ in range(16)]
        values[4] = self.entry
        for register, value in zip(GPR, values):
            uc.reg_write(register, value)
        self.start = values
        self.start_other = [rng.getrandbits(128) for _ in range(16)]
        for register, value in zip(XMM, self.start_other):
            uc.reg_write(register, value)
        uc.reg_write(ux.UC_X86_REG_EFLAGS, 2)

    def skip(self, at):
        found = self.decode(at, 0)
        keeps = found and not found.group(capstone.CS_GRP_RET) and "sp" not in found.op_str
        return at + found.size if keeps else None

    def step(self, uc, address, size, _):
        rva = address - self.image.base
        self.steps += 1
        if not self.inside(rva) or self.steps > MAX_STEPS:
            return uc.emu_stop()
        instruction = self.decode(address, size)
        if instruction is None:
            return uc.emu_stop()
        if struct.unpack("<Q", uc.mem_read(self.entry, 8))[0] != RETURN:
            return uc.emu_stop()  # a forced path overwrote its own return address
        if self.count(rva):
            self.record(0, rva)
        group, after = instruction.group, address + instruction.size
        if group(capstone.CS_GRP_CALL):
            if self.seen[rva] <= self.most:
                self.record(1, rva + instruction.size)
            self.keep_body(rva, uc.reg_read(GPR[4]))
            keeps_rax = bytes(self.image.bytes[rva + instruction.size:][:3]) in (b"\x48\x2b\xe0", b"\x48\x29\xc4")
            for n in VOLATILE:
                if not (n == 0 and keeps_rax):
                    uc.reg_write(GPR[n], self.rng.choice([0, 1, DATA + 0x8000]))
            for n in range(6):
                uc.reg_write(XMM[n], self.rng.getrandbits(128))
            return self.go(after)
        stops = group(capstone.CS_GRP_INT) or instruction.id in (cx.X86_INS_HLT, cx.X86_INS_INT3, cx.X86_INS_UD2)
        if stops or instruction.mnemonic == "jmp" and not self.is_tail_jump(instruction):
            self.keep_body(rva, uc.reg_read(GPR[4]))
        if stops:
            return uc.emu_stop()
        # On a forced path an index or a running pointer may be wild; such a store would hit saved registers.
        if any(o.type == cx.X86_OP_MEM and writes(instruction, o) and (o.mem.index or self.is_wild(o.mem))
               for o in instruction.operands):
            return self.go(after)
        if group(capstone.CS_GRP_PRIVILEGE) or instruction.prefix[0] in (0xF2, 0xF3) and "s" == instruction.mnemonic[-2:-1]:
            return self.go(after)
        if instruction.mnemonic.startswith("rep"):
            return self.go(after)
        if group(capstone.CS_GRP_JUMP) and instruction.mnemonic != "jmp":
            return self.fork([after, instruction.operands[0].imm], uc.reg_read(GPR[4]))
        if group(capstone.CS_GRP_JUMP) and instruction.operands[0].type == cx.X86_OP_REG:
            cases = self.cases(rva)
            return self.fork(cases, uc.reg_read(GPR[4])) if cases else None

    def cases(self, jump):
        """Where a switch can go: a load of RVAs from a table in the image, right before the jump through a register."""
        before = [self.decode(self.image.base + rva, 0) for rva in range(jump - 24, jump) if self.seen[rva]]
        for load in reversed([found for found in before if found]):
            table = next((o.mem for o in load.operands if o.type == cx.X86_OP_MEM and o.mem.scale == 4), None)
            if load.mnemonic == "mov" and table and 0 < table.disp < len(self.image.bytes):
                found, at = set(), table.disp
                while at < len(self.image.bytes) - 3 and self.inside(self.image.word(at)):
                    found.add(self.image.word(at))
                    at += 4
                self.tables.add((table.disp, at))
                return [self.image.base + target for target in sorted(found)]
        return []

    def is_wild(self, operand):
        base = {cx.X86_REG_RCX: 1, cx.X86_REG_RDX: 2, cx.X86_REG_R8: 8, cx.X86_REG_R9: 9, cx.X86_REG_R10: 10}
        if operand.base not in base:
            return False
        return STACK <= self.uc.reg_read(GPR[base[operand.base]]) + operand.disp < STACK + STACK_SIZE

    def record(self, kind, rva):
        values = [self.uc.reg_read(r) for r in GPR]
        rsp = values[4]
        length = self.entry + 8 + HOME - rsp
        if not HOME + 8 <= length <= MAX_STACK:
            return
        xmm = [self.uc.reg_read(r) for r in XMM[6:]]
        self.out.write(struct.pack("<III", kind, rva, self.begin))
        self.out.write(struct.pack("<16Q", *values))
        self.out.write(b"".join(v.to_bytes(16, "little") for v in xmm))
        self.out.write(struct.pack("<QQ", RETURN, self.entry + 8))
        self.out.write(struct.pack("<16Q", *self.start))
        self.out.write(b"".join(v.to_bytes(16, "little") for v in self.start_other[6:]))
        self.out.write(struct.pack("<I", length) + self.uc.mem_read(rsp, length))


if __name__ == "__main__":
    sys.exit(emulate.main(Image, Recorder, b"SCUW", __doc__))
