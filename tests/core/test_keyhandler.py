# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's debug keys: what each prints into the log, in short steps, whatever there is or is no more."""

from __future__ import annotations

import re

import pytest

from pvhv.abi.xen import VIRQ_DEBUG
from pvhv.core import keyhandler
from pvhv.core.control import Control
from pvhv.core.keyhandler import KEYS, NOT_HERE, press
from tests.core.fifo import BUSY, FifoGuest
from tests.core.guests import Machine


@pytest.fixture
def machine() -> Machine:
    made = Machine()
    made.guest()
    return made


def printed(machine: Machine, key: str) -> list[str]:
    machine.hv.console.clear()
    for step in press(machine.hv, key):
        step()
    return [re.sub(r"^\(XEN\) \[ *[0-9.]+\] ", "", line) for line in machine.hv.console.read().splitlines()]


def test_h_lists_all_keys(machine: Machine) -> None:
    lines = printed(machine, "h")
    assert lines[0] == "'h' pressed -> show this message"
    assert [line[6] for line in lines[1:]] == sorted(KEYS)


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_key_says_that_it_was_pressed_and_something_else(machine: Machine, key: str) -> None:
    lines = printed(machine, key)
    assert lines[0] == f"'{key}' pressed -> {KEYS[key].description}" and len(lines) > 1
    assert machine.hv.bugs == []


def test_what_is_no_key_is_told(machine: Machine) -> None:
    assert not set(NOT_HERE) & set(KEYS)
    for key, words in (("Q", "is one of Xen's, and there is nothing of that here"), ("y", "is no key of Xen's")):
        assert printed(machine, key) == [f"'{key}' {words}; h lists those that do something"]


def test_q_tells_of_domains_and_lets_them_know(machine: Machine) -> None:
    guest = next(domain for domain in machine.hv.domains.values() if domain.domid)
    port = guest.events.bind_virq(VIRQ_DEBUG, 0)
    lines = printed(machine, "q")
    assert f"General information for domain {guest.domid}:" in lines
    assert any(line.strip().startswith(f"handle={guest.handle}") for line in lines)
    assert f"Notifying guest {guest.domid}:0 (virq {VIRQ_DEBUG}, port {port})" in lines
    assert guest.events.is_pending(port)
    told = printed(machine, "e")
    assert any(line.split()[0] == str(port) and line.endswith(f" v={VIRQ_DEBUG}") for line in told if "]:" in line)


def test_a_long_list_is_told_in_part(machine: Machine) -> None:
    guest = next(domain for domain in machine.hv.domains.values() if domain.domid)
    for _port in range(2 * keyhandler.LINES):
        guest.events.alloc_unbound(0)
    lines = printed(machine, "e")
    used = len(guest.events.in_use())
    assert f"    ... and {used - keyhandler.LINES} more" in lines


def test_a_domain_that_goes_before_its_step_is_passed_over(machine: Machine) -> None:
    guest = next(domain for domain in machine.hv.domains.values() if domain.domid)
    steps = {key: press(machine.hv, key) for key in KEYS}
    Control(machine.hv, machine.hv.dom0).destroydomain(guest.domid)
    machine.safe_point()
    assert guest.domid not in machine.hv.domains
    for key in KEYS:
        for step in steps[key]:
            step()
    assert machine.hv.bugs == []


def test_e_shows_what_the_abi_knows_of_a_port(machine: Machine) -> None:
    """Of bits, whether the selector says to look; of words, what is behind it on its queue."""
    guest = next(domain for domain in machine.hv.domains.values() if domain.domid)
    first, second = (guest.events.bind_ipi(0) for _ in range(2))
    guest.events.send(first)

    def shown() -> list[str]:
        return [line for line in printed(machine, "e") if re.match(rf" +({first}|{second}) \[", line)]

    assert shown() == [f"    {first:4} [1/0/1]: s=5 n=0", f"    {second:4} [0/0/1]: s=5 n=0"]
    queues = FifoGuest(machine, guest)
    assert queues.init_control(0) == 0
    assert shown() == [f"    {first:4} [0/1/?     ]: s=5 n=0", f"    {second:4} [0/1/?     ]: s=5 n=0"]
    assert queues.expand() == 0
    guest.events.send(second)
    queues.set(first, queues.word(first) | BUSY)
    assert shown() == [f"    {first:4} [1/0/B {second:<4}]: s=5 n=0", f"    {second:4} [1/0/  0   ]: s=5 n=0"]
    assert queues.take(0) == [first, second]
    assert shown()[1] == f"    {second:4} [0/0/  -   ]: s=5 n=0"
