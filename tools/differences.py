# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare the engine with the processor: what differs, what is excused, and the document that says so.

    python tools/differences.py                  the gate's part of every suite (half a minute)
    python tools/differences.py --all            all of them: 1.2 million cases, some minutes
    python tools/differences.py --suite sse      one suite; may be repeated
    python tools/differences.py --group          every difference by kind, excused or not; --left: those that are not
    python tools/differences.py --show 0f38f0c2  one piece of code, both outcomes side by side (--mode32, --cpl 1)
    python tools/differences.py --write          write docs/engine-differences.md from the list
    python tools/differences.py --check          exit 1 when that file is not what would be written

Exit status 1 also says that something differs which tests/engine/differences.toml does not excuse, or that a row of it
excuses nothing any more. What is compared, and how, is said in tests/engine/.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.engine import judge, opcode_map, processor, suites  # noqa: E402
from tests.engine.compare import explain  # noqa: E402
from tests.engine.records import describe  # noqa: E402
from tests.engine.values import disassemble  # noqa: E402
from tests.engine.worker import Clock  # noqa: E402

DOCUMENT = ROOT / "docs" / "engine-differences.md"
SHOWN = 8

HEAD = """\
# Where the engine is not the processor

<!-- This file is written by tools/differences.py: change tests/engine/differences.toml instead. -->

Every opcode of one to three bytes, in every form, under every prefix, in 64- and 32-bit code and on both rings that a
guest has; every load of a selector with every descriptor; generated programs of the integer unit, SSE and the x87;
memory that is absent, misaligned, read-only or another ring's: each is executed by the engine, as a PV guest would
have it, and by the processor of the machine that tests. Exceptions, error codes, addresses, registers, flags and
memory must agree. What does not is listed here, by kind, and a test fails at anything that is not (`tests/engine/`).
The flags that the manuals leave undefined are not compared, nor are the pointers of the x87, which AMD stores only
while an exception waits.

Instructions that the guest's CPUID hides must be undefined in the engine, whatever the processor has.
"""
CORRECTED = """
## What differs, and stays
"""
STOCK = """
## And what differs besides on the stock engine

Where pvhv's own build of the engine cannot be had, it runs on the `unicorn` package as it is published. These kinds are
corrected in ours; the first ones are why a guest on the stock engine can leave its domain, or end them all.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="whole suites")
    parser.add_argument("--suite", action="append", choices=list(suites.ALL), help="only this suite; may be repeated")
    parser.add_argument("--group", action="store_true", help="every difference, by kind")
    parser.add_argument("--left", action="store_true", help="the differences that no row excuses, by kind")
    parser.add_argument("--clock", choices=("wall", "virtual"), default="wall", help="the pCPU's clock")
    parser.add_argument("--show", metavar="HEX", help="one piece of code, side by side")
    parser.add_argument("--mode32", action="store_true", help="with --show: 32-bit code")
    parser.add_argument("--cpl", type=int, choices=(1, 3), default=3, help="with --show: the ring")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)}")
    parser.add_argument("--check", action="store_true", help="exit 1 if the document is not up to date")
    arguments = parser.parse_args()
    if arguments.write or arguments.check:
        return document(arguments.check)
    if arguments.show:
        return show(bytes.fromhex(arguments.show), arguments.mode32, arguments.cpl)
    chosen = suites.ALL if arguments.all else suites.GATE
    names = arguments.suite or list(chosen)
    if arguments.group or arguments.left:
        known = judge.rows() if arguments.left else []
        return group({name: chosen[name] for name in names}, arguments.clock, known)
    complete = not arguments.suite
    return compare({name: chosen[name] for name in names}, arguments.clock, whole=arguments.all, complete=complete)


def compare(chosen: dict[str, suites.Make], clock: Clock, *, whole: bool, complete: bool) -> int:
    """Run suites, and compare the differences with the list. Returns an exit status."""
    known = judge.rows()
    failed = False
    for name, make in chosen.items():
        began = time.monotonic()
        unknown = judge.judge(make(), known, clock)
        took = time.monotonic() - began
        print(f"{name}: {len(unknown)} differences that are not in the list ({took:.0f} s)", flush=True)
        for finding in unknown[:SHOWN]:
            print(f"    {finding}")
        failed |= bool(unknown)
    asked = complete and processor.is_right()  # else a row may excuse nothing because nobody could be asked
    for row in known:
        if asked and not (row.found or row.host or (row.rare and not whole)):
            print(f"no longer differs: {row.name}")
            failed = True
    return int(failed)


def group(chosen: dict[str, suites.Make], clock: Clock, known: list[judge.Row]) -> int:
    """Show every difference that is not excused, by kind and with its instructions; the most frequent first."""
    kinds: dict[str, dict[str, list[judge.Finding]]] = defaultdict(lambda: defaultdict(list))
    for make in chosen.values():
        for finding in judge.findings(make(), clock):
            if any(row.excuses(finding) for row in known):
                continue
            name = disassemble(finding.task.code + bytes([0xF4] * 8), finding.task.mode32, first=True).split(" ")[0]
            kinds[re.sub(r" \(-?\d+\)", "", finding.line)][name].append(finding)
    for line, names in sorted(kinds.items(), key=lambda kind: -sum(map(len, kind[1].values()))):
        print(f"{sum(map(len, names.values()))} x {line}")
        most = sorted(names.items(), key=lambda item: -len(item[1]))
        print("    " + ", ".join(f"{name} ({len(found)}, {found[0].task.code.hex()})" for name, found in most[:SHOWN]))
    return 0


def show(code: bytes, mode32: bool, cpl: int) -> int:
    """Run one piece of code on both, and show both outcomes side by side."""
    task = opcode_map.task(b"", 1, 0x90, None, mode32)
    task = replace(task, code=code, name=disassemble(code + bytes([0xF4] * 8), mode32, first=True), cpl=cpl)
    for _, ours, right in judge.outcomes([task]):
        if right is not None:
            print(explain(task, ours, right))
        else:
            print(describe(ours.kind, ours.error))
    return 0


def document(check: bool) -> int:
    """Write the list as a document, or check that the document is up to date. Returns an exit status."""
    text = HEAD + CORRECTED + table(judge.rows(stock=False), "Why")
    text += STOCK + table([row for row in judge.rows(stock=True) if row.only], "And so")
    if check:
        if DOCUMENT.exists() and DOCUMENT.read_text("utf-8") == text:
            return 0
        print(f"{DOCUMENT.relative_to(ROOT)} is not up to date: python tools/differences.py --write", file=sys.stderr)
        return 1
    DOCUMENT.write_text(text, "utf-8")
    return 0


def table(known: list[judge.Row], why: str) -> str:
    lines = ["", f"| What | The engine | The processor | {why} |", "|---|---|---|---|"]
    lines += [f"| {row.name} | {row.engine} | {row.processor} | {row.why} |" for row in known]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
