# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that try to break a rule each, and the one beside them.

Each guest_kernel/tests/hostile-NAME attacks by one rule of the PV MMU, of grants, of events or of the rings. It says
PASS when everything it tried got what Xen 4.17 gives for it. Where that is the end of the domain, its opening comment
tells so ("ends: crash") and what the hypervisor says of it ("because: ..."). Neither costs anybody else anything, which
is asked after each of them:

- the victim, a domain on the same machine, still answers, and its memory is as it left it;
- no frame is missing, and the frame table, counted again from scratch, is right;
- the hypervisor met no bug.

What a hostile guest could not know (frames, a port and grants of the victim's, frames of the hypervisor's) it is told
on its command line, so that it need not guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pvhv.testing import Machine, Result
from tests.core.accounting import problems
from tests.guest.test_kernels import HOSTILE, said

PATIENCE = 60  # seconds; none of them takes one


class Scene:
    """A machine, the victim on it, and what is known of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.victim = machine.create("test-hostile-victim", name="victim", clock="wall", memory=16)
        assert machine.hypervisor.run_until(lambda: "ready" in self.heard(), PATIENCE), self.heard()
        self.ask("for 1")
        values = machine.result(self.victim).values
        hypervisor, domain = machine.hypervisor, self.victim.domain
        self.port = values["port"]
        self.facts = {name: values[name] for name in ("l4", "l1", "secret", "lent", "gdt", "shared", "port")}
        self.facts["xen"] = f"{domain.perdomain_l3:x}"
        self.facts["m2p"] = f"{m2p_frame(hypervisor.m2p_l3, hypervisor.ram.words):x}"
        self.facts["domid"] = f"{domain.domid:x}"

    def heard(self) -> str:
        return self.machine.result(self.victim).output

    def ask(self, line: str) -> None:
        """Have the victim look at its memory, and answer."""
        before = len(self.heard())
        console = self.victim.console
        console.typed += f"{line}\n".encode()
        console.pump()
        answer = f"{line}: all is well"
        assert self.machine.hypervisor.run_until(lambda: answer in self.heard()[before:], PATIENCE), self.heard()

    def release(self, name: str, clock: str, **told: int) -> Result:
        """Let a hostile guest live to its end, and be taken apart; what became of it."""
        facts = self.facts | {fact: f"{value:x}" for fact, value in told.items()}
        needs = dict(pair.split("=") for pair in said(name, "needs").split())
        guest = self.machine.create(
            f"test-{name}",
            name=name,
            clock=clock,
            memory=16,
            vcpus=int(needs.get("vcpus", "1")),
            cmdline=" ".join(f"{fact}={value}" for fact, value in facts.items()),
            paused=True,
        )
        self.ask(f"for {guest.domid}")
        assert self.machine.result(self.victim).values["port"] == self.facts["port"]
        guest.start()
        self.machine.run(guest, timeout=PATIENCE)
        result = self.machine.result(guest)
        self.machine.host.destroy(guest)
        guests = self.machine.host.guests
        assert self.machine.hypervisor.run_until(lambda: guest.domid not in guests, PATIENCE)
        return result


def m2p_frame(l3: int, words: memoryview) -> int:
    """A frame of the machine-to-physical table itself."""
    table = l3
    for _level in range(2):
        table = next(entry >> 12 for entry in words[table << 9 : (table + 1) << 9] if entry & 1) & 0xFF_FFFF_FFFF
    return table


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
    with Machine(96) as machine:
        yield Scene(machine)


def test_there_are_hostile_kernels() -> None:
    assert len(HOSTILE) > 20


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_kernel(scene: Scene, name: str) -> None:
    with nothing_missing(scene, name):
        result = scene.release(name, said(name, "clock") or "virtual")
    assert result.last_line == f"PASS {name}", result.output + result.report
    assert result.ending == (said(name, "ends") or "poweroff"), result.report
    assert said(name, "because") in result.report


SEEDS = {"hostile-dice": range(2, 9), "hostile-grants-dice": range(2, 7), "hostile-fifo-dice": range(2, 7)}


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, seeds in SEEDS.items() for seed in seeds])
def test_the_answers_are_those_of_a_real_xen(scene: Scene, name: str, seed: int) -> None:
    with nothing_missing(scene, f"{name} {seed}"):
        result = scene.release(name, "virtual", seed=seed)
    assert result.last_line == f"PASS {name}", result.output + result.report
