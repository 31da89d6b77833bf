# SPDX-License-Identifier: GPL-2.0-or-later
"""Generated runs of floating point: up to a dozen instructions of SSE, MMX and the x87 together, and those between them
that look at the state or set it.

Single instructions show what each does; a run shows what is left behind for the next: flags that gather, an exception
that waits, TOP and tags, what an engine keeps aside of the control words.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import iced_x86 as iced

from tests.engine import suite_sse, suite_x87
from tests.engine.compare import reads_undefined
from tests.engine.records import Task
from tests.engine.values import image, mxcsr, operand, registers, task

_LONGEST = 60
# fnstsw ax; fnstcw, fldcw, fnclex, fninit, ffree, fdecstp, fincstp, fwait; stmxcsr, ldmxcsr; emms; fxsave, fxrstor,
# fnsave, frstor, fnstenv, fldenv, all where they were saved to; lahf
_BETWEEN = [bytes.fromhex(code) for code in (
    "dfe0", "d97b60", "d96b60", "dbe2", "dbe3", "ddc1", "d9f6", "d9f7", "9b", "9b", "0fae5b64", "0fae5364", "0fae5364",
    "0f77", "0fae4650 0fae4e50", "480fae4650 480fae4e50", "d97650 d96650", "dd7650 dd6650", "9f",
)]  # fmt: skip
# Left to that list, so that only what was saved is loaded; and results that are each processor's own.
_OWN = {
    getattr(iced.Mnemonic, name)
    for name in "RCPPS RCPSS RSQRTPS RSQRTSS FNSTENV FLDENV FNSAVE FRSTOR LDMXCSR INVALID".split()
}
_IMAGE = (0x890, 0x890 + 512)  # at RSI + 0x50: what is reserved in it is each processor's own as well


def generate(count: int, seed: int = 4) -> Iterator[Task]:
    """`count` runs."""
    rng = Random(seed)
    number = 0
    for n in range(count):
        kinds = rng.choice(((0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2)))
        code = b""
        while True:
            kind = rng.choice(kinds)
            number += rng.randrange(1, 12)
            if kind == 0:
                more = suite_sse.instruction(rng, number)
            elif kind == 1:
                more = suite_x87.instruction(rng, number)
            else:
                more = rng.choice(_BETWEEN)
            if len(code) + len(more) > _LONGEST:
                break
            decoded = next(iter(iced.Decoder(64, more)))
            if (kind < 2 and decoded.mnemonic in _OWN) or reads_undefined(code, more, False):
                continue
            code += more
            if rng.random() < 0.15:
                break
        # Behind the operands: a control word, a status word, an MXCSR that may be loaded.
        lines = bytearray(rng.choice((suite_x87.operands, operand))(rng))
        struct.pack_into("<H", lines, 0x60, 0x40 | rng.getrandbits(12) & 0xF3F | rng.choice((0x3F, 0)))
        struct.pack_into("<I", lines, 0x64, mxcsr(rng, rng.random() < 0.7))
        fx = image(rng, control=mxcsr(rng, rng.random() < 0.8), x87=suite_x87.state(rng))
        made = task("runs", n, code, registers(rng, rax=rng.randrange(30)), fx=fx, operand=bytes(lines))
        yield replace(made, blind=_IMAGE)
