# SPDX-License-Identifier: GPL-2.0-or-later
"""The control half of a backend, by a front end that keeps to the handshake, and by one that does not."""

from __future__ import annotations

import random

import pytest

from pvhv.abi.grant_table import GNTTAB_RESERVED_CONSOLE
from pvhv.abi.io.console import XenconsInterface
from pvhv.abi.io.xenbus import (
    XenbusStateClosed,
    XenbusStateClosing,
    XenbusStateConnected,
    XenbusStateInitialised,
    XenbusStateInitialising,
    XenbusStateInitWait,
    XenbusStateReconfigured,
)
from pvhv.devices.backend import Backend
from pvhv.devices.console.console import Console
from pvhv.devices.console.ring import OUT, OUT_PROD
from pvhv.devices.xenbus import BACKEND, Deed, state_of
from pvhv.devices.xenstore import tree
from pvhv.devices.xenstore.permissions import Caller
from pvhv.testing import Machine
from pvhv.toolstack.guest import Guest


class FrontEnd:
    """A guest's end: what it writes into the store, as the domain it is, and into its page."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.console = Console()
        self.backend: Backend = guest.plug("console", 1, self.console)
        self.me = Caller(guest.domid)
        mfn = guest.domain.grants.entries.frame(guest.domain.grants.entries.slot(GNTTAB_RESERVED_CONSOLE))
        self.page = guest.hypervisor.ram.frame(mfn)

    def write(self, node: str, value: str) -> None:
        tree.write(self.guest.store.tree, self.me, f"{self.backend.front}/{node}", value.encode())
        self.guest.store.settle()

    def enter(self, state: int) -> None:
        self.write("state", str(state))

    def remove(self) -> None:
        tree.remove(self.guest.store.tree, self.me, self.backend.front)
        self.guest.store.settle()

    def tells(self, ref: object = GNTTAB_RESERVED_CONSOLE, port: object = None) -> None:
        """Where its ring is."""
        self.write("ring-ref", str(ref))
        self.write("port", str(self.guest.domain.events.alloc_unbound(0) if port is None else port))

    def says(self, data: bytes) -> None:
        words = self.page.cast("I")
        prod = words[OUT_PROD]
        for byte in data:
            self.page[OUT + prod % XenconsInterface.out.size] = byte
            prod += 1
        words[OUT_PROD] = prod
        self.console.pump()

    @property
    def other(self) -> int:
        """The backend's state, as the guest reads it."""
        return state_of(tree.read(self.guest.store.tree, self.me, f"{self.backend.back}/state"))

    @property
    def error(self) -> bytes | None:
        return self.guest.store.read(f"{self.backend.errors}/error")


@pytest.fixture
def front(machine: Machine) -> FrontEnd:
    return FrontEnd(machine.create("test-hello", paused=True))


def held(guest: Guest) -> tuple[int, int]:
    """What domain 0 holds: its ports, and its mappings of grants."""
    dom0 = guest.hypervisor.dom0
    return dom0.events.active, len(dom0.grants.views)


def test_by_the_handshake(front: FrontEnd) -> None:
    before = held(front.guest)
    assert front.other == XenbusStateInitWait
    for text in (b"once\n", b"twice\n"):
        front.tells()
        front.enter(XenbusStateInitialised)
        assert front.other == XenbusStateConnected
        front.enter(XenbusStateConnected)
        front.says(text)
        front.enter(XenbusStateClosing)
        assert front.other == XenbusStateClosing and held(front.guest) == before
        front.enter(XenbusStateClosed)
        assert front.other == XenbusStateClosed
        front.enter(XenbusStateInitialising)
        assert front.other == XenbusStateInitWait
    assert front.console.output() == b"once\ntwice\n"


@pytest.mark.parametrize(
    ("ref", "port", "why"),
    [
        ("", "1", b"22 reading"),
        ("-1", "1", b"22 reading"),
        ("4294967296", "1", b"22 reading"),
        (GNTTAB_RESERVED_CONSOLE, "one", b"22 reading"),
        (77, "1", b"-1 mapping"),
        (4000000000, "1", b"-3 mapping"),
        (GNTTAB_RESERVED_CONSOLE, 0, b"22 binding"),
        (GNTTAB_RESERVED_CONSOLE, 4000000000, b"22 binding"),
    ],
)
def test_a_ring_that_is_none(front: FrontEnd, ref: object, port: object, why: bytes) -> None:
    before = held(front.guest)
    front.tells(ref, port)
    front.enter(XenbusStateInitialised)
    assert front.other == XenbusStateClosing and (front.error or b"").startswith(why), front.error
    assert held(front.guest) == before
    front.enter(XenbusStateClosed)  # it may try again
    front.enter(XenbusStateInitialising)
    front.tells()
    front.enter(XenbusStateInitialised)
    assert front.other == XenbusStateConnected


def test_unplugged(front: FrontEnd) -> None:
    before = held(front.guest)
    front.tells()
    front.enter(XenbusStateInitialised)
    front.backend.unplug()
    assert front.other == XenbusStateClosing
    front.enter(XenbusStateClosed)
    assert front.backend.gone and held(front.guest) == before
    assert front.guest.store.read(f"{front.backend.back}/state") is None


def test_a_front_end_that_removes_its_directory(front: FrontEnd) -> None:
    before = held(front.guest)
    front.tells()
    front.enter(XenbusStateInitialised)
    front.remove()
    assert front.backend.gone and held(front.guest) == before


def test_a_domain_that_goes_while_it_is_connected(machine: Machine) -> None:
    dom0 = machine.hypervisor.dom0
    nothing = dom0.events.active, len(dom0.grants.views)
    front = FrontEnd(machine.create("test-hello", paused=True))
    store, back = front.guest.store, front.backend.back
    front.tells()
    front.enter(XenbusStateInitialised)
    front.guest.destroy()
    machine.hypervisor.run_until(lambda: front.guest.domid not in machine.hypervisor.domains, 10)
    assert front.backend.gone and store.read(f"{back}/state") is None
    assert held(front.guest) == nothing


def test_whatever_it_writes(front: FrontEnd) -> None:
    """The backend holds a ring if and only if it is Connected, and every row of the table is met."""
    before, dice, met = held(front.guest), random.Random(1), set()
    for _ in range(4000):
        if dice.random() < 0.3:
            front.tells(dice.choice((GNTTAB_RESERVED_CONSOLE, 1, 5, "x")), dice.choice((None, None, 0, 3, "")))
            if front.guest.domain.events.active > 100:
                for channel in front.guest.domain.events.in_use()[3:]:
                    front.guest.domain.events.close(channel.port)
        state = dice.choice((*range(XenbusStateReconfigured + 1), 9, "", "x", "-1", "44"))
        was = front.backend.state
        front.write("state", str(state))
        now = state_of(str(state).encode())
        if (was, now) in BACKEND:
            met.add((was, now))
        assert bool(front.backend.links) == (front.backend.state == XenbusStateConnected)
        if front.backend.gone:
            assert BACKEND[was, now].deed is Deed.LEAVE and held(front.guest) == before
            front = FrontEnd(front.guest)
    assert met == set(BACKEND)
    front.backend.close()
    assert held(front.guest) == before
