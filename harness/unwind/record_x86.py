#!/usr/bin/env python3
"""As record.py, for 32-bit images; the record's form is in README.md.

usage: record_x86.py IMAGE OUT [--functions N] [--seed S] [--runs R] [--every]

The image has no unwind data: functions are those that the frame data of its PDB, which lies beside it, tells of. What a
call takes off the stack is told by the callee's return, by the import's name in the PDB, or by what was pushed for it.
The latter can be misjudged: a function where paths meet at different depths, or that returns at another than its first,
is left out and named.
"""
import io, pathlib, re, struct, sys
import capstone
from capstone import x86_const as cx
from unicorn import Uc, UC_ARCH_X86, UC_MODE_32
from unicorn import x86_const as ux
import emulate

emulate.STACK, emulate.DATA, emulate.RETURN = 0x7000_0000, 0x6000_0000, 0x5000_0005
from emulate import DATA, MAX_STACK, MAX_STEPS, RETURN, STACK, STACK_SIZE

GPR = [getattr(ux, "UC_X86_REG_" + r) for r in "EAX ECX EDX EBX ESP EBP ESI EDI".split()]
ESP, EBP, HELPER = 4, 5, 0x80
# Above the return address: parameters, then the frame record of the caller's caller.
PARAMETERS = emulate.HOME = 0x60


class Pdb:
    def __init__(self, path):
        self.raw = open(path, "rb").read()
        self.block, _, _, size, _, at = struct.unpack_from("<6I", self.raw, 32)
        count = -(-size // self.block)
        directory = self.gather(struct.unpack_from(f"<{count}I", self.raw, at * self.block), size)
        count, = struct.unpack_from("<I", directory)
        sizes, at = struct.unpack_from(f"<{count}I", directory, 4), 4 + 4 * count
        self.streams = []
        for size in (0 if size == 0xFFFFFFFF else size for size in sizes):
            count = -(-size // self.block)
            self.streams.append(self.gather(struct.unpack_from(f"<{count}I", directory, at), size))
            at += 4 * count
        debug = self.streams[3]
        self.records = self.streams[struct.unpack_from("<H", debug, 0x14)[0]]
        parts = [struct.unpack_from("<I", debug, o)[0] for o in (0x18, 0x1C, 0x20, 0x24, 0x28, 0x34)]
        at = 0x40 + sum(parts)
        self.sections = self.streams[struct.unpack_from("<H", debug, at + 10)[0]]
        self.frame_data = self.streams[struct.unpack_from("<H", debug, at + 18)[0]]

    def gather(self, blocks, size):
        return b"".join(self.raw[b * self.block:(b + 1) * self.block] for b in blocks)[:size]

    def functions(self):
        records = [struct.unpack_from("<6IHHI", self.frame_data, at) for at in range(0, len(self.frame_data), 32)]
        self.saved = {r[0] + r[6] for r in records}  # here all is pushed that is no parameter
        return {r[0]: [(r[0], r[0] + r[1])] for r in records if r[8] & 4}

    def publics(self):
        at = 0
        while at < len(self.records) - 4:
            length, kind = struct.unpack_from("<HH", self.records, at)
            _, offset, section = struct.unpack_from("<IIH", self.records, at + 4)
            if kind == 0x110E and 0 < section <= len(self.sections) // 40:
                rva, = struct.unpack_from("<I", self.sections, 40 * (section - 1) + 12)
                yield self.records[at + 14:at + 2 + length].split(b"\0")[0].decode(), rva + offset
            at += 2 + length


class Image(emulate.Image):
    def __init__(self, path):
        self.pdb = Pdb(pathlib.Path(path).with_suffix(".pdb"))
        super().__init__(path)
        raw = open(path, "rb").read()
        self.base, = struct.unpack_from("<I", raw, struct.unpack_from("<I", raw, 60)[0] + 24 + 28)
        self.pdata, self.takes, self.helpers = (0, 0), {}, []
        for name, rva in self.pdb.publics():
            # Of functions and imports: __stdcall has its size in the name, and C is undecorated but for the underline.
            if taken := re.fullmatch(r"_[^?]*@(\d+)", name):
                self.takes[rva] = int(taken[1])
            elif name.startswith("__imp_"):
                self.takes[rva] = 0
            elif re.match(r"_+(S?EH_(prolog|epilog)|chkstk|alloca_probe)", name):
                self.helpers.append((rva, rva + HELPER))

    def drawable(self):
        return self.pdb.functions()


class Recorder(emulate.Recorder):
    def __init__(self, image, rng, out):
        self.md = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)
        self.md.detail = True
        self.cache = {}
        super().__init__(image, rng, out, Uc(UC_ARCH_X86, UC_MODE_32), ux.UC_X86_REG_EIP)
        self.uc.mem_map(0, 0x1000)  # where FS begins: the list of handlers
        self.data = b"".join(struct.pack("<I", self.pointer()) for _ in range(emulate.DATA_SIZE // 4))

    # Kept with each way that is taken later.
    pushed = property(lambda self: self.start_other, lambda self, bytes: setattr(self, "start_other", bytes))

    def run(self, begin, runs):
        """What is recorded counts only if the stack's depth is consistent."""
        out, self.out, self.depths, self.torn = self.out, io.BytesIO(), {}, False
        found = super().run(begin, runs)
        if self.torn:
            print(f"  {begin:#x}: left out, what its calls take cannot be told")
        else:
            out.write(self.out.getvalue())
        self.out = out
        return found

    def decode(self, address):
        if address not in self.cache:
            at = address - self.image.base
            found = list(self.md.disasm(bytes(self.image.bytes[at:at + 15]), address, 1))
            self.cache[address] = found[0] if found else None
        return self.cache[address]

    def code(self):
        instructions, ends = set(), set()
        for begin, end in self.pieces:
            for found in self.md.disasm(bytes(self.image.bytes[begin:end]), self.image.base + begin):
                rva = found.address - self.image.base
                if found.id not in (cx.X86_INS_INT3, cx.X86_INS_NOP):
                    instructions.add(rva)
                if found.group(capstone.CS_GRP_RET):
                    ends.add(rva)
        return instructions, ends

    def enter(self):
        uc = self.uc
        self.entry = STACK + STACK_SIZE - 0x2000
        values = [self.pointer() for _ in range(8)]
        values[ESP], values[EBP] = self.entry, self.entry + PARAMETERS
        parameters = [self.pointer() for _ in range((PARAMETERS - 4) // 4)]
        uc.mem_write(self.entry, struct.pack(f"<{3 + len(parameters)}I", RETURN, *parameters, 0, RETURN))
        for register, value in zip(GPR, values):
            uc.reg_write(register, value)
        self.start, self.pushed = values, 0
        uc.reg_write(ux.UC_X86_REG_EFLAGS, 2)

    def skip(self, at):
        found = self.decode(at)
        keeps = found and not found.group(capstone.CS_GRP_RET) and "sp" not in found.op_str
        return at + found.size if keeps and found.mnemonic not in ("push", "pop", "leave") else None

    def taken(self, instruction, esp):
        """How many bytes a call takes off the stack; none if that cannot be told."""
        operand = instruction.operands[0]
        if operand.type == cx.X86_OP_IMM:
            if (known := self.image.takes.get(operand.imm - self.image.base)) is not None:
                return known
            for found in self.md.disasm(bytes(self.image.bytes[operand.imm - self.image.base:][:0x1000]), operand.imm):
                if found.group(capstone.CS_GRP_RET):
                    return found.operands[0].imm if found.operands else 0
                if found.mnemonic == "jmp" and found.operands[0].type == cx.X86_OP_MEM:
                    return self.image.takes.get(found.operands[0].mem.disp - self.image.base)
            return None
        if operand.type == cx.X86_OP_MEM and not operand.mem.base and not operand.mem.index:
            known = self.image.takes.get(operand.mem.disp - self.image.base)
            if known is not None:
                return known
        after = self.decode(instruction.address + instruction.size)
        if after and after.mnemonic == "add" and after.op_str.startswith("esp"):
            return 0
        return self.pushed

    def step(self, uc, address, size, _):
        rva = address - self.image.base
        self.steps += 1
        if not self.inside(rva) or self.steps > MAX_STEPS:
            return uc.emu_stop()
        if self.is_helper(rva) and not super().inside(rva):
            return
        instruction = self.decode(address)
        if instruction is None or struct.unpack("<I", uc.mem_read(self.entry, 4))[0] != RETURN:
            return uc.emu_stop()
        group, after, esp = instruction.group, address + instruction.size, uc.reg_read(GPR[ESP])
        if self.depths.setdefault(rva, esp) != esp or group(capstone.CS_GRP_RET) and esp != self.entry:
            self.torn = True
        if rva in self.image.pdb.saved:
            self.pushed = 0
        if self.count(rva):
            self.record(0, rva)
        if group(capstone.CS_GRP_CALL):
            target = instruction.operands[0]
            if target.type == cx.X86_OP_IMM and self.is_helper(target.imm - self.image.base):
                return
            if self.seen[rva] <= self.most:
                self.record(1, rva + instruction.size)
            taken = self.taken(instruction, esp)
            if taken is None:
                return uc.emu_stop()
            self.pushed = 0
            for n in range(3):
                uc.reg_write(GPR[n], self.rng.choice([0, 1, DATA + 0x8000]))
            uc.reg_write(GPR[ESP], esp + taken)
            return self.go(after)
        if instruction.mnemonic == "push":
            self.pushed += 4
        elif instruction.mnemonic == "pop":
            self.pushed = max(self.pushed - 4, 0)
        if group(capstone.CS_GRP_INT) or instruction.id in (cx.X86_INS_HLT, cx.X86_INS_INT3, cx.X86_INS_UD2):
            return uc.emu_stop()
        if any(o.type == cx.X86_OP_MEM and o.access & capstone.CS_AC_WRITE and (o.mem.index or self.is_wild(o.mem))
               for o in instruction.operands):
            return self.go(after)
        if group(capstone.CS_GRP_PRIVILEGE) or instruction.mnemonic.startswith("rep") or "fs:" in instruction.op_str:
            return self.go(after)
        if group(capstone.CS_GRP_JUMP) and instruction.mnemonic != "jmp":
            return self.fork([after, instruction.operands[0].imm], esp)

    def is_helper(self, rva):
        """Helpers that make and undo frames for handlers, and __chkstk, run as they are: they move their caller's esp."""
        return any(begin <= rva < end for begin, end in self.image.helpers)

    def inside(self, rva):
        return super().inside(rva) or self.is_helper(rva)

    def is_wild(self, operand):
        base = {cx.X86_REG_EAX: 0, cx.X86_REG_ECX: 1, cx.X86_REG_EDX: 2}
        if operand.base not in base:
            return False
        return STACK <= self.uc.reg_read(GPR[base[operand.base]]) + operand.disp < STACK + STACK_SIZE

    def record(self, kind, rva):
        values = [self.uc.reg_read(r) for r in GPR]
        length = self.entry + PARAMETERS + 8 - values[ESP]
        if not PARAMETERS + 8 <= length <= MAX_STACK:
            return
        self.out.write(struct.pack("<III", kind, rva, self.begin))
        self.out.write(struct.pack("<8I", *values))
        self.out.write(struct.pack("<II", RETURN, self.entry + 4))
        self.out.write(struct.pack("<I", length) + self.uc.mem_read(values[ESP], length))


if __name__ == "__main__":
    sys.exit(emulate.main(Image, Recorder, b"SCU3", __doc__))
