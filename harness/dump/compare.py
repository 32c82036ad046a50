"""Opens the same dumps with stopcode, kdmp-parser, LeechCore and ntoseye, side by side in one run.

    cargo build --release --manifest-path harness/dump/Cargo.toml
    python compare.py BINARIES FOLDER 4 16 64

BINARIES is where cargo put them; the dumps are written into FOLDER and stay there (some MB each: they are sparse).
Needs `pip install leechcorepyc ntoseye` and libusb; what is missing is passed over. With CALLGRIND=1 instructions are
counted instead of time taken.
"""

import os
import re
import statistics
import subprocess
import sys
import time


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def leechcore(path):
    """Median time to open, in a process of its own."""
    code = (
        "import leechcorepyc, statistics, sys, time\n"
        "def once():\n"
        "    start = time.perf_counter()\n"
        "    device = leechcorepyc.LeechCore('file://file=' + sys.argv[1])\n"
        "    took = time.perf_counter() - start\n"
        "    device.close()\n"
        "    return took\n"
        "once()\n"
        "print(f'open: {statistics.median(once() for _ in range(7)) * 1e3:.3f} ms')\n"
    )
    done = run(sys.executable, "-c", code, path)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def ntoseye(path):
    """Median time of a whole process that prints the header's facts."""
    program = os.path.join(os.path.dirname(sys.executable), "ntoseye")
    if not os.path.exists(program):
        return "not installed"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run("unshare", "-rn", program, "--dump", path, "--batch", "-c", ".bugcheck")
        times.append(time.perf_counter() - start)
    return f"process: {statistics.median(times) * 1e3:.0f} ms"


def instructions(program, path):
    """Instructions of a process that opens the dump once."""
    done = run("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, path, "once")
    found = re.search(r"Collected : (\d+)", done.stderr)
    return f"once: {int(found.group(1)):,} instructions" if found else "valgrind failed"


def main():
    binaries, folder, sizes = sys.argv[1], sys.argv[2], sys.argv[3:]
    program = {name: os.path.join(binaries, name) for name in ("make", "ours", "kdmp")}
    for size in sizes:
        for pages in ("all", "half"):
            path = os.path.join(folder, f"{size}-{pages}.dmp")
            if not os.path.exists(path):
                run(program["make"], path, size, pages)
            for name, what in (("stopcode", "ours"), ("kdmp-parser", "kdmp")):
                if os.environ.get("CALLGRIND"):
                    print(size, pages, name, instructions(program[what], path), sep="\t", flush=True)
                    continue
                for measure in ("open", "reads"):
                    text = run(program[what], path, measure).stdout.strip()
                    print(size, pages, name, text, sep="\t", flush=True)
            if not os.environ.get("CALLGRIND"):
                print(size, pages, "LeechCore", leechcore(path), sep="\t", flush=True)
                print(size, pages, "ntoseye", ntoseye(path), sep="\t", flush=True)


main()
