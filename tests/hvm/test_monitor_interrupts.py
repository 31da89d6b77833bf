# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts of guests whose IF is not the processor's: taken when the guest's own IF lets them in, and not before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.hvm.techniques.binary_translation import BinaryTranslation
from pvhv.hvm.techniques.trap_emulate import TrapEmulate
from pvhv.machine.cpustate import IF, RAX, RCX, RIP
from pvhv.testing import boot
from tests.hvm.hw_lab import CODE, DATA, HANDLERS, L1, STACK, TSS, USER_CS
from tests.hvm.monitor_lab import MonitorLab
from tests.hvm.test_intercepts import TIMER, WAIT, arm
from tests.hvm.test_trap_emulate import LOAD, USER, enter_user

AT = CODE + 0x100


@pytest.fixture(params=[TrapEmulate, BinaryTranslation], ids=lambda technique: technique.name)
def lab(request: pytest.FixtureRequest) -> Iterator[MonitorLab]:
    made = MonitorLab(request.param)
    made.run(LOAD, rbx=DATA)  # data, stack and page tables have been used before
    made.run("50" + LOAD, rbx=L1)
    made.physical.write(TSS + 102, b"\x68\0")
    arm(made)
    yield made
    made.close()


def all_of(lab: MonitorLab, exits: dict[str, int]) -> dict[str, int]:
    """Exits and callouts together: the two techniques differ in which is which."""
    return {**exits, **lab.callouts}


def test_one_that_can_be_taken(lab: MonitorLab) -> None:
    assert all_of(lab, lab.run("fb" + WAIT)) == {"sti": 1, "interrupt": 1}
    assert lab.vector() == TIMER and lab.frame()[2] & IF and lab.state[RCX] > 0
    assert lab.counts.events["interrupts_delivered"] == 1


def test_one_that_has_to_wait_for_sti_and_the_instruction_behind_it(lab: MonitorLab) -> None:
    taken = all_of(lab, lab.run("fa" + WAIT + "fb 90 90 ebfe"))
    assert taken == {"cli": 1, "sti": 1, "interrupt": 1}
    assert lab.vector() == TIMER and lab.state[RCX] == 0 and lab.frame()[0] == AT + 12


def test_sti_and_cli_together_let_nothing_in(lab: MonitorLab) -> None:
    """CLI is the instruction behind STI."""
    lab.run("fa" + WAIT + "fbfa 9090")
    assert lab.state[RIP] == AT + 15 and not lab.technique.cpu.rflags & IF
    lab.run("fa fb 90")
    assert lab.vector() == TIMER


def test_one_that_waits_for_iret(lab: MonitorLab) -> None:
    """It is taken before the first instruction of where IRET goes to."""
    there = AT + 0x80
    frame = "".join(f"68{value.to_bytes(4, 'little').hex()}" for value in (0x10, STACK, 2 | IF, 8, there))
    lab.run("fa" + WAIT + frame + "48cf")
    assert lab.vector() == TIMER and lab.frame()[0] == there and lab.frame()[2] & IF


def test_one_that_ends_a_sleep(lab: MonitorLab) -> None:
    assert all_of(lab, lab.run("fb")) == {"sti": 1}  # and that HLT
    assert lab.hypervisor.run_until(lambda: lab.guest.vcpu.blocked and HANDLERS < lab.state[RIP] < STACK, timeout_s=10)
    assert lab.vector() == TIMER and lab.frame()[0] == AT + 2
    assert not lab.counts.exits["interrupt"]


def test_user_code_is_interrupted(lab: MonitorLab) -> None:
    assert all_of(lab, enter_user(lab, WAIT)) == {"iret": 1, "interrupt": 1}
    assert lab.vector() == TIMER and lab.frame()[1] == USER_CS and USER <= lab.frame()[0] < USER + 12


def test_popf_counts_only_where_it_is_translated(lab: MonitorLab) -> None:
    """Trap-emulate does not see it: IF stays off for the guest, though POPF said on, and the guest is not told."""
    lab.run("fa" + WAIT + "6802020000 9d 90 9090 9c58")
    if isinstance(lab.technique, BinaryTranslation):
        assert lab.vector() == TIMER and lab.frame()[0] == AT + 16
    else:
        assert lab.state[RIP] == AT + 22 and lab.state[RAX] & IF  # what PUSHF says is the real one
        assert not lab.technique.cpu.rflags & IF


@pytest.mark.parametrize("technique", ["trap-emulate", "binary-translation"])
def test_two_runs_are_one(technique: str) -> None:
    runs = [boot("guest-native", stdin="measure fork 4\nps\nexit\n", technique=technique, timeout=60) for _ in "12"]
    assert runs[0].raw == runs[1].raw and runs[0].counters == runs[1].counters
