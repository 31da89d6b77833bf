# SPDX-License-Identifier: GPL-2.0-or-later
"""The names within a Linux kernel are found by what they must be, in each order they come in, and nowhere else."""

from __future__ import annotations

import random
import struct

import pytest

from pvhv.observe.kallsyms import kallsyms
from pvhv.observe.symbols import Symbol

BASE = 0xFFFF_FFFF_8100_0000
COUNT = 700  # three markers
LONG = "a_name_that_the_table_of_tokens_does_not_help_with_" + "_".join(str(n) for n in range(60))
# Bytes of which no name has one stand for pieces of names.
PIECES = {0x80: "function_", 0x81: "Tfunction_", 0x82: "_of_", 0x83: "long", 0xFF: "even"}


def tokens() -> list[str]:
    used = {ord(character) for character in "0123456789abcdefghijklmnopqrstuvwxyz_ATtdD"}
    return [PIECES.get(byte, chr(byte) if byte in used else "") for byte in range(256)]


def packed(typed_name: str) -> bytes:
    for byte, piece in PIECES.items():
        typed_name = typed_name.replace(piece, chr(byte))
    body = typed_name.encode("latin-1")
    size = len(body)
    return (bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])) + body


def table() -> list[tuple[int, str]]:
    """(address, type and name), sorted: two per-CPU variables, functions, one long name, data."""
    rows = [(0, "Apercpu_start"), (0x40, "Apercpu_of_one")]
    rows += [(BASE + 0x20 * n, f"{'T' if n % 2 else 't'}function_{n}") for n in range(COUNT - 5)]
    end = BASE + 0x20 * COUNT
    return [*rows, (end, f"t{LONG}"), (end, "talias"), (end + 0x123, "ddata")]


def aligned(*parts: bytes) -> bytes:
    whole = b""
    for part in parts:
        whole += bytes(-len(whole) % 8) + part
    return whole


def image(order: str, *, per_cpu: bool = True) -> bytes:
    rows = table() if per_cpu and order != "7.0" else table()[2:]
    names, markers = b"", []
    for n, (_, name) in enumerate(rows):
        if n % 256 == 0:
            markers.append(len(names))
        names += packed(name)
    texts = [token.encode("latin-1") + b"\0" for token in tokens()]
    index = [sum(map(len, texts[:n])) for n in range(256)]
    strings = b"".join(texts), struct.pack("<256H", *index)
    count, marks = struct.pack("<Q", len(rows)), struct.pack(f"<{len(markers)}I", *markers)
    sequence = bytes(3 * len(rows))
    if order == "absolute":
        whole = struct.pack(f"<{len(rows)}Q", *(address for address, _ in rows))
        parts = [whole, count, names, marks, *strings]
    else:
        if per_cpu:
            distances = [address if address < BASE else BASE - 1 - address for address, _ in rows]
        else:
            distances = [address - BASE for address, _ in rows]
        offsets, base = struct.pack(f"<{len(rows)}i", *distances), struct.pack("<Q", BASE)
        if order == "7.0":
            return elf(names, marks, *strings)
        if order == "5.10":
            parts = [offsets, base, count, names, marks, *strings]
        elif order == "6.2":
            parts = [offsets, base, count, names, marks, sequence, *strings]
        else:
            parts = [count, names, marks, *strings, offsets, base, sequence]
    noise = random.Random(1)
    return aligned(noise.randbytes(5000), b"0\x001\x002\0", *parts, noise.randbytes(3000))


def elf(names: bytes, marks: bytes, *strings: bytes) -> bytes:
    """Tables without a base lie at an address: their place in a segment of an ELF file."""
    rows = table()[2:]
    parts = bytes(4) + struct.pack("<I", len(rows)) + names
    parts += bytes(-len(parts) % 4) + marks
    parts += strings[0]
    parts += bytes(-len(parts) % 2) + strings[1]
    parts += bytes(-len(parts) % 4)
    at = 120 + len(parts)
    place = BASE + 0x200_0000 + at
    distances = struct.pack(f"<{len(rows)}i", *(address - place - 4 * n for n, (address, _) in enumerate(rows)))
    header = struct.pack("<4s28xQ14xHH6x", b"\x7fELF", 64, 56, 1)
    segment = struct.pack("<II6Q", 1, 5, 0, BASE + 0x200_0000, 0, 1 << 20, 1 << 20, 4096)
    return header + segment + parts + distances + bytes(100)


def expected() -> list[Symbol]:
    rows = [(address, name) for address, name in table() if address >= BASE]
    sizes = [next((later - address for later, _ in rows if later > address), 0) for address, _ in rows]
    return [
        Symbol(address, size if name[0] in "tT" else 0, name[1:])
        for (address, name), size in zip(rows, sizes, strict=True)
    ]


@pytest.mark.parametrize("order", ["5.10", "6.2", "6.5", "7.0", "absolute"])
@pytest.mark.parametrize("per_cpu", [True, False], ids=["per-cpu", "one processor"])
def test_every_order(order: str, per_cpu: bool) -> None:
    assert kallsyms(image(order, per_cpu=per_cpu)) == expected()


def test_a_bytearray_will_do() -> None:
    assert kallsyms(bytearray(image("5.10"))) == expected()


def test_what_does_not_agree_has_no_names() -> None:
    """Cut anywhere, or with its tables changed: never a wrong name, never an exception."""
    whole = image("6.5")
    assert kallsyms(b"") == kallsyms(bytes(4096)) == []
    first = whole.index(b"percpu" if b"percpu" in whole else packed("Apercpu_start"))
    for cut in range(first, len(whole) - 6000, 517):
        assert kallsyms(whole[:cut]) == []
    for order in ("5.10", "6.5"):
        whole = image(order)
        tokens_at = whole.index(b"0\x001\x002\x003\0")
        for at in (first + 3, tokens_at + 4, tokens_at + 700):
            broken = bytearray(whole)
            broken[at] ^= 0x55
            assert kallsyms(bytes(broken)) in ([], expected())


def test_noise_has_no_names() -> None:
    noise = random.Random(2)
    for _ in range(20):
        pieces = [noise.randbytes(noise.randrange(400)), b"".join(b"%d\0" % n for n in range(10))] * 5
        assert kallsyms(b"".join(pieces)) == []
