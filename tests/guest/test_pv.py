# SPDX-License-Identifier: GPL-2.0-or-later
"""The teaching kernel as a paravirtual guest: what it has only there, xenstore and a toolstack that speaks to it,
and what it does not do, exits without a reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.testing import Result, boot
from tests.guest.machines import PvhvMachine, PvhvTerminal, script

pv = PvhvMachine()


@pytest.fixture
def terminal() -> Iterator[PvhvTerminal]:
    with pv.terminal() as made:
        yield made


def run(*commands: str) -> Result:
    return boot("guest-pv", stdin=script(commands), timeout=60)


def test_it_knows_where_it_is() -> None:
    assert any(line.startswith("On Xen 4.") for line in run().lines)


def test_xenstore() -> None:
    outcome = pv.shell("xs test", "xs write data/greeting hello", "xs read data/greeting", "xs ls", "xs read no/such")
    said = outcome.answers
    assert said["xs test"] == ["xs test: ok"]
    assert said["xs read data/greeting"] == ["hello"]
    assert 'name = "guest"' in said["xs ls"]
    assert said["xs read no/such"] == ["xs: no/such: ENOENT"]


def test_a_crash_is_reported_with_its_stack() -> None:
    assert "trap+0x" in run("crash").report  # by name


@pytest.mark.parametrize("word", ["poweroff", "reboot"])
def test_goes_when_the_toolstack_asks(terminal: PvhvTerminal, word: str) -> None:
    terminal.machine.host.ask(terminal.guest, word)
    assert terminal.end().ending == word


def test_an_idle_guest_makes_no_exits(terminal: PvhvTerminal) -> None:
    calls = [0]  # how many there were at the end of each stretch: the first has the last of the prompt's
    while len(calls) < 20 and calls[-2:] != calls[-1:] * 2:
        terminal.machine.hypervisor.run_until(lambda: False, 0.4)
        calls.append(sum(terminal.result().counters.hypercalls.values()))
    assert calls[-2] == calls[-1], calls


def test_a_busy_process_alone_is_not_interrupted() -> None:
    quiet, busy = run("spin 0"), run("spin 1")
    assert busy.counters.hypercalls["set_timer_op"] - quiet.counters.hypercalls["set_timer_op"] <= 1
