# SPDX-License-Identifier: GPL-2.0-or-later
"""Destruction: everything comes back, in big pieces, and nobody else loses anything by it."""

from __future__ import annotations

import pytest

from pvhv.core import lifecycle
from pvhv.core.control import Control
from pvhv.core.domain import Domain
from pvhv.core.hypervisor import Hypervisor
from pvhv.core.sched import scheduler
from pvhv.machine.ram import Ram

FRAMES = 8192


@pytest.fixture
def hv() -> Hypervisor:
    return Hypervisor(memory_frames=2 * FRAMES)


def make(hv: Hypervisor, frames: int) -> tuple[Domain, list[int]]:
    control = Control(hv, hv.dom0)
    domid = control.createdomain()
    control.max_mem(domid, frames)
    return hv.domains[domid], control.populate_physmap(domid, range(frames))


def finish(hv: Hypervisor) -> int:
    """Take the steps that are left; how many there were."""
    steps = 0
    while hv.scheduler.background:
        hv.scheduler.step_in_background()
        steps += 1
    return steps


def test_memory_is_given_back_in_runs(hv: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    free = hv.frames.free_frames
    domain, mfns = make(hv, FRAMES)
    for mfn in mfns:
        hv.ram.words[mfn * 512] = 0x5AFE
    held = mfns[FRAMES // 2]
    assert hv.frames.get_page(held, domain.domid)  # as somebody else's mapping would
    hv.frames.code[mfns[7]] = 1  # an engine may know code of it
    calls = []
    original = Ram.discard
    monkeypatch.setattr(Ram, "discard", lambda self, *run: (calls.append(run), original(self, *run))[1])
    monkeypatch.setattr(scheduler, "WORK_SHARE", 1)
    hv.destroy(domain)
    steps = finish(hv)
    assert len(calls) < 1000  # two runs were taken apart, the others were not
    assert steps > FRAMES // lifecycle.STRETCH  # others had turns
    assert [mfn for mfn in mfns if hv.ram.words[mfn * 512]] == [held]
    assert hv.frames.code[mfns[7]] == 0
    assert hv.frames.free_frames == free - 1
    assert (domain.tot_pages, list(hv.domains)) == (1, [0, domain.domid])
    hv.frames.put_page(held)
    assert hv.frames.free_frames == free
    assert hv.ram.words[held * 512] == 0
    assert list(hv.domains) == [0]
    assert hv.frames.allocate_run(0, FRAMES)  # and in one piece


def test_a_frame_that_was_let_go_meanwhile_is_somebody_elses(
    hv: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "WORK_SHARE", 1)
    domain, mfns = make(hv, FRAMES)
    let_go = mfns[-10]
    frames = hv.frames
    assert frames.get_page(let_go, domain.domid)
    assert frames.release_allocation(let_go)  # decrease_reservation, while somebody has it mapped
    hv.destroy(domain)
    while frames.owner[mfns[-lifecycle.STRETCH]] == domain.domid:
        hv.scheduler.step_in_background()
    assert frames.owner[mfns[-1]] == domain.domid  # listed by now, and not reached yet
    frames.put_page(let_go)
    while frames.owner[let_go] != 0:
        assert frames.allocate(0)
    finish(hv)
    assert (frames.owner[let_go], frames.allocated[let_go], frames.refs[let_go]) == (0, 1, 1)


def test_the_next_domain_gets_the_same_frames(hv: Hypervisor) -> None:
    """Otherwise each would be built a little higher in the machine, and the engine remember more and more of it."""
    seen = []
    for _life in range(3):
        domain, mfns = make(hv, 1000)
        seen.append(mfns)
        hv.frames.code[mfns[5]] = hv.frames.code[mfns[700]] = 1
        hv.destroy(domain)
        finish(hv)
    assert seen[0] == seen[1] == seen[2]
