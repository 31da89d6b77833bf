# SPDX-License-Identifier: GPL-2.0-or-later
"""Shadow paging against the guest's own tables: random edits and accesses, and at every step the same verdict.

The yardstick is memory.walk: where an access leads, or the error code of its #PF, and the accessed and dirty bits it
leaves. It is asked on a copy of the guest's memory that no shadow knows of.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pvhv.hvm.cpu.memory import GuestPhysical, PageFault, Translation, walk
from pvhv.machine.ram import Ram
from pvhv.machine.x86 import CR0_PG, CR0_WP, EFER_NXE
from tests.hvm.shadowing import FETCH, NX, PSE, RW, US, USER, WRITE, A, D, G, Guest, P

FRAMES = 640  # more than 512, so that a large page lies in memory
TABLES = range(1, 7)  # the frames in which entries are stored: any of them can be a table of any level
OUTSIDE = 700
INDICES = (0, 1, 9, 511)
MONITOR = 7  # the monitor's own slot of every root

index = st.sampled_from(INDICES)
address = st.tuples(index, index, index, index, st.sampled_from((0, 0x123, 0xFF8)))
ALL = P | RW | US | A
flag = st.sampled_from((ALL | D, P | RW | US, P | US | A, P | RW | A | D, ALL | NX, P | A, P, 0))
extra = st.sampled_from((0, 0, 0, 0, 0, PSE, PSE, G, NX, 1 << 45, 1 << 13))
target = st.sampled_from((*TABLES, *TABLES, 7, 8, 9, 0, OUTSIDE))
code = st.sampled_from((0, WRITE, USER, USER | WRITE, FETCH, FETCH | USER))
table = st.sampled_from(TABLES)

edit = st.tuples(st.just("edit"), table, index, target, flag, extra)
access = st.tuples(st.just("access"), address, code)
step = st.one_of(
    edit,
    edit,
    edit,
    access,
    access,
    access,
    st.tuples(st.just("cr3"), st.sampled_from((1, 1, 1, 2, OUTSIDE))),
    st.tuples(st.just("wp"), st.booleans()),
    st.tuples(st.just("nxe"), st.sampled_from((True, True, False))),
    st.tuples(st.just("paging"), st.sampled_from((True, True, False))),
    st.tuples(st.just("bytes"), table, st.sampled_from((0, 4, 7, 4088)), st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("fill"), table, st.sampled_from((0, 0xFF))),
)


def linear(parts: tuple[int, int, int, int, int]) -> int:
    a, b, c, d, offset = parts
    return a << 39 | b << 30 | c << 21 | d << 12 | offset | (0xFFFF << 48 if a & 256 else 0)


class Model(Guest):
    def __init__(self, **options: Any) -> None:
        super().__init__(FRAMES, **options)
        self.touched = set(range(10))  # the frames that are not zero

    def tables(self) -> dict[int, bytes]:
        return {gfn: self.physical.read(gfn << 12, 4096) for gfn in self.touched}

    def expected(self, va: int, code: int) -> tuple[Translation | int, dict[int, bytes]]:
        """What the walk says, and what memory is afterwards; on a copy."""
        copy = Ram(FRAMES)
        for gfn, content in self.tables().items():
            copy.frame(gfn)[:] = content
        physical = GuestPhysical(copy, list(range(FRAMES)))
        write, user, fetch = bool(code & WRITE), bool(code & USER), bool(code & FETCH)
        result: Translation | int
        try:
            result = walk(physical, cast(Any, self.cpu), va, write=write, user=user, fetch=fetch)
        except PageFault as fault:
            result = fault.code
        return result, {gfn: bytes(copy.frame(gfn)) for gfn in self.touched}

    def judge(self, va: int, code: int) -> None:
        expected, after = self.expected(va, code)
        try:
            hit, outcomes = self.access(va, code)
        except PageFault as fault:
            assert fault.code == expected and fault.va == va
            assert self.tables() == after
            return
        assert isinstance(expected, Translation), f"{va:#x} must fault with {expected:#x}"
        assert self.tables() == after, "accessed and dirty bits"
        gfn = expected.gpa >> 12
        if hit is None:
            refused = (
                code & WRITE and (gfn in self.shadow.pages.tables or not expected.writable or gfn >= FRAMES)
            ) or (va >> 39 & 511 == MONITOR)
            assert refused, f"{va:#x} could have been shadowed: {outcomes}"
            return
        mfn = self.physical.mfn(gfn)
        assert hit.machine == (self.shadow.ones if mfn is None else mfn) << 12 | va & 0xFFF
        if code & WRITE:
            self.touched.add(gfn)
            self.ram.bytes[hit.machine & ~7 : (hit.machine & ~7) + 8] = b"ABCDEFGH"  # unseen: it must not be a table

    def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("edit", gfn, at, to, flags, more):
                self.store(gfn << 12 | at << 3, to << 12 | flags | more)
            case ("access", parts, code):
                self.judge(linear(parts) if self.cpu.cr0 & CR0_PG else linear(parts) & 0xFFFF_FFFF, code)
            case ("cr3", gfn):
                self.load(gfn << 12)
            case ("wp", on):
                self.cpu.cr0 = self.cpu.cr0 | CR0_WP if on else self.cpu.cr0 & ~CR0_WP
                self.load()
            case ("nxe", on):
                self.cpu.efer = self.cpu.efer | EFER_NXE if on else self.cpu.efer & ~EFER_NXE
                self.load()
            case ("paging", on):
                self.cpu.cr0 = self.cpu.cr0 | CR0_PG if on else self.cpu.cr0 & ~CR0_PG
                self.load()
            case ("bytes", gfn, offset, data):
                self.store(gfn << 12 | offset, data)
            case ("fill", gfn, byte):
                self.store(gfn << 12, bytes([byte]) * 4096)


def play(guest: Model, steps: list[tuple[Any, ...]]) -> None:
    for gfn, to in ((1, 2), (2, 3), (3, 4), (4, 7)):  # something to begin with
        guest.put(gfn, 0, to << 12 | P | RW | US | A)
    guest.load(1 << 12)
    for step in steps:
        guest.do(step)
        guest.check()
    guest.shadow.close()
    assert not guest.frames.out


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(step, min_size=10, max_size=60))
def test_the_shadow_says_what_the_tables_say(steps: list[tuple[Any, ...]]) -> None:
    play(Model(vmm_slot=MONITOR, vmm_l3=0x5000), steps)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(step, min_size=10, max_size=60))
def test_a_guest_that_keeps_reaching_the_limit_is_not_told_otherwise(steps: list[tuple[Any, ...]]) -> None:
    guest = Model(limit=8)
    play(guest, steps)


def test_the_model_can_tell() -> None:
    """A shadow that forgets one rule is found out by the steps that concern it."""
    guest = Model()
    guest.map(0x1000, 9, P | RW | US)
    guest.load(1 << 12)
    guest.judge(0x1000, WRITE)
    guest.put(4, 1, 0)  # behind the shadow's back: the entry is gone
    with pytest.raises(AssertionError):
        guest.judge(0x1000, 0)
