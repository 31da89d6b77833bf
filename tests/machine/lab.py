# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest small enough for one test: a few pages, code given as hex, and exits written down.

| address    | what                        | mapped |
|------------|-----------------------------|--------|
| CODE       | kernel code                 | RWX, supervisor |
| USER_CODE  | user code                   | RX, user |
| DATA       | 64 pages of data, stack end | RW NX, supervisor |
| USER_DATA  | user data                   | RW NX, user |
| HOLE       | nothing                     | - |
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int
from typing import Any

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine.paging import PTE_NX, PTE_PRESENT, PTE_RW, PTE_USER
from pvhv.machine.pcpu import FAULT_ADDRESS, PCPU
from pvhv.machine.ram import Ram

CODE, USER_CODE, DATA, USER_DATA, HOLE = 0x10_0000, 0x12_0000, 0x14_0000, 0x18_0000, 0x1A_0000
STACK = DATA + 0x4_0000 - 0x100
CR3 = 0x1000

# Every way a PCPU can be built: with what it finds here, and with what it falls back to elsewhere.
KINDS: dict[str, dict[str, Any]] = {
    "wall": {},
    "virtual": {"clock": "virtual"},
    "wall-block": {"block_stops": True},
    "wall-copy": {"copy_state": True},
    "virtual-copy": {"clock": "virtual", "copy_state": True},
    "virtual-block-copy": {"clock": "virtual", "copy_state": True, "block_stops": True},
}


class Done(Exception):
    """Raised by a handler to end a run."""


class Lab:
    """One Ram and one PCPU on it, running at CPL 1 in the map above."""

    def __init__(self, kind: str = "wall", ram: Ram | None = None) -> None:
        self.ram = ram or Ram(512)
        words = self.ram.words
        words[1 * 512], words[2 * 512], words[3 * 512] = 2 << 12 | 7, 3 << 12 | 7, 4 << 12 | 7
        for va in range(CODE, USER_CODE, 4096):
            self.map(va, PTE_PRESENT | PTE_RW)
        for va in range(USER_CODE, DATA, 4096):
            self.map(va, PTE_PRESENT | PTE_USER)
        for va in range(DATA, USER_DATA, 4096):
            self.map(va, PTE_PRESENT | PTE_RW | PTE_NX)
        for va in range(USER_DATA, HOLE, 4096):
            self.map(va, PTE_PRESENT | PTE_RW | PTE_USER | PTE_NX)
        self.pcpu = PCPU(self.ram, **KINDS[kind])
        self.state, self.aux = self.pcpu.state, self.pcpu.aux
        self.pcpu.load_cr3(CR3)
        self.state[cs.RSP] = STACK
        self.pcpu.on_syscall = self.finish

    def finish(self) -> None:
        raise Done

    def map(self, va: int, flags: int) -> None:
        """Identity: frame va >> 12."""
        self.ram.words[4 * 512 + (va >> 12)] = va | flags

    def put(self, code: str, at: int = CODE) -> int:
        """Place code (hex, blanks ignored) and return its address."""
        data = bytes.fromhex(code.replace("\n", ""))
        self.ram.bytes[at : at + len(data)] = data
        self.pcpu.forget_code(at >> 12)
        return at

    def run(self, at: int = CODE, cpl: int = 1) -> None:
        """Run from `at` until a handler raises Done (a syscall does, unless told otherwise)."""
        self.state[cs.RIP] = at
        self.pcpu.set_cpl(cpl)
        self.resume()

    def resume(self) -> None:
        try:
            self.pcpu.run()
        except Done:
            pass

    def address_of_fault(self) -> int:
        return self.pcpu.vmcb[FAULT_ADDRESS]

    def close(self) -> None:
        self.pcpu.close()


def count_each_instruction(pcpu: PCPU) -> Callable[[], int]:
    """The engine's own per-instruction hook: slow, and the measure of exactness."""
    count = 0

    def each(_engine: int) -> None:
        nonlocal count
        count += 1

    pcpu._engine.add_hook(uc.HOOK_CODE, CFUNCTYPE(None, c_int)(each))
    return lambda: count
