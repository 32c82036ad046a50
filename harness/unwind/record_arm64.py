#!/usr/bin/env python3
"""As record.py, for ARM64 images; the record's form is in README.md.

usage: record_arm64.py IMAGE OUT [--functions N] [--seed S] [--runs R]
"""
import argparse, random, struct, sys
from collections import defaultdict
from unicorn import Uc, UcError, UC_ARCH_ARM64, UC_MODE_ARM, UC_HOOK_CODE, UC_HOOK_MEM_UNMAPPED, UC_PROT_ALL
from unicorn import arm64_const as ac
from record import DATA, DATA_SIZE, MAX_RECORDS_PER_OFFSET, MAX_STACK, MAX_STEPS, RETURN, STACK, STACK_SIZE, HOME

X = [getattr(ac, f"UC_ARM64_REG_X{n}") for n in range(29)] + [ac.UC_ARM64_REG_X29, ac.UC_ARM64_REG_X30]
D = [getattr(ac, f"UC_ARM64_REG_D{n}") for n in range(8, 16)]
SP, PC = ac.UC_ARM64_REG_SP, ac.UC_ARM64_REG_PC


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
        self.functions = {}
        for i in range(0, size - 7, 8):
            begin, data = struct.unpack_from("<II", self.bytes, at + i)
            if data & 3 == 2:
                continue
            length = data >> 2 & 0x7FF if data & 3 else struct.unpack_from("<I", self.bytes, data)[0] & 0x3FFFF
            # A piece of a function, whose prologue ran elsewhere, has an end_c.
            if data & 3 == 0 and self.is_piece(data):
                continue
            # The helpers that move their caller's sp have no frame that a shadow stack could tell.
            if not self.moves_sp(begin):
                self.functions[begin] = 4 * length

    def is_piece(self, at):
        head, second = struct.unpack_from("<II", self.bytes, at)
        epilogs, words, at = head >> 22 & 31, head >> 27, at + 4
        if not epilogs and not words:
            epilogs, at = second & 0xFFFF, at + 4
        at += 0 if head >> 21 & 1 else 4 * epilogs
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
            if word == 0xD65F03C0:
                return moved
            if word == 0xD10043FF:
                moved -= 16
            elif word == 0x910043FF:
                moved += 16
            elif word & 0x7C000000 == 0x14000000 or word & 0xFFC003E0 == 0xA98003E0:  # b, bl; stp [sp, ..]!
                return 0
        return 0


class Recorder:
    def __init__(self, image, rng, out):
        self.image, self.rng, self.out = image, rng, out
        self.uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        self.uc.reg_write(ac.UC_ARM64_REG_CPACR_EL1, 3 << 20)
        self.uc.mem_map(image.base, len(image.bytes), UC_PROT_ALL)
        self.uc.mem_map(STACK, STACK_SIZE, UC_PROT_ALL)
        self.uc.mem_map(DATA, DATA_SIZE, UC_PROT_ALL)
        self.data = b"".join(struct.pack("<Q", DATA + rng.randrange(0x1000, DATA_SIZE - 0x1000) & ~15)
                             for _ in range(DATA_SIZE // 8))
        self.uc.hook_add(UC_HOOK_CODE, self.step)
        self.uc.hook_add(UC_HOOK_MEM_UNMAPPED, lambda *_: False)
        self.points = self.unique = 0

    def inside(self, rva):
        return self.begin <= rva < self.begin + self.length

    def run(self, begin, runs):
        self.begin, self.length, self.seen = begin, self.image.functions[begin], defaultdict(int)
        for _ in range(runs):
            uc, rng = self.uc, self.rng
            uc.mem_write(self.image.base, bytes(self.image.bytes))
            uc.mem_write(DATA, self.data)
            uc.mem_write(STACK, rng.randbytes(0x100) * (STACK_SIZE // 0x100))
            self.entry = STACK + STACK_SIZE - 0x2000
            self.start = [DATA + rng.randrange(0x1000, DATA_SIZE - 0x1000) & ~15 for _ in range(30)] + [RETURN]
            for register, value in zip(X, self.start):
                uc.reg_write(register, value)
            self.start_d = [rng.getrandbits(64) for _ in range(8)]
            for register, value in zip(D, self.start_d):
                uc.reg_write(register, value)
            uc.reg_write(SP, self.entry)
            self.steps, self.next = 0, self.image.base + begin
            while self.next is not None:
                at, self.next = self.next, None
                try:
                    uc.emu_start(at, RETURN & ~3)
                except UcError:
                    at = uc.reg_read(PC)
                    word = self.word(at - self.image.base) if self.inside(at - self.image.base) else None
                    # Memory that is not there, unless the stack pointer is at stake.
                    if word is not None and word >> 5 & 31 != 31 and word != 0xD65F03C0:
                        self.next = at + 4

    def word(self, rva):
        return struct.unpack_from("<I", self.image.bytes, rva)[0]

    def go(self, address):
        self.next = address
        self.uc.emu_stop()

    def step(self, uc, address, size, _):
        rva = address - self.image.base
        self.steps += 1
        if not self.inside(rva) or self.steps > MAX_STEPS:
            return uc.emu_stop()
        word = self.word(rva)
        self.points += 1
        if self.seen[rva] < MAX_RECORDS_PER_OFFSET:
            self.unique += self.seen[rva] == 0
            self.record(0, rva)
        self.seen[rva] += 1
        base = word >> 5 & 31
        if word >> 26 == 0x25 or word & 0xFEFFF000 == 0xD63F0000:  # bl, blr
            if word >> 26 == 0x25:
                target = rva + 4 * ((word & 0x3FFFFFF ^ 0x2000000) - 0x2000000)
                uc.reg_write(SP, uc.reg_read(SP) + self.image.moves_sp(target))
            if self.seen[rva] <= MAX_RECORDS_PER_OFFSET:
                self.record(1, rva + 4)
            # __chkstk takes and keeps x15.
            for n in [*range(15), 16, 17]:
                uc.reg_write(X[n], self.rng.choice([0, 1, DATA + 0x8000]))
            uc.reg_write(X[30], address + 4)
            return self.go(address + 4)
        if word & 0xFFE00000 in (0xD4200000, 0xD4000000, 0xD4400000) or word >> 24 == 0xD4:  # brk, svc, hlt
            return uc.emu_stop()
        if word >> 22 == 0x354 and word >> 20 & 3 != 0 and word != 0xD503237F and word & 0xFFFFF01F != 0xD503201F:
            return self.go(address + 4)  # system registers and barriers
        jump = None
        if word & 0xFF000010 == 0x54000000 or word & 0x7E000000 == 0x34000000:  # b.cond, cbz, cbnz
            jump = (word >> 5 & 0x7FFFF ^ 0x40000) - 0x40000
        elif word & 0x7E000000 == 0x36000000:  # tbz, tbnz
            jump = (word >> 5 & 0x3FFF ^ 0x2000) - 0x2000
        if jump is not None:
            ways = [address + 4, address + 4 * jump]
            fresh = [w for w in ways if not self.seen[w - self.image.base]]
            return self.go(self.rng.choice(fresh or ways))
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
        self.out.write(struct.pack("<2Q11Q8Q", RETURN, self.entry, *self.start[19:30], *self.start_d))
        self.out.write(struct.pack("<I", length) + self.uc.mem_read(sp, length))


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
        out.write(b"SCUA" + struct.pack("<QII", image.base, *image.pdata))
        recorder = Recorder(image, rng, out)
        for begin in drawn:
            recorder.run(begin, options.runs)
            reached.append(len(recorder.seen) / max(recorder.length // 4, 1))
    low = sum(share < 0.6 for share in reached)
    print(f"{len(drawn)} functions, {recorder.unique} offsets, {recorder.points} points; "
          f"{sum(reached) / len(reached):.0%} of instructions on average, {low} functions below 60%")


if __name__ == "__main__":
    sys.exit(main())
