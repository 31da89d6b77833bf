# SPDX-License-Identifier: GPL-2.0-or-later
"""Two domains and a tool ask the store for anything, under quotas or not, and come and go: it stays whole."""

from __future__ import annotations

import random

import pytest

from pvhv.abi.io import xs_wire as wire
from pvhv.abi.io.xs_wire import XSD_SOCKMSG_CODEC
from pvhv.devices.xenstore.control import inconsistencies
from pvhv.devices.xenstore.permissions import Permission
from pvhv.devices.xenstore.ring import CONNECTION
from pvhv.devices.xenstore.store import Store
from tests.devices.stores import Tool
from tests.devices.test_xenstore import Guest

PATHS = (
    "data", "data/a", "data/a/x", "data/b", "/local/domain/1/data/a", "/local/domain/2/data", "/", "@releaseDomain",
    "@introduceDomain", "/shared", "/shared/q", "/shared/q/w", "", "//", "data/" + "y" * 2048, "/local/domain/99999/a",
)  # fmt: skip
OFTEN = (wire.XS_WRITE, wire.XS_RM, wire.XS_SET_PERMS, wire.XS_TRANSACTION_START, wire.XS_TRANSACTION_END)
PERMISSIONS = (b"n1", b"r2", b"b0", b"n2", b"w77", b"b0xffffffffff", b"x")
DOMAINS = (b"1\0", b"2\0", b"0\0", b"1\0002\0", b"2\0000\0005\0")
CONTROL = (b"check\0", b"quota\0", b"help\0", b"quota\0001\0", b"memreport\0")


def payload(dice: random.Random, kind: int) -> bytes:
    """Something a request of that kind may well carry, or nothing like it."""
    path = dice.choice(PATHS).encode() + b"\0"
    if dice.random() < 0.03:
        return dice.randbytes(dice.randint(0, 40))
    if kind == wire.XS_WRITE:
        return path + bytes(dice.randint(0, 300))
    if kind == wire.XS_SET_PERMS:
        return path + b"".join(dice.choice(PERMISSIONS) + b"\0" for _permission in range(dice.randint(0, 4)))
    if kind in (wire.XS_WATCH, wire.XS_UNWATCH):
        return path + dice.choice((b"t\0", b"u\0", b"t"))
    if kind == wire.XS_TRANSACTION_END:
        return dice.choice((b"T\0", b"T\0", b"F\0", b"x"))
    if kind == wire.XS_DIRECTORY_PART:
        return path + dice.choice((b"0\0", b"5\0", b"-1\0"))
    if kind in (wire.XS_INTRODUCE, wire.XS_RELEASE, wire.XS_RESUME, wire.XS_SET_TARGET, wire.XS_IS_DOMAIN_INTRODUCED):
        return dice.choice(DOMAINS)
    return dice.choice(CONTROL) if kind == wire.XS_CONTROL else path


class World:
    """The store and who asks it."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.store = store = Store()
        store.make("/shared", "", Permission(0, 0), Permission(1, 3), Permission(2, 3))
        if dice.random() < 0.5:
            store.quotas.nodes, store.quotas.transaction_nodes = dice.randint(3, 10), dice.randint(2, 10)
            store.quotas.memory, store.quotas.watches = dice.randint(500, 5000), 2
        self.tool = Tool(store)
        self.guests = {domid: Guest(store, domid) for domid in (1, 2)}

    def step(self) -> None:
        dice = self.dice
        kind, tx = dice.choice((*OFTEN, *OFTEN, *range(25))), dice.choice((0, 0, 1, 2, 3, 4))
        data = payload(dice, kind)
        message = XSD_SOCKMSG_CODEC.pack(kind, 7, tx, len(data)) + data
        domid = dice.choice((0, 1, 1, 2, 2))
        if domid == 0:
            self.tool.socket.feed(message)
            self.tool.messages()
        else:
            self.guest_asks(domid, message)
        if dice.random() < 0.02:
            self.guests[dice.choice((1, 2))].ring.close()

    def guest_asks(self, domid: int, message: bytes) -> None:
        if self.guests[domid].ring.gone:
            self.guests[domid] = Guest(self.store, domid)
        guest = self.guests[domid]
        if not self.store.accounts.stalled(domid):
            guest.put(message)
        else:  # it is not listened to
            guest.words[CONNECTION] = wire.XENSTORE_RECONNECT
            guest.ring.pump()
            guest.received = b""
        for _message in guest.messages():
            pass

    def check(self) -> None:
        store = self.store
        assert inconsistencies(store) == []
        owners = [node.owner for node in store.tree.nodes.values()]
        assert all(store.tree.owned[domid] == owners.count(domid) for domid in (0, 1, 2, 77, 0xFFFF_FFFF))

    def end(self) -> None:
        for guest in self.guests.values():
            if not guest.ring.gone:
                guest.ring.close()
        self.tool.socket.close()
        memory = self.store.accounts.memory
        assert not self.store.watches.by_path and not self.store.stalled
        assert memory[1] == memory[2] == 0
        held = sum(node.size + len(path) for path, node in self.store.tree.nodes.items())
        assert sum(memory.values()) == held


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_asked(seed: int) -> None:
    for number in range(40):
        dice = random.Random(seed * 1000 + number)
        world = World(dice)
        for _step in range(dice.randint(5, 80)):
            world.step()
            world.check()
        world.end()
