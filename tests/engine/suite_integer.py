# SPDX-License-Identifier: GPL-2.0-or-later
"""Generated programs of the integer unit: one to three instructions each, with operands on edges, and all flags seen.

The engine computes flags only when someone looks, from what the last instruction left behind: so an instruction
that sets them is followed by one that reads or keeps some of them, and the end of the task looks at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from tests.engine.compare import reads_undefined
from tests.engine.records import Task
from tests.engine.values import ARITHMETIC, integer, operand, registers, task

Make = Callable[[Random, bool], bytes]
# Registers that an instruction may overwrite: not RBX, RSI, RDI, which point somewhere, nor RSP.
_ANY = (0, 1, 2, 5)


def _size(rng: Random, mode32: bool, byte: bool = True) -> tuple[bytes, int]:
    """Prefixes of an operand size, and the opcode's low bit."""
    return rng.choice([(b"", 0), (b"\x66", 1), (b"", 1), (b"" if mode32 else b"\x48", 1)][0 if byte else 1 :])


def _modrm(rng: Random, reg: int, memory: float = 0.4) -> bytes:
    """The register RDX or another, or memory at RBX with a displacement that may be odd."""
    if rng.random() < memory:
        return bytes((0x43 | reg << 3, rng.choice((0, 1, 3, 8, 16))))
    return bytes((0xC0 | reg << 3 | rng.choice(_ANY),))


def _immediate(rng: Random, prefix: bytes, wide: int) -> bytes:
    size = 1 if not wide else 2 if prefix == b"\x66" else 4
    return (integer(rng) & (1 << 8 * size) - 1).to_bytes(size, "little")


def _alu(rng: Random, mode32: bool) -> bytes:
    prefix, wide = _size(rng, mode32)
    op, form = rng.randrange(8), rng.randrange(4)
    if form < 2:
        return prefix + bytes((op << 3 | form << 1 | wide,)) + _modrm(rng, rng.choice(_ANY))
    if form == 2:
        return prefix + bytes((0x80 | wide,)) + _modrm(rng, op) + _immediate(rng, prefix, wide)
    return prefix + b"\x83" + _modrm(rng, op) + bytes((rng.getrandbits(8),))


def _unary(rng: Random, mode32: bool) -> bytes:
    prefix, wide = _size(rng, mode32)
    if rng.random() < 0.3:
        return prefix + bytes((0xFE | wide,)) + _modrm(rng, rng.randrange(2))
    op = rng.choice((0, 2, 3, 4, 5, 6, 7))
    return prefix + bytes((0xF6 | wide,)) + _modrm(rng, op) + (b"" if op else _immediate(rng, prefix, wide))


def _shift(rng: Random, mode32: bool) -> bytes:
    prefix, wide = _size(rng, mode32)
    op, kind = rng.choice((0, 1, 2, 3, 4, 5, 7)), rng.choice((0xC0, 0xD0, 0xD2))
    tail = bytes((rng.choice((rng.getrandbits(8), rng.randrange(34))),)) if kind == 0xC0 else b""
    return prefix + bytes((kind | wide,)) + _modrm(rng, op) + tail


def _double_shift(rng: Random, mode32: bool) -> bytes:
    prefix, _ = _size(rng, mode32, byte=False)
    opcode = rng.choice((0xA4, 0xA5, 0xAC, 0xAD))
    count = bytes((rng.randrange(17) if prefix == b"\x66" else rng.getrandbits(8),)) if opcode & 1 == 0 else b""
    return prefix + bytes((0x0F, opcode)) + _modrm(rng, rng.choice(_ANY)) + count


def _bits(rng: Random, mode32: bool) -> bytes:
    prefix, _ = _size(rng, mode32, byte=False)
    kind = rng.randrange(4)
    if kind == 0:
        return prefix + b"\x0f\xba" + _modrm(rng, rng.randrange(4, 8)) + bytes((rng.getrandbits(8),))
    if kind == 1:
        reg = rng.choice(_ANY)
        return prefix + bytes((0x0F, rng.choice((0xA3, 0xAB, 0xB3, 0xBB)), 0xC0 | reg << 3 | rng.choice(_ANY)))
    if kind == 2:
        return prefix + bytes((0x0F, rng.choice((0xBC, 0xBD)))) + _modrm(rng, rng.choice(_ANY))
    return prefix[:0] + b"\xf3" + prefix + b"\x0f\xb8" + _modrm(rng, rng.choice(_ANY))


def _exchange(rng: Random, mode32: bool) -> bytes:
    prefix, wide = _size(rng, mode32)
    opcode = rng.choice((b"\x0f\xb0", b"\x0f\xc0", b"\x86"))
    memory = _modrm(rng, rng.choice(_ANY), 0.5)
    lock = b"\xf0" if memory[0] < 0xC0 and rng.random() < 0.5 else b""
    return lock + prefix + opcode[:-1] + bytes((opcode[-1] | wide,)) + memory


def _wide_exchange(rng: Random, mode32: bool) -> bytes:
    wide = not mode32 and rng.random() < 0.5
    prefixes = rng.choice((b"", b"\xf0")) + (b"\x48" if wide else b"")
    return prefixes + b"\x0f\xc7\x4b" + bytes((rng.choice((0, 16, 16, 8)),))


def _locked(rng: Random, mode32: bool) -> bytes:
    prefix, wide = _size(rng, mode32)
    memory = bytes((rng.choice((0, 8, 3)),))
    kind = rng.randrange(3)
    if kind == 0:
        return b"\xf0" + prefix + bytes((rng.randrange(7) << 3 | wide, 0x43 | rng.choice(_ANY) << 3)) + memory
    if kind == 1:
        return b"\xf0" + prefix + bytes((0xF6 | wide, 0x43 | rng.choice((2, 3)) << 3)) + memory
    return b"\xf0" + prefix + bytes((0xFE | wide, 0x43 | rng.randrange(2) << 3)) + memory


def _multiply(rng: Random, mode32: bool) -> bytes:
    prefix, _ = _size(rng, mode32, byte=False)
    kind = rng.randrange(3)
    if kind == 0:
        return prefix + b"\x0f\xaf" + _modrm(rng, rng.choice(_ANY))
    modrm = _modrm(rng, rng.choice(_ANY))
    if kind == 1:
        return prefix + b"\x69" + modrm + _immediate(rng, prefix, 1)
    return prefix + b"\x6b" + modrm + bytes((rng.getrandbits(8),))


def _reader(rng: Random, mode32: bool) -> bytes:
    """An instruction that reads flags, or keeps some of them."""
    condition = rng.randrange(16)
    prefix, _ = _size(rng, mode32, byte=False)
    return rng.choice((
        bytes((0x0F, 0x90 | condition)) + _modrm(rng, 0),
        prefix + bytes((0x0F, 0x40 | condition)) + _modrm(rng, rng.choice(_ANY)),
        bytes((0x70 | condition, 2)), b"\x9f", b"\x9e", b"\xf5", b"\xf8", b"\xf9", b"\xfc", b"\xfd", b"\x9c",
        bytes((0x0F, 0x80 | condition)) + (3).to_bytes(4, "little"),
        prefix + bytes((rng.choice((0x11, 0x19)),)) + _modrm(rng, rng.choice(_ANY)),
    ))  # fmt: skip


def _move(rng: Random, mode32: bool) -> bytes:
    prefix, _ = _size(rng, mode32, byte=False)
    reg = rng.choice(_ANY)
    choices = [
        prefix + bytes((0x0F, rng.choice((0xB6, 0xB7, 0xBE, 0xBF)))) + _modrm(rng, reg),
        prefix + b"\x98", prefix + b"\x99", (b"" if prefix == b"\x66" else prefix) + bytes((0x0F, 0xC8 | reg)),
        prefix + bytes((0x0F, 0x38, rng.choice((0xF0, 0xF1)), 0x43 | reg << 3, rng.choice((0, 3)))),
        (b"\x66" if prefix == b"\x66" else b"") + b"\xf2" + (prefix if prefix == b"\x48" else b"")
        + bytes((0x0F, 0x38, rng.choice((0xF0, 0xF1)))) + _modrm(rng, reg),
        prefix + bytes((0x8D, 0x44 | reg << 3, rng.choice((0x08, 0x50, 0xAB, 0xE3)), rng.getrandbits(8))),
        b"\xd7", bytes((rng.choice((0x50, 0x58)) | reg,)), b"\x66" + bytes((0x50 | reg,)), b"\x9d", b"\xc9",
    ]  # fmt: skip
    if not mode32:
        choices.append(b"\x48\x63" + _modrm(rng, reg))
    return rng.choice(choices)


def _string(rng: Random, mode32: bool) -> bytes:
    repeat = rng.choice((b"", b"\xf3", b"\xf2"))
    prefix, wide = _size(rng, mode32)
    direction = rng.choice((b"", b"\xfd", b"\xfc"))
    return direction + repeat + prefix + bytes((rng.choice((0xA4, 0xA6, 0xAA, 0xAC, 0xAE)) | wide,))


def _only_32(rng: Random, mode32: bool) -> bytes:
    if not mode32:
        return _alu(rng, mode32)
    return rng.choice((
        b"\x27", b"\x2f", b"\x37", b"\x3f", b"\xd4" + bytes((rng.choice((10, 16, 0, 255, rng.getrandbits(8))),)),
        b"\xd5" + bytes((rng.choice((10, 16, 0, rng.getrandbits(8))),)), b"\x60", b"\x61", b"\x66\x60", b"\xd6",
        b"\xce",
        b"\x63" + _modrm(rng, rng.choice(_ANY)), bytes((0x40 | rng.choice((0, 1, 2, 8, 9, 10)),)),
        b"\x62\x53" + bytes((rng.choice((0, 8)),)),
    ))  # fmt: skip


_MAKERS: dict[str, Make] = {
    "alu": _alu, "unary": _unary, "shift": _shift, "shld": _double_shift, "bits": _bits, "exchange": _exchange,
    "cmpxchg16b": _wide_exchange, "locked": _locked, "multiply": _multiply, "move": _move, "string": _string,
    "flags": _reader, "only 32": _only_32,
}  # fmt: skip


def _jumps(code: bytes) -> bool:
    """A conditional jump ends a program: what follows it would be executed from its middle."""
    return code[0] & 0xF0 == 0x70 or (code[:1] == b"\x0f" and code[1] & 0xF0 == 0x80)


def generate(count: int, seed: int = 1) -> Iterator[Task]:
    """`count` programs."""
    rng = Random(seed)
    makers = list(_MAKERS.values())
    for n in range(count):
        mode32 = rng.random() < 0.3
        maker = makers[n % len(makers)]
        code = maker(rng, mode32)
        for _ in range(0 if _jumps(code) else rng.choice((0, 0, 1, 2))):
            more = rng.choice((_reader, _reader, _alu, _shift))(rng, mode32)
            if not reads_undefined(code, more, mode32):
                code += more
            if _jumps(more):
                break
        rcx = rng.choice((0, 1, 3, 7, 33, integer(rng)))
        if maker in (_string, _double_shift):  # (what SHLD does to 16 bits by more than 16 is undefined)
            rcx = rng.randrange(7)
        regs = registers(rng, rcx=rcx, rbp=0x14_0820 if rng.random() < 0.5 else integer(rng))
        flags = 0x202 | rng.getrandbits(12) & ARITHMETIC
        stack = integer(rng).to_bytes(8, "little") + b"\x02\x02" + bytes(14)
        if maker is _move and code[:1] == b"\x9d":
            stack = (rng.getrandbits(22) & ~0x100 | 2).to_bytes(8, "little")
        yield task("integer", n, code, regs, mode32=mode32, rflags=flags, operand=_integers(rng), stack=stack)


def _integers(rng: Random) -> bytes:
    if rng.random() < 0.3:
        return operand(rng)
    return b"".join(integer(rng).to_bytes(8, "little") for _ in range(16))
