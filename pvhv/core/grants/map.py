# SPDX-License-Identifier: GPL-2.0-or-later
"""Mapping a granted frame into one's own page tables, and taking it out again.

A mapping is a page-table entry, written by the hypervisor, that names a frame of another domain. A guest could not
write such an entry itself. Its reference and writable use are taken when it is made. The guest says where: the virtual
address to map at, or with GNTMAP_contains_pte the machine address of the L1 entry. The guest may later overwrite the
entry like any other. Then it can no longer unmap the grant, which stays in use until the domain ends. (A debug build of
Xen marks such entries with bit 62, and gives the guest #GP for that.)

Unmapping works in two steps, with a TLB flush between them: first the entries are cleared, then the references they
held are dropped. A batch shares one flush, and no frame returns to the granter while a TLB may still map it.

Read beside it: map_grant_ref, unmap_common in xen/common/grant_table.c; xen/arch/x86/pv/grant_table.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pvhv.abi.grant_table import (
    GNTMAP_application_map,
    GNTMAP_contains_pte,
    GNTMAP_device_map,
    GNTMAP_host_map,
    GNTMAP_readonly,
    GNTST_bad_dev_addr,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_handle,
    GNTST_general_error,
)
from pvhv.core.errors import DomainCrash, GrantError, GuestFault
from pvhv.core.grants.entries import DEVICE_READ, DEVICE_WRITE, HOST_READ, HOST_WRITE
from pvhv.core.mm.frames import L1, TYPE_MASK, VALIDATED
from pvhv.core.mm.pte import ACCESSED, ADDRESS, DIRTY, NX, PRESENT, RW, USER, adjust

if TYPE_CHECKING:
    from pvhv.core.grants.table import GrantTable
    from pvhv.core.vcpu import VCPU

GUEST_AVAILABLE_SHIFT = 16  # GNTMAP_guest_avail0 is bit 16 of the flags, and bit 9 of the entry
GUEST_AVAILABLE = 0xE00


class Unmapped(NamedTuple):
    """The uses that the second step of an unmap has to end."""

    grants: GrantTable
    ref: int
    mfn: int
    done: int  # GNTMAP_host_map, GNTMAP_device_map
    readonly: bool


# -- page-table entries --------------------------------------------------------------------------------------
def grant_entry(mfn: int, flags: int) -> int:
    """The L1 entry that maps `mfn` as the GNTMAP_* flags ask."""
    entry = mfn << 12 | PRESENT | ACCESSED | DIRTY | NX
    if flags & GNTMAP_application_map:
        entry |= USER
    if not flags & GNTMAP_readonly:
        entry |= RW
    return adjust(entry | (flags >> GUEST_AVAILABLE_SHIFT) << 9 & GUEST_AVAILABLE)


def find_slot(vcpu: VCPU, address: int, contains_pte: bool) -> int:
    """Index into `words` of an entry in a live L1 of the caller's. Raises GrantError(general_error)."""
    if contains_pte:
        if address & 7:
            raise GrantError(GNTST_general_error)
        machine = address
    else:
        if not vcpu.memory.accessible(address, 1):
            raise GrantError(GNTST_general_error)
        try:
            machine = vcpu.memory.entry_address(address)
        except GuestFault:
            raise GrantError(GNTST_general_error) from None
    domain = vcpu.domain
    frames = domain.hypervisor.frames
    table = machine >> 12
    if (
        table >= frames.count
        or frames.owner[table] != domain.domid
        or frames.types[table] & (TYPE_MASK | VALIDATED) != L1 | VALIDATED
        or not frames.type_counts[table]
    ):
        raise GrantError(GNTST_general_error)
    return machine >> 3


# -- map -----------------------------------------------------------------------------------------------------
def map_grant_ref(vcpu: VCPU, host_addr: int, flags: int, ref: int, domid: int) -> tuple[int, int]:
    """Map entry `ref` of domain `domid`; returns (handle, the frame's machine address). Raises GrantError."""
    readonly = bool(flags & GNTMAP_readonly)
    increment = 0
    if flags & GNTMAP_device_map:
        increment = DEVICE_READ if readonly else DEVICE_WRITE
    if flags & GNTMAP_host_map:
        increment += HOST_READ if readonly else HOST_WRITE
    if not increment:
        raise GrantError(GNTST_bad_gntref)
    domain = vcpu.domain
    granter = domain.hypervisor.domain_by_id(domid)
    if granter is None:
        raise GrantError(GNTST_bad_domain)
    mine, theirs = domain.grants, granter.grants
    handle = mine.new_handle()
    try:
        active = theirs.pin(ref, domain.domid, increment, readonly)
    except GrantError:
        mine.free_handles.append(handle)
        raise
    mfn = active.mfn
    references, uses = 1, 0
    try:
        if flags & GNTMAP_device_map and not readonly:
            theirs.get_writable(mfn)
            uses += 1
        if flags & GNTMAP_host_map:
            if flags & GNTMAP_device_map:
                if not mine.table.get_page(mfn, granter.domid):
                    raise GrantError(GNTST_general_error)
                references += 1
            if not readonly:
                theirs.get_writable(mfn)
                uses += 1
            install(vcpu, host_addr, grant_entry(mfn, flags), bool(flags & GNTMAP_contains_pte))
    except GrantError:
        for _ in range(uses):
            mine.table.put_page_type(mfn)
        for _ in range(references):
            mine.table.put_page(mfn)
        theirs.unpin(ref, increment, readonly)
        mine.free_handles.append(handle)
        raise
    mapping = mine.maptrack[handle]
    mapping.flags, mapping.granter, mapping.ref = flags, granter, ref
    return handle, mfn << 12


def install(vcpu: VCPU, address: int, entry: int, contains_pte: bool) -> None:
    """Put a grant's entry in its place; what was there is dropped. Raises GrantError."""
    slot = find_slot(vcpu, address, contains_pte)
    hypervisor = vcpu.domain.hypervisor
    words = hypervisor.ram.words
    old = words[slot]
    words[slot] = entry
    if old & PRESENT:
        hypervisor.pagetables.put_l1_entry(old, vcpu.domain.domid)


# -- unmap ---------------------------------------------------------------------------------------------------
def unmap(vcpu: VCPU, handle: int, host_addr: int, dev_bus_addr: int, new_addr: int = 0) -> Unmapped | None:
    """The first step: clear the entry, and free the handle when nothing is left of the mapping.

    Returns the argument for `finish`, which is called after the TLB flush, or None where nothing was unmapped. Raises
    GrantError; and DomainCrash if the granter is gone, which can happen only if the guest overwrote its entry before.
    """
    domain = vcpu.domain
    mine = domain.grants
    mapping = mine.mapping(handle)
    if mapping is None or mapping.granter is None:
        raise GrantError(GNTST_bad_handle)
    granter, flags = mapping.granter, mapping.flags
    if domain.hypervisor.domains.get(granter.domid) is not granter:
        raise DomainCrash(f"unmapped a grant of d{granter.domid}, which is gone")
    mfn = granter.grants.active[mapping.ref].mfn
    if dev_bus_addr and flags & GNTMAP_device_map and dev_bus_addr != mfn << 12:
        raise GrantError(GNTST_bad_dev_addr)
    done = 0
    if host_addr and flags & GNTMAP_host_map:
        replace(vcpu, host_addr, grant_entry(mfn, flags), new_addr, bool(flags & GNTMAP_contains_pte))
        done = GNTMAP_host_map
    if dev_bus_addr and flags & GNTMAP_device_map:
        done |= GNTMAP_device_map
    if not flags & ~done & (GNTMAP_host_map | GNTMAP_device_map):
        mapping.flags, mapping.granter = 0, None
        mine.free_handles.append(handle)
    else:
        mapping.flags = flags & ~done
    if not done:
        return None
    return Unmapped(granter.grants, mapping.ref, mfn, done, bool(flags & GNTMAP_readonly))


def replace(vcpu: VCPU, address: int, expected: int, new_addr: int, contains_pte: bool) -> None:
    """Clear a grant's entry, or put the one that maps `new_addr` in its place. Raises GrantError."""
    hypervisor = vcpu.domain.hypervisor
    words = hypervisor.ram.words
    new = 0
    if new_addr:
        if contains_pte:
            raise GrantError(GNTST_general_error)
        stolen = find_slot(vcpu, new_addr, False)
        new = words[stolen]
        words[stolen] = 0
    try:
        slot = find_slot(vcpu, address, contains_pte)
        if (words[slot] ^ expected) & (ADDRESS | PRESENT | RW):
            raise GrantError(GNTST_general_error)
    except GrantError:
        if new & PRESENT:  # already taken from its place: all that is left to do is to drop it
            hypervisor.pagetables.put_l1_entry(new, vcpu.domain.domid)
        raise
    words[slot] = new


def finish(vcpu: VCPU, unmapped: list[Unmapped]) -> None:
    """The second step, after the TLB flush: drop the references and end the uses that the entries held."""
    pagetables = vcpu.domain.hypervisor.pagetables
    pagetables.stale = True
    pagetables.flush_before_reuse()
    table = vcpu.domain.grants.table
    for grants, ref, mfn, done, readonly in unmapped:
        if done & GNTMAP_device_map:
            if not readonly:
                table.put_page_type(mfn)
            table.put_page(mfn)
            grants.unpin(ref, DEVICE_READ if readonly else DEVICE_WRITE, readonly)
        if done & GNTMAP_host_map:
            if not readonly:
                table.put_page_type(mfn)
            table.put_page(mfn)
            grants.unpin(ref, HOST_READ if readonly else HOST_WRITE, readonly)
