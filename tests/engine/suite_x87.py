# SPDX-License-Identifier: GPL-2.0-or-later
"""Generated programs of the x87: every ESC opcode, with special values, TOP and tags anywhere, all precisions, rounding
modes and masks; half of them with an FWAIT behind, at which an unmasked exception arrives.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random

from tests.engine.records import Task
from tests.engine.values import float32, float64, float80, image, integer, registers, task

FORMS = [(esc, modrm) for esc in range(0xD8, 0xE0) for modrm in (*range(3, 0x40, 8), *range(0xC0, 0x100))]


def instruction(rng: Random, number: int) -> bytes:
    """One of the ESC opcodes, in an order that goes through all of them."""
    esc, modrm = FORMS[number * 37 % len(FORMS)]
    return bytes((esc, modrm)) if modrm >= 0xC0 else bytes((esc, modrm | 0x40, rng.choice((0, 0, 16, 32))))


def state(rng: Random) -> bytes:
    """What of FXSAVE's area is the x87's."""
    control = 0x40 | rng.choice((0x300, 0x300, 0x200, 0)) | rng.choice((0, 0, 0x400, 0x800, 0xC00))
    control |= 0x3F if rng.random() < 0.7 else rng.getrandbits(6)
    top = rng.randrange(8)
    # Exceptions that are pending already come rarely, and only masked ones: the load would else trap by itself.
    flags = rng.choice((0, 0, 0, rng.getrandbits(6) & control & 0x3F)) | rng.choice((0, rng.getrandbits(3) << 8))
    tags = rng.choice((0xFF, 0xFF, 0xFF, 0, rng.getrandbits(8), 0xFF & ~(1 << top)))
    x87 = struct.pack("<HHBxHQQII", control, flags | top << 11, tags, 0, 0, 0, 0x1F80, 0)
    return x87 + b"".join(float80(rng).to_bytes(10, "little") + bytes(6) for _ in range(8))


def generate(count: int, seed: int = 3) -> Iterator[Task]:
    """`count` programs."""
    rng = Random(seed)
    for n in range(count):
        code = instruction(rng, n)
        if rng.random() < 0.5:
            code += b"\x9b"
        yield task(
            "x87", n, code, registers(rng, rax=0x1111_2222_3333_4444), fx=image(rng, x87=state(rng)),
            operand=operands(rng), rflags=0x202 | rng.choice((0, 0x8D5)),
        )  # fmt: skip


def operands(rng: Random) -> bytes:
    """Numbers of one format."""
    kind = rng.randrange(5)
    if kind == 0:
        lines = [struct.pack("<4I", *(float32(rng) for _ in range(4))) for _ in range(8)]
    elif kind == 1:
        lines = [struct.pack("<2Q", float64(rng), float64(rng)) for _ in range(8)]
    elif kind == 2:
        lines = [float80(rng).to_bytes(10, "little") + bytes(6) for _ in range(8)]
    elif kind == 3:  # packed decimal
        lines = []
        for _ in range(8):
            digits = bytes(rng.randrange(10) | rng.randrange(10) << 4 for _ in range(9))
            lines.append(digits + rng.choice((b"\0", b"\x80")) + bytes(6))
    else:
        lines = [struct.pack("<2Q", integer(rng), integer(rng)) for _ in range(8)]
    return b"".join(lines)
