# SPDX-License-Identifier: GPL-2.0-or-later
"""The corrected engine's own interface does what it says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import seam, svm
from pvhv.machine.cpustate import RAX, RBX, RCX, RIP
from pvhv.machine.features import FEATURES
from pvhv.machine.paging import PTE_NX, PTE_PRESENT, PTE_RW
from pvhv.machine.pcpu import PCPU
from tests.machine.lab import CODE, DATA, HOLE, KINDS, Lab

LEAF_1, FRAME = 4 * 512, DATA + 0x8000


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    made = Lab(request.param)
    yield made
    made.close()


def put_behind(lab: Lab, va: int, frame: int) -> None:
    lab.ram.words[LEAF_1 + (va >> 12)] = frame | PTE_PRESENT | PTE_RW | PTE_NX


def test_one_page_is_forgotten_and_no_other(lab: Lab) -> None:
    for n in range(2):
        lab.ram.words[(FRAME + 4096 * n) // 8] = 10 + n
        put_behind(lab, HOLE + 4096 * n, FRAME + 4096 * n)
    lab.state[RBX] = HOLE
    both = lab.put("488b03 488b8b00100000 0f05")  # mov rax,[rbx]; mov rcx,[rbx+4096]
    lab.pcpu.on_syscall = lab.finish
    lab.run(both)
    assert lab.state[RAX] == 10
    put_behind(lab, HOLE, FRAME + 4096)
    put_behind(lab, HOLE + 4096, FRAME)
    lab.pcpu.flush_page(HOLE)
    lab.state[RCX] = 0
    lab.run(lab.put("488b03 488b9300100000 0f05"))
    assert (lab.state[RAX], lab.state[cs.RDX]) == (11, 11)  # the second is as it was before: the guest has not asked
    lab.pcpu.flush_tlb()
    lab.run(lab.put("488b9300100000 0f05"))
    assert lab.state[cs.RDX] == 10


def test_blocks_can_be_short() -> None:
    lab = Lab("virtual")
    at = lab.put("90" * 100 + "ebfe")
    for most, late in ((7, 7), (1, 1), (0, 101)):
        seam.limit_blocks(lab.pcpu._handle, most)
        lab.pcpu.forget_code(CODE >> 12)
        lab.state[RIP] = at
        before = lab.pcpu.executed
        lab.pcpu.run(1)
        assert lab.pcpu.executed - before == late
    lab.close()


def test_a_stop_asked_for_before_a_run_is_not_forgotten() -> None:
    """However the two are timed: no run of an endless loop outlasts its stop, and nobody repeats it."""
    lab = Lab("wall")
    lab.state[RIP] = lab.put("ebfe")
    over = threading.Event()
    started = threading.Event()

    def stopper() -> None:
        while not over.is_set():
            if started.wait(1):
                started.clear()
                lab.pcpu.stop()

    thread = threading.Thread(target=stopper)
    thread.start()
    try:
        for _ in range(2000):
            started.set()
            lab.pcpu.run()
    finally:
        over.set()
        thread.join()
    lab.close()


@pytest.mark.parametrize("kind", ["virtual", "wall-block"])
def test_where_a_hook_at_every_block_goes_no_code_calls_it_any_more(kind: str) -> None:
    lab = Lab(kind)
    lab.run(lab.put("48ffc0 eb00 0f05"))
    pacer = lab.pcpu._pacer
    pacer._engine.remove_hook(pacer._at_blocks)
    pacer._at_blocks = 0
    before = lab.pcpu.executed
    lab.run(CODE)
    assert lab.pcpu.executed == before
    lab.close()


def test_an_exception_that_was_handled_leaves_nothing_behind(lab: Lab) -> None:
    """Without AMD-V's intercepts an engine took the second for a double fault, and the third ended it."""
    lab.aux[cs.INTERCEPT_EXCEPTIONS] = 0
    seen: list[int] = []

    def fault(vector: int) -> None:
        seen.append(vector)
        lab.state[RIP] += 2
        lab.aux[cs.OLD_EXCEPTION] = lab.aux[cs.OLD_EXCEPTION]

    lab.pcpu.on_fault(fault)
    lab.run(lab.put("f7f1 " * 5 + "0f05"))  # div ecx of 0
    assert seen == [svm.DE] * 5


def test_features_that_are_taken_away_do_not_run() -> None:
    lab = Lab()
    without = FEATURES._replace(leaf_1_ecx=FEATURES.leaf_1_ecx & ~(1 << 23))  # POPCNT
    pcpu = PCPU(lab.ram, features=without)
    seen: list[int] = []
    pcpu.on_exception[svm.UD] = lambda: (seen.append(svm.UD), pcpu.stop())
    pcpu.on_syscall = pcpu.stop
    pcpu.load_cr3(0x1000)
    at = lab.put("f30fb8c1 0f05")
    for each in (lab.pcpu, pcpu):
        each.on_syscall = each.stop
        each.state[RIP] = at
        each.run()
    assert seen == [svm.UD]
    pcpu.close()
    lab.close()


def test_a_stop_is_looked_for_by_the_block_itself() -> None:
    """Nothing is called at a block's start: a loop of short blocks runs as fast as QEMU's own would."""
    lab = Lab("wall")
    lab.state[RIP] = lab.put("48ffc0 ebfb")
    for _ in range(50):  # a busy host may take any of them away
        lab.pcpu.run_wall(time.monotonic_ns() + 20_000_000)
    assert lab.state[RAX] > 100_000 and lab.pcpu._pacer._at_blocks == 0
    lab.close()


def test_what_this_library_is() -> None:
    assert uc.corrected and seam.corrected and len(seam.build_id()) == 16
    assert "corrections" in uc.description() and uc.uncorrected() is None
