# SPDX-License-Identifier: GPL-2.0-or-later
"""Breakpoints of DR0-3 come where the processor's come, and a debugger's watchpoints beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import DR6, EFLAGS, RAX, RBX, RCX, RDI, RF, RIP, RSI, TF
from pvhv.machine.debug import READS, WRITES, Watched
from pvhv.machine.paging import PTE_PRESENT
from tests.machine.lab import CODE, DATA, HOLE, KINDS, USER_CODE, USER_DATA, Lab, count_each_instruction

EXECUTE, WRITE, IO, ACCESS = range(4)
LENGTH = {1: 0, 2: 1, 4: 3, 8: 2}
DR6_NONE = 0xFFFF_0FF0

Hit = tuple[int, int]  # where RIP was from the code's beginning, and what DR6 had beyond DR6_NONE


def dr7(n: int, kind: int, size: int = 1, enable: int = 1) -> int:
    return 0x400 | enable << 2 * n | (LENGTH[size] << 2 | kind) << 16 + 4 * n


class Fixture(Lab):
    """A Lab that writes down each #DB."""

    def __init__(self, kind: str = "wall") -> None:
        super().__init__(kind)
        self.hits: list[Hit] = []
        self.flags: list[int] = []
        self.counts: list[int] = []
        self.at = CODE
        self.pcpu.on_exception[svm.DB] = self.debug
        self.registers = [0, 0, 0, 0, 0, 0, DR6_NONE, 0x400]

    def debug(self) -> None:
        self.hits.append((self.state[RIP] - self.at, self.state[DR6] ^ DR6_NONE))
        self.flags.append(self.state[EFLAGS])
        self.counts.append(self.pcpu.executed)
        if any(self.state[DR6] >> n & 1 and self.registers[7] >> 16 + 4 * n & 3 == EXECUTE for n in range(4)):
            self.state[EFLAGS] |= RF  # as whoever handles one does
        self.state[DR6] = DR6_NONE

    def arm(self, n: int, address: int, bits: int) -> None:
        self.registers[n] = address
        self.registers[7] |= bits
        self.pcpu.load_debug_registers(self.registers)

    def go(self, code: str, cpl: int = 1) -> list[Hit]:
        self.hits.clear()
        self.at = self.put(code + "0f05", CODE if cpl == 1 else USER_CODE)
        self.state[RBX] = DATA if cpl == 1 else USER_DATA
        self.run(self.at, cpl)
        return list(self.hits)


@pytest.fixture
def lab() -> Iterator[Fixture]:
    made = Fixture()
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cpl", [1, 3])
def test_a_write_is_told_behind_it(kind: str, cpl: int) -> None:
    lab = Fixture(kind)
    lab.arm(1, (DATA if cpl == 1 else USER_DATA) + 8, dr7(1, WRITE, 8))
    # nop; mov eax,[rbx+8]; mov [rbx+7],al; inc qword [rbx+8]; mov [rbx+16],eax; nop
    assert lab.go("90 8b4308 884307 48ff4308 894310 90", cpl) == [(11, 2)]
    assert lab.go("ff4b0c 90 895305 90", cpl) == [(3, 2), (7, 2)]
    assert not any(flags & RF for flags in lab.flags)
    lab.close()


def test_reads_and_writes(lab: Fixture) -> None:
    lab.arm(3, DATA, dr7(3, ACCESS, 4, enable=2))
    assert lab.go("8b03 8803 8b4304 48833b00 ff03") == [(2, 8), (4, 8), (11, 8), (13, 8)]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_the_bytes_of_both_decide(lab: Fixture, size: int) -> None:
    lab.arm(0, DATA + 64 + size - 1, dr7(0, WRITE, size))  # the low bits of the address do not count
    watched = range(64, 64 + size)
    for width, code in ((1, "8803"), (2, "668903"), (4, "8903"), (8, "488903")):
        for offset in range(48, 80):
            at = lab.put(code + "0f05")
            lab.hits.clear()
            lab.at, lab.state[RBX] = at, DATA + offset
            lab.run(at)
            expected = set(watched) & set(range(offset, offset + width))
            assert bool(lab.hits) == bool(expected), (size, width, offset)


def test_an_access_across_two_pages(lab: Fixture) -> None:
    lab.arm(0, DATA + 4096, dr7(0, ACCESS, 1))
    for offset in range(-10, 3):
        lab.state[RAX] = 0
        for code in ("488b83", "488983"):
            hits = lab.go(code + (4096 + offset).to_bytes(4, "little").hex())
            assert hits == ([(7, 1)] if -8 < offset <= 0 else []), (offset, code)


def test_what_is_not_enabled_does_not_fire(lab: Fixture) -> None:
    lab.arm(0, DATA, dr7(0, WRITE, 8, enable=0))
    assert lab.go("8903 ff03") == []
    lab.arm(0, DATA, dr7(0, WRITE, 8))
    assert lab.go("8903") == [(2, 1)]
    lab.pcpu.load_debug_registers([DATA, 0, 0, 0, 0, 0, DR6_NONE, 0x400])
    assert lab.go("8903") == []


def test_several_at_once(lab: Fixture) -> None:
    lab.arm(0, DATA, dr7(0, WRITE, 8))
    lab.arm(1, DATA + 4, dr7(1, ACCESS, 2))
    lab.arm(2, DATA + 8, dr7(2, WRITE, 1))
    assert lab.go("8803 894304 894306 8b4304") == [(2, 1), (5, 3), (8, 5), (11, 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_instruction_is_stopped_at(kind: str) -> None:
    lab = Fixture(kind)
    lab.state[RAX] = 0
    lab.arm(2, CODE + 3, dr7(2, EXECUTE))
    # xor eax,eax; nop; inc eax; cmp eax,3; jne -7
    assert lab.go("31c0 90 ffc0 83f803 75f9") == [(3, 4)] * 3
    assert lab.state[RAX] == 3
    lab.arm(2, USER_CODE + 2, 0)
    assert lab.go("31c0 90 ffc0 83f803 75f9", 3) == [(2, 4)]
    lab.close()


def test_the_base_of_a_64_bit_code_segment_does_not_count(lab: Fixture) -> None:
    lab.pcpu.set_segment(cs.CS, 0xE030, 0x1000, 0xFFFF_FFFF, 0x00AF_BB00)
    lab.arm(0, CODE + 1, dr7(0, EXECUTE))
    assert lab.go("90 90") == [(1, 1)]


def test_all_blocks_over_an_address_are_forgotten() -> None:
    """However many there are: from 400 places of each of four frames to the instruction that gets a breakpoint."""
    lab = Fixture()
    lab.at = HOLE
    for frame in range(DATA, DATA + 0x4000, 4096):
        lab.ram.bytes[frame : frame + 502] = b"\x90" * 500 + b"\x0f\x05"

    def execute(step: int) -> int:
        runs = 0
        for frame in range(DATA, DATA + 0x4000, 4096):
            lab.ram.words[4 * 512 + (HOLE >> 12)] = frame | PTE_PRESENT
            lab.pcpu.flush_tlb()
            for begin in range(HOLE, HOLE + 400, step):
                lab.run(begin)
                runs += 1
        return runs

    assert execute(1) == 1600
    lab.arm(0, HOLE + 499, dr7(0, EXECUTE))
    assert lab.hits == []
    assert [(499, 1)] * execute(7) == lab.hits
    lab.close()


def test_a_fault_at_the_instruction_comes_after_its_breakpoint(lab: Fixture) -> None:
    lab.arm(0, CODE, dr7(0, EXECUTE))
    seen: list[bool] = []

    def undefined() -> None:
        seen.append(bool(lab.state[EFLAGS] & RF))
        lab.state[RIP] += 2
        lab.state[EFLAGS] &= ~RF

    lab.pcpu.on_exception[svm.UD] = undefined
    assert lab.go("0f0b 90") == [(0, 1)]
    assert seen == [True]


def test_rf_is_for_one_instruction(lab: Fixture) -> None:
    lab.arm(0, CODE, dr7(0, EXECUTE))
    lab.arm(1, CODE + 1, dr7(1, EXECUTE))
    assert lab.go("90 90 90") == [(0, 1), (1, 2)]
    lab.arm(1, CODE + 1, 0)
    assert lab.go("eb00 90") == [(0, 1)]


def test_a_step_and_a_breakpoint_are_told_apart(lab: Fixture) -> None:
    lab.arm(0, DATA, dr7(0, WRITE, 4))
    lab.arm(1, CODE + 3, dr7(1, EXECUTE))
    lab.state[EFLAGS] |= TF
    step = 1 << 14
    assert lab.go("90 8903 90 90")[:5] == [(1, step), (3, step | 1), (3, 2), (4, step), (5, step)]


def test_a_string_instruction_hits_once_an_iteration(lab: Fixture) -> None:
    lab.arm(0, DATA + 16, dr7(0, WRITE, 8))
    lab.state[RDI], lab.state[RSI], lab.state[RCX] = DATA, DATA + 256, 64
    assert lab.go("f3a4") == [(0, 1)] * 8
    assert lab.state[RDI] == DATA + 64


def test_a_faulting_instruction_hits_nothing(lab: Fixture) -> None:
    # The read hits, and the push to nowhere faults.
    lab.arm(0, DATA, dr7(0, ACCESS, 8))

    def fault() -> None:
        lab.state[RIP] += 2

    lab.pcpu.on_exception[svm.PF] = fault
    lab.pcpu.on_exception[svm.SS] = fault
    rsp = lab.state[4]
    lab.state[4] = 0x7000_0000
    assert lab.go("ff33 90 90") == []
    lab.state[4] = rsp
    assert lab.go("ff33 90 90") == [(2, 1)]


def test_ports(lab: Fixture) -> None:
    lab.arm(0, 0x61, dr7(0, IO))
    lab.pcpu.on_io = lambda port, size, write, value: 0
    assert lab.go("e461 e660 e661 e562 e55e") == [(2, 1), (6, 1), (10, 1)]


@pytest.mark.parametrize("kind", ["virtual", "virtual-block-copy"])
def test_counts_are_exact_all_the_same(kind: str) -> None:
    lab = Fixture(kind)
    lab.arm(0, DATA, dr7(0, WRITE, 8))
    lab.arm(1, CODE + 4, dr7(1, EXECUTE))
    counted = count_each_instruction(lab.pcpu)
    before = lab.pcpu.executed
    lab.go("90 8903 90 90 8903 ff03 90")
    assert lab.pcpu.executed - before == counted()
    lab.close()


@pytest.mark.parametrize("kind", ["wall", "virtual"])
def test_a_debugger_watches_beside_the_guest(kind: str) -> None:
    lab = Fixture(kind)
    lab.arm(0, DATA, dr7(0, WRITE, 8))
    places = [Watched(DATA + 4, 2, WRITES), Watched(DATA + 8, 100, READS), Watched(DATA + 16, 8, READS | WRITES)]
    lab.pcpu.debug.watch(places)
    told: list[tuple[int, list[Watched]]] = []
    lab.pcpu.on_break = lambda: told.append((lab.state[RIP] - CODE, sorted(lab.pcpu.debug.take_hit())))
    assert lab.go("8803 894303 894308 8b4308 894310 8b4310") == [(2, 1), (5, 1)]
    assert told == [(5, places[:1]), (11, places[1:2]), (14, places[2:]), (17, places[1:])]
    told.clear()
    lab.pcpu.debug.watch([])
    assert lab.go("8803 894303") == [(2, 1), (5, 1)] and not told
    lab.close()
