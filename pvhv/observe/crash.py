# SPDX-License-Identifier: GPL-2.0-or-later
"""A crash report with names: every number in it that is an address of the kernel gets the name of what is
there.

The core says what happened in numbers (pvhv.core.crash); whoever has the kernel's file can say where. The
words on the stack that look like return addresses are listed once more, as a trace; without frame pointers
that is a guess, as it is in Xen's own reports.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pvhv.observe.symbols import Symbols

WORD = re.compile(r"\b[0-9a-f]{16}\b")


def with_names(report: str, symbols: Symbols, code: Sequence[tuple[int, int]]) -> str:
    """The report, with a call trace after its stack and names after its instruction pointers.

    `code` says where instructions are, as ranges: nothing else on the stack is a return address.
    """
    if not len(symbols):
        return report
    lines: list[str] = []
    trace: list[str] = []
    in_stack = False
    for line in report.splitlines():
        if in_stack and not line.startswith("  "):
            lines += _trace(trace)
            in_stack = False
        if line.startswith("rip "):
            address = int(line.split()[1], 16)
            name = _name(address, symbols)
            trace.append(f"  {address:016x}  {name}")
            line = line.replace(f"{address:016x}", f"{address:016x} <{name}>", 1) if name else line
        elif in_stack:
            for word in WORD.findall(line):
                name = _name(address := int(word, 16), symbols)
                # A return address is never a function's first byte.
                if "+" in name and any(start <= address < end for start, end in code):
                    trace.append(f"  {word}  {name}")
        elif " at " in line:
            head, _at, word = line.rpartition(" at ")
            name = _name(int(word, 16), symbols) if WORD.fullmatch(word) else ""
            line = f"{head} at {word} <{name}>" if name else line
        in_stack = in_stack or line == "Stack:"
        lines.append(line)
    if in_stack:
        lines += _trace(trace)
    return "\n".join(lines)


def _trace(found: list[str]) -> list[str]:
    return ["Call trace (from the words on the stack):", *found] if found else []


def _name(address: int, symbols: Symbols) -> str:
    found = symbols.find(address)
    if found is None:
        return ""
    return f"{found[0]}+{found[1]:#x}" if found[1] else found[0]
