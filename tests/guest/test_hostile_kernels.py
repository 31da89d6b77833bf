# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that try to break a rule each, and the one beside them.

Each guest_kernel/tests/hostile-NAME attacks by one rule of the PV MMU, of grants, of events or of the rings. It says
PASS when everything it tried got what Xen 4.17 gives for it. Where that is the end of the domain, its opening comment
tells so ("ends: crash") and what the hypervisor says of it ("because: ..."). Neither costs anybody else anything, which
is asked after each of them:

- the victim, a domain on the same machine, still answers, and its memory is as it left it;
- no frame is missing, and the frame table, counted again from scratch, is right;
- the hypervisor met no bug.

And a real Xen 4.17 says the same, line for line: its verdicts are kept in tests/reference (tools/xen_reference.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pvhv.testing import Machine
from tests.core.accounting import problems
from tools.reference import cases, verdicts
from tools.reference.machine import lines_of
from tools.reference.ours import SCENE_MIB, Scene

HOSTILE = [name for name in cases.names() if cases.is_hostile(name)]
JOBS = {job.name: (name, job) for name in HOSTILE for job in cases.jobs([name])}


@contextmanager
def nothing_missing(scene: Scene, what: str) -> Iterator[None]:
    """Whatever happens meanwhile, the others go on, and all is there again afterwards."""
    hypervisor = scene.machine.hypervisor
    free = hypervisor.frames.free_frames
    yield
    scene.ask(f"after {what}")
    assert hypervisor.frames.free_frames == free
    assert not problems(hypervisor)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Machine(SCENE_MIB) as machine:
        yield Scene(machine)


def test_there_are_hostile_kernels() -> None:
    assert len(HOSTILE) > 20
    assert len(JOBS) > len(HOSTILE) + 10  # dice


@pytest.mark.parametrize("name", JOBS)
def test_hostile_kernel(scene: Scene, name: str) -> None:
    kernel, job = JOBS[name]
    with nothing_missing(scene, name):
        result = scene.release(job, cases.said(kernel, "clock") or "virtual")
    assert result.last_line == f"PASS {kernel}", result.output + result.report
    assert result.ending == (cases.said(kernel, "ends") or "poweroff"), result.report
    assert cases.said(kernel, "because") in result.report
    assert not verdicts.unexplained(kernel, name, result.ending, lines_of(result.raw))
