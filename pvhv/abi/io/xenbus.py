# SPDX-License-Identifier: GPL-2.0-or-later
"""The states of a split device: each end writes its own, as a decimal number, into the node ``state`` of its directory.

Read beside it: xen/include/public/io/xenbus.h.
"""

from __future__ import annotations

# enum xenbus_state
XenbusStateUnknown = 0
XenbusStateInitialising = 1
XenbusStateInitWait = 2  # a backend's: waiting for what the front end writes
XenbusStateInitialised = 3  # a front end's: it has written where its ring is
XenbusStateConnected = 4
XenbusStateClosing = 5
XenbusStateClosed = 6
XenbusStateReconfiguring = 7
XenbusStateReconfigured = 8

STATE_NAMES = {
    XenbusStateUnknown: "Unknown",
    XenbusStateInitialising: "Initialising",
    XenbusStateInitWait: "InitWait",
    XenbusStateInitialised: "Initialised",
    XenbusStateConnected: "Connected",
    XenbusStateClosing: "Closing",
    XenbusStateClosed: "Closed",
    XenbusStateReconfiguring: "Reconfiguring",
    XenbusStateReconfigured: "Reconfigured",
}
