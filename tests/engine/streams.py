# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams of instructions for an engine to choke on: real code, mutated; long straight runs; code across pages; code
that overwrites itself.

A stream is some hundred bytes in pages a guest may read, write and execute, with registers that point into data, into
the code, to the ends of pages and to nowhere. It is executed on a guarded pCPU; where it faults, calls or asks for
anything, it goes on a few bytes further, until it has used up its budget. What is asserted is what holds for every
guest: the engine lives, the guest stays where it can be (CPL, control registers, tables), nothing outside its pages
changes, and it is stopped when it is to stop. What the instructions calculate is for differences.py.

Everything follows from a seed: the same streams everywhere, every time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from elftools.elf.elffile import ELFFile

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine.cpustate import EFLAGS, HFLAGS, RIP
from pvhv.machine.paging import PTE_PRESENT, PTE_RW, PTE_USER
from pvhv.machine.pcpu import PCPU
from pvhv.machine.ram import Ram
from pvhv.machine.rings import KERNEL, MODE, USER
from pvhv.machine.x86 import CR0_TS
from pvhv.toolstack.kernel_files import KERNELS

CODE, CODE_PAGES = 0x40_0000, 4  # read, written and executed; a hole behind them
DATA, DATA_PAGES = 0x50_0000, 4
READ_ONLY = 0x60_0000
FRAMES, CANARY = 256, 0xA5
TABLES, GDT, CODE_FRAME, DATA_FRAME = 8, 16, 32, 64
# 64-bit code, data, 64- and 32-bit user code, user data: for CPL 1 and for CPL 3.
DESCRIPTORS = (
    0, 0x00AF_BB00_0000_FFFF, 0x00CF_B300_0000_FFFF, 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF,
    0x00CF_FB00_0000_FFFF, 0x00CF_BB00_0000_FFFF,
)  # fmt: skip
SEGMENTS = {1: (0x09, 0x11), 3: (0x1B, 0x23)}
BUDGET = 400  # exits of a stream
LONGEST = 4_000  # instructions of one that loops
KINDS: dict[str, dict[str, Any]] = {
    "wall": {},
    "virtual": {"clock": "virtual"},
    "wall, stopped at blocks": {"block_stops": True},
    "virtual, by mode, code guarded": {"clock": "virtual", "block_stops": True, "by_mode": True, "guard_code": True},
}


def real_code() -> bytes:
    """The text of kernels of ours: code as a compiler makes it, and assembly of every privileged kind."""
    text = b""
    for name in ("guest-pv", "guest-native", "test-hostile-privileges", "bench-compute"):
        with open(KERNELS / name, "rb") as file:
            section = ELFFile(file).get_section_by_name(".text")
            text += section.data()
    return text


class Streams:
    """Streams from a seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.text = real_code()
        self.makers: tuple[Callable[[], bytes], ...] = (
            self.mutated, self.mutated, self.spliced, self.noise, self.long_run, self.overwriting,
        )  # fmt: skip

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self.dice.choice(self.makers)()

    def piece(self, most: int = 200) -> bytes:
        at = self.dice.randrange(len(self.text) - most)
        return self.text[at : at + self.dice.randint(4, most)]

    def mutated(self) -> bytes:
        code = bytearray(self.piece())
        for _ in range(self.dice.randint(1, 8)):
            at = self.dice.randrange(len(code))
            what = self.dice.random()
            if what < 0.4:
                code[at] ^= 1 << self.dice.randrange(8)
            elif what < 0.7:
                code[at] = self.dice.randrange(256)
            else:
                code[at:at] = bytes((self.dice.choice(PREFIXES),))
        return bytes(code)

    def spliced(self) -> bytes:
        return b"".join(self.piece(24) for _ in range(self.dice.randint(2, 12)))

    def noise(self) -> bytes:
        """Opcodes by map, so that the rare ones come."""
        return b"".join(self.any_instruction() for _ in range(self.dice.randint(1, 30)))

    def any_instruction(self) -> bytes:
        dice = self.dice
        prefixes = bytes(dice.choice(PREFIXES) for _ in range(dice.choice((0, 0, 0, 1, 1, 2, 5))))
        opcode = bytes((*dice.choice(((), (0x0F,), (0x0F,), (0x0F, 0x38), (0x0F, 0x3A))), dice.randrange(256)))
        return prefixes + opcode + dice.randbytes(dice.choice((1, 2, 2, 5, 6)))

    def long_run(self) -> bytes:
        """One instruction, or a few, for hundreds of times without a branch."""
        few = [bytes.fromhex(self.dice.choice(STRAIGHT)) for _ in range(self.dice.randint(1, 4))]
        return b"".join(few * (self.dice.randint(300, 900) // len(few)))

    def overwriting(self) -> bytes:
        """Stores into the code itself, before and behind, among other code."""
        code = b""
        for _ in range(self.dice.randint(2, 10)):
            distance = self.dice.randint(-60, 60)
            value = self.dice.choice((0x90, 0x0F, 0xF0, self.dice.randrange(256)))
            # movb $value, distance(%rip); or movq %rax, distance(%rip); or lock xadd
            code += self.dice.choice((
                b"\xc6\x05" + distance.to_bytes(4, "little", signed=True) + bytes((value,)),
                b"\x48\x89\x05" + distance.to_bytes(4, "little", signed=True),
                b"\xf0\x48\x0f\xc1\x05" + distance.to_bytes(4, "little", signed=True),
            ))  # fmt: skip
            code += self.piece(16)
        return code


PREFIXES = (0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x64, 0x65, 0x48, 0x41, 0x4C, 0x40, 0x4F)
# fld m80; fld1; fadd; fstp m80; fxch; fptan; pshufd; shufps; palignr; pcmpistri; pmulld; divpd; cvttsd2si; mov fs, eax;
# lock xadd; cmpxchg16b; rcl; div; bts m,r; push; pushf; stosb; movsq; cpuid; fxsave; ldmxcsr; maskmovdqu; pinsrw; crc32
STRAIGHT = (
    "db2b d9e8 dcc1 db3b d9c9 d9f2 660f70c14e 0fc6c1b1 660f3a0fc103 660f3a63c10c 660f3840c1 660f5ec1 f2480f2cc0 8ee0 "
    "f0480fc103 480fc70b 48d3d0 48f7f1 480fab0b 50 9c aa 48a5 0fa2 0fae03 0fae13 660ff7c1 660fc4c103 f2480f38f1c1"
).split()


class Ground:
    """Where streams run: a pCPU and its pages, among frames that are nobody's."""

    def __init__(self, kind: str, seed: int) -> None:
        self.dice = random.Random(seed ^ 0x5EED)
        self.ram = Ram(FRAMES)
        self.ram.bytes[:] = bytes((CANARY,)) * (FRAMES * 4096)
        self._tables()
        self.pcpu = PCPU(self.ram, **KINDS[kind])
        self.pcpu.contain()
        self.pcpu.set_gdtr(GDT << 12, 8 * len(DESCRIPTORS) - 1)
        self.pcpu.set_user_tables(TABLES << 12) if self.pcpu.has_user_tables else None
        self.pcpu.load_cr3(TABLES << 12)
        self.initial = self.pcpu.save()
        self.state = self.pcpu.state
        self.streams = self.instructions = self.exits = 0
        self._install()

    def _tables(self) -> None:
        words = self.ram.words
        link = PTE_PRESENT | PTE_RW | PTE_USER
        for frame in range(TABLES, TABLES + 4):
            words[frame * 512 : frame * 512 + 512] = memoryview(bytes(4096)).cast("Q")
        for level in range(3):
            words[(TABLES + level) * 512] = (TABLES + level + 1) << 12 | link
        words[(TABLES + 2) * 512 + 1] = 0
        first, second = TABLES + 3, TABLES + 4
        words[second * 512 : second * 512 + 512] = memoryview(bytes(4096)).cast("Q")
        words[(TABLES + 2) * 512 + (CODE >> 21)] = second << 12 | link
        words[first * 512 + GDT] = GDT << 12 | PTE_PRESENT
        words[GDT * 512 : GDT * 512 + 512] = memoryview(bytes(4096)).cast("Q")
        words[GDT * 512 : GDT * 512 + len(DESCRIPTORS)] = memoryview(
            b"".join(d.to_bytes(8, "little") for d in DESCRIPTORS)
        ).cast("Q")
        for n in range(CODE_PAGES):
            words[second * 512 + ((CODE >> 12) + n & 511)] = CODE_FRAME + n << 12 | link
        third = TABLES + 5
        words[third * 512 : third * 512 + 512] = memoryview(bytes(4096)).cast("Q")
        for base, at, flags in ((DATA, DATA_FRAME, link), (READ_ONLY, DATA_FRAME + 16, PTE_PRESENT | PTE_USER)):
            table = second if base >> 21 == CODE >> 21 else third
            words[(TABLES + 2) * 512 + (base >> 21)] = table << 12 | link
            for n in range(DATA_PAGES):
                words[table * 512 + ((base >> 12) + n & 511)] = at + n << 12 | flags

    def _install(self) -> None:
        pcpu, state = self.pcpu, self.state

        def further() -> None:
            """It goes on a few bytes behind where it is, if that is in its code, or at some other place of it."""
            self.exits += 1
            rip = state[RIP]
            if not CODE <= rip < CODE + CODE_PAGES * 4096 - 16:
                rip = self.start + self.dice.randrange(self.length)
            state[RIP] = rip + self.dice.randint(1, 4)
            self.settle()

        for vector in range(32):
            pcpu.on_exception[vector] = further
        pcpu.on_int = lambda vector: self.settle()
        pcpu.on_syscall = self.settle
        pcpu.on_cpuid = lambda: None
        pcpu.on_io = lambda port, size, write, value: None if self.dice.random() < 0.5 else 0

    def settle(self) -> None:
        """As a hypervisor leaves a guest: in its ring, on its segments, without a step to take."""
        cpl = self.mode & 3
        code, stack = SEGMENTS[cpl]
        self.pcpu.load_flat_segments(code, stack, cpl)
        self.state[HFLAGS] = self.state[HFLAGS] & ~MODE | self.mode
        self.state[EFLAGS] = self.state[EFLAGS] & 0x4_0CD7 | 0x202
        if self.exits > BUDGET:
            self.pcpu.stop()

    def run(self, code: bytes, mode: int) -> None:
        """One stream. Raises what the machine does: EngineDied, Escaped."""
        dice, state = self.dice, self.state
        self.mode, self.length = mode, len(code)
        # At the beginning, across a page, or up against the hole.
        room = CODE_PAGES * 4096 - len(code)
        self.start = CODE + dice.choice((0, 4096 - min(len(code) // 2, 4000), dice.randrange(room), room))
        at = (CODE_FRAME << 12) + self.start - CODE
        self.ram.bytes[at : at + len(code)] = code
        for n in range(CODE_PAGES):
            self.pcpu.forget_code(CODE_FRAME + n)
        self.pcpu.load(self.initial, TABLES << 12)
        places = (
            DATA + 64, DATA + 4090, DATA + DATA_PAGES * 4096 - dice.randint(1, 20), READ_ONLY + 8, self.start + 3,
            CODE + 4093, 0x70_0000, dice.getrandbits(64), dice.getrandbits(32), 1 << 63, 0, 1, 8, 0xFFFF_FFFF,
        )  # fmt: skip
        for n in range(16):
            state[n] = dice.choice(places)
        state[cs.RSP] = dice.choice((DATA + 0x2000, DATA + 0x2008, *places))
        state[cs.RCX] &= 0xFF if dice.random() < 0.8 else (1 << 64) - 1
        state[RIP], self.exits = self.start, 0
        self.settle()
        state[EFLAGS] |= dice.choice((0, 0, 0, 0x400, 0x100, 0x4_0000, 1))
        self.pcpu.set_ts(dice.random() < 0.05)
        before = self.pcpu.executed
        if self.pcpu.virtual:
            self.pcpu.run(LONGEST)
        else:
            self.pcpu.run_wall(time.monotonic_ns() + 20_000_000)
        self.streams += 1
        # Where nobody counts: at least as many as there were exits.
        self.instructions += min(self.pcpu.executed - before, 300) if self.pcpu.virtual else self.exits
        now = state[HFLAGS] & MODE
        assert now == mode or (mode, now) == (1, 3), hex(state[HFLAGS])
        assert state[cs.CR0] | CR0_TS == self.pcpu_cr0 | CR0_TS

    @property
    def pcpu_cr0(self) -> int:
        return int.from_bytes(self.initial[cs.CR0 * 8 : cs.CR0 * 8 + 8], "little")

    def untouched(self) -> bool:
        """Whether nothing was written outside of the guest's pages (but A and D bits of its tables)."""
        ours = ((TABLES, 6), (GDT, 1), (CODE_FRAME, CODE_PAGES), (DATA_FRAME, 20), (FRAMES, 0))
        at, ram = 0, self.ram.bytes
        for begin, frames in ours:
            if bytes(ram[at << 12 : begin << 12]).strip(bytes((CANARY,))):
                return False
            at = begin + frames
        return True

    def close(self) -> None:
        self.pcpu.close()


def fuzz(kind: str, seed: int, enough: Callable[[Ground], bool]) -> Ground:
    """Streams until it is enough, as kernel, as user, and at CPL 1 by turns. What is found has its seed and bytes."""
    ground = Ground(kind, seed)
    for number, code in enumerate(Streams(seed)):
        mode = (KERNEL, USER, 1)[number % 3]
        try:
            ground.run(code, mode)
            if number % 64 == 63:
                assert ground.untouched(), "memory outside of the guest's pages changed"
        except (uc.EngineDied, RuntimeError, AssertionError) as failure:
            where = f"{kind}, seed {seed}, stream {number} in mode {mode:#x}"
            raise AssertionError(f"{where}: {failure}\n{code.hex()}") from failure
        if enough(ground):
            break
    assert ground.untouched()
    return ground
