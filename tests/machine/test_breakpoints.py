# SPDX-License-Identifier: GPL-2.0-or-later
"""Breakpoints: the guest stops before an instruction, the hypervisor does it, and the counts stay exact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import RAX, RIP
from pvhv.machine.paging import PTE_PRESENT, PTE_USER
from tests.machine.lab import CODE, KINDS, USER_CODE, Lab, count_each_instruction

# Breakpoints need a pacer that stops the guest, not the engine.
STOPPED = {
    "wall": {"block_stops": True},
    "virtual": {"clock": "virtual", "block_stops": True},
    "copy": {"clock": "virtual", "copy_state": True, "block_stops": True},
}
# mov ecx, 5; 1: inc rax; nop; inc rax; dec ecx; jnz 1b; syscall
LOOP = "b905000000 48ffc0 90 48ffc0 ffc9 75f5 0f05"
NOP = CODE + 8


@pytest.fixture(params=STOPPED)
def lab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setitem(KINDS, "stopped", STOPPED[request.param])
    made = Lab("stopped")
    yield made
    made.close()


def test_it_stops_before_the_instruction_each_time(lab: Lab) -> None:
    """In mid-block, with all registers and flags; where the handler leaves RIP is where it goes on."""
    seen: list[tuple[int, int]] = []

    def met() -> None:
        seen.append((lab.state[RIP], lab.state[RAX]))
        assert lab.state[cs.EFLAGS] & 2 and not lab.state[cs.EFLAGS] & cs.ZF
        lab.state[RIP] += 1
        lab.state[RAX] += 100

    lab.put(LOOP)
    lab.pcpu.break_at(NOP)
    lab.pcpu.on_break = met
    lab.run()
    assert seen == [(NOP, 102 * n + 1) for n in range(5)]
    assert lab.state[RAX] == 5 * 102


def test_counts_stay_exact(lab: Lab) -> None:
    """An instruction that is done in its place counts as one, whether it is skipped, or executed after all."""
    pcpu = lab.pcpu
    counted = count_each_instruction(pcpu)
    lab.put(LOOP)
    pcpu.break_at(NOP)
    for skip in (True, False):
        before, executed = counted(), pcpu.executed

        def met(skip: bool = skip) -> None:
            if skip:
                lab.state[RIP] += 1
            else:
                pcpu.pass_once()

        pcpu.on_break = met
        lab.run()
        tried = counted() - before
        assert tried == 1 + 5 * 5 + 1 + (0 if skip else 5)
        if pcpu.virtual:
            assert pcpu.executed - executed == tried


def test_passing_lasts_for_one_time(lab: Lab) -> None:
    met: list[int] = []
    lab.put(LOOP)
    lab.pcpu.break_at(NOP)
    lab.pcpu.on_break = lambda: (met.append(lab.state[RAX]), lab.pcpu.pass_once())
    lab.state[RAX] = 0
    lab.run()
    assert met == [1, 3, 5, 7, 9] and lab.state[RAX] == 10


def test_kernels_and_users_are_apart(lab: Lab) -> None:
    met: list[int] = []
    lab.pcpu.on_break = lambda: (met.append(lab.state[cs.HFLAGS] & 3), lab.pcpu.pass_once())
    for user in (False, True):
        lab.map(USER_CODE, PTE_PRESENT | PTE_USER)
        lab.put("48ffc0 90 0f05", USER_CODE)
        met.clear()
        lab.pcpu.break_at(USER_CODE + 3, user)
        lab.run(USER_CODE, cpl=3)
        lab.run(USER_CODE, cpl=1)
        assert met == ([3, 1] if user else [1])


def test_new_blocks_are_told_before_they_run(lab: Lab) -> None:
    """Their addresses and sizes; and a breakpoint put there acts from the first time on, if the code is forgotten."""
    pcpu = lab.pcpu
    told: list[tuple[int, int]] = []
    done: list[int] = []

    def translated(address: int, size: int) -> None:
        told.append((address, size))
        if address == CODE + 0x100 and told.count((address, size)) == 1:
            pcpu.break_at(CODE + 0x101)
            pcpu.pause()

    def met() -> None:
        if lab.state[RIP] == CODE + 0x100:
            assert not done
            pcpu.forget_code(CODE >> 12)
        else:
            done.append(lab.state[RIP])
            lab.state[RIP] += 3

    pcpu.on_translated(translated)
    pcpu.on_break = met
    lab.put("90 90 e9f9000000")
    lab.put("90 48ffc0 48ffc0 0f05", CODE + 0x100)
    lab.state[RAX] = 0
    before = pcpu.executed
    lab.run()
    assert (CODE, 7) in told and (CODE + 0x100, 9) in told
    assert done == [CODE + 0x101] and lab.state[RAX] == 1
    if pcpu.virtual:
        assert pcpu.executed - before == 3 + 4


def test_what_a_handler_raises_comes_out_of_the_run(lab: Lab) -> None:
    def met() -> None:
        raise ZeroDivisionError

    lab.put(LOOP)
    lab.pcpu.break_at(NOP)
    lab.pcpu.on_break = met
    with pytest.raises(ZeroDivisionError):
        lab.run()
    assert lab.state[RIP] == NOP
    lab.pcpu.on_break = lambda: lab.pcpu.pass_once()
    lab.resume()
