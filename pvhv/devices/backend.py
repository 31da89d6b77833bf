# SPDX-License-Identifier: GPL-2.0-or-later
"""The control half of a backend: both directories in the store, and the handshake that finds the ring.

A kind of device says which nodes it has, and makes the data half. Everything else is here, the same for all kinds.
When a front end closes, what it asked for is finished and answered before its ring is unmapped: Linux's drivers wait
for the answers.
Nothing that a front end writes is trusted. A text that is not a number, a grant that does not exist, a port that is not
offered end the attempt: a line is written under `error/`, and the state becomes Closing, as with Linux's backends
(xenbus_dev_fatal). The front end may close, and try again.

Read beside it: xenbus_dev_fatal and xenbus_gather in Linux's drivers/xen/xenbus; libxl__device_generic_add in
tools/libs/light/libxl_device.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar, NamedTuple, Protocol, TypeVar

from pvhv.abi.io.xenbus import (
    XenbusStateClosed,
    XenbusStateClosing,
    XenbusStateConnected,
    XenbusStateInitialising,
    XenbusStateInitWait,
)
from pvhv.core.domain import Domain
from pvhv.core.errors import GrantError, HypercallError
from pvhv.devices.link import Link
from pvhv.devices.xenbus import BACKEND, Deed, Step, state_of
from pvhv.devices.xenstore.permissions import READ, Permission
from pvhv.devices.xenstore.store import Store

T = TypeVar("T")
Nodes = Mapping[str, str]
MOST = 0xFFFF_FFFF  # of a grant reference, or a port
DEPTH_OF_HOME = "/local/domain/0".count("/")


class DataHalf(Protocol):
    """The data half: it moves bytes between a ring and what is behind it."""

    def attach(self, page: memoryview, notify: Callable[[], None]) -> None:
        """A ring was found: `page` is its page, `notify()` signals the guest."""

    def pump(self) -> None:
        """The guest signalled."""

    def detach(self) -> None:
        """The ring goes; its page is not touched after this."""


class Refused(Exception):
    """The front end wrote something that cannot be used. The text says what."""


class Where(NamedTuple):
    """Where a front end has one of its rings: the grants of its pages, in their order, and the port it offers."""

    refs: list[int]
    port: int


class Backend:
    """Domain 0's end of device `number` of one kind, for one domain."""

    kind: ClassVar[str]  # the name of the directories
    ring_node: ClassVar[str] = "ring-ref"  # what a front end of this kind writes
    port_node: ClassVar[str] = "event-channel"

    def __init__(
        self, store: Store, dom0: Domain, domid: int, number: int, data: DataHalf, told: Nodes | None = None
    ) -> None:
        """`told` are nodes of the backend's directory that only the toolstack knows."""
        self.store = store
        self.dom0 = dom0
        self.domid = domid
        self.number = number
        self.data = data
        self.told = told or {}
        self.links: list[Link] = []  # while it is connected: one for each ring
        self.state = XenbusStateInitialising
        self.gone = False
        self._leaving = False  # what the front end asked for is finished before the ring goes
        self.on_gone: Callable[[], None] = lambda: None
        self._make_directories()
        self._watch = store.watch(f"{self.front}/state", lambda _path: self.front_end_changed())
        self._enter(XenbusStateInitWait)

    # -- what a kind says --------------------------------------------------------------------------------------
    def made_of(self) -> Nodes:
        """The nodes of the backend's directory that the toolstack writes, besides the usual ones and `told`."""
        return {}

    def offers(self) -> dict[str, str]:
        """The nodes that the backend adds before there is a ring: what a front end needs to make one."""
        return {}

    def describes(self) -> dict[str, str]:
        """The nodes that are written when the ring was found, before the state is Connected: what the device is."""
        return {}

    def tells(self) -> dict[str, str]:
        """The nodes of the front end's directory besides the usual ones."""
        return {}

    def rings(self) -> list[Where]:
        """Read where the front end has its rings. Raises Refused."""
        return [Where([self.number_at(self.ring_node)], self.number_at(self.port_node))]

    def attach(self, links: list[Link]) -> None:
        """Give the data half its rings."""
        (link,) = links
        self.data.attach(link.page, link.notify)
        link.on_signal(self.data.pump)

    # -- directories -------------------------------------------------------------------------------------------
    @property
    def front(self) -> str:
        return f"/local/domain/{self.domid}/device/{self.kind}/{self.number}"

    @property
    def back(self) -> str:
        return f"/local/domain/0/backend/{self.kind}/{self.domid}/{self.number}"

    @property
    def copy(self) -> str:
        """What the toolstack wrote into `back`, once more: nobody else can change it there."""
        return f"/libxl/{self.domid}/device/{self.kind}/{self.number}"

    @property
    def errors(self) -> str:
        return f"/local/domain/0/error/backend/{self.kind}/{self.domid}/{self.number}"

    def _make_directories(self) -> None:
        ours = {"frontend": self.front, "frontend-id": str(self.domid), "online": "1", "state": str(self.state)}
        ours |= {**self.made_of(), **self.told}
        theirs = {"backend": self.back, "backend-id": "0", "state": str(XenbusStateInitialising)}
        self._make(self.copy, ours | {"backend": self.back}, Permission(0, 0))
        self._make(self.front, theirs | self.tells(), Permission(self.domid, 0), Permission(0, READ))
        self._make(self.back, ours | self.offers(), Permission(0, 0), Permission(self.domid, READ))

    def _make_own(self, name: str, value: str) -> None:
        self.store.make(f"{self.back}/{name}", value, Permission(0, 0), Permission(self.domid, READ))

    def _make(self, path: str, nodes: Nodes, *permissions: Permission) -> None:
        self.store.remove(path)
        self.store.make(path, "", *permissions)
        for name, value in nodes.items():
            self.store.make(f"{path}/{name}", value, *permissions)

    # -- the handshake -----------------------------------------------------------------------------------------
    def front_end_changed(self) -> None:
        """The front end wrote its state, or its directory is gone."""
        step = BACKEND.get((self.state, state_of(self.store.read(f"{self.front}/state"))))
        if step is None or self.gone or self._leaving:
            return
        if step.deed is Deed.CONNECT:
            try:
                self._connect()
            except Refused as refused:
                self.store.write(f"{self.errors}/error", str(refused))
                self._enter(XenbusStateClosing)
            else:
                self._enter(step.then)
        elif step.deed is not None and self.links:
            self._leaving = True
            self.drain(partial(self._drained, step))
        else:
            self._finish(step)

    def drain(self, drained: Callable[[], None]) -> None:
        """Finish what the front end asked for, begin nothing more, and then call `drained()`: at once, or later."""
        drained()

    def _drained(self, step: Step) -> None:
        self._leaving = False
        if not self.gone:
            self._let_go()
            self._finish(step)
            self.front_end_changed()  # it may have gone on meanwhile

    def _finish(self, step: Step) -> None:
        self._enter(step.then)
        if step.deed is Deed.LEAVE or (step.then == XenbusStateClosed and not self._online):
            self.close()

    @property
    def _online(self) -> bool:
        return self.store.read(f"{self.back}/online") == b"1"

    def _enter(self, state: int) -> None:
        self.state = state
        self.store.write(f"{self.back}/state", str(state))

    def _connect(self) -> None:
        places = self.rings()
        try:
            for where in places:
                self.links.append(self._link(where))
        except Refused:
            self._let_go()
            raise
        self.attach(self.links)
        for name, value in self.describes().items():
            self._make_own(name, value)

    def _link(self, where: Where) -> Link:
        try:
            return Link(self.dom0, self.domid, where.refs, where.port)
        except GrantError as error:
            raise Refused(f"{error.status} mapping the page of {self.ring_node}") from None
        except HypercallError as error:
            raise Refused(f"{error.errno.value} binding to {self.port_node} ({error.errno.name})") from None

    def number_at(self, node: str) -> int:
        """A number that the front end must have written. Raises Refused."""
        number = self.number_or(node, None)
        if number is None:
            raise Refused(f"22 reading {self.front}/{node}")
        return number

    def number_or(self, node: str, default: T) -> int | T:
        """A number that the front end may have written."""
        value = self.store.read(f"{self.front}/{node}") or b""
        return int(value) if value.isdigit() and len(value) <= 10 and int(value) <= MOST else default

    def tell(self, nodes: dict[str, str]) -> None:
        """Write nodes anew that describe the device, and our state, which a front end watches. (xen_vbd_resize)"""
        if self.state == XenbusStateConnected:
            for name, value in nodes.items():
                self._make_own(name, value)
            self._enter(self.state)

    def _let_go(self) -> None:
        if self.links:
            self.data.detach()
            for link in self.links:
                link.close()
            self.links = []

    # -- the end -----------------------------------------------------------------------------------------------
    def unplug(self) -> None:
        """Ask the front end to close. When it has closed, the device is removed."""
        self.store.write(f"{self.back}/online", "0")
        if self.state == XenbusStateClosed:
            self.close()
        else:
            self._enter(XenbusStateClosing)

    def take_away(self) -> None:
        """Remove the device without asking the front end, as soon as its requests are answered."""
        self.store.write(f"{self.back}/online", "0")
        self._enter(XenbusStateClosing)
        self._remove(self.front)  # which is noticed as if the front end had done it

    def close(self) -> None:
        """Remove the device at once; requests under way are not answered. May be called again."""
        if self.gone:
            return
        self.gone = True
        self.store.unwatch(self._watch)
        self._let_go()
        for path in (self.front, self.copy, self.back, self.errors):
            self._remove(path)
        self.on_gone()

    def _remove(self, path: str) -> None:
        """Remove a directory, and those above it that are empty then. (libxl__xs_path_cleanup)"""
        self.store.remove(path)
        while (path := path.rpartition("/")[0]).count("/") > DEPTH_OF_HOME and not self.store.children(path):
            self.store.remove(path)
