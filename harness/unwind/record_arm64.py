#!/usr/bin/env python3
"""As record.py, for ARM64 images; the record's form is in README.md.

usage: record_arm64.py IMAGE OUT [--functions N] [--seed S] [--runs R] [--every]
"""
import struct, sys
from unicorn import Uc, UC_ARCH_ARM64, UC_MODE_ARM
from unicorn import arm64_const as ac
import emulate
from emulate import DATA, HOME, MAX_STACK, MAX_STEPS, RETURN, STACK, STACK_SIZE

X = [getattr(ac, f"UC_ARM64_REG_X{n}") for n in range(29)] + [ac.UC_ARM64_REG_X29, ac.UC_ARM64_REG_X30]
D = [getattr(ac, f"UC_ARM64_REG_D{n}") for n in range(8, 16)]
RET = 0xD65F03C0
SP, PC = ac.UC_ARM64_REG_SP, ac.UC_ARM64_REG_PC


def conditional(word):
    """How many instructions a conditional jump goes; none if it is something else."""
    if word & 0xFF000010 == 0x54000000 or word & 0x7E000000 == 0x34000000:  # b.cond, cbz, cbnz
        return (word >> 5 & 0x7FFFF ^ 0x40000) - 0x40000
    if word & 0x7E000000 == 0x36000000:  # tbz, tbnz
        return (word >> 5 & 0x3FFF ^ 0x2000) - 0x2000
    return None


class Image(emulate.Image):
    def drawable(self):
        at, size = self.pdata
        functions, self.records = {}, {}
        for i in range(0, size - 7, 8):
            begin, data = struct.unpack_from("<II", self.bytes, at + i)
            if data & 3 == 2:
                continue
            length = data >> 2 & 0x7FF if data & 3 else struct.unpack_from("<I", self.bytes, data)[0] & 0x3FFFF
            # A piece of a function, whose prologue ran elsewhere, has an end_c.
            if data & 3 == 0 and self.is_piece(data):
                continue
            self.records[begin] = data
            # The helpers that move their caller's sp have no frame that a shadow stack could tell.
            if not self.moves_sp(begin):
                functions[begin] = [(begin, begin + 4 * length)]
        return functions

    def codes(self, at):
        """Where a full record's codes begin and end."""
        head, second = struct.unpack_from("<II", self.bytes, at)
        epilogs, words, at = head >> 22 & 31, head >> 27, at + 4
        if not epilogs and not words:
            epilogs, words, at = second & 0xFFFF, second >> 16 & 0xFF, at + 4
        at += 0 if head >> 21 & 1 else 4 * epilogs
        return at, at + 4 * words

    def handler_data(self, piece):
        data = self.records[piece[0]]
        if data & 3 or not self.word(data) >> 20 & 1:
            return None
        return self.codes(data)[1] + 4

    def is_piece(self, at):
        at, _ = self.codes(at)
        while self.bytes[at] not in (0xE4, 0xE5):
            code = self.bytes[at]
            at += 1 if code < 0xC0 else 2 if code < 0xE0 else {0xE0: 4, 0xE2: 2, 0xE7: 3}.get(code, 1)
        return self.bytes[at] == 0xE5

    def moves_sp(self, rva):
        """How far a helper leaves the caller's sp moved: __security_push_cookie and __security_pop_cookie do."""
        if not 0 <= rva < len(self.bytes) - 64:
            return 0
        moved = 0
        for word in struct.unpack_from("<16I", self.bytes, rva):
            if word == RET:
                return moved
            if word == 0xD10043FF:
                moved -= 16
            elif word == 0x910043FF:
                moved += 16
            elif word & 0x7C000000 == 0x14000000 or word & 0xFFC003E0 == 0xA98003E0:  # b, bl; stp [sp, ..]!
                return 0
        return 0


class Recorder(emulate.Recorder):
    def __init__(self, image, rng, out):
        uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        uc.reg_write(ac.UC_ARM64_REG_CPACR_EL1, 3 << 20)
        super().__init__(image, rng, out, uc, PC)

    def code(self):
        """The function's instructions, and those of them that leave it: returns and tail jumps."""
        instructions = {rva for begin, end in self.outside_tables() for rva in range(begin, end, 4)}
        return instructions, {rva for rva in instructions if self.image.word(rva) == RET or self.is_tail_jump(rva)}

    def ends_block(self, rva, _):
        word = self.image.word(rva)  # ret, b, br, brk
        return word == RET or word >> 26 == 5 or word & 0xFFFFFC1F == 0xD61F0000 or word >> 21 == 0x6A1

    def is_tail_jump(self, rva):
        word = self.image.word(rva)
        if word >> 26 == 5:  # b
            return not self.inside(rva + 4 * ((word & 0x3FFFFFF ^ 0x2000000) - 0x2000000))
        return word & 0xFFFFFC1F == 0xD61F0000 and not self.cases(rva)  # br

    def enter(self):
        uc = self.uc
        self.entry = STACK + STACK_SIZE - 0x2000
        self.start = [self.pointer() for _ in range(30)] + [RETURN]
        for register, value in zip(X, self.start):
            uc.reg_write(register, value)
        self.start_other = [self.rng.getrandbits(64) for _ in range(8)]
        for register, value in zip(D, self.start_other):
            uc.reg_write(register, value)
        uc.reg_write(SP, self.entry)

    def skip(self, at):
        word = self.image.word(at - self.image.base)
        # Unless the stack pointer is at stake.
        return at + 4 if word >> 5 & 31 != 31 and word != RET else None

    def cases(self, jump):
        """Where a switch can go: `adr` of a table, a load from it, `adr` of what its entries count from, `add` or
        `sub`, `br`."""
        addresses, entry = {}, None
        for rva in range(jump - 24, jump, 4):
            word = self.image.word(rva)
            if word & 0x9F000000 == 0x10000000:
                addresses[word & 31] = rva + ((word >> 5 & 0x7FFFF ^ 0x40000) - 0x40000 << 2 | word >> 29 & 3)
            elif word & 0x3B200C00 == 0x38200800 and word >> 5 & 31 in addresses:
                entry = addresses[word >> 5 & 31], 1 << (word >> 30), word >> 22 & 3 >= 2
            elif word & 0xBF200000 == 0x8B000000 and word >> 5 & 31 in addresses and entry:
                (at, size, signed), base, found = entry, addresses[word >> 5 & 31], set()
                # The table ends where the code of a case begins, or with an entry that leads elsewhere.
                while at not in found:
                    value = int.from_bytes(self.image.bytes[at:at + size], "little", signed=signed)
                    distance = value << (word >> 10 & 63)
                    target = base - distance if word >> 30 & 1 else base + distance
                    if not self.inside(target) or target & 3:
                        break
                    found.add(target)
                    at += size
                self.tables.add((entry[0], at + 3 & ~3))
                return [self.image.base + target for target in sorted(found) if not entry[0] <= target < at]
        return []

    def step(self, uc, address, size, _):
        rva = address - self.image.base
        self.steps += 1
        if not self.inside(rva) or self.steps > MAX_STEPS:
            return uc.emu_stop()
        word = self.image.word(rva)
        if self.count(rva):
            self.record(0, rva)
        base = word >> 5 & 31
        if word >> 26 == 0x25 or word & 0xFEFFF000 == 0xD63F0000:  # bl, blr
            if word >> 26 == 0x25:
                target = rva + 4 * ((word & 0x3FFFFFF ^ 0x2000000) - 0x2000000)
                uc.reg_write(SP, uc.reg_read(SP) + self.image.moves_sp(target))
            if self.seen[rva] <= self.most:
                self.record(1, rva + 4)
            self.keep_body(rva, uc.reg_read(SP))
            # __chkstk takes and keeps x15.
            for n in [*range(15), 16, 17]:
                uc.reg_write(X[n], self.rng.choice([0, 1, DATA + 0x8000]))
            uc.reg_write(X[30], address + 4)
            return self.go(address + 4)
        stops = word & 0xFFE00000 in (0xD4200000, 0xD4000000, 0xD4400000) or word >> 24 == 0xD4  # brk, svc, hlt
        if stops or word >> 26 == 5 and not self.is_tail_jump(rva):
            self.keep_body(rva, uc.reg_read(SP))
        if stops:
            return uc.emu_stop()
        if word >> 22 == 0x354 and word >> 20 & 3 != 0 and word != 0xD503237F and word & 0xFFFFF01F != 0xD503201F:
            return self.go(address + 4)  # system registers and barriers
        if word & 0xFFFFFC1F == 0xD61F0000:  # br
            cases = self.cases(rva)
            return self.fork(cases, uc.reg_read(SP)) if cases else uc.emu_stop()
        jump = conditional(word)
        if jump is not None:
            return self.fork([address + 4, address + 4 * jump], uc.reg_read(SP))
        # Loads and stores: a store through a volatile pointer into the stack could hit saved registers.
        is_store = word >> 27 & 1 and not word >> 25 & 1 and not word >> 22 & 1
        if is_store and base < 19 and STACK <= uc.reg_read(X[base]) < STACK + STACK_SIZE:
            return self.go(address + 4)
        if is_store and word & 0x3B200C00 == 0x38200800:  # with an index
            return self.go(address + 4)

    def record(self, kind, rva):
        sp = self.uc.reg_read(SP)
        length = self.entry + HOME - sp
        if not HOME <= length <= MAX_STACK:
            return
        self.out.write(struct.pack("<III", kind, rva, self.begin))
        self.out.write(struct.pack("<32Q", *(self.uc.reg_read(r) for r in X), sp))
        self.out.write(struct.pack("<8Q", *(self.uc.reg_read(r) for r in D)))
        self.out.write(struct.pack("<2Q11Q8Q", RETURN, self.entry, *self.start[19:30], *self.start_other))
        self.out.write(struct.pack("<I", length) + self.uc.mem_read(sp, length))


if __name__ == "__main__":
    sys.exit(emulate.main(Image, Recorder, b"SCUA", __doc__))
