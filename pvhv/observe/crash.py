# SPDX-License-Identifier: GPL-2.0-or-later
"""A crash report with symbols: beside every number that is an address in the kernel stands the symbol.

The core's report has numbers (pvhv.core.crash); the symbols come from the kernel's file. If there is no chain of frames
to follow (a kernel may use rbp for other things), the words on the stack that look like return addresses are listed as
a trace. That is a guess, as in Xen's own reports.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from pvhv.observe.symbols import Symbols

WORD = re.compile(r"\b[0-9a-f]{16}\b")


def with_names(report: str, symbols: Symbols, code: Sequence[tuple[int, int]], chained: bool = True) -> str:
    """The report with symbols. `code` has the ranges of addresses with instructions, in order, without overlaps:
    nothing else is a return address.

    `chained` says whether the kernel's functions keep a chain of frames in rbp."""
    if not len(symbols):
        return report
    lines: list[str] = []
    guesses: list[str] = []
    section = ""
    for line in report.splitlines():
        if not line.startswith("  "):
            if section == "Stack:" and guesses and not (chained and line.startswith("Frames")):
                lines += ["Call trace (from the words on the stack):", *guesses]
            section = line
        if section.startswith("Frames") and not chained:
            continue
        head, word = _last_word(line)
        if line.startswith("rip "):
            word = line.split()[1]
            line = line.replace(word, _named(word, symbols), 1)
        elif section == "Stack:":
            guesses += [
                f"  {word}  {name}" for word in WORD.findall(line) if (name := _caller(word, symbols, code))
            ]
        elif section.startswith("Frames") and word:
            name = _caller(word, symbols, code)
            line = f"{head}{word} <{name}>" if name else line
        elif word and head.endswith(" at "):
            line = head + _named(word, symbols)
        lines.append(line)
    return "\n".join(lines)


def _last_word(line: str) -> tuple[str, str]:
    """(the text before the number, the number) of a line that ends with a number."""
    word = line[-16:]
    return (line[:-16], word) if WORD.fullmatch(word) else (line, "")


def _named(word: str, symbols: Symbols) -> str:
    found = symbols.find(int(word, 16))
    return f"{word} <{_text(*found)}>" if found else word


def _caller(word: str, symbols: Symbols, code: Sequence[tuple[int, int]]) -> str:
    """The name of a return address, which belongs to the call before it; empty when it cannot be one."""
    address = int(word, 16)
    at = bisect_left(code, (address,)) - 1  # the last that begins before it
    if at < 0 or address > code[at][1]:
        return ""
    found = symbols.find(address - 1)
    return _text(found[0], found[1] + 1) if found else ""


def _text(name: str, offset: int) -> str:
    return f"{name}+{offset:#x}" if offset else name
