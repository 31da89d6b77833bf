# SPDX-License-Identifier: GPL-2.0-or-later
"""REP MOVS and REP STOS at random, on two pCPUs that must do the same: one moves stretches (rep-stretches.toml), the
other has a hook at each block, and so executes each element by itself.

A case is a window of pages, some of which show the same frame, are read-only, or are absent, and a few instructions
with random registers. What came of it is everything a guest could see, and what a hypervisor could: registers, faults,
debug exceptions, memory, the bits in the page table.

`python -m tests.engine.repeats 10000` tries so many cases, and prints those that differ.
"""

from __future__ import annotations

import sys
from random import Random
from typing import NamedTuple

from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import EFLAGS, ERROR_CODE, RAX, RCX, RDI, RIP, RSI
from pvhv.machine.paging import PTE_NX, PTE_PRESENT, PTE_RW, PTE_USER
from tests.machine.lab import CODE, HOLE, USER_CODE, USER_DATA, Done, Lab

PAGES, FRAMES = 10, 6  # of the window, and behind it
FRAME = USER_DATA + 0x8000
LEAF = 4 * 512
KEEP_RCX = "4989cf"  # mov r15, rcx: SYSCALL overwrites it
DF, AC, TF = 0x400, 0x4_0000, 0x100
DR6_NONE = 0xFFFF_0FF0
PREFIXES = {1: b"", 2: b"\x66", 4: b"", 8: b"\x48"}
MAPPINGS = [PTE_PRESENT | PTE_RW | PTE_USER | PTE_NX] * 6 + [PTE_PRESENT | PTE_USER | PTE_NX, PTE_PRESENT | PTE_RW, 0]


def encode(moves: bool, size: int, segment: bytes = b"", narrow: bool = False, rep: bytes = b"\xf3") -> bytes:
    """One repeated instruction: MOVS or STOS of elements of `size`; `narrow`: addresses of 32 bits."""
    opcode = (0xA4 if moves else 0xAA) | (size > 1)
    return segment + (b"\x67" if narrow else b"") + rep + PREFIXES[size] + bytes((opcode,))


class Step(NamedTuple):
    """An instruction, and what it finds."""

    code: bytes
    cpl: int
    flags: int
    rsi: int
    rdi: int
    rcx: int
    rax: int
    fs: int
    watched: int  # DR0, and DR7's bits for it
    kind: int


class Case(NamedTuple):
    mappings: tuple[int, ...]  # the entries of the window's pages
    content: bytes
    steps: tuple[Step, ...]


def make(seed: int) -> Case:
    rng = Random(seed)
    mappings = []
    for _ in range(PAGES):
        flags = rng.choice(MAPPINGS)
        mappings.append((FRAME + 4096 * rng.randrange(FRAMES) | flags) if flags else 0)
    return Case(tuple(mappings), rng.randbytes(FRAMES * 4096), tuple(_step(rng) for _ in range(rng.randrange(1, 6))))


def _place(rng: Random) -> int:
    page = HOLE + 4096 * rng.randrange(PAGES)
    return page + rng.choice((0, rng.randrange(4096), rng.randrange(0, 4096, 8), 4096 - rng.randrange(1, 40)))


def _step(rng: Random) -> Step:
    size, moves = rng.choice((1, 2, 4, 8)), rng.random() < 0.7
    narrow = rng.random() < 0.2
    segment, fs = rng.choice(((b"", 0), (b"", 0), (b"", 0), (b"\x64", rng.randrange(-5000, 5000))))
    bytes_wanted = rng.choice((rng.randrange(64), rng.randrange(64), rng.randrange(3000), rng.randrange(20000)))
    count = bytes_wanted // size
    watched, kind, flags = 0, 0, 2
    if rng.random() < 0.15:
        length, code = rng.choice(((1, 0), (2, 1), (4, 3), (8, 2)))
        watched, kind = _place(rng) & -length, 0x402 | (code << 2 | rng.choice((1, 3))) << 16
    if rng.random() < 0.1:
        flags, count = flags | TF, count % 20
    flags |= DF * (rng.random() < 0.15) | AC * (rng.random() < 0.1)
    to = _place(rng)
    near = rng.random() < 0.4
    source = to + rng.choice((rng.randrange(-20, 20), rng.randrange(-300, 300), 8, -8, 4096)) if near else _place(rng)
    rsi, rdi = source - fs, to
    if narrow:
        count, rsi, rdi = (each & 0xFFFF_FFFF | rng.getrandbits(32) << 32 for each in (count, rsi, rdi))
    code = encode(moves, size, segment, narrow, rng.choice((b"\xf3", b"\xf3", b"\xf2")))
    rax = rng.choice((0, rng.getrandbits(64)))
    return Step(code, rng.choice((1, 3)), flags, rsi & (1 << 64) - 1, rdi, count, rax, fs, watched, kind)


class Side(Lab):
    """A Lab with a window, that writes down what comes of a case."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.seen: list[tuple[int, ...]] = []
        for vector in (svm.PF, svm.GP, svm.SS, svm.AC):
            self.pcpu.on_exception[vector] = lambda vector=vector: self.fault(vector)  # type: ignore[misc]
        self.pcpu.on_exception[svm.DB] = self.debug

    def fault(self, vector: int) -> None:
        self.seen.append((vector, self.aux[ERROR_CODE], self.address_of_fault() if vector == svm.PF else 0))
        raise Done

    def debug(self) -> None:
        state = self.state
        self.seen.append((svm.DB, state[cs.DR6], state[RIP], state[RCX], state[RSI], state[RDI]))
        state[cs.DR6] = DR6_NONE

    def outcome(self, case: Case) -> tuple[list[tuple[int, ...]], list[int], bytes]:
        """What is seen step by step, the window's entries, and the frames."""
        words, leaf = self.ram.words, LEAF + (HOLE >> 12)
        for n, entry in enumerate(case.mappings):
            words[leaf + n] = entry
        self.ram.bytes[FRAME : FRAME + FRAMES * 4096] = case.content
        self.pcpu.flush_tlb()
        self.seen = []
        for step in case.steps:
            self.take(step)
        return self.seen, words[leaf : leaf + PAGES].tolist(), bytes(self.ram.bytes[FRAME : FRAME + FRAMES * 4096])

    def take(self, step: Step) -> None:
        state = self.state
        state[EFLAGS], state[RSI], state[RDI], state[RCX], state[RAX] = step.flags, *step[3:7]
        state[cs.FS_BASE] = step.fs & (1 << 64) - 1
        self.pcpu.load_debug_registers([step.watched, 0, 0, 0, 0, 0, DR6_NONE, step.kind or 0x400])
        self.run(self.put(step.code.hex() + KEEP_RCX + "0f05", USER_CODE if step.cpl == 3 else CODE), step.cpl)
        self.seen.append((state[RIP], *state[0:16], state[EFLAGS]))


def differing(seeds: range, first: Side, second: Side) -> list[int]:
    """The seeds whose cases come out differently."""
    return [seed for seed in seeds if first.outcome(make(seed)) != second.outcome(make(seed))]


def main() -> int:
    """Try as many cases as the first argument says, from the second on."""
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    found = differing(range(first, first + count), Side("wall"), Side("virtual"))
    print(f"{len(found)} of {count} differ", found[:20])
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
