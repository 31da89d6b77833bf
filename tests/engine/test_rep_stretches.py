# SPDX-License-Identifier: GPL-2.0-or-later
"""REP MOVS and REP STOS are fast, and nobody can tell by anything else that they move stretches."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from ctypes import CFUNCTYPE, c_int

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import seam, svm
from pvhv.machine.cpustate import EFLAGS, R15, RAX, RBX, RCX, RDI, RIP, RSI, RSP
from pvhv.machine.paging import PTE_PRESENT, PTE_RW
from tests.engine import repeats
from tests.engine.repeats import AC, DR6_NONE, KEEP_RCX, LEAF, encode
from tests.machine.lab import CODE, DATA, HOLE, STACK, USER_CODE, USER_DATA, Done, Lab, count_each_instruction

pytestmark = pytest.mark.skipif(not seam.corrected, reason="the stock engine moves one element at a time")

MOVSQ, STOSQ, MOVSB, STOSB = "f348a5", "f348ab", "f3a4", "f3aa"
RWX = PTE_PRESENT | PTE_RW
AREA = 0x7000


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    made.ram.bytes[DATA : DATA + AREA] = bytes((n * 7 + (n >> 8)) & 0xFF for n in range(AREA))
    yield made
    made.close()


def go(lab: Lab, code: str, rdi: int, rcx: int, rsi: int = 0, at: int = CODE) -> None:
    """Execute it at CPL 1. R15 has then what RCX was."""
    lab.state[RDI], lab.state[RCX], lab.state[RSI] = rdi, rcx, rsi
    lab.run(lab.put(code + KEEP_RCX + "0f05", at))


def by_elements(memory: bytearray, size: int, rdi: int, rcx: int, rsi: int | None, rax: int, step: int) -> None:
    """What the manual says of it, in an image of the area."""
    for n in range(0, rcx * step, step):
        element = memory[rsi + n : rsi + n + size] if rsi is not None else rax.to_bytes(8, "little")[:size]
        memory[rdi + n : rdi + n + size] = element


@pytest.mark.parametrize("moves", [True, False])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_every_length_and_place(lab: Lab, moves: bool, size: int) -> None:
    code = encode(moves, size).hex()
    lengths = (0, 1, 2, 3, 4, 5, 8, 9, 33, 4096 // size - 1, 4096 // size, 4096 // size + 1, 9000 // size)
    all_but_the_last = int.from_bytes(b"\x22" * (size - 1) + b"\x11", "little")
    for rcx, to, source in itertools.product(lengths, (0, 3, 4088, 4093), (0x3000, 0x3001, 0x3FFC)):
        for rax in (0, 0x8877_6655_4433_2211, all_but_the_last)[: 1 if moves else 3]:
            expected = bytearray(lab.ram.bytes[DATA : DATA + AREA])
            by_elements(expected, size, to, rcx, source if moves else None, rax, size)
            lab.state[RAX] = rax
            go(lab, code, DATA + to, rcx, DATA + source)
            assert bytes(lab.ram.bytes[DATA : DATA + AREA]) == expected, (rcx, to, source)
            assert lab.state[RDI] == DATA + to + rcx * size and lab.state[R15] == 0
            assert lab.state[RSI] == DATA + source + rcx * size * moves


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("backwards", [False, True])
def test_what_overlaps(lab: Lab, size: int, backwards: bool) -> None:
    code, step = ("fd" if backwards else "") + encode(True, size).hex() + "fc", -size if backwards else size
    for distance in (*range(-17, 18), -64, 63, 64, 65, 100, -100):
        for rcx in (7, 100, 500, 700):
            expected = bytearray(lab.ram.bytes[DATA : DATA + AREA])
            by_elements(expected, size, 0x2800 + distance, rcx, 0x2800, 0, step)
            go(lab, code, DATA + 0x2800 + distance, rcx, DATA + 0x2800)
            assert bytes(lab.ram.bytes[DATA : DATA + AREA]) == expected, (distance, rcx)


def test_two_mappings_of_one_frame_overlap_as_well(lab: Lab) -> None:
    lab.ram.words[LEAF + (HOLE >> 12)] = DATA | RWX
    expected = bytearray(lab.ram.bytes[DATA : DATA + AREA])
    by_elements(expected, 1, 11, 2000, 8, 0, 1)
    go(lab, MOVSB, HOLE + 11, 2000, DATA + 8)
    assert bytes(lab.ram.bytes[DATA : DATA + AREA]) == expected


@pytest.mark.parametrize("entry", [0, PTE_PRESENT])
@pytest.mark.parametrize(("code", "size"), [(MOVSQ, 8), (STOSQ, 8), (MOVSB, 1), (STOSB, 1)])
def test_a_fault_leaves_the_registers_where_it_is(lab: Lab, code: str, size: int, entry: int) -> None:
    """On the second page, which is absent or read-only; then it is there, and the rest is done."""
    faults: list[tuple[int, int, int, int]] = []

    def fault() -> None:
        faults.append((lab.state[RCX], lab.state[RSI], lab.state[RDI], lab.address_of_fault()))
        lab.ram.words[LEAF + (HOLE >> 12) + 1] = DATA + 0x9000 | RWX
        lab.pcpu.flush_tlb()

    lab.pcpu.on_exception[svm.PF] = fault
    for before in (size, 200 * size, 4096 - size):
        lab.ram.words[LEAF + (HOLE >> 12)] = DATA + 0x8000 | RWX
        lab.ram.words[LEAF + (HOLE >> 12) + 1] = DATA + 0x9000 | entry if entry else 0
        lab.pcpu.flush_tlb()
        faults.clear()
        count, done = 300 // size + before // size, before // size
        moved = before if code in (MOVSQ, MOVSB) else 0
        go(lab, code, HOLE + 4096 - before, count, DATA)
        assert faults == [(count - done, DATA + moved, HOLE + 4096, HOLE + 4096)]
        assert lab.state[R15] == 0 and lab.state[RDI] == HOLE + 4096 - before + count * size
        if code == MOVSB:
            source = DATA + before
            assert lab.ram.bytes[DATA + 0x9000 : DATA + 0x912C] == lab.ram.bytes[source : source + 300]


def test_code_that_is_written_over_is_the_new_code(lab: Lab) -> None:
    """On another page, through another mapping of it, and on its own page behind itself in the same block."""
    inc, dec = "48ffc0" * 20 + "c3", "48ffc8" * 20 + "c3"
    frame, source = CODE + 0x4000, CODE + 0x5000
    lab.ram.words[LEAF + (HOLE >> 12)] = frame | RWX
    lab.state[RSP] = STACK
    for to, rep in itertools.product((frame, HOLE), (MOVSB, "f2a4")):
        lab.put(inc, frame)
        lab.put(dec, source)
        lab.state[RAX], lab.state[RBX] = 100, frame
        go(lab, f"ffd3 {rep} ffd3", to, 61, source)  # call rbx; rep movs; call rbx
        assert lab.state[RAX] == 100
        lab.put(dec, source)
        lab.state[RAX] = 100
        go(lab, f"ffd3 {rep} ffd3", to, 61, source)
        assert lab.state[RAX] == 60
    lab.state[RAX] = 0x90
    go(lab, STOSB + "0f0b" * 20, CODE + 2, 40)  # NOPs over the UD2s
    assert lab.state[RDI] == CODE + 42


@pytest.mark.parametrize("kind", ["wall", "virtual"])
def test_a_watchpoint_is_hit_by_each_element(kind: str) -> None:
    lab = Lab(kind)
    hits: list[tuple[int, int]] = []

    def debug() -> None:
        hits.append((lab.state[RCX], lab.state[cs.DR6] & 15))
        lab.state[cs.DR6] = DR6_NONE

    lab.pcpu.on_exception[svm.DB] = debug
    lab.pcpu.load_debug_registers([DATA + 100, DATA + 0x2064, 0, 0, 0, 0, DR6_NONE, 0x400 | 0xF1 << 16 | 0b1010])
    go(lab, MOVSB, DATA, 1000, DATA + 0x2000)  # written: one byte; read: four
    assert hits == [(899, 3), (898, 2), (897, 2), (896, 2)]
    lab.close()


def test_segments_and_narrow_addresses(lab: Lab) -> None:
    lab.state[cs.FS_BASE] = DATA - 0x1234
    before = bytes(lab.ram.bytes[DATA + 5 : DATA + 1005])
    go(lab, "64" + MOVSB, DATA + 0x3000, 1000, 0x1239)
    assert bytes(lab.ram.bytes[DATA + 0x3000 : DATA + 0x33E8]) == before
    garbage = 0xABCD_EF01 << 32
    go(lab, "67" + MOVSB, garbage | DATA + 0x3001, garbage | 999, garbage | DATA + 5)
    assert bytes(lab.ram.bytes[DATA + 0x3001 : DATA + 0x33E8]) == before[:999]
    assert (lab.state[RSI], lab.state[RDI]) == (DATA + 1004, DATA + 0x33E8) and lab.state[R15] == 0
    go(lab, "67" + MOVSB, garbage | DATA + 0x3001, garbage, garbage | DATA + 5)  # ECX is 0
    assert lab.state[RDI] == garbage | DATA + 0x3001


def test_a_narrow_address_comes_round_in_the_middle_of_a_page(lab: Lab) -> None:
    """ESI comes to 0 at an address where the segment goes on: what is read next is 4 GiB below."""
    seen: list[tuple[int, int, int]] = []

    def fault() -> None:
        seen.append((lab.state[RSI], lab.state[RCX], lab.address_of_fault()))
        raise Done

    lab.pcpu.on_exception[svm.PF] = lab.pcpu.on_exception[svm.GP] = fault
    lab.state[cs.FS_BASE] = (DATA + 0x800 - (1 << 32)) & (1 << 64) - 1
    go(lab, "6467" + MOVSB, DATA + 0x3000, 0x400, (1 << 32) - 0x200)
    assert [each[:2] for each in seen] == [(0, 0x200)]
    assert lab.ram.bytes[DATA + 0x3000 : DATA + 0x3200] == lab.ram.bytes[DATA + 0x600 : DATA + 0x800]


def test_alignment_is_checked_where_it_is_asked_for(lab: Lab) -> None:
    seen: list[int] = []

    def check() -> None:
        seen.append(lab.state[RCX])
        raise Done

    lab.pcpu.on_exception[svm.AC] = check
    lab.state[EFLAGS] = AC | 2
    lab.state[RDI], lab.state[RSI], lab.state[RCX] = USER_DATA, USER_DATA + 0x1001, 100
    lab.run(lab.put(MOVSQ + "0f05", USER_CODE), 3)
    assert seen == [100]


def test_whoever_counts_counts_each_element(lab: Lab) -> None:
    """A hook at each instruction, at the instruction, or at accesses."""
    go(lab, "90" + MOVSB, DATA, 100, DATA + 0x1000)
    reads: list[int] = []
    hook = CFUNCTYPE(None, c_int)(lambda _engine: reads.append(1))
    added = lab.pcpu._engine.add_hook(1 << 10, hook)  # UC_HOOK_MEM_READ
    go(lab, "9090" + MOVSB, DATA, 100, DATA + 0x1000)
    assert len(reads) == 100
    lab.pcpu._engine.remove_hook(added)
    counted = count_each_instruction(lab.pcpu)
    go(lab, "90" + MOVSB, DATA, 100, DATA + 0x1000)
    assert counted() == 1 + 100 + 1 + 1 + 1


def test_a_stop_ends_a_long_one_in_its_middle() -> None:
    """511 GiB are mapped, all to the same page."""
    lab = Lab("wall")
    words, level_2, leaf = lab.ram.words, DATA + 0x3_0000, DATA + 0x3_1000
    for n in range(512):
        words[2 * 512 + n] = words[2 * 512 + n] or level_2 | 7
        words[level_2 // 8 + n], words[leaf // 8 + n] = leaf | 7, DATA | RWX
    begin, most = 1 << 30, 1 << 36
    lab.state[RIP] = lab.put(STOSQ)
    lab.state[RDI], lab.state[RCX], lab.state[RAX] = begin, most, 0x1234_5678_9ABC_DEF0
    done = 0
    for _ in range(20):
        timer = threading.Timer(0.005, lab.pcpu.stop)
        timer.start()
        began = time.monotonic()
        lab.pcpu.run()
        timer.join()
        assert time.monotonic() - began < 5  # all of it would take a minute
        assert lab.state[RIP] == CODE and lab.state[RDI] == begin + 8 * (most - lab.state[RCX])
        assert most - lab.state[RCX] >= done  # the same if the stop came before the run
        done = most - lab.state[RCX]
    assert 0 < done < most
    lab.close()


def test_a_stretch_is_moved_at_once() -> None:
    """Also where both pages have the same place in the TLB, and where neither is aligned."""

    def seconds(kind: str, code: str, rsi: int, rdi: int) -> float:
        lab = Lab(kind)
        lab.state[RDI], lab.state[RSI] = rdi, rsi
        # mov r8, rdi; mov r9, rsi; mov ebx, 400; 1: mov ecx, 500; mov rdi, r8; mov rsi, r9; rep; dec ebx; jne 1b
        loop = f"b9f4010000 4c89c7 4c89ce {code} ffcb"
        at = lab.put(f"4989f8 4989f1 bb90010000 {loop} 75{256 - len(bytes.fromhex(loop)) - 2:02x} 0f05")
        lab.run(at)
        best = 1.0
        for _ in range(5):
            lab.state[RDI], lab.state[RSI] = rdi, rsi
            began = time.thread_time()
            lab.run(at)
            best = min(best, time.thread_time() - began)
        lab.close()
        return best

    for code, rsi, rdi in ((MOVSQ, DATA, DATA + 0x8000), (STOSQ, 0, DATA), (MOVSQ, DATA + 1, DATA + 0x8060),
                           (MOVSB, DATA, DATA + 1)):  # fmt: skip
        assert seconds("wall", code, rsi, rdi) * 6 < seconds("wall-block", code, rsi, rdi)


def test_at_random_as_element_by_element() -> None:
    first, second = repeats.Side("wall"), repeats.Side("virtual")
    assert repeats.differing(range(400), first, second) == []
    first.close()
    second.close()
