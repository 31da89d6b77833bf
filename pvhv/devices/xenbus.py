# SPDX-License-Identifier: GPL-2.0-or-later
"""How the two ends of a split device find each other: by states in xenstore, and what each end does about the other's.

The toolstack makes a directory for each end, and each end writes its `state` into its own and watches the other's:

    front end                                       backend
    Initialising                                    Initialising, then InitWait: it told what it offers
    Initialised: it told where its ring is          Connected: it maps the page and binds the port
    Connected                                       Connected
    Closing                                         Closing: it has let go of page and port
    Closed                                          Closed, and gone if the device is (`online` is 0)
    Initialising: a driver comes back               InitWait

`BACKEND` is the backend's side of that, as a table, and `FRONTEND` what a driver does that keeps to it (Linux's
blkfront). A change that is not in them has no effect. A front end may write any state, as often as it wants, in any
order; the backend never connects twice without letting go in between. docs/handshake.svg is drawn from both tables.

Read beside it: xen/include/public/io/xenbus.h; frontend_changed in Linux's drivers/block/xen-blkback/xenbus.c,
blkback_changed in drivers/block/xen-blkfront.c.
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
    """What an end does at a change of the other end's state."""

    CONNECT = "map the ring's page and bind its port"
    LET_GO = "unmap and unbind"
    LEAVE = "unmap and unbind; the device is gone"
    TELL = "make a ring, and write where it is"
    USE = "read what the device is, and use it"
    TELL_AND_USE = "make a ring, write where it is, and use the device"
    GIVE_UP = "free the ring; its requests fail"


class Step(NamedTuple):
    """What an end does, and the state that it then writes."""

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
    (XenbusStateClosing, XenbusStateClosed): Step(Deed.LET_GO, XenbusStateClosed),  # unplugged, it still has them
    (XenbusStateClosed, XenbusStateInitialising): Step(None, XenbusStateInitWait),
    # Its directory is gone, or says nothing that is a state.
    (XenbusStateInitWait, XenbusStateUnknown): Step(Deed.LEAVE, XenbusStateClosed),
    (XenbusStateConnected, XenbusStateUnknown): Step(Deed.LEAVE, XenbusStateClosed),
    (XenbusStateClosing, XenbusStateUnknown): Step(Deed.LEAVE, XenbusStateClosed),
    (XenbusStateClosed, XenbusStateUnknown): Step(Deed.LEAVE, XenbusStateClosed),
}

# (the front end's state, the backend's new one): what comes of it
FRONTEND: dict[tuple[int, int], Step] = {
    (XenbusStateInitialising, XenbusStateInitWait): Step(Deed.TELL, XenbusStateInitialised),
    (XenbusStateInitialised, XenbusStateConnected): Step(Deed.USE, XenbusStateConnected),
    (XenbusStateInitialising, XenbusStateConnected): Step(Deed.TELL_AND_USE, XenbusStateConnected),
    (XenbusStateInitialising, XenbusStateClosing): Step(Deed.GIVE_UP, XenbusStateClosed),
    (XenbusStateInitialised, XenbusStateClosing): Step(Deed.GIVE_UP, XenbusStateClosed),
    (XenbusStateConnected, XenbusStateClosing): Step(Deed.GIVE_UP, XenbusStateClosed),
    (XenbusStateInitialising, XenbusStateClosed): Step(Deed.GIVE_UP, XenbusStateClosed),
    (XenbusStateInitialised, XenbusStateClosed): Step(Deed.GIVE_UP, XenbusStateClosed),
    (XenbusStateConnected, XenbusStateClosed): Step(Deed.GIVE_UP, XenbusStateClosed),
}


def state_of(value: bytes | None) -> int:
    """The state in a `state` node; Unknown if the node is missing, or is no state."""
    if value is None or not value.isdigit() or len(value) > 1:
        return XenbusStateUnknown
    number = int(value)
    return number if number <= XenbusStateReconfigured else XenbusStateUnknown
