# SPDX-License-Identifier: GPL-2.0-or-later
"""The same jobs on pvhv, in this process, with outcomes in the same words as the real Xen's.

A hostile kernel runs beside the victim on one machine that lasts: `Scene`, which tests/guest has as well. Facts
that a hostile guest cannot know (frames, a port and grants of the victim's, frames of the hypervisor's) are on its
command line, so that it need not guess.
"""

from __future__ import annotations

from collections.abc import Iterable

from pvhv.testing import Machine, Result
from pvhv.toolstack.guest import Guest
from tools.reference import cases
from tools.reference.jobs import Job
from tools.reference.machine import Outcome, Tell, lines_of

PATIENCE = 60  # seconds; none of our test kernels takes one
SCENE_MIB = 96


class Scene:
    """A machine with the victim, and the facts about both."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.victim = machine.create(f"test-{cases.VICTIM}", name="victim", clock="wall", memory=16)
        assert machine.hypervisor.run_until(lambda: "ready" in self.heard(), PATIENCE), self.heard()
        self.ask("for 1")
        values = machine.result(self.victim).values
        hypervisor, domain = machine.hypervisor, self.victim.domain
        self.facts = {name: values[name] for name in ("l4", "l1", "secret", "lent", "gdt", "shared", "port")}
        self.facts["xen"] = f"{domain.perdomain_l3:x}"
        self.facts["m2p"] = f"{m2p_frame(hypervisor.m2p_l3, hypervisor.ram.words):x}"
        self.facts["domid"] = f"{domain.domid:x}"

    def heard(self) -> str:
        """All that the victim said."""
        return self.machine.result(self.victim).output

    def ask(self, line: str) -> None:
        """Have the victim look at its memory, and answer."""
        before = len(self.heard())
        console = self.victim.console
        console.typed += f"{line}\n".encode()
        console.pump()
        answer = f"{line}: all is well"
        assert self.machine.hypervisor.run_until(lambda: answer in self.heard()[before:], PATIENCE), self.heard()

    def release(self, job: Job, clock: str = "virtual") -> Result:
        """Run a hostile guest to its end, and destroy it. Returns its result."""
        told = " ".join(f"{fact}={value}" for fact, value in self.facts.items())
        guest = _create(self.machine, job, clock, f"{told} {job.cmdline}", paused=True)
        self.ask(f"for {guest.domid}")
        assert self.machine.result(self.victim).values["port"] == self.facts["port"]
        guest.start()
        self.machine.run(guest, timeout=job.seconds)
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


def alone(job: Job, clock: str = "virtual") -> Result:
    """Run a job on a machine of its own."""
    with Machine(max(job.memory, 64)) as machine:
        guest = _create(machine, job, clock, job.cmdline)
        machine.run(guest, timeout=job.seconds)
        return machine.result(guest)


def _create(machine: Machine, job: Job, clock: str, cmdline: str, paused: bool = False) -> Guest:
    return machine.create(
        job.kernel, name=job.name, clock=clock, cmdline=cmdline, memory=job.memory, vcpus=job.vcpus,
        ramdisk=job.ramdisk, paused=paused,
    )  # fmt: skip


def outcome(job: Job, result: Result) -> Outcome:
    """A result as an outcome, in the words of the real Xen's."""
    return Outcome(job.name, lines_of(result.raw), result.ending, hypervisor=result.report.splitlines())


def run(wanted: Iterable[Job], tell: Tell) -> list[Outcome]:
    """Run all jobs; those beside a victim run on one machine. Raises ToolstackError."""
    outcomes = []
    with Machine(SCENE_MIB) as machine:
        scene: Scene | None = None
        for job in wanted:
            if job.beside:
                scene = scene or Scene(machine)
                made = outcome(job, scene.release(job))
                scene.ask(f"after {job.name}")
            else:
                made = outcome(job, alone(job))
            tell(made)
            outcomes.append(made)
    return outcomes
