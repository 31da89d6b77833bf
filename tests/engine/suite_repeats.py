# SPDX-License-Identifier: GPL-2.0-or-later
"""REP MOVS and REP STOS of some length: to where they end, or to where they fault.

The two pages of data are all there is to copy from and to; behind them is a page that can only be read, and a hole. An
outcome has only the first words that have changed, so whatever comes to its end makes a sum of them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from tests.engine import opcode_map as om
from tests.engine import records as r
from tests.engine.records import Task
from tests.engine.repeats import encode

_DF = 0x400
# mov rbx, rsi; mov rbp, rdi; mov rdx, rcx; mov esi, DATA; mov ecx, 1024; 1: imul rax, rax, 33; add rax, [rsi];
# add esi, 8; dec ecx; jne 1b; and the same of 32 bits
_AT = r.DATA.to_bytes(4, "little").hex()
_SUM = bytes.fromhex(f"4889f3 4889fd 4889ca be{_AT} b900040000 486bc021 480306 83c608 ffc9 75f2")
_SUM32 = bytes.fromhex(f"89f3 89fd 89ca be{_AT} b900080000 6bc021 0306 83c604 ffc9 75f4")


def generate(count: int, seed: int = 5) -> Iterator[Task]:
    """`count` of them."""
    rng = Random(seed)
    plain = {mode32: om.task(b"", 1, 0x90, None, mode32) for mode32 in (False, True)}
    for n in range(count):
        size, mode32 = rng.choice((1, 2, 4, 8)), rng.random() < 0.2
        size = min(size, 4) if mode32 else size
        moves, narrow = rng.random() < 0.7, not mode32 and rng.random() < 0.15
        fs = rng.randrange(0, 0x10_0000) if not mode32 and rng.random() < 0.2 else 0
        wanted = rng.choice((rng.randrange(80), rng.randrange(6000), rng.randrange(9000)))
        to = r.DATA + rng.choice((rng.randrange(r.DATA_BYTES), 0x1000, 0, 0x1FF0, rng.randrange(0x800)))
        source = to + rng.randrange(-70, 70) if rng.random() < 0.4 else r.DATA + rng.randrange(0x3000)
        flags = 0x202 | _DF * (rng.random() < 0.2)
        code = encode(moves, size, b"\x64" if fs else b"", narrow) + (_SUM32 if mode32 else _SUM)
        regs = list(plain[mode32].regs)
        regs[r.RSI], regs[r.RDI], regs[r.RCX], regs[r.RAX] = source - fs, to, wanted // size, rng.getrandbits(64)
        if narrow:
            for register in (r.RSI, r.RDI, r.RCX):
                regs[register] |= rng.getrandbits(32) << 32
        name = f"repeats {32 if mode32 else 64} cpl3 {n}"
        made = replace(plain[mode32], name=name, code=code, regs=tuple(regs), rflags=flags, bases=(fs, 0))
        yield replace(made, operand=rng.randbytes(128))
