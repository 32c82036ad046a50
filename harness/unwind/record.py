#!/usr/bin/env python3
"""Runs functions of a compiled x64 image in an emulator and records what an unwinder must say.

usage: record.py IMAGE OUT [--functions N] [--seed S] [--runs R]

Functions are drawn by the seed. Each is run from its first instruction with known non-volatile registers and a known
return address: the shadow stack. Calls are stepped over (volatile registers get new values), conditional jumps go
where code has not been seen yet or by chance, so most of a function is reached. At an instruction seen for the first
few times the registers and the live stack are written down; at calls, also as they are while the callee runs.

Needs unicorn and capstone (pip install unicorn capstone). The record's form is in README.md.
"""
import argparse, random, struct, sys
from collections import defaultdict
import capstone
from capstone import x86_const as cx
from unicorn import Uc, UcError, UC_ARCH_X86, UC_MODE_64, UC_HOOK_CODE, UC_HOOK_MEM_UNMAPPED, UC_PROT_ALL
from unicorn import x86_const as ux

STACK, STACK_SIZE = 0x7_0000_0000, 0x10_0000
DATA, DATA_SIZE = 0x6_0000_0000, 0x4_0000
RETURN = 0x7FF6_1234_5678
GPR = [getattr(ux, "UC_X86_REG_" + r) for r in
       "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15".split()]
XMM = [getattr(ux, f"UC_X86_REG_XMM{n}") for n in range(16)]
RIP = ux.UC_X86_REG_RIP
VOLATILE = [0, 1, 2, 8, 9, 10, 11]
MAX_RECORDS_PER_OFFSET, MAX_STEPS, MAX_STACK = 3, 3000, 0x4000
HOME = 0x20  # above its return address a function may save registers in the space for its parameters


class Image:
    def __init__(self, path):
        raw = open(path, "rb").read()
        pe = struct.unpack_from("<I", raw, 60)[0]
        count, opt_size = struct.unpack_from("<H", raw, pe + 6)[0], struct.unpack_from("<H", raw, pe + 20)[0]
        opt = pe + 24
        self.base, = struct.unpack_from("<Q", raw, opt + 24)
        size, headers = struct.unpack_from("<II", raw, opt + 56)
        self.bytes = bytearray((size + 0xFFF) & ~0xFFF)
        self.bytes[:headers] = raw[:headers]
        for i in range(count):
            vsize, rva, rsize, at = struct.unpack_from("<IIII", raw, opt + opt_size + 40 * i + 8)
            part = raw[at:at + min(rsize, vsize)]
            self.bytes[rva:rva + len(part)] = part
        self.pdata = struct.unpack_from("<II", raw, opt + 112 + 3 * 8)
        at, size = self.pdata
        self.entries = [struct.unpack_from("<III", self.bytes, at + i) for i in range(0, size - 11, 12)]
        pieces = defaultdict(list)
        for entry in self.entries:
            pieces[self.primary(entry)[0]].append(entry[:2])
        self.functions = dict(pieces)

    def primary(self, entry):
        while True:
            if entry[2] & 1:
                entry = struct.unpack_from("<III", self.bytes, entry[2] & ~1)
                continue
            head, _, count, _ = struct.unpack_from("<BBBB", self.bytes, entry[2])
            if not head >> 3 & 4:
                return entry
            entry = struct.unpack_from("<III", self.bytes, entry[2] + 4 + 2 * (count + count % 2))


class Recorder:
    def __init__(self, image, rng, out):
        self.image, self.rng, self.out = image, rng, out
        self.uc = Uc(UC_ARCH_X86, UC_MODE_64)
        self.uc.mem_map(image.base, len(image.bytes), UC_PROT_ALL)
        self.uc.mem_map(STACK, STACK_SIZE, UC_PROT_ALL)
        self.uc.mem_map(DATA, DATA_SIZE, UC_PROT_ALL)
        self.data = b"".join(struct.pack("<Q", DATA + rng.randrange(0x1000, DATA_SIZE - 0x1000) & ~7)
                             for _ in range(DATA_SIZE // 8))
        self.md = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.md.detail = True
        self.uc.hook_add(UC_HOOK_CODE, self.step)
        self.uc.hook_add(UC_HOOK_MEM_UNMAPPED, lambda *_: False)
        self.points = self.unique = 0
        self.cache = {}

    def decode(self, address, size):
        if address not in self.cache:
            at = address - self.image.base
            found = list(self.md.disasm(bytes(self.image.bytes[at:at + 15]), address, 1))
            self.cache[address] = found[0] if found else None
        return self.cache[address]

    def inside(self, rva):
        return any(begin <= rva < end for begin, end in self.pieces)

    def run(self, begin, runs):
        self.begin, self.pieces, self.seen = begin, self.image.functions[begin], defaultdict(int)
        for _ in range(runs):
            uc, rng = self.uc, self.rng
            uc.mem_write(self.image.base, bytes(self.image.bytes))
            uc.mem_write(DATA, self.data)
            top = STACK + STACK_SIZE - 0x2000
            uc.mem_write(STACK, rng.randbytes(0x100) * (STACK_SIZE // 0x100))
            self.entry = top - 8
            uc.mem_write(self.entry, struct.pack("<Q", RETURN))
            values = [DATA + rng.randrange(0x1000, DATA_SIZE - 0x1000) & ~15 for _ in range(16)]
            values[4] = self.entry
            for register, value in zip(GPR, values):
                uc.reg_write(register, value)
            self.start = values
            self.start_xmm = [rng.getrandbits(128) for _ in range(16)]
            for register, value in zip(XMM, self.start_xmm):
                uc.reg_write(register, value)
            uc.reg_write(ux.UC_X86_REG_EFLAGS, 2)
            self.steps = 0
            self.next = self.image.base + begin
            # The hook moves the instruction pointer for calls and jumps; then the emulator is started anew there.
            while self.next is not None:
                at, self.next = self.next, None
                try:
                    uc.emu_start(at, RETURN)
                except UcError:
                    # Memory that is not there: the instruction is left out, as if it had been stepped over.
                    at = uc.reg_read(RIP)
                    instruction = self.decode(at, 0) if self.inside(at - self.image.base) else None
                    if instruction and not instruction.group(capstone.CS_GRP_RET) and "sp" not in instruction.op_str:
                        self.next = at + instruction.size

    def go(self, address):
        self.next = address
        self.uc.emu_stop()

    def step(self, uc, address, size, _):
        rva = address - self.image.base
        self.steps += 1
        if not self.inside(rva) or self.steps > MAX_STEPS:
            return uc.emu_stop()
        instruction = self.decode(address, size)
        if instruction is None:
            return uc.emu_stop()
        self.points += 1
        if struct.unpack("<Q", uc.mem_read(self.entry, 8))[0] != RETURN:
            return uc.emu_stop()  # a forced path overwrote its own return address
        if self.seen[rva] < MAX_RECORDS_PER_OFFSET:
            self.unique += self.seen[rva] == 0
            self.record(0, rva)
        self.seen[rva] += 1
        group, after = instruction.group, address + instruction.size
        if group(capstone.CS_GRP_CALL):
            if self.seen[rva] <= MAX_RECORDS_PER_OFFSET:
                self.record(1, rva + instruction.size)
            keeps_rax = bytes(self.image.bytes[rva + instruction.size:][:3]) in (b"\x48\x2b\xe0", b"\x48\x29\xc4")
            for n in VOLATILE:
                if not (n == 0 and keeps_rax):
                    uc.reg_write(GPR[n], self.rng.choice([0, 1, DATA + 0x8000]))
            for n in range(6):
                uc.reg_write(XMM[n], self.rng.getrandbits(128))
            return self.go(after)
        if group(capstone.CS_GRP_INT) or instruction.id in (cx.X86_INS_HLT, cx.X86_INS_INT3, cx.X86_INS_UD2):
            return uc.emu_stop()
        # On a forced path an index or a running pointer may be wild; such a store would hit saved registers.
        if any(o.type == cx.X86_OP_MEM and o.access & capstone.CS_AC_WRITE and (o.mem.index or self.is_wild(o.mem))
               for o in instruction.operands):
            return self.go(after)
        if group(capstone.CS_GRP_PRIVILEGE) or instruction.prefix[0] in (0xF2, 0xF3) and "s" == instruction.mnemonic[-2:-1]:
            return self.go(after)
        if instruction.mnemonic.startswith("rep"):
            return self.go(after)
        if group(capstone.CS_GRP_JUMP) and instruction.mnemonic != "jmp":
            ways = [after, instruction.operands[0].imm]
            fresh = [w for w in ways if not self.seen[w - self.image.base]]
            return self.go(self.rng.choice(fresh or ways))

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
        self.out.write(b"".join(v.to_bytes(16, "little") for v in self.start_xmm[6:]))
        self.out.write(struct.pack("<I", length) + self.uc.mem_read(rsp, length))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("out")
    parser.add_argument("--functions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--runs", type=int, default=24)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    image = Image(options.image)
    drawn = rng.sample(sorted(image.functions), min(options.functions, len(image.functions)))
    reached = []
    with open(options.out, "wb") as out:
        out.write(b"SCUW" + struct.pack("<QII", image.base, *image.pdata))
        recorder = Recorder(image, rng, out)
        for begin in drawn:
            recorder.run(begin, options.runs)
            total = sum(1 for piece in recorder.pieces for _ in
                        recorder.md.disasm(bytes(image.bytes[piece[0]:piece[1]]), image.base + piece[0]))
            reached.append(len(recorder.seen) / max(total, 1))
    low = sum(share < 0.6 for share in reached)
    print(f"{len(drawn)} functions, {recorder.unique} offsets, {recorder.points} points; "
          f"{sum(reached) / len(reached):.0%} of instructions on average, {low} functions below 60%")


if __name__ == "__main__":
    sys.exit(main())
