#!/usr/bin/env python3
"""Holds other readers of Windows dumps beside ours, on dumps that `stopcode synth` writes.

    python3 harness/peers/compare.py --isf ../shared/data/isf [--venv DIR] [--work DIR] > table.md

Makes a virtual environment with kdmp-parser, Volatility 3, LeechCore and MemProcFS where there is none, writes a
complete and a bitmap dump of machines with two builds of the kernel, and compares: a digest of all pages, 1,000 random
virtual reads (three in four of mapped pages, some across their ends, the rest anywhere), the list of modules and the
list of processes. The addresses come from page tables that this script walks itself, through kdmp-parser's pages.
Prints a table and, below it, every difference. Ends with 1 where a difference is not explained.
"""
import argparse, hashlib, json, os, random, struct, subprocess, sys, venv

PACKAGES = ["kdmp_parser", "volatility3", "leechcorepyc", "memprocfs"]
BUILDS = [19041, 22000]
KINDS = ["complete", "bitmap-full", "bitmap-kernel"]
READS = 1000
PAGE = 0x1000
FRAME = 0x000FFFFFFFFFF000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isf", required=True, help="folder with symbols/windows/*.json.xz")
    parser.add_argument("--venv", default="target/peers/venv")
    parser.add_argument("--work", default="target/peers/dumps")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(args):
    """Makes the environment and runs this script again inside it."""
    python = os.path.join(args.venv, "bin", "python3")
    if not os.path.exists(python):
        venv.create(args.venv, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    sys.exit(subprocess.run([python, *sys.argv, "--inside"]).returncode)


def run(*command, stdin=None):
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return done.stdout


def machines(work):
    """One machine of each build, in each container: path, build, kind, truth."""
    for kind in KINDS:
        folder = os.path.join(work, kind)
        run("cargo", "run", "-q", "-p", "stopcode", "--features", "synth", "--", "synth", "planted",
            "--seed", "7", "--count", "60", "--kind", kind, "--memory", "32MiB", "-o", folder)
        truths = json.load(open(os.path.join(folder, "truth.json")))
        for build in BUILDS:
            name = next(name for name, truth in truths.items() if truth["build"] == build)
            yield os.path.join(folder, name), build, kind


class Kdmp:
    """kdmp-parser: physical pages, and virtual reads by its own walk."""

    name = "kdmp-parser"

    def __init__(self, path, _):
        import kdmp_parser

        self.dump = kdmp_parser.KernelDumpParser(path)
        self.directory = self.dump.directory_table_base & FRAME

    def pages(self):
        return self.dump.pages

    def page(self, pfn):
        return bytes(self.dump.read_physical_page(pfn * PAGE) or b"")

    def read(self, at):
        """Eight bytes: from one page, or two read apart."""
        out = b""
        while len(out) < 8:
            here = (at + len(out)) & (2**64 - 1)
            room = min(8 - len(out), PAGE - here % PAGE)
            physical = self.dump.translate_virtual(here)
            page = self.page(physical // PAGE) if physical else b""
            if not page:
                return None
            out += page[here % PAGE : here % PAGE + room]
        return struct.unpack("<Q", out)[0]


class Volatility:
    """Volatility 3: its layers for pages and reads, its plugins for the lists."""

    name = "Volatility 3"

    def __init__(self, path, isf):
        from volatility3.framework import contexts
        from volatility3.framework.layers import crash, intel, physical

        self.path, self.isf = path, isf
        context = contexts.Context()
        context.config["file.location"] = "file://" + os.path.abspath(path)
        context.add_layer(physical.FileLayer(context, "file", "file"))
        context.config["crash.base_layer"] = "file"
        self.layer = crash.WindowsCrashDump64Layer(context, "crash", "crash")
        context.add_layer(self.layer)
        with open(path, "rb") as file:
            directory = struct.unpack_from("<Q", file.read(0x18), 0x10)[0] & FRAME
        context.config["virtual.memory_layer"] = "crash"
        context.config["virtual.page_map_offset"] = directory
        self.virtual = intel.WindowsIntel32e(context, "virtual", "virtual")
        context.add_layer(self.virtual)

    def page(self, pfn):
        if not self.layer.is_valid(pfn * PAGE, PAGE):
            return b""
        return self.layer.read(pfn * PAGE, PAGE)

    def read(self, at):
        from volatility3.framework import exceptions

        if at + 8 > 1 << 64:
            return None
        try:
            return struct.unpack("<Q", self.virtual.read(at & (1 << 48) - 1, 8))[0]
        except exceptions.InvalidAddressException:
            return None

    def plugin(self, name):
        vol = os.path.join(os.path.dirname(sys.executable), "vol")
        text = run(vol, "--offline", "-q", "-r", "json", "-s", os.path.join(self.isf, "symbols"), "-f", self.path, name)
        return json.loads(text)

    def modules(self):
        # It prints addresses without their upper sixteen bits.
        base = lambda row: row["Base"] | 0xFFFF << 48 if row["Base"] >> 47 else row["Base"]
        return sorted((base(row), row["Size"], row["Name"].lower()) for row in self.plugin("windows.modules"))

    def processes(self):
        return sorted((row["PID"], row["ImageFileName"]) for row in self.plugin("windows.pslist"))


class LeechCore:
    """LeechCore: physical pages; it walks no page tables."""

    name = "LeechCore"

    def __init__(self, path, _):
        import leechcorepyc

        self.core = leechcorepyc.LeechCore("file://file=" + os.path.abspath(path))

    def page(self, pfn):
        try:
            return bytes(self.core.read(pfn * PAGE, PAGE))
        except Exception:
            return b""


class MemProcFs:
    """MemProcFS: everything, where it finds its way in."""

    name = "MemProcFS"

    def __init__(self, path, _):
        import memprocfs

        self.vmm = memprocfs.Vmm(["-device", os.path.abspath(path), "-disable-symbolserver", "-disable-python"])

    def read(self, at):
        process = self.vmm.process(4)
        try:
            return struct.unpack("<Q", process.memory.read(at, 8))[0]
        except Exception:
            return None

    def modules(self):
        return sorted((m.base, m.image_size, m.name.lower()) for m in self.vmm.kernel.process.module_list())

    def processes(self):
        return sorted((p.pid, p.name) for p in self.vmm.process_list())


def leaves(kdmp):
    """Mapped ranges by the page tables, found through kdmp-parser's pages: (address, size)."""
    found = []

    def walk(table, level, address):
        page = kdmp.page(table // PAGE)
        for index, entry in enumerate(struct.unpack("<512Q", page) if page else ()):
            if not entry & 1:
                continue
            at = address | index << (12 + 9 * (level - 1))
            if level == 1 or (level < 4 and entry & 0x80):
                found.append((at, 1 << (12 + 9 * (level - 1))))
            elif entry & FRAME != kdmp.directory:
                walk(entry & FRAME, level - 1, at)

    walk(kdmp.directory, 4, 0)
    return [(at | 0xFFFF << 48 if at >> 47 else at, size) for at, size in found]


def addresses(kdmp):
    """Where to read: the same for every reader."""
    draw = random.Random(2014)
    mapped = leaves(kdmp)
    out = []
    for n in range(READS):
        at, size = draw.choice(mapped)
        if n % 4 < 3:
            out.append(at + (size - draw.randrange(1, 8) if n % 16 == 0 else draw.randrange(size - 8)))
        elif n % 8 == 3:
            out.append((at + size + draw.randrange(1 << 30)) & (1 << 64) - 1)
        else:
            out.append(draw.getrandbits(64))
    return out


def held(path):
    """Frames that the dump holds, by the format's own text: runs in the header, or the bitmap behind it."""
    file = open(path, "rb").read()
    word = lambda at: struct.unpack_from("<Q", file, at)[0]
    if file[0x2000:0x2008] not in (b"SDMPDUMP", b"FDMPDUMP"):
        runs = [(word(0x98 + 16 * n), word(0xA0 + 16 * n)) for n in range(struct.unpack_from("<I", file, 0x88)[0])]
        return [pfn for first, count in runs for pfn in range(first, first + count)]
    bits = word(0x2030)
    return [pfn for pfn in range(bits) if file[0x2038 + pfn // 8] >> pfn % 8 & 1]


def digest(reader, pfns):
    total = hashlib.sha256()
    held = 0
    for pfn in pfns:
        page = reader.page(pfn)
        if page:
            held += 1
            total.update(struct.pack("<Q", pfn) + page)
    return held, total.hexdigest()


def compare(path, build, kind, isf):
    """Rows of the table for one dump, and what differs."""
    kdmp = Kdmp(path, isf)
    at = addresses(kdmp)
    command = ("cargo", "run", "-q", "-p", "stopcode-kernel", "--example", "peer_facts", "--", path)
    ours = json.loads(run(*command, stdin="".join(f"{address:x}\n" for address in at)))
    pfns = held(path)
    rows, differences = [], []
    for peer in (Kdmp, Volatility, LeechCore, MemProcFs):
        row = [str(build), kind, peer.name]
        try:
            reader = kdmp if peer is Kdmp else peer(path, isf)
        except Exception as error:
            rows.append([*row, "refused", "", "", ""])
            reason = str(error).strip().splitlines()[-1]
            why = REFUSALS.get((peer.name, kind)) or REFUSALS.get((peer.name, ""))
            differences.append((f"{build} {kind}: {peer.name} does not open it: {reason}", why))
            continue
        if hasattr(reader, "page"):
            count, hashed = digest(reader, pfns)
            same = (count, hashed) == (ours["pages"], ours["sha256"])
            row.append(f"{count} pages, {'same' if same else 'DIFFERENT'}")
            if not same:
                missing = [pfn for pfn in pfns if not reader.page(pfn)]
                label = f"{build} {kind} {peer.name}: it has not the pages {[hex(pfn) for pfn in missing]}"
                differences.append((label, None))
        else:
            row.append("-")
        row.append(reads(reader, at, ours, differences, f"{build} {kind} {peer.name}"))
        for what in ("modules", "processes"):
            row.append(lists(reader, what, ours, differences, f"{build} {kind} {peer.name}"))
        rows.append(row)
    return rows, differences


# Why a reader refuses a container, where that is its limit and not our mistake.
REFUSALS = {
    ("Volatility 3", "bitmap-kernel"): "its crash layer takes DumpType 1 and 5 only; the same pages as type 5 it reads",
    ("MemProcFS", ""): "it takes the file and finds the page tables, then seeks the kernel by its POOLCODE section and its exports; the "
    "image that is written for a kernel has its headers, sizes and the record that names its PDB, and neither of these",
}


def reads(reader, at, ours, differences, label):
    if not hasattr(reader, "read"):
        return "-"
    hits = misses = 0
    for address, mine in zip(at, ours["reads"]):
        theirs = reader.read(address)
        if theirs == mine.get("value"):
            hits, misses = hits + (theirs is not None), misses + (theirs is None)
        else:
            told = "nothing" if theirs is None else f"{theirs:#x}"
            own = mine.get("miss") or f"{mine['value']:#x}"
            differences.append((f"{label}: at {address:#x} it reads {told}, we read: {own}", None))
    return f"{hits} + {misses} misses of {len(at)}"


def lists(reader, what, ours, differences, label):
    if not hasattr(reader, what):
        return "-"
    try:
        theirs = [tuple(row) for row in getattr(reader, what)()]
    except Exception as error:
        differences.append((f"{label}: {what}: {error}", None))
        return "refused"
    if what == "modules":
        mine = sorted((m["base"], m["size"], m["name"].lower()) for m in ours["modules"])
    else:
        mine = sorted((p["id"], p["name"]) for p in ours["processes"])
    if theirs == mine:
        return f"{len(mine)}, same"
    only = lambda a, b: ", ".join(str(row) for row in a if row not in b)
    text = f"only it has {only(theirs, mine) or 'none'}; only we have {only(mine, theirs) or 'none'}"
    differences.append((f"{label}: {what}: {text}", None))
    return f"{len(theirs)}, we {len(mine)}"


def main():
    args = arguments()
    if not args.inside:
        prepare(args)
    # The readers write to standard output themselves: they get standard error instead.
    table = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    report(args, table)


def report(args, table):
    print = lambda text="": table.write(text + "\n")
    print("| build | container | reader | all pages | random reads that agree | modules | processes |")
    print("|---|---|---|---|---|---|---|")
    differences = []
    for path, build, kind in machines(args.work):
        rows, found = compare(path, build, kind, args.isf)
        for row in rows:
            print("| " + " | ".join(row) + " |")
        differences += found
    print()
    for line, why in differences:
        print(f"- {line}. " + (f"Explained: {why}." if why else "NOT EXPLAINED."))
    table.flush()
    sys.exit(any(why is None for _, why in differences))


if __name__ == "__main__":
    main()
