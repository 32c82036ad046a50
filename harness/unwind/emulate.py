"""What both recorders share: an image laid out as a loader would, and a walk over all paths of a function.

Conditional jumps first go where code has not been seen or by chance. The other way of each is kept with registers and
stack, and taken later if nothing else led there; a jump through a register, as a switch compiles to, is tried with
every target of its table. Where an exception handler lets a function go on, it goes on with the state its body had
elsewhere; and so does a block that no path led to, behind a jump or a return: past its prologue a function has one
frame, or it could not be unwound.
"""
import argparse, random, struct
from collections import defaultdict
from unicorn import Uc, UcError, UC_HOOK_CODE, UC_HOOK_MEM_UNMAPPED, UC_PROT_ALL

STACK, STACK_SIZE = 0x7_0000_0000, 0x10_0000
DATA, DATA_SIZE = 0x6_0000_0000, 0x4_0000
RETURN = 0x7FF6_1234_5678
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
        self.functions = self.drawable()

    def continuations(self, begin):
        """Where handlers let a function go on: of pieces whose handler's data is a scope table (`__C_specific_handler`)."""
        pieces, found = self.functions[begin], []
        for at in filter(None, map(self.handler_data, pieces)):
            count = self.word(at)
            for scope in range(at + 4, at + 4 + 16 * min(count, 256), 16):
                first, last, _, target = struct.unpack_from("<4I", self.bytes, scope)
                if not any(low <= first < last <= high for low, high in pieces):
                    break
                if any(low <= target < high for low, high in pieces):
                    found.append(target)
        return found

    def handler_data(self, piece):
        return None

    def is_frameless(self, piece):
        """Whether its unwind data is without a code: so it is where several entries share an end."""
        return False

    def word(self, rva):
        return struct.unpack_from("<I", self.bytes, rva)[0]


class Recorder:
    """A machine's recorder gives step(), enter(), skip(), code() and ends_block()."""

    def __init__(self, image, rng, out, uc, pc):
        self.image, self.rng, self.out, self.uc, self.pc = image, rng, out, uc, pc
        uc.mem_map(image.base, len(image.bytes), UC_PROT_ALL)
        uc.mem_map(STACK, STACK_SIZE, UC_PROT_ALL)
        uc.mem_map(DATA, DATA_SIZE, UC_PROT_ALL)
        self.data = b"".join(struct.pack("<Q", self.pointer()) for _ in range(DATA_SIZE // 8))
        uc.hook_add(UC_HOOK_CODE, self.step)
        uc.hook_add(UC_HOOK_MEM_UNMAPPED, lambda *_: False)
        self.points = self.unique = 0
        self.most = MAX_RECORDS_PER_OFFSET

    def pointer(self):
        return DATA + self.rng.randrange(0x1000, DATA_SIZE - 0x1000) & ~15

    def run(self, begin, runs):
        """All paths of a function; the share of its instructions reached, and its epilogues reached and not."""
        self.begin, self.pieces, self.seen = begin, self.image.functions[begin], defaultdict(int)
        self.left, self.bodies, self.tables = [], {}, set()
        for _ in range(runs):
            self.uc.mem_write(self.image.base, bytes(self.image.bytes))
            self.uc.mem_write(DATA, self.data)
            self.uc.mem_write(STACK, self.rng.randbytes(0x100) * (STACK_SIZE // 0x100))
            self.enter()
            self.emulate(self.image.base + begin)
        self.follow()
        for rva in self.image.continuations(begin):
            if not self.seen[rva] and self.piece(rva) in self.bodies:
                self.left.append((rva, *self.bodies[self.piece(rva)][1]))
                self.follow()
        instructions, ends = self.code()
        tried = set()
        while (rva := self.stray(sorted(instructions), tried)) is not None:
            tried.add(rva)
            if self.piece(rva) in self.bodies:
                self.left.append((rva, *self.bodies[self.piece(rva)][1]))
            else:
                self.enter()
                self.emulate(self.image.base + rva)
            self.follow()
        reached = {rva for rva in instructions if self.seen[rva]}
        return len(reached) / max(len(instructions), 1), len(ends & reached), len(ends - reached)

    def stray(self, instructions, tried):
        """Where a block begins that nothing led to, in a piece whose body is known, or that has no frame at all."""
        for before, rva in zip(instructions, instructions[1:]):
            piece = self.piece(rva)
            fresh = not self.seen[rva] and rva not in tried and piece[0] < rva and self.ends_block(before, rva)
            if fresh and (piece in self.bodies or self.image.is_frameless(piece)):
                return rva
        return None

    def follow(self):
        """The ways that are left."""
        while self.left:
            target, registers, stack, entry = self.left.pop()
            if self.seen[target]:
                continue
            self.uc.context_restore(registers)
            self.entry, self.start, self.start_other, low = entry
            self.uc.mem_write(low, stack)
            self.emulate(self.image.base + target)

    def outside_tables(self):
        """The pieces without the tables of switches that lie in them, and what behind a table no path led to: the bytes of
        another."""
        for begin, end in self.pieces:
            for low, high in sorted(self.tables):
                if begin <= low < end:
                    yield begin, low
                    begin = next((rva for rva in range(high, end) if self.seen[rva]), end)
            yield begin, end

    def piece(self, rva):
        return next((piece for piece in self.pieces if piece[0] <= rva < piece[1]), None)

    def state(self, sp):
        low = max(sp - 0x200, STACK)
        stack = bytes(self.uc.mem_read(low, self.entry + HOME + 8 - low))
        return self.uc.context_save(), stack, (self.entry, self.start, self.start_other, low)

    def keep_body(self, rva, sp):
        """Calls and jumps can belong to a prologue; after it, the stack is deepest."""
        piece = self.piece(rva)
        if STACK <= sp <= self.entry and sp < self.bodies.get(piece, (self.entry + 1,))[0]:
            self.bodies[piece] = sp, self.state(sp)

    def emulate(self, at):
        # The hook moves the instruction pointer for calls and jumps; then the emulator is started anew there.
        self.steps, self.next = 0, at
        while self.next is not None:
            at, self.next = self.next, None
            try:
                self.uc.emu_start(at, RETURN & ~3)
            except UcError:
                # Memory that is not there: the instruction is left out, as if it had been stepped over.
                at = self.uc.reg_read(self.pc)
                self.next = self.skip(at) if self.inside(at - self.image.base) else None

    def inside(self, rva):
        return any(begin <= rva < end for begin, end in self.pieces)

    def go(self, address):
        self.next = address
        self.uc.emu_stop()

    def fork(self, ways, sp):
        """Goes one way, and keeps the others that nothing has reached."""
        if not STACK <= sp <= self.entry:
            return self.uc.emu_stop()  # a forced path lost the stack
        self.keep_body(self.uc.reg_read(self.pc) - self.image.base, sp)
        fresh = [way for way in ways if not self.seen[way - self.image.base]]
        way = self.rng.choice(fresh or ways)
        for other in fresh:
            rva = other - self.image.base
            if other != way and self.inside(rva):
                self.left.append((rva, *self.state(sp)))
        return self.go(way)

    def count(self, rva):
        """Counts a visit; true while records of this offset are wanted."""
        self.points += 1
        wanted = self.seen[rva] < self.most
        self.unique += self.seen[rva] == 0
        self.seen[rva] += 1
        return wanted


def main(image_class, recorder_class, magic, text):
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("out")
    parser.add_argument("--functions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--every", action="store_true", help="write down every visit, not three of each offset")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    image = image_class(options.image)
    drawn = rng.sample(sorted(image.functions), min(options.functions, len(image.functions)))
    with open(options.out, "wb") as out:
        out.write(magic + struct.pack("<QII", image.base, *image.pdata))
        recorder = recorder_class(image, rng, out)
        if options.every:
            recorder.most = float("inf")
        results = {begin: recorder.run(begin, options.runs) for begin in drawn}
    shares, hit, missed = zip(*results.values())
    print(f"{len(drawn)} functions, {recorder.unique} (function, offset) points of {recorder.points} points in all; "
          f"{sum(shares) / len(shares):.1%} of instructions on average, the least {min(shares):.0%}; "
          f"{sum(hit)} of {sum(hit) + sum(missed)} epilogues hit")
    for begin, (share, _, missed) in results.items():
        if share < 0.6 or missed:
            print(f"  {begin:#x}: {share:.0%}, {missed} epilogues not hit")
