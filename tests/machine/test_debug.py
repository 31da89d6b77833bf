# SPDX-License-Identifier: GPL-2.0-or-later
"""A debugger's steps are of one instruction each, its breakpoints come and go, and the guest sees nothing of either."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import pacer
from pvhv.machine.cpustate import RAX, RCX, RDI, RIP, RSP
from pvhv.machine.paging import PTE_PRESENT, PTE_RW, PTE_USER
from tests.machine.lab import CODE, DATA, HOLE, KINDS, STACK, USER_CODE, Lab, count_each_instruction

# mov ecx, 5; 1: inc rax; nop; inc rax; dec ecx; jnz 1b; syscall
LOOP = "b905000000 48ffc0 90 48ffc0 ffc9 75f5 0f05"
TOP = CODE + 5


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    made = Lab(request.param)
    made.pcpu.debug.allow(True)
    yield made
    made.close()


def steps(lab: Lab, at: int, count: int, cpl: int = 1) -> list[int]:
    """Where RIP is after each of so many steps."""
    seen: list[int] = []
    debug = lab.pcpu.debug

    def stepped() -> None:
        assert debug.end_step()
        seen.append(lab.state[RIP])
        if len(seen) < count:
            debug.step()
        else:
            lab.pcpu.stop()

    lab.pcpu.on_break = stepped
    lab.state[RIP] = at
    lab.pcpu.set_cpl(cpl)
    debug.step()
    lab.pcpu.run()
    assert not lab.state[cs.HFLAGS] & cs.HF_INHIBIT_IRQ
    return seen


def test_each_step_is_one_instruction(lab: Lab) -> None:
    lab.put(LOOP)
    lab.state[RAX] = 0
    lab.state[RIP] = CODE
    before = lab.pcpu.executed
    loop = [TOP + 3, TOP + 4, TOP + 7, TOP + 9, TOP]
    assert steps(lab, CODE, 11) == [TOP, *loop, *loop]
    assert lab.state[RAX] == 4 and lab.state[RCX] == 3
    if lab.pcpu.virtual:
        assert lab.pcpu.executed - before == 11
    lab.resume()  # and on it goes, at full length
    assert lab.state[RAX] == 10
    if lab.pcpu.virtual:
        assert lab.pcpu.executed - before == 1 + 5 * 5 + 1


def test_flags_are_not_touched(lab: Lab) -> None:
    """pushf; popf; sub eax, eax; pushf: what is pushed has no trap flag."""
    lab.put("9c 9d 29c0 9c 58 0f05")
    lab.state[RSP] = STACK
    assert steps(lab, CODE, 4) == [CODE + 1, CODE + 2, CODE + 4, CODE + 5]
    pushed = lab.ram.words[lab.state[RSP] >> 3]
    assert pushed & cs.ZF and not pushed & cs.TF and not lab.state[cs.EFLAGS] & cs.TF


def test_string_instructions_step_by_iterations(lab: Lab) -> None:
    lab.state[RCX], lab.state[RDI], lab.state[RAX] = 3, DATA, 0x41
    lab.put("f3aa 0f05")  # rep stosb
    assert steps(lab, CODE, 2) == [CODE, CODE]
    assert lab.state[RCX] == 1 and bytes(lab.ram.bytes[DATA : DATA + 3]) == b"AA\0"


def test_a_fault_is_followed(lab: Lab) -> None:
    """To where its handler leaves RIP, and not an instruction further; also one of the fetch itself."""
    lab.pcpu.on_exception[14] = lambda: lab.state.__setitem__(RIP, CODE + 0x100)
    lab.put(f"a1{HOLE.to_bytes(8, 'little').hex()}")  # mov eax, [HOLE]
    lab.put("48ffc0 48ffc0 0f05", CODE + 0x100)
    lab.state[RAX] = 0
    assert steps(lab, CODE, 2) == [CODE + 0x100, CODE + 0x103]
    assert steps(lab, HOLE, 2) == [CODE + 0x100, CODE + 0x103]
    assert lab.state[RAX] == 2


def test_a_syscall_is_followed(lab: Lab) -> None:
    lab.pcpu.on_syscall = lambda: lab.state.__setitem__(RIP, CODE + 0x100)
    lab.put("0f05 90")
    lab.put("90 90", CODE + 0x100)
    assert steps(lab, CODE, 2) == [CODE + 0x100, CODE + 0x101]


def test_what_an_exit_has_done_again_is_no_step(lab: Lab) -> None:
    """A page that is there the second time; a hypercall that is put aside. Whoever steps asks again."""
    tried: list[int] = []

    def page_fault() -> None:
        tried.append(lab.state[RIP])
        lab.map(HOLE, PTE_PRESENT | PTE_RW)

    def stopped() -> None:
        if lab.pcpu.debug.end_step():
            lab.pcpu.stop()
        else:
            lab.pcpu.debug.step()

    lab.pcpu.on_exception[14] = page_fault
    lab.pcpu.on_break = stopped
    lab.put(f"a1{HOLE.to_bytes(8, 'little').hex()} 90 90")
    lab.state[RIP] = CODE
    lab.pcpu.debug.step()
    lab.pcpu.run()
    assert tried == [CODE] and lab.state[RIP] == CODE + 9


def test_cpuid_and_ports_are_one_step_each(lab: Lab) -> None:
    asked: list[int] = []
    lab.pcpu.on_cpuid = lambda: asked.append(-1)
    lab.pcpu.on_io = lambda port, size, write, value: asked.append(port) or 7
    lab.put("0fa2 e480 e681 90 0f05")  # cpuid; in al, 0x80; out 0x81, al; nop
    assert steps(lab, CODE, 4) == [CODE + 2, CODE + 4, CODE + 6, CODE + 7]
    assert asked == [-1, 0x80, 0x81]


def test_a_step_that_was_not_begun_is_taken_later(lab: Lab) -> None:
    """The run is ended from outside before it."""
    lab.put(LOOP)
    lab.state[RIP] = CODE
    lab.pcpu.debug.step()
    lab.pcpu.stop()
    lab.pcpu.run()
    assert lab.state[RIP] == CODE and not lab.pcpu.debug.end_step()
    assert steps(lab, CODE, 1) == [TOP]


def test_breakpoints_come_and_go(lab: Lab) -> None:
    pcpu, seen = lab.pcpu, []
    lab.put(LOOP)

    def met() -> None:
        seen.append((lab.state[RIP] - TOP, lab.state[RAX]))
        pcpu.pass_once()

    pcpu.on_break = met
    lab.run()  # translated before
    hooks = [pcpu.debug.add(TOP + 3), pcpu.debug.add(TOP)]
    pcpu.forget_code(CODE >> 12)
    for _ in range(2):
        lab.state[RAX] = 0
        lab.run()
        assert seen == [pair for n in range(5) for pair in ((0, 2 * n), (3, 2 * n + 1))]
        seen.clear()
    pcpu.debug.remove(hooks[0])
    pcpu.forget_code(CODE >> 12)
    lab.state[RAX] = 0
    lab.run()
    assert seen == [(0, 2 * n) for n in range(5)]
    seen.clear()
    pcpu.debug.remove(hooks[1])
    pcpu.forget_code(CODE >> 12)
    lab.run()
    assert seen == []


def test_whoever_executes_it(lab: Lab) -> None:
    """Kernels and users meet the same breakpoint, and are stepped alike."""
    met: list[int] = []
    lab.put("48ffc0 90 0f05", USER_CODE)
    lab.map(USER_CODE, PTE_PRESENT | PTE_USER)
    lab.pcpu.debug.add(USER_CODE + 3)
    lab.pcpu.on_break = lambda: (met.append(lab.state[cs.HFLAGS] & 3), lab.pcpu.pass_once())
    for cpl in (3, 1, 3):
        lab.run(USER_CODE, cpl)
    assert met == [3, 1, 3]
    assert steps(lab, USER_CODE, 2, cpl=3) == [USER_CODE + 3, USER_CODE + 4]


def test_a_breakpoint_may_be_removed_whose_page_is_gone(lab: Lab) -> None:
    """The engine looks for its translations by address, and must get over it that there is nothing."""
    page = CODE + 0x5000
    lab.put("90 48ffc0 0f05", page)
    hook = lab.pcpu.debug.add(page)
    met: list[int] = []
    lab.pcpu.on_break = lambda: (met.append(lab.state[RIP]), lab.pcpu.pass_once())
    lab.run(page)
    lab.map(page, 0)
    lab.pcpu.flush_tlb()
    lab.pcpu.debug.remove(hook)
    lab.pcpu.forget_code(page >> 12)
    lab.state[RAX] = 0
    lab.put(LOOP)
    lab.run()
    assert lab.state[RAX] == 10
    lab.map(page, PTE_PRESENT | PTE_RW)
    lab.pcpu.flush_tlb()
    lab.run(page)
    assert met == [page] and lab.state[RAX] == 11


def test_a_breakpoint_where_a_step_begins_is_passed(lab: Lab) -> None:
    lab.put(LOOP)
    lab.pcpu.debug.add(TOP)
    assert steps(lab, TOP, 1) == [TOP + 3]
    lab.state[RAX] = 0
    lab.pcpu.on_break = lambda: (lab.state.__setitem__(RAX, 100), lab.pcpu.pass_once())
    lab.state[RCX] = 2
    lab.state[RIP] = TOP + 3
    lab.resume()  # once passed, it is met again
    assert lab.state[RAX] == 102


def test_stops_from_other_threads_break_no_instruction(lab: Lab) -> None:
    """While it is allowed, and when it is not any more: a counting loop in memory counts each round once."""
    lab.ram.words[DATA >> 3] = 0
    lab.put(f"b9 40420f00 48bf{DATA.to_bytes(8, 'little').hex()} 48ff07 ffc9 75f9 0f05")  # 1 000 000 times inc [rdi]
    for allowed in (True, False):
        lab.pcpu.debug.allow(allowed)
        lab.ram.words[DATA >> 3] = 0
        ended = threading.Event()

        def stop_often(ended: threading.Event = ended) -> None:
            while not ended.is_set():
                lab.pcpu.stop()
                time.sleep(0.0005)

        thread = threading.Thread(target=stop_often)
        thread.start()
        finished: list[bool] = []
        lab.pcpu.on_syscall = lambda finished=finished: (finished.append(True), lab.finish())
        lab.state[RIP] = CODE
        lab.pcpu.set_cpl(1)
        try:
            while not finished:
                lab.resume()
        finally:
            ended.set()
            thread.join()
        assert lab.ram.words[DATA >> 3] == 1_000_000


def test_blocks_are_eased_again(lab: Lab) -> None:
    """Where they were (pacer_ease.h): not while stops in mid-block are allowed, but afterwards."""
    words = lab.pcpu._words
    could = words[pacer.EASED] > 0
    for allowed in (True, False):
        lab.pcpu.debug.allow(allowed)
        before = words[pacer.EASED]
        lab.put(LOOP)
        lab.run()
        assert (words[pacer.EASED] > before) == (could and not allowed)


def test_full_speed_comes_back(lab: Lab) -> None:
    """Whatever was allowed and forbidden: the same counts, and nothing left of breakpoints."""
    counted = count_each_instruction(lab.pcpu)
    for allowed in (False, True, False):
        lab.pcpu.debug.allow(allowed)
        lab.put(LOOP)
        before, executed = counted(), lab.pcpu.executed
        lab.state[RAX] = 0
        lab.run()
        assert lab.state[RAX] == 10 and counted() - before == 27
        if lab.pcpu.virtual:
            assert lab.pcpu.executed - executed == 27
