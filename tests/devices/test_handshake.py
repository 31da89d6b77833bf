# SPDX-License-Identifier: GPL-2.0-or-later
"""The two tables of the handshake together: whichever end is quicker, they come to the same."""

from __future__ import annotations

import pytest

from pvhv.abi.io.xenbus import (
    STATE_NAMES,
    XenbusStateClosed,
    XenbusStateClosing,
    XenbusStateConnected,
    XenbusStateInitialised,
    XenbusStateInitialising,
    XenbusStateInitWait,
)
from pvhv.devices.xenbus import BACKEND, FRONTEND, Deed

Both = tuple[int, int]  # the backend's state, the front end's
BEGINNING = (XenbusStateInitWait, XenbusStateInitialising)
TOGETHER = (XenbusStateConnected, XenbusStateConnected)
APART = (XenbusStateClosed, XenbusStateClosed)


def from_there(begin: Both) -> tuple[set[Both], set[Both]]:
    """All that is met from there on, whichever end looks first at the other's state; and where it ends."""
    met, last, todo = {begin}, set(), [begin]
    while todo:
        back, front = todo.pop()
        after = []
        if step := BACKEND.get((back, front)):
            after.append((step.then, front))
        if step := FRONTEND.get((front, back)):
            after.append((back, step.then))
        new = [both for both in after if both != (back, front)]
        if not new:
            last.add((back, front))
        todo += [both for both in new if both not in met]
        met |= set(new)
    return met, last


ANYWHERE = pytest.mark.parametrize(
    "both", sorted(from_there(BEGINNING)[0]), ids=lambda both: "-".join(STATE_NAMES[state] for state in both)
)


def test_they_come_together() -> None:
    met, last = from_there(BEGINNING)
    assert last == {TOGETHER}
    assert met == {
        BEGINNING, TOGETHER,
        (XenbusStateInitWait, XenbusStateInitialised), (XenbusStateConnected, XenbusStateInitialised),
    }  # fmt: skip


@ANYWHERE
def test_wherever_a_device_is_unplugged_they_come_apart(both: Both) -> None:
    _met, last = from_there((XenbusStateClosing, both[1]))
    assert last == {APART}


@ANYWHERE
def test_wherever_a_driver_closes_it_may_come_back(both: Both) -> None:
    for leaving in (XenbusStateClosing, XenbusStateClosed):
        _met, last = from_there((both[0], leaving))
        if leaving == XenbusStateClosed:
            assert last == {APART}
    assert from_there((XenbusStateClosed, XenbusStateInitialising))[1] >= {TOGETHER}


def test_what_is_mapped_is_let_go_before_it_is_mapped_again() -> None:
    """Every way out of Connected unmaps, and no way into it begins where something is mapped."""
    for (back, _front), step in BACKEND.items():
        assert (step.deed is Deed.CONNECT) == (step.then == XenbusStateConnected)
        if back == XenbusStateConnected:
            assert step.deed in (Deed.LET_GO, Deed.LEAVE)
