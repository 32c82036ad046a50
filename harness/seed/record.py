#!/usr/bin/env python3
"""Builds the fixtures of the seed crash, runs them in an emulator, and keeps what they left on their stacks.

    pip install unicorn capstone pefile
    python3 record.py ../../samples/fixtures/seed ../../samples/symbols

The first folder gets the images of the drivers, the stacks and `calls.json`, the second one the kernel's image and PDB
in the layout of a symbol store. Needs GNU binutils for x86_64-w64-mingw32, 2.40 or later. See README.md for what is modelled and what is not.
"""
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import capstone
import pefile
import unicorn
from unicorn import x86_const as x86

HERE = Path(__file__).parent
TOOL = "x86_64-w64-mingw32-"
PDB = "ntkrnlmp.pdb"

# Name, base, SizeOfImage, TimeDateStamp, place of the first function (for drivers that the post does not show).
IMAGES = [
    ("ntoskrnl.exe", 0xFFFFF80003216000, 0x5E6000, 0x521EA035, None),
    ("fltmgr.sys", 0xFFFFF88001100000, 0x4C000, 0x4CE7929C, 0x2F0),
    ("Ntfs.sys", 0xFFFFF8800122A000, 0x1A3000, 0x5167F5FC, 0x8B0),
    ("volsnap.sys", 0xFFFFF8800105C000, 0x4C000, 0x4CE792C8, 0x150),
    ("volmgr.sys", 0xFFFFF88000FE5000, 0x15000, 0x4CE792A0, 0x1A0),
    ("partmgr.sys", 0xFFFFF88000FD0000, 0x15000, 0x4F641BC1, 0x070),
    ("CLASSPNP.SYS", 0xFFFFF880010A8000, 0x30000, 0x4CE7929B, 0x460),
    ("iaStor.sys", 0xFFFFF8800181F000, 0x3A4000, 0x4F298F4C, None),
    ("intelppm.sys", 0xFFFFF88004200000, 0x16000, 0x4A5BC0FD, 0x9A0),
]

# Processor 4: what the description of the machine says of it.
PCR = 0xFFFFF880009B0000
TSS = 0xFFFFF880009BA440
IDT = 0xFFFFF880009BA540
IST1 = 0xFFFFF880009BA0C0
STACK = (0xFFFFF88003DCD000, 0xFFFFF88003DD3000)
INITIAL_STACK = 0xFFFFF88003DD2DB0
CR0, CR4 = 0x80050033, 0x406F8
POOL = 0xFFFFFA8009C40000
USER = {"rip": 0x77A8137A, "rsp": 0x2B6F4C8, "rflags": 0x246, "rbp": 0x2B6F5A0, "rbx": 0x2B6F5F0}
# The thread of processor n idles on this stack.
IDLE = {
    0: 0xFFFFF80000B9D000,
    1: 0xFFFFF88000A14000,
    2: 0xFFFFF88002F8D000,
    3: 0xFFFFF88002FFF000,
    5: 0xFFFFF88003171000,
    6: 0xFFFFF880031E3000,
    7: 0xFFFFF88009BFA000,
}

PAGING_READ = ["FltpDispatch", "NtfsFsdRead", "NtfsCommonRead", "NtfsNonCachedIo"]
# What r15 leads through: a cached read, whose page has to be read; twice, to find out where, a page of the file
# system's own has to be read first; then down to the disk.
PLAN = (
    ["FltpDispatch", "NtfsFsdRead", "NtfsCommonRead", "NtfsCachedRead"]
    + (PAGING_READ + ["NtfsLookupAllocation"]) * 2
    + PAGING_READ
    + ["NtfsMultipleAsync", "VolSnapRead", "VmReadWrite", "PmReadWrite", "ClassReadWrite", "Dispatch"]
)

GENERAL = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] + [f"r{n}" for n in range(8, 16)]
REGISTERS = {name: getattr(x86, f"UC_X86_REG_{name.upper()}") for name in [*GENERAL, "rip", "rflags"]}


def run(folder, *command):
    command = [str(part) for part in command]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def build(folder, out, store):
    """Assembles and links every image; gives their paths and the addresses of all functions."""
    symbols, paths = {}, {}
    for name, base, size, stamp, code_at in IMAGES:
        stem = name.split(".")[0]
        thing, path = f"{stem}.o", folder / name
        run(folder, f"{TOOL}as", "-I", HERE, HERE / f"{stem}.s", "-o", thing)
        script = HERE / f"{stem}.ld" if code_at is None else HERE / "driver.ld"
        options = [f"--defsym={each}={at:#x}" for each, at in symbols.items() if each.isidentifier()]
        if code_at is not None:
            options += [f"--defsym=code_at={code_at:#x}", f"--defsym=end_at={size - 0x1000:#x}"]
        if stem == "ntoskrnl":
            options = [f"--pdb={PDB}"]
        run(
            folder,
            f"{TOOL}ld", "-T", script, f"--image-base={base:#x}", "--subsystem=native", "--disable-dynamicbase",
            "--no-insert-timestamp", "--section-alignment=0x1000", "--file-alignment=0x200", *options,
            thing, "-o", name,
        )
        own = {}
        for line in run(folder, f"{TOOL}nm", name).splitlines():
            at, kind, each = line.split(maxsplit=2)
            if kind in "TD" and base <= int(at, 16) < base + size:
                own[each] = int(at, 16)
        symbols |= {each: at for each, at in own.items() if each not in ("first",)}
        finish(path, size, stamp)
        paths[name] = store / name / f"{stamp:08X}{size:x}" / name if stem == "ntoskrnl" else out / name
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_bytes(path.read_bytes())
    return paths, symbols


def finish(path, size, stamp):
    """The time stamp of the description, and no symbol table: a driver of that time has none."""
    image = pefile.PE(str(path))
    assert image.OPTIONAL_HEADER.SizeOfImage == size, f"{path.name}: {image.OPTIONAL_HEADER.SizeOfImage:#x}"
    end = max(s.PointerToRawData + s.SizeOfRawData for s in image.sections)
    image.FILE_HEADER.TimeDateStamp = stamp
    image.FILE_HEADER.PointerToSymbolTable = 0
    image.FILE_HEADER.NumberOfSymbols = 0
    optional = image.OPTIONAL_HEADER
    optional.MajorOperatingSystemVersion = optional.MajorImageVersion = optional.MajorSubsystemVersion = 6
    optional.MinorOperatingSystemVersion = optional.MinorImageVersion = optional.MinorSubsystemVersion = 1
    optional.CheckSum = 0
    data = bytes(image.write())[:end]
    image = pefile.PE(data=data)
    image.OPTIONAL_HEADER.CheckSum = image.generate_checksum()
    path.write_bytes(bytes(image.write()))


# Without page tables the emulator takes the low 52 bits of an address for where it lies.
PHYSICAL = (1 << 52) - 1


def canonical(address):
    return address | ~PHYSICAL & (1 << 64) - 1 if address >> 51 else address


class Processor:
    """A processor that executes one instruction after another, and delivers exceptions as the real one does."""

    def __init__(self, paths):
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self.cs = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.mapped, self.fault, self.cr2, self.calls = set(), None, 0, []
        self.uc.hook_add(unicorn.UC_HOOK_MEM_UNMAPPED, self.on_unmapped)
        for path in paths.values():
            image = pefile.PE(str(path))
            base = image.OPTIONAL_HEADER.ImageBase
            for section in image.sections:
                self.write(base + section.VirtualAddress, section.get_data()[: section.Misc_VirtualSize])

    def on_unmapped(self, _uc, access, address, _size, _value, _data):
        writes = access in (unicorn.UC_MEM_WRITE_UNMAPPED, unicorn.UC_MEM_WRITE_PROT)
        self.fault = (canonical(address), 2 if writes else 0)
        return False

    def map(self, low, high):
        for page in range(low & ~0xFFF, high, 0x1000):
            if page not in self.mapped:
                self.uc.mem_map(page & PHYSICAL, 0x1000)
                self.mapped.add(page)

    def write(self, at, data):
        self.map(at, at + len(data))
        self.uc.mem_write(at & PHYSICAL, bytes(data))

    def read(self, at, size):
        return bytes(self.uc.mem_read(at & PHYSICAL, size))

    def word(self, at):
        return struct.unpack("<Q", self.read(at, 8))[0]

    def __getitem__(self, name):
        return self.uc.reg_read(REGISTERS[name])

    def __setitem__(self, name, value):
        self.uc.reg_write(REGISTERS[name], value)

    def registers(self):
        return {name: f"{self[name]:#x}" for name in REGISTERS}

    def deliver(self, vector, error):
        """An exception with an error code: the gate says where to and on which stack."""
        low, _selector, kind, middle, high = struct.unpack("<HHHHI", self.read(IDT + 16 * vector, 12))
        handler = low | middle << 16 | high << 32
        ist = kind & 7
        top = self.word(TSS + 0x24 + 8 * (ist - 1)) if ist else self["rsp"]
        frame = [0x18, self["rsp"], self["rflags"], 0x10, self["rip"], error]
        at = top & ~0xF
        for value in frame:
            at -= 8
            if at & ~0xFFF not in self.mapped:
                assert vector == 14, "a triple fault"
                self.cr2 = at
                return self.deliver(8, 0)
            self.write(at, struct.pack("<Q", value))
        self.calls.append({"kind": "interrupted", "ip": self["rip"], "sp": self["rsp"], "vector": vector})
        self["rflags"] &= ~0x200
        self["rsp"], self["rip"] = at, handler

    def step(self):
        """One instruction."""
        code = self.read(self["rip"], 15 if (self["rip"] + 14) & ~0xFFF in self.mapped else 1)
        instruction = next(self.cs.disasm(code, self["rip"]))
        control = {"cr0": CR0, "cr2": self.cr2, "cr4": CR4}
        target, _, source = instruction.op_str.partition(", ")
        if instruction.mnemonic == "mov" and source in control:
            self[target] = control[source]
            self["rip"] += instruction.size
            return
        rsp = self["rsp"]
        self.fault = None
        try:
            self.uc.emu_start(self["rip"], 0, count=1)
        except unicorn.UcError:
            assert self.fault, f"{instruction} at {self['rip']:#x}"
            self.cr2, error = self.fault
            return self.deliver(14, error)
        if instruction.mnemonic == "call":
            self.calls.append({"kind": "call", "ip": instruction.address + instruction.size, "sp": rsp})
        elif instruction.mnemonic == "ret":
            call = self.calls.pop()
            assert call["ip"] == self["rip"] and call["sp"] == self["rsp"]

    def run_to(self, address):
        while self["rip"] != address:
            self.step()

    def stack(self):
        """All frames, innermost first: where each goes on, and its stack pointer there."""
        here = {"kind": "context", "ip": self["rip"], "sp": self["rsp"]}
        return [{**f, "ip": f"{f['ip']:#x}", "sp": f"{f['sp']:#x}"} for f in [here, *reversed(self.calls)]]


def gate(handler, ist):
    return struct.pack("<HHHHII", handler & 0xFFFF, 0x10, 0x8E00 | ist, handler >> 16 & 0xFFFF, handler >> 32, 0)


def crash(paths, symbols):
    cpu = Processor(paths)
    cpu.map(PCR, PCR + 0xD000)
    cpu.map(*STACK)
    cpu.write(PCR + 0x1A8, struct.pack("<Q", INITIAL_STACK))
    cpu.write(TSS + 0x24, struct.pack("<Q", IST1))
    cpu.write(IDT + 16 * 8, gate(symbols["KiDoubleFaultAbort"], 1))
    cpu.write(IDT + 16 * 14, gate(symbols["KiPageFault"], 0))
    cpu.write(POOL, b"".join(struct.pack("<Q", symbols[name]) for name in PLAN))
    cpu.uc.reg_write(x86.UC_X86_REG_GS_BASE, PCR)
    for name in ("rbp", "rbx", "rsp"):
        cpu[name] = USER[name]
    cpu["rcx"], cpu["r11"], cpu["rflags"], cpu["r15"] = USER["rip"], USER["rflags"], 0x246, POOL
    cpu["rax"], cpu["rdx"], cpu["r10"] = 3, 0, 0x2D4
    cpu["rip"] = symbols["KiSystemCall64"]
    cpu.calls.append({"kind": "user", "ip": USER["rip"], "sp": USER["rsp"]})
    cpu.run_to(symbols["KeBugCheckEx"])
    registers, frames = cpu.registers(), cpu.stack()
    # KeBugCheckEx puts its arguments where its caller left room for them.
    while cpu.read(cpu["rip"], 1) != b"\x9c":
        cpu.step()
    ist_low = (IST1 & ~0xFFF) - 0x1000
    stacks = {"thread.bin": cpu.read(STACK[0], STACK[1] - STACK[0]), "ist.bin": cpu.read(ist_low, IST1 - ist_low)}
    return {"registers": registers, "cr2": f"{cpu.cr2:#x}", "frames": frames}, stacks


def idle(paths, symbols, top):
    cpu = Processor(paths)
    cpu.map(top - 0x1000, top)
    cpu.write(POOL, struct.pack("<Q", symbols["C1Idle"]))
    cpu["rsp"], cpu["rip"], cpu["r15"], cpu["rflags"] = top - 0x48, symbols["KiIdleLoop"], POOL, 0x246
    while cpu.read(cpu["rip"], 1) != b"\xf4":
        cpu.step()
    cpu["rip"] += 1
    return {"registers": cpu.registers(), "frames": cpu.stack()}, cpu.read(top - 0x1000, 0x1000)


def store_pdb(path, store):
    """Where a symbol store keeps it: by GUID and age, as the image names them. The time it was made is left out."""
    # The linker writes the folder it worked in.
    folder = str(path.parent.resolve()).encode()
    data = bytearray(path.read_bytes().replace(folder, b"/".ljust(len(folder), b"-")))
    size = struct.unpack_from("<I", data, 32)[0]
    # Stream 1 says version, time, age, GUID, at the start of a block of its own.
    at = next(at for at in range(0, len(data), size) if data[at : at + 4] == struct.pack("<I", 20000404))
    age, a, b, c = struct.unpack_from("<IIHH", data, at + 8)
    struct.pack_into("<I", data, at + 4, 0)
    key = f"{a:08X}{b:04X}{c:04X}{data[at + 20 : at + 28].hex().upper()}{age:X}"
    place = store / PDB / key / PDB
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return key


def main():
    out, store = Path(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="seed") as folder:
        paths, symbols = build(Path(folder), out, store)
        key = store_pdb(Path(folder) / PDB, store)
    crashed, stacks = crash(paths, symbols)
    processors = {"4": crashed}
    for number, top in IDLE.items():
        processors[str(number)], stacks[f"idle{number}.bin"] = idle(paths, symbols, top)
    for name, data in stacks.items():
        (out / name).write_bytes(data)
    kernel = {at: name for name, at in symbols.items() if at < IMAGES[0][1] + IMAGES[0][2] and at >= IMAGES[0][1]}
    text = {"pdb": key, "kernel": {f"{at:#x}": kernel[at] for at in sorted(kernel)}, "processors": processors}
    (out / "calls.json").write_text(json.dumps(text, indent=1) + "\n")
    for frame in crashed["frames"]:
        print(frame["sp"], frame["ip"], frame["kind"])


if __name__ == "__main__":
    main()
