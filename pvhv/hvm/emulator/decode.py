# SPDX-License-Identifier: GPL-2.0-or-later
"""The instruction at RIP: fetched as the guest would fetch it, decoded once for each sequence of bytes.

A monitor has to decode an instruction before it can emulate it, because a fault does not report it. The decoder is the
iced-x86 library. Its result depends only on the bytes and on the code segment's size (16, 32 or 64 bits), and is cached
by these. Instructions are decoded as if at address 0, so an address relative to RIP is computed with the real RIP
later.

Invariant: an `Instruction` of `length` bytes was made of bytes that the guest itself may fetch; where the page that
follows cannot be fetched, and the instruction needs it, its page fault is the guest's.

It does not know what an instruction does. Read beside it: emulate.py; AMD's manual volume 3, chapter 1.
"""

from __future__ import annotations

from typing import Final

import iced_x86 as iced

from pvhv.hvm.cpu.guestcpu import FLAG_BIG, FLAG_LONG, GuestCpu
from pvhv.hvm.cpu.memory import InvalidOpcode
from pvhv.machine import cpustate as cs

LONGEST: Final = 15
CACHED: Final = 1 << 14  # sequences; then it begins anew

_DECODER: Final = iced.Decoder
_NAMES: Final = {
    value: name.lower() for name, value in vars(iced.Mnemonic).items() if type(value) is int
}


class Instruction:
    """One decoded instruction: the library's object, and some of its properties, kept because they are read often."""

    __slots__ = ("bitness", "cut_off", "iced", "length", "mnemonic", "name")

    def __init__(self, code: bytes, bitness: int) -> None:
        decoder = _DECODER(bitness, code)
        self.iced: Final = decoder.decode()
        self.bitness: Final = bitness
        self.mnemonic: Final = self.iced.mnemonic
        self.length: Final = self.iced.len
        self.name: Final = _NAMES[self.mnemonic]
        self.cut_off: Final = decoder.last_error == iced.DecoderError.NO_MORE_BYTES

    @property
    def invalid(self) -> bool:
        """Whether the bytes are no valid instruction, or end before it ends."""
        return self.iced.is_invalid

    def __str__(self) -> str:
        return str(self.iced)


_cache: dict[tuple[bytes, int], Instruction] = {}


def decode(code: bytes, bitness: int) -> Instruction:
    """Decode the instruction at the beginning of `code`."""
    key = (code, bitness)
    found = _cache.get(key)
    if found is None:
        if len(_cache) >= CACHED:
            _cache.clear()
        found = _cache[key] = Instruction(code, bitness)
    return found


def bitness(cpu: GuestCpu) -> int:
    """The size of the current code segment: 16, 32 or 64 bits."""
    flags = cpu.segment(cs.CS).flags
    if flags & FLAG_LONG and cpu.long_mode:
        return 64
    return 32 if flags & FLAG_BIG else 16


def linear_rip(cpu: GuestCpu, bits: int) -> int:
    """The linear address of the instruction at RIP."""
    if bits == 64:
        return cpu.rip
    return cpu.rip + cpu.segment(cs.CS).base & 0xFFFF_FFFF


def fetch(cpu: GuestCpu) -> Instruction:
    """Fetch and decode the instruction at RIP. Raises the guest's PageFault, or InvalidOpcode."""
    bits = bitness(cpu)
    address, user = linear_rip(cpu, bits), cpu.cpl == 3
    in_page = min(LONGEST, 4096 - address % 4096)
    code = cpu.memory.fetch(address, in_page, user=user)
    instruction = decode(code, bits)
    if instruction.cut_off and in_page < LONGEST:
        instruction = decode(code + cpu.memory.fetch(address + in_page, LONGEST - in_page, user=user), bits)
    if instruction.invalid:
        raise InvalidOpcode
    return instruction
