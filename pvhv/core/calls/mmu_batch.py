# SPDX-License-Identifier: GPL-2.0-or-later
"""What mmu_update and mmuext_op share: the domains they name, counting, and tables still to be dropped.

mmu_update and mmuext_op take a list of requests, for oneself or (with privilege) for another domain. When the share of
work is used up they continue with the rest, marked MMU_UPDATE_PREEMPTED; the count of requests done goes through all
parts. A table that a request replaced is dropped before the next request. If only that is left, the call continues with
an empty list and its result in place of `foreigndom`.

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
    """DOMID_IO or DOMID_XEN as the owner of frames to map. It owns none that a guest may map."""

    domid: int


def foreign_domain(vcpu: VCPU, domid: int) -> Domain | SystemDomain:
    """The domain whose frames are to be mapped, without a check of privilege. Raises HypercallError(ESRCH)."""
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
    """Write how many entries were done to `pdone`, if that is not 0; a fault there is ignored."""
    if pdone:
        try:
            vcpu.memory.write(pdone, (before + now & 0xFFFF_FFFF).to_bytes(4, "little"))
        except GuestFault:
            pass


def done_before(vcpu: VCPU, pdone: int) -> int:
    """The count that earlier parts of a continued call wrote to `pdone`; 0 if it cannot be read."""
    if not pdone:
        return 0
    try:
        return int.from_bytes(vcpu.memory.read(pdone, 4), "little")
    except GuestFault:
        return 0


def settle_or_continue(vcpu: VCPU, *arguments: int) -> None:
    """Drop the table that an earlier operation replaced. If that takes too long, raises Continue with `arguments`."""
    try:
        vcpu.domain.hypervisor.pagetables.settle()
    except Restart:
        raise Continue(*arguments) from None


def open_batch(
    vcpu: VCPU, address: int, count: int, pdone: int, foreigndom: int, size: int
) -> tuple[int, int, int | None]:
    """The beginning of mmu_update and mmuext_op: drop what the last operation replaced, and find what is left to do.

    Returns (requests left, requests done by earlier parts of the call, result); the result is None unless the call had
    nothing left to do but to drop a table. Raises Continue, and HypercallError(EFAULT) for a list (of requests of
    `size` bytes) in the hypervisor's range.
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
