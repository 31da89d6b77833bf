# SPDX-License-Identifier: GPL-2.0-or-later
"""A row of the table: one instruction as a guest kernel would use it, and what that kernel should see.

`body` is a listing, a line per instruction: bytes in hex, two blanks or more, assembly. `*` marks the instruction that
the row is about, `label:` names the next line, and `{label}` among the bytes is that line's address in four bytes;
`{gdt}`, `{idt}` and `{entry}` are addresses in the image. A body begins with RAX, RBX, RCX and RDX zero, on a valid
stack, at the guest's ring 0, in the machine that image.py sets up. It leaves its observations in registers and runs to
its end, or ends with `int 0x80` if it is at another ring by then. `before` is 64-bit code that sets up the state the
body asks about; outside ring 0 it traps, and a monitor emulates it.

Invariant: `wants` is the result of the body on a machine of its own, according to the manuals. It was worked out by
hand, not measured, and does not depend on where the image is loaded (a text names a label of the image: `gdt`, `idt`).

It does not know how a row is run. Read beside it: Robin and Irvine, "Analysis of the Intel Pentium's Ability
to Support a Secure Virtual Machine Monitor", USENIX Security 2000, section 3; Popek and Goldberg, CACM 17(7), 1974.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["", "control", "location", "mode"]
"""Of sensitivity. control: changes the machine's state; behaviour: location-bound (tells where
the monitor put something), or mode-bound (its outcome depends on the real privilege)."""

REGISTERS: Final = ("rax", "rbx", "rcx", "rdx")
INVALID, FAULT, SYSTEM_CALL = 6, 13, 0x100
"""RCX at the end when the guest's own handler of #UD, #GP (RBX is the error code then) or SYSCALL ran. `int n`
leaves n."""

_LINE: Final = re.compile(r"(?P<mark>\*?)\s*(?P<bytes>(?:[0-9a-f]{2}|\{\w+\})+)\s{2,}(?P<assembly>\S.*)")


@dataclass(frozen=True)
class Instruction:
    """A line of a listing: `bytes` as hex with {label}s in it."""

    bytes: str
    assembly: str
    marked: bool
    label: str

    @property
    def length(self) -> int:
        return len(re.sub(r"\{\w+\}", "00000000", self.bytes)) // 2


def listing(text: str) -> list[Instruction]:
    """A listing's lines; a label at the end names a line of no bytes."""
    found: list[Instruction] = []
    label = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.endswith(":") and "  " not in line:
            label = line[:-1]
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"no bytes and assembly in {line!r}")
        found.append(Instruction(match["bytes"], match["assembly"], bool(match["mark"]), label))
        label = ""
    if label:
        found.append(Instruction("", "", False, label))
    return found


def assemble(lines: list[Instruction], at: int, known: Mapping[str, int]) -> tuple[bytes, list[int]]:
    """The bytes at `at`, and the addresses of the marked instructions; `known` are labels of elsewhere."""
    addresses, here = [], at
    for line in lines:
        addresses.append(here)
        here += line.length
    labels = dict(known) | {line.label: address for line, address in zip(lines, addresses, strict=True) if line.label}
    text = "".join(line.bytes for line in lines)
    code = re.sub(r"\{(\w+)\}", lambda label: labels[label[1]].to_bytes(4, "little").hex(), text)
    return bytes.fromhex(code), [at for at, line in zip(addresses, lines, strict=True) if line.marked]


@dataclass(frozen=True)
class Row:
    """One instruction in one use."""

    name: str
    body: str
    wants: Mapping[str, int | str]
    """Registers, and what they hold at the end in a machine of its own; a text is an address in the image."""
    seen: str
    """What the guest has learned, for a reader: a format of the registers."""
    manual: str
    """AMD64 Architecture Programmer's Manual (volume, section or page of the instruction)/Intel SDM."""
    kind: Kind = ""
    why: str = ""
    """What makes it sensitive, in a sentence."""
    before: str = ""
    mode: Literal[64, 32] = 64
    micro: bool = True
    """Whether the body reaches its end on any machine without help, and so can run as a micro guest."""
    listed: bool = False
    """In Robin and Irvine's table of sensitive instructions that are not privileged."""
    engine: str = ""
    """Where the engine leaves to pvhv, or does otherwise than, what the manuals say."""
    instruction: str = field(default="")
    """The name in the list, where the row shows one use of several."""

    @property
    def about(self) -> str:
        return self.instruction or self.name
