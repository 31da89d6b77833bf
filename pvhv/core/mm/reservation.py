# SPDX-License-Identifier: GPL-2.0-or-later
"""How many frames a domain has, and how frames come to it, change hands and go.

`tot_pages` counts the frames a domain was given that are not free yet. A frame the domain gave back counts as long as
it is still mapped somewhere. `tot_pages` never exceeds `max_pages`. It goes up here, and down when the frame table
frees a frame. The frames the hypervisor keeps for a domain (shared_info, grant table) are not counted.

A frame may change its owner only when the owner's allocation reference is the only one. Then it has no mapping and no
type, and a TLB flush is all that is needed.

Not modelled: a search for low memory. A request with `address_bits` succeeds only if the next free frames are low
enough; no guest has a device that needs low frames.

Read beside it: assign_pages in xen/common/page_alloc.c, steal_page in xen/arch/x86/mm.c, guest_remove_page in
xen/common/memory.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.core.errors import HypercallError

if TYPE_CHECKING:
    from pvhv.core.domain import Domain

INVALID_M2P_ENTRY = 0xFFFF_FFFF_FFFF_FFFF


def allocate(domain: Domain, order: int, address_bits: int = 0) -> int | None:
    """Give the domain 2^order contiguous frames; the first one's mfn, or None when it may not have them.

    With `address_bits` all of them must be below 2^address_bits.
    """
    count = 1 << order
    if domain.dying or domain.tot_pages + count > domain.max_pages:
        return None
    mfn = take(domain, order, address_bits)
    if mfn is not None:
        domain.tot_pages += count
    return mfn


def take(domain: Domain, order: int, address_bits: int = 0) -> int | None:
    """Allocate frames for an exchange, without counting them in `tot_pages`; None when there are none."""
    count = 1 << order
    hypervisor = domain.hypervisor
    frames = hypervisor.frames
    try:
        mfn = frames.allocate_run(domain.domid, count) if order else frames.allocate(domain.domid)
    except HypercallError:
        return None
    if address_bits and mfn + count << 12 > 1 << address_bits:
        give_back(domain, mfn, order)
        return None
    for each in range(mfn, mfn + count):
        hypervisor.m2p[each] = INVALID_M2P_ENTRY
    return mfn


def give_back(domain: Domain, mfn: int, order: int) -> None:
    """The reverse of `take`."""
    domain.tot_pages += 1 << order  # what is freed is counted off
    for each in range(mfn, mfn + (1 << order)):
        domain.hypervisor.frames.release_allocation(each)


def name(domain: Domain, mfn: int, pfn: int, order: int = 0) -> None:
    """Record in the M2P the pfns of these frames. (guest_physmap_add_page)"""
    m2p = domain.hypervisor.m2p
    for index in range(1 << order):
        m2p[mfn + index] = pfn + index & INVALID_M2P_ENTRY


def remove(domain: Domain, mfn: int) -> bool:
    """Drop the domain's allocation reference; False when the frame is not the domain's. (guest_remove_page)"""
    frames = domain.hypervisor.frames
    if not frames.get_page(mfn, domain.domid):
        return False
    frames.release_allocation(mfn)
    frames.put_page(mfn)
    return True


def can_change_hands(domain: Domain, mfn: int) -> bool:
    """Whether a frame is the domain's and has no other reference. (steal_page)"""
    frames = domain.hypervisor.frames
    return (
        mfn < frames.count
        and frames.owner[mfn] == domain.domid
        and bool(frames.allocated[mfn])
        and frames.refs[mfn] == 1
    )


def change_hands(giver: Domain, receiver: Domain, mfn: int) -> None:
    """Make a frame that `can_change_hands` the receiver's."""
    hypervisor = giver.hypervisor
    frames, pagetables = hypervisor.frames, hypervisor.pagetables
    pagetables.flush_before_reuse()
    pagetables.executable.freed(mfn)
    frames.assign(mfn, receiver.domid)
    giver.tot_pages -= 1
    receiver.tot_pages += 1
