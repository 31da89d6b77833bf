# SPDX-License-Identifier: GPL-2.0-or-later
"""Copying between two frames, each one's own or granted: a transfer of bytes without a mapping.

The hypervisor does the copy, so no page table changes and no TLB is flushed; an entry is in use for just as
long as the copy takes. A frame named by number must be the caller's own; any other needs a grant.

Not modelled: sub-page and transitive grants, which are version 2's. A version 1 entry that says
GTF_transitive is of the wrong type, as in Xen.

Read beside it: gnttab_copy_one, acquire_grant_for_copy in xen/common/grant_table.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.abi.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_permission_denied,
)
from pvhv.core.domain import DOMID_SELF
from pvhv.core.errors import HypercallError
from pvhv.core.frames import WRITABLE
from pvhv.core.grants import HOST_READ, HOST_WRITE, GrantError

if TYPE_CHECKING:
    from pvhv.core.domain import Domain

PAGE_SIZE = 4096


def copy(
    caller: Domain,
    source: tuple[int, int, int],
    dest: tuple[int, int, int],
    length: int,
    flags: int,
) -> None:
    """Copy `length` bytes; each end is (reference or frame, domid, offset). Raises GrantError."""
    source_by_grant, dest_by_grant = flags & GNTCOPY_source_gref, flags & GNTCOPY_dest_gref
    giver = find(caller, source[1], source_by_grant)
    taker = find(caller, dest[1], dest_by_grant)
    table = caller.grants.table
    ram = caller.hypervisor.ram.bytes
    from_mfn = claim(caller, giver, source[0], source_by_grant, readonly=True)
    try:
        to_mfn = claim(caller, taker, dest[0], dest_by_grant, readonly=False)
        try:
            try:
                table.get_page_type(to_mfn, WRITABLE)
            except HypercallError:
                raise GrantError(GNTST_general_error) from None
            if source[2] + length > PAGE_SIZE or dest[2] + length > PAGE_SIZE:
                table.put_page_type(to_mfn)
                raise GrantError(GNTST_bad_copy_arg)
            start, end = from_mfn * PAGE_SIZE + source[2], to_mfn * PAGE_SIZE + dest[2]
            ram[end : end + length] = ram[start : start + length]
            caller.hypervisor.host_wrote(to_mfn)
            table.put_page_type(to_mfn)
        finally:
            release(taker, dest[0], dest_by_grant, to_mfn, readonly=False)
    finally:
        release(giver, source[0], source_by_grant, from_mfn, readonly=True)


def find(caller: Domain, domid: int, by_grant: int) -> Domain:
    """The domain one end names. Raises GrantError."""
    if domid == DOMID_SELF:
        return caller
    if not by_grant:
        raise GrantError(GNTST_permission_denied)
    domain = caller.hypervisor.domain_by_id(domid)
    if domain is None:
        raise GrantError(GNTST_bad_domain)
    return domain


def claim(caller: Domain, domain: Domain, number: int, by_grant: int, readonly: bool) -> int:
    """Reference the frame of one end; its mfn. Raises GrantError."""
    if by_grant:
        increment = HOST_READ if readonly else HOST_WRITE
        return domain.grants.pin(number & 0xFFFF_FFFF, caller.domid, increment, readonly, mapping=False).mfn
    if not domain.grants.table.get_page(number, domain.domid):
        raise GrantError(GNTST_bad_page)
    return number


def release(domain: Domain, number: int, by_grant: int, mfn: int, readonly: bool) -> None:
    """The reverse of `claim`."""
    domain.grants.table.put_page(mfn)
    if by_grant:
        domain.grants.unpin(number & 0xFFFF_FFFF, HOST_READ if readonly else HOST_WRITE, readonly)
