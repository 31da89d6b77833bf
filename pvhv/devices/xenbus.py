# SPDX-License-Identifier: GPL-2.0-or-later
"""How the two ends of a split device find each other: by states in xenstore, and what a backend does about each.

The toolstack makes a directory for each end, and each end writes its `state` into its own and watches the other's:

    front end                                       backend
    Initialising                                    Initialising, then InitWait: it told what it offers
    Initialised: it told where its ring is          Connected: it maps the page and binds the port
    Connected                                       Connected
    Closing                                         Closing: it has let go of page and port
    Closed                                          Closed, and gone if the device is (`online` is 0)
    Initialising: a driver comes back               InitWait

`BACKEND` is the backend's side of that, as a table. A change that is not in it has no effect. A front end may write any
state, as often as it wants, in any order; the backend never connects twice without letting go in between.

Read beside it: xen/include/public/io/xenbus.h; frontend_changed in Linux's drivers/block/xen-blkback/xenbus.c.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from pvhv.abi.io.xenbus import (
    XenbusStateClosed,
    XenbusStateClosing,
    XenbusStateConnected,
    XenbusStateInitialised,
    XenbusStateInitialising,
    XenbusStateInitWait,
    XenbusStateReconfigured,
    XenbusStateUnknown,
)


class Deed(Enum):
    """What a backend does at a change of the other end's state."""

    CONNECT = "map the ring's page and bind its port"
    LET_GO = "unmap and unbind"
    LEAVE = "unmap and unbind; the device is gone"


class Step(NamedTuple):
    """What the backend does, and the state that it then writes."""

    deed: Deed | None
    then: int


# (the backend's state, the front end's new one): what comes of it
BACKEND: dict[tuple[int, int], Step] = {
    (XenbusStateInitWait, XenbusStateInitialised): Step(Deed.CONNECT, XenbusStateConnected),
    # Two changes at once are told as one: the front end's state may have gone on.
    (XenbusStateInitWait, XenbusStateConnected): Step(Deed.CONNECT, XenbusStateConnected),
    (XenbusStateInitWait, XenbusStateClosing): Step(None, XenbusStateClosing),
    (XenbusStateConnected, XenbusStateClosing): Step(Deed.LET_GO, XenbusStateClosing),
    (XenbusStateInitWait, XenbusStateClosed): Step(None, XenbusStateClosed),
    (XenbusStateConnected, XenbusStateClosed): Step(Deed.LET_GO, XenbusStateClosed),
    (XenbusStateClosing, XenbusStateClosed): Step(None, XenbusStateClosed),
    (XenbusStateClosed, XenbusStateInitialising): Step(None, XenbusStateInitWait),
    # Its directory is gone, or says nothing that is a state.
    (XenbusStateInitWait, XenbusStateUnknown): Step(Deed.LEAVE, XenbusStateClosed),
    (XenbusStateConnected, XenbusStateUnknown): Step(Deed.LEAVE, XenbusStateClosed),
    (XenbusStateClosing, XenbusStateUnknown): Step(Deed.LEAVE, XenbusStateClosed),
    (XenbusStateClosed, XenbusStateUnknown): Step(Deed.LEAVE, XenbusStateClosed),
}


def state_of(value: bytes | None) -> int:
    """The state in a `state` node; Unknown if the node is missing, or is no state."""
    if value is None or not value.isdigit() or len(value) > 1:
        return XenbusStateUnknown
    number = int(value)
    return number if number <= XenbusStateReconfigured else XenbusStateUnknown
