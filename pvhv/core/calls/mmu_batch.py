# SPDX-License-Identifier: GPL-2.0-or-later
"""What the batched MMU hypercalls have in common: whose frames, how far, and what is still to be dropped.

mmu_update and mmuext_op take a list of requests, for oneself or (with privilege) for another domain. When the share of
work is used up they continue with the rest, marked MMU_UPDATE_PREEMPTED, and count through all parts what was done; a
table that a request replaced is dropped before anything else happens, and if that alone is left, the call continues
with an empty list and its result in place of `foreigndom`.

Read beside it: get_pg_owner, put_old_guest_table, and the loops of do_mmu_update and do_mmuext_op in xen/arch/x86/mm.c.
"""

from __future__ import annotations

from typing import NamedTuple

from pvhv.abi.errno import Errno
from pvhv.abi.xen import DOMID_IO, DOMID_SELF, DOMID_XEN
from pvhv.core.domain import Domain
from pvhv.core.errors import GuestFault, HypercallError, Restart
from pvhv.core.traps.dispatch import Continue
from pvhv.core.vcpu import VCPU

MMU_UPDATE_PREEMPTED = 1 << 31


class SystemDomain(NamedTuple):
    """DOMID_IO: owns what is no RAM, so that no frame ever is its."""

    domid: int


def foreign_domain(vcpu: VCPU, domid: int) -> Domain | SystemDomain:
    """The domain whose frames are to be mapped, whether the caller may or not. Raises HypercallError(ESRCH)."""
    domain = vcpu.domain
    if domid == DOMID_SELF:
        return domain
    if domid in (DOMID_IO, DOMID_XEN):
        return SystemDomain(domid)
    owner = domain.hypervisor.domain_by_id(domid)
    if owner is None or owner is domain:  # one's own id is no foreign domain's
        raise HypercallError(Errno.ESRCH)
    return owner


def page_owner(vcpu: VCPU, domid: int) -> Domain:
    """The domain whose frames are to be mapped (get_pg_owner). Raises ESRCH, or EPERM without privilege."""
    domain = vcpu.domain
    if domid == DOMID_SELF:
        return domain
    if domid in (DOMID_IO, DOMID_XEN):
        raise HypercallError(Errno.EPERM)
    owner = domain.hypervisor.domain_by_id(domid)
    if owner is None or owner is domain:  # one's own id is no foreign domain's
        raise HypercallError(Errno.ESRCH)
    if not domain.privileged:
        raise HypercallError(Errno.EPERM)
    return owner


def foreign_table_owner(vcpu: VCPU, domid: int) -> Domain:
    """The domain whose page tables are to be changed, by the upper half of `foreigndom`."""
    domain = vcpu.domain
    owner = domain.hypervisor.domain_by_id(domid)
    if owner is None:
        raise HypercallError(Errno.ESRCH)
    if owner is not domain and not owner.vcpus:
        raise HypercallError(Errno.EINVAL)
    return owner


def add_done(vcpu: VCPU, pdone: int, before: int, now: int) -> None:
    """Tell how many entries were done, where the guest wants to know; a bad address is not its error."""
    if pdone:
        try:
            vcpu.memory.write(pdone, (before + now & 0xFFFF_FFFF).to_bytes(4, "little"))
        except GuestFault:
            pass


def done_before(vcpu: VCPU, pdone: int) -> int:
    """What an earlier part of a continued call left in `pdone`."""
    if not pdone:
        return 0
    try:
        return int.from_bytes(vcpu.memory.read(pdone, 4), "little")
    except GuestFault:
        return 0


def settle_or_continue(vcpu: VCPU, *arguments: int) -> None:
    """Drop what an earlier operation replaced; continue the same call when that takes too long."""
    try:
        vcpu.domain.hypervisor.pagetables.settle()
    except Restart:
        raise Continue(*arguments) from None


def open_batch(
    vcpu: VCPU, address: int, count: int, pdone: int, foreigndom: int, size: int
) -> tuple[int, int, int | None]:
    """How mmu_update and mmuext_op begin: drop what the last operation replaced, and see what is left to do.

    Of a list of requests, perhaps continued: how many are left, how many were done by earlier parts of the call, and
    what a call answers that had nothing left to do but to drop a table (else None).
    Raises Continue, and HypercallError(EFAULT) for a list (of requests of `size` bytes) in the hypervisor's range.
    """
    if vcpu.deferred.mfn:
        settle_or_continue(vcpu, address, count, pdone, foreigndom)
    before = 0
    if count & MMU_UPDATE_PREEMPTED:
        if count == MMU_UPDATE_PREEMPTED and not address:
            return 0, 0, as_int(foreigndom)
        count &= ~MMU_UPDATE_PREEMPTED
        before = done_before(vcpu, pdone)
    if not vcpu.memory.accessible(address, count * size):
        raise HypercallError(Errno.EFAULT)
    return count, before, None


def as_int(value: int) -> int:
    """A 32-bit argument as the signed number it carries."""
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value & 1 << 31 else value
