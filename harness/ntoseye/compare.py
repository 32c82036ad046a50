#!/usr/bin/env python3
"""Puts the questions of `crates/commands/tests/questions.rs` to ntoseye, offline, and prints a table of both answers.

    QUESTIONS=target/questions.json cargo test -p stopcode-commands --test questions every_question
    python3 harness/ntoseye/compare.py target/questions.json [--venv DIR] [--log FILE] > table.md

The test writes each question with the answer that the raw bytes give and the one that our command gave. Here the same
question is put to ntoseye by every command that a user would try for it, one process each (a command that fails ends a
batch), with proxies that lead nowhere, so that nothing is fetched. It is judged generously: a large number or a text is
right wherever the output has it; a small number has to stand behind its label. Wrong is a value behind the label of
what was asked that is not the one in the bytes; all else is unknown. `--log` keeps every judgement and what it is from.
"""
import argparse, collections, json, os, re, subprocess, sys, venv

VERSION = "0.52.0"
NOWHERE = "http://127.0.0.1:9"
# Below this a number is found in any output by chance.
LARGE = 0x10000
CPU, ANALYZE = ["!cpuinfo", "!sysinfo cpuinfo"], ["!analyze -v"]

# What a user would type, and the label before the answer: a group of hexadecimal digits, or of decimal ones where the
# third element is 10. `{}` is the argument of our own command.
ASKED = {
    "stop code": ([".bugcheck", "!analyze -v", "vertarget"], r"Bugcheck code ([0-9a-f]+)"),
    "argument": ([".bugcheck", "!analyze -v"], None),
    "crashing thread": (["!thread", ".thread", "!analyze -v", "!running", "!pcr"], r"\bthread +([0-9a-f]{16})"),
    "lowest address of its stack": (["!thread", "!thread {thread}", "dt nt!_KTHREAD {thread}"], r"Limit +([0-9a-f]{16})"),
    "end of its stack": (["!thread", "!thread {thread}", "dt nt!_KTHREAD {thread}"], r"Base +([0-9a-f]{16})"),
    "its initial stack": (["!thread", "!thread {thread}", "dt nt!_KTHREAD {thread}"], None),
    "its saved stack pointer": (["!thread", "!thread {thread}", "dt nt!_KTHREAD {thread}"], None),
    "its TEB": (["!thread", "!thread {thread}", "!teb", "? @$teb"], None),
    "its state": (["!thread", "!thread {thread}", "threads", "!running"], r"[Ss]tate:? +(\w+)"),
    "the processor it ran on": (["!thread", "!analyze -v", "!running"], r"processor +(\d+) +thread", 10),
    "the process it was in": (["!thread", "!process", ".process", "? @$proc", "!running"], None),
    "the process": (["!process", "!process -1 0", ".process", "? @$proc", "ps"], None),
    "its page tables": (["!process", "!process -1 0", "ps", "vertarget"], r"DirBase:? +([0-9a-f]+)"),
    "its PEB": (["!process", "!process -1 0", "!peb", "? @$peb"], None),
    "its parent": (["!process", "!process -1 0", "ps"], r"ParentCid:? +([0-9a-f]+)"),
    "the processor that crashed": (["!pcr", "!prcb", "!cpuinfo", "!analyze -v"], r"processor +(\d+) +thread", 10),
    "its KPRCB": (["!pcr", "!prcb", "!running -i"], None),
    "the thread it ran": (["!pcr", "!prcb", "!running", "!analyze -v"], r"\bthread +([0-9a-f]{16})"),
    "its idle thread": (["!pcr", "!prcb", "!running -i"], None),
    "its DPC stack": (["!prcb", "!pcr", "!dpcs"], None),
    "whether a DPC ran": (["!prcb", "!pcr", "!dpcs"], r"(?i)dpc routine active:? +(\w+)"),
    "its frequency": (["!prcb", *CPU, *ANALYZE], r"speed MHz +(\d+)", 10),
    "its maker": (CPU, r"vendor +(\S.*)"),
    "its family": (CPU, r"family +0x([0-9a-f]+)"),
    "its stepping": (CPU, r"stepping +(?:0x)?([0-9a-f]+)"),
    "its model": (CPU, r"model +(?:0x)?([0-9a-f]+)"),
    "CR0": (["r cr0", "!pcr", "r"], r"\bcr0[ =]([0-9a-f]{16})"),
    "CR2": (["r cr2", "!pcr", "r"], r"\bcr2[ =]([0-9a-f]{16})"),
    "CR3": (["r cr3", "!pcr", "r"], r"\bcr3[ =]([0-9a-f]{16})"),
    "CR4": (["r cr4", "!pcr", "r"], r"\bcr4[ =]([0-9a-f]{16})"),
    "DR7": (["r dr7", "!pcr"], r"\bdr7[ =]([0-9a-f]{16})"),
    "its GDT": (["r gdtr", "!pcr", "!gdt"], r"\bgdtr[ =]([0-9a-f]{16})"),
    "its IDT": (["r idtr", "!pcr", "!idt"], r"\bidtr[ =]([0-9a-f]{16})"),
    "its task register": (["r tr", "!pcr"], r"\btr[ =]([0-9a-f]+)"),
    "the IRQL at the bug check": (["!irql", "!pcr", "r cr8"], r"\bcr8[ =]([0-9a-f]{16})"),
    "every KPRCB": (["!running -i", "!pcr", "!prcb", "~"], None),
    "the thread of every processor": (["~", "!running", "!running -i"], None),
    "the instruction of every processor": (["~", "!running", "!running -i", "~*k"], None),
    "which processors were frozen": (["!ipi", "!running -i"], None),
    "the instruction of the crash": (["r", "k", "!analyze -v", ".exr -1", ".ecxr"], None),
    "its stack pointer": (["r", "k", "!analyze -v", ".ecxr"], None),
    "who called KeBugCheckEx": (["k", "kn", "!analyze -v", "dps @rsp L2"], None),
    "the page-table entry of the stack": (["!pte {}", "!vtop 0 {}"], None),
    "the stack's physical address": (["!vtop 0 {}", "!pte {}"], r"physical +([0-9a-f]+)"),
    "whose the stack pointer is": (["!address {}", "!thread"], None),
    "where that ends": (["!address {}", "!thread"], None),
    "Verifier's options": (["!verifier", "!verifier 1", "dd nt!MmVerifierData L1"], r"(?i)flags:? +(?:0x)?([0-9a-f]+)"),
    "the number of this boot": (["!blackboxbsd"], r"Last boot id: (\d+)", 10),
    "the last boot that was shut down": (["!blackboxbsd"], r"Last successful shutdown boot id: (\d+)", 10),
    "the processor's name": ([*CPU, "vertarget"], None),
    "its microcode": ([*CPU, "!sysinfo cpumicrocode", "vertarget"], r"(?i)microcode.*?(?:0x)?([0-9a-f]+)"),
}


class Ntoseye:
    """One dump's answers, each command asked once."""

    def __init__(self, program, dump):
        self.program, self.dump, self.answers = program, dump, {}

    def ask(self, command):
        if command not in self.answers:
            environment = {**os.environ, **dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"], NOWHERE)}
            done = subprocess.run([self.program, "--batch", "--dump", self.dump, "-c", command], env=environment,
                                  capture_output=True, text=True, errors="replace", timeout=300)
            # The echo of the command is no answer.
            lines = done.stdout.splitlines()
            self.answers[command] = "\n".join(line for line in lines if not re.match(r"\d+: dmp> ", line))
        return self.answers[command]


def numbers_in(text):
    return {int(token, 16) for token in re.findall(r"(?<![0-9a-z])(?:0x)?([0-9a-f]{5,16})(?![0-9a-z])", text)}


def labelled(label, base, texts):
    """Values behind the label, as numbers, or as text where they are none."""
    found = [value for text in texts for value in re.findall(label, text)] if label else []
    def read(value):
        try:
            return int(value, base)
        except ValueError:
            return value.strip()
    return [read(value) for value in found]


def judge(expected, label, base, texts):
    """right, wrong, unknown, and what that is from."""
    said = labelled(label, base, texts)
    if expected is None:
        return ("more", said) if said else ("unknown", "")
    if isinstance(expected, list):
        known = {int(value, 16) for value in expected if value is not None}
        missing = known - set().union(*map(numbers_in, texts))
        return ("right", "all values") if known and not missing and min(known) >= LARGE else ("unknown", missing)
    if isinstance(expected, dict):
        wanted = expected["text"]
        if wanted in said or len(wanted) > 8 and any(wanted.lower() in text.lower() for text in texts):
            return "right", wanted
    else:
        wanted = int(expected, 16)
        if wanted in said or wanted >= LARGE and any(wanted in numbers_in(text) for text in texts):
            return "right", wanted
    return ("wrong", f"{said}, not {wanted}") if said else ("unknown", "")


def ask(ntoseye, question, thread, nth):
    commands, label, base = (*ASKED[question["what"]], 16)[:3]
    if question["what"] == "argument":
        label = r"Arguments " + r"[0-9a-f]+ " * nth + r"([0-9a-f]+)"
    argument = question["line"].partition(" ")[2]
    texts = [ntoseye.ask(command.format(argument, thread=thread)) for command in commands]
    return judge(question["expected"], label, base, texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions")
    parser.add_argument("--venv", default="target/ntoseye")
    parser.add_argument("--log")
    args = parser.parse_args()
    program = os.path.join(args.venv, "bin", "ntoseye")
    if not os.path.exists(program):
        venv.create(args.venv, with_pip=True)
        subprocess.run([os.path.join(args.venv, "bin", "pip"), "install", "-q", f"ntoseye=={VERSION}"], check=True)

    by_dump = collections.defaultdict(list)
    for question in json.load(open(args.questions)):
        by_dump[question["dump"]].append(question)
    table, log = collections.defaultdict(collections.Counter), []
    for dump, questions in by_dump.items():
        ntoseye, nth = Ntoseye(program, dump), 0
        thread = next((q["expected"] for q in questions if q["what"] == "crashing thread"), None) or "0"
        for question in questions:
            what, expected = question["what"], question["expected"]
            ours = "unknown" if question["found"] is None else "right" if question["found"] == expected else "wrong"
            theirs, why = ask(ntoseye, question, thread, nth)
            nth += what == "argument"
            held = expected is not None
            table[what].update({"held": held, f"ours {ours}": held or ours != "unknown"})
            table[what].update({f"theirs {theirs}": held or theirs != "unknown"})
            log.append(f"{os.path.basename(dump)}\t{what}\t{expected}\t{ours}\t{theirs}\t{why}")
    if args.log:
        open(args.log, "w").write("\n".join(log) + "\n")

    columns = ["held", "ours right", "ours unknown", "ours wrong", "theirs right", "theirs unknown", "theirs wrong"]
    total = collections.Counter()
    print(f"{len(by_dump)} dumps, {sum(map(len, by_dump.values()))} questions.\n")
    print("| question | dumps that hold it | stopcode right | unknown | wrong | ntoseye right | unknown | wrong |")
    print("|---|---|---|---|---|---|---|---|")
    for what, counts in table.items():
        total.update(counts)
        print(f"| {what} | " + " | ".join(str(counts[column]) for column in columns) + " |")
    print("| **all** | " + " | ".join(f"**{total[column]}**" for column in columns) + " |")
    more = {what: counts["theirs more"] for what, counts in table.items() if counts["theirs more"]}
    if more:
        print("\nntoseye shows a value where our reader of raw bytes finds none, judged neither way: "
              + ", ".join(f"{what} ({count})" for what, count in more.items()) + ".")


sys.exit(main())
