# SPDX-License-Identifier: GPL-2.0-or-later
"""Giving a frame away: the receiver offers an entry, the giver loses the frame.

The frame is taken from the giver before the receiver's entry is checked. So a transfer that fails at the receiver
destroys the frame; the giver keeps it only if it could not be taken.

Read beside it: gnttab_transfer, gnttab_prepare_for_transfer in xen/common/grant_table.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.abi.grant_table import (
    GNTST_bad_domain,
    GNTST_bad_page,
    GNTST_general_error,
    GTF_accept_transfer,
    GTF_transfer_committed,
    GTF_transfer_completed,
)
from pvhv.core.errors import GrantError
from pvhv.core.grants.entries import FLAGS
from pvhv.core.mm.reservation import can_change_hands, change_hands, name

if TYPE_CHECKING:
    from pvhv.core.domain import Domain


def transfer(giver: Domain, mfn: int, domid: int, ref: int) -> None:
    """Give `mfn` to the domain whose entry `ref` accepts it. Raises GrantError."""
    hypervisor = giver.hypervisor
    if not can_change_hands(giver, mfn):
        raise GrantError(GNTST_bad_page)
    try:
        receiver = hypervisor.domain_by_id(domid)
        if receiver is None:
            raise GrantError(GNTST_bad_domain)
        slot = commit(giver, receiver, ref)
    except GrantError:
        hypervisor.frames.release_allocation(mfn)
        raise
    change_hands(giver, receiver, mfn)
    entries = receiver.grants.entries
    name(receiver, mfn, entries.frame(slot))
    entries.set_frame(slot, mfn)
    hypervisor.ram.words[slot] |= GTF_transfer_completed


def commit(giver: Domain, receiver: Domain, ref: int) -> int:
    """Mark the receiver's entry as taken; returns its index into `words`. Raises GrantError(general_error)."""
    had = receiver.tot_pages - (giver is receiver)
    if receiver.dying or had >= receiver.max_pages:
        raise GrantError(GNTST_general_error)
    try:
        slot = receiver.grants.entries.slot(ref)
    except GrantError:
        raise GrantError(GNTST_general_error) from None
    words = receiver.hypervisor.ram.words
    entry = words[slot]
    if entry & FLAGS != GTF_accept_transfer or entry >> 16 & 0xFFFF != giver.domid:
        raise GrantError(GNTST_general_error)
    words[slot] = entry | GTF_transfer_committed
    return slot
