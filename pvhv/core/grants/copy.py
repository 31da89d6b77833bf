# SPDX-License-Identifier: GPL-2.0-or-later
"""Copying between two frames, each one's own or granted: a transfer of bytes without a mapping.

The hypervisor does the copy, so no page table changes and no TLB is flushed. An entry is in use only while the copy
lasts (pvhv.core.grants.acquire). A frame named by number must be the caller's own; any other needs a grant, which may
be for a part of a frame only.

A batch keeps its last source and its last destination in use, so that an item that names the same one again needs no
look-up. An entry is in use until an item names another one, an item fails, or the batch ends or is preempted.
(`Copies`)

For every item the right to name a frame by its number is checked, and a grant that is held is never used for the frame
whose number equals its reference. (Xen 4.17.7 itself did otherwise; this is the behaviour of the first correction to
it, in Debian's 4.17.7+13.)

Read beside it: gnttab_copy_one and what it calls in xen/common/grant_table.c.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from pvhv.abi.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_permission_denied,
)
from pvhv.abi.xen import DOMID_SELF
from pvhv.core.errors import GrantError, HypercallError
from pvhv.core.grants.acquire import acquire, release
from pvhv.core.grants.table import Granter
from pvhv.core.mm.frames import WRITABLE
from pvhv.machine.ram import PAGE_SIZE, Ram

End = tuple[int, int, int]  # reference or frame, domid, offset


class Machine(Protocol):
    """What copying asks of the hypervisor (core/services.py)."""

    ram: Ram

    def domain_by_id(self, domid: int) -> Granter | None: ...
    def host_wrote(self, mfn: int) -> None: ...


class Buffer:
    """The source or the destination of the items of a batch: its domain, and the frame or grant that is held."""

    __slots__ = ("domain", "domid", "granted", "held", "length", "mfn", "number", "readonly", "start")

    def __init__(self, readonly: bool) -> None:
        self.readonly = readonly
        self.domain: Granter | None = None
        self.domid = 0
        self.held = False
        self.granted = 0  # its GNTCOPY_* flag
        self.number = 0  # the reference, or the frame
        self.mfn = self.start = self.length = 0

    def claim(self, caller: Granter, number: int, by_grant: int) -> None:
        """Take a reference, a writable use for a destination, and a use of the grant. Raises GrantError, TryAgain."""
        domain = self.domain
        assert domain is not None
        table = domain.grants.table
        if by_grant:
            active = acquire(domain, number, caller.domid, self.readonly)
            mfn = active.mfn
            self.start = active.start
            self.length = active.length
        else:
            if self.domid != DOMID_SELF:
                raise GrantError(GNTST_permission_denied)
            if not table.get_page(number, domain.domid):
                raise GrantError(GNTST_bad_page)
            mfn = number
            self.start = 0
            self.length = PAGE_SIZE
        if not self.readonly:
            try:
                table.get_page_type(mfn, WRITABLE)
            except HypercallError:
                if by_grant:
                    release(domain, number, self.readonly)
                table.put_page(mfn)
                raise GrantError(GNTST_general_error) from None
        self.mfn, self.number, self.granted, self.held = mfn, number, by_grant, True

    def let_go(self) -> None:
        """Release what `claim` took."""
        domain = self.domain
        assert domain is not None
        self.held = False
        if self.granted:
            release(domain, self.number, self.readonly)
        table = domain.grants.table
        if not self.readonly:
            table.put_page_type(self.mfn)
        table.put_page(self.mfn)


class Copies:
    """The copies of one batch, as a context manager: leaving it releases what is held."""

    def __init__(self, hypervisor: Machine, dom0: Granter) -> None:
        self.hypervisor = hypervisor
        self.ram = hypervisor.ram.bytes
        self.source, self.dest = Buffer(readonly=True), Buffer(readonly=False)
        self.caller = dom0

    def of(self, caller: Granter) -> Copies:
        """Begin a batch for the domain `caller`."""
        self.caller = caller
        return self

    def __enter__(self) -> Copies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.let_go()
        self.source.domain = self.dest.domain = None

    def let_go(self) -> None:
        """Release what is held of source and destination."""
        if self.source.held:
            self.source.let_go()
        if self.dest.held:
            self.dest.let_go()

    def copy(self, source: End, dest: End, length: int, flags: int) -> None:
        """Copy `length` bytes between two ends: (reference or frame, domid, offset). Raises GrantError, TryAgain."""
        giver, taker = self.source, self.dest
        number, domid, offset = source
        to_number, to_domid, to_offset = dest
        by_source, by_dest = flags & GNTCOPY_source_gref, flags & GNTCOPY_dest_gref
        try:
            if giver.domain is None or giver.domid != domid or taker.domid != to_domid:
                self.find(domid, to_domid)
            if by_source:
                number &= 0xFFFF_FFFF
            if not giver.held or giver.number != number or giver.granted != by_source:
                if giver.held:
                    giver.let_go()
                giver.claim(self.caller, number, by_source)
            if by_dest:
                to_number &= 0xFFFF_FFFF
            if not taker.held or taker.number != to_number or taker.granted != by_dest:
                if taker.held:
                    taker.let_go()
                taker.claim(self.caller, to_number, by_dest)
            if offset + length > PAGE_SIZE or to_offset + length > PAGE_SIZE:
                raise GrantError(GNTST_bad_copy_arg)
            if (
                offset < giver.start
                or offset + length > giver.start + giver.length
                or to_offset < taker.start
                or to_offset + length > taker.start + taker.length
            ):
                raise GrantError(GNTST_general_error)
        except GrantError:
            self.let_go()
            raise
        start, end = giver.mfn * PAGE_SIZE + offset, taker.mfn * PAGE_SIZE + to_offset
        self.ram[end : end + length] = self.ram[start : start + length]
        self.hypervisor.host_wrote(taker.mfn)

    def find(self, from_domid: int, to_domid: int) -> None:
        """Look up the domains of source and destination, and release what is held of others. Raises GrantError."""
        source, dest = self.source, self.dest
        if source.domain is not None:
            self.let_go()
            source.domain = None  # should one of them not be found, both are looked for again
        by_id = self.hypervisor.domain_by_id
        giver = self.caller if from_domid == DOMID_SELF else by_id(from_domid)
        taker = self.caller if to_domid == DOMID_SELF else by_id(to_domid)
        if giver is None or taker is None:
            raise GrantError(GNTST_bad_domain)
        source.domain, source.domid = giver, from_domid
        dest.domain, dest.domid = taker, to_domid
