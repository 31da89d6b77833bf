# SPDX-License-Identifier: GPL-2.0-or-later
"""mmu_update, update_va_mapping: how a PV guest changes its page tables.

`mmu_update` takes batches, and batching is what makes paravirtual paging cheap. So a run of requests of the common kind
(an entry of one's own L1, for a frame of one's own) is done by one call of PageTables.modify_own; other requests are
done one by one.

A batch is charged by its length; when the share of work is used up, the call continues with the rest. What an update
replaced in an upper table is dropped before the next one, in pieces if it is big.

Read beside it: do_mmu_update, __do_update_va_mapping in xen/arch/x86/mm.c.
"""

from __future__ import annotations

from pvhv.abi.errno import Errno
from pvhv.abi.mmu import MMU_UPDATE, UPDATE_VA_MAPPING, UPDATE_VA_MAPPING_OTHERDOMAIN
from pvhv.abi.xen import (
    DOMID_IO,
    DOMID_SELF,
    MMU_MACHPHYS_UPDATE,
    MMU_PT_UPDATE_NO_TRANSLATE,
    MMU_PT_UPDATE_PRESERVE_AD,
    UVMF_ALL,
    UVMF_FLUSHTYPE_MASK,
    UVMF_INVLPG,
    UVMF_LOCAL,
    UVMF_TLB_FLUSH,
)
from pvhv.core.calls.mmu_batch import (
    MMU_UPDATE_PREEMPTED,
    SystemDomain,
    add_done,
    foreign_domain,
    foreign_table_owner,
    open_batch,
    page_owner,
    settle_or_continue,
)
from pvhv.core.domain import Domain
from pvhv.core.errors import GuestFault, HypercallError, Interrupted, Restart
from pvhv.core.mm.frames import FIT_FOR, L1, L1_TABLE, SEG_DESC, TYPE_MASK, VALIDATED, WRITABLE
from pvhv.core.traps.dispatch import Continue, hypercall
from pvhv.core.vcpu import VCPU

CHUNK = 128  # entries between two looks at the share of work


def may_update(vcpu: VCPU, table_owner: Domain, owner: Domain | SystemDomain) -> None:
    """Check the caller's privilege, as Xen does for every request after reading it. Raises HypercallError(EPERM)."""
    domain = vcpu.domain
    if domain.privileged:
        return
    if table_owner is not domain or (owner is not domain and owner.domid != DOMID_IO):
        raise HypercallError(Errno.EPERM)


@hypercall(MMU_UPDATE)
def mmu_update(vcpu: VCPU, ureqs: int, count: int, pdone: int, foreigndom: int) -> int:
    """Change `count` page-table entries (or M2P entries)."""
    if count == 1 and foreigndom == DOMID_SELF and not pdone and not vcpu.deferred.mfn:
        return update_one(vcpu, ureqs)
    foreigndom &= 0xFFFF_FFFF
    count, before, finished = open_batch(vcpu, ureqs, count & 0xFFFF_FFFF, pdone, foreigndom, 16)
    if finished is not None:
        return finished
    domain = vcpu.domain
    table_owner = domain if not foreigndom >> 16 else foreign_table_owner(vcpu, (foreigndom >> 16) - 1)
    owner = foreign_domain(vcpu, foreigndom & 0xFFFF)

    done = 0
    failure: Exception | None = None
    while done < count and failure is None:
        if done and (vcpu.deferred.mfn or domain.hypervisor.must_yield(0)):
            failure = Restart()
            break
        requests, failure = readable(vcpu, ureqs + done * 16, min(count - done, CHUNK))
        performed, trouble = apply(vcpu, requests, table_owner, owner)
        domain.hypervisor.must_yield(performed)
        done += performed
        failure = trouble or (failure if performed * 2 == len(requests) else None)
    add_done(vcpu, pdone, before, done)
    if isinstance(failure, Restart):
        raise Continue(ureqs + done * 16, count - done | MMU_UPDATE_PREEMPTED, pdone, foreigndom)
    result = -int(failure.errno) if isinstance(failure, HypercallError) else 0
    if vcpu.deferred.mfn:
        settle_or_continue(vcpu, 0, MMU_UPDATE_PREEMPTED, 0, result)
    return result


def update_one(vcpu: VCPU, request: int) -> int:
    """Do a list of one request for the caller's own tables: the form in which a kernel changes most entries."""
    domain = vcpu.domain
    hypervisor = domain.hypervisor
    words = vcpu.memory.read_pair(request)
    done, failure = hypervisor.pagetables.modify_own(words, 0, domain.domid)
    if failure is None and not done:
        failure = other_update(vcpu, words[0], words[1], domain, domain)
    hypervisor.must_yield(1)
    if isinstance(failure, Restart):
        raise Continue(request, 1 | MMU_UPDATE_PREEMPTED, 0, DOMID_SELF)
    result = -int(failure.errno) if isinstance(failure, HypercallError) else 0
    if vcpu.deferred.mfn:
        settle_or_continue(vcpu, 0, MMU_UPDATE_PREEMPTED, 0, result)
    return result


def readable(vcpu: VCPU, address: int, count: int) -> tuple[list[int], HypercallError | None]:
    """Read up to `count` requests; returns their words (two for each), and EFAULT if not all could be read."""
    try:
        return vcpu.memory.read_words(address, 2 * count).tolist(), None
    except GuestFault:
        words: list[int] = []
        try:
            for index in range(count):
                words += vcpu.memory.read_words(address + index * 16, 2).tolist()
        except GuestFault:
            pass
        return words, HypercallError(Errno.EFAULT)


def apply(
    vcpu: VCPU, requests: list[int], table_owner: Domain, owner: Domain | SystemDomain
) -> tuple[int, Exception | None]:
    """Carry out requests in order; returns how many, and what stopped it (None, HypercallError or Restart).

    It also stops when a table that a request replaced is still to be dropped.
    """
    domain = vcpu.domain
    hypervisor = domain.hypervisor
    tables = hypervisor.pagetables
    own = table_owner is domain and owner is domain
    index, end = 0, len(requests)
    while index < end:
        failure: Exception | None = None
        if own:
            index, failure = tables.modify_own(requests, index, domain.domid)
            if index == end:
                break
        failure = failure or other_update(vcpu, requests[index], requests[index + 1], table_owner, owner)
        if failure is not None:
            return index // 2, failure
        index += 2
        if vcpu.deferred.mfn or hypervisor.must_yield(0):
            break
    return index // 2, None


def other_update(
    vcpu: VCPU, address: int, new: int, table_owner: Domain, owner: Domain | SystemDomain
) -> Exception | None:
    """Carry out one request of another kind; returns the exception that stopped it, or None."""
    try:
        do_other_update(vcpu, address, new, table_owner, owner)
    except HypercallError as error:
        return error
    except (Restart, Interrupted):
        return Restart()
    return None


def do_other_update(
    vcpu: VCPU, address: int, new: int, table_owner: Domain, owner: Domain | SystemDomain
) -> None:
    """Carry out a request for an upper table, A/D-preserving, for plain memory, or for the M2P."""
    hypervisor = vcpu.domain.hypervisor
    frames = hypervisor.frames
    command = address & 7
    mfn = address >> 12
    if command > MMU_PT_UPDATE_NO_TRANSLATE:
        raise HypercallError(Errno.ENOSYS)
    may_update(vcpu, table_owner, owner)
    if command == MMU_MACHPHYS_UPDATE:
        if table_owner is not vcpu.domain:
            raise HypercallError(Errno.EPERM)
        if not frames.get_page(mfn, owner.domid):
            raise HypercallError(Errno.EINVAL)
        hypervisor.m2p[mfn] = new
        frames.put_page(mfn)
        return
    address &= ~7
    if not frames.get_page(mfn, table_owner.domid):
        raise HypercallError(Errno.EINVAL)
    try:
        keeps = command == MMU_PT_UPDATE_PRESERVE_AD
        if hypervisor.pagetables.modify(address, new, keeps, table_owner.domid, owner.domid):
            level = frames.types[mfn] & TYPE_MASK
            if level > L1:
                hypervisor.flush_domain(table_owner)
            return
        # Not a table: plain memory that nobody may take for one while it is written.
        if frames.types[mfn] & FIT_FOR == SEG_DESC | VALIDATED and frames.type_counts[mfn]:
            raise HypercallError(Errno.EINVAL)
        frames.get_page_type(mfn, WRITABLE)
        hypervisor.write_frame_word(address, new)
        frames.put_page_type(mfn)
    finally:
        frames.put_page(mfn)


@hypercall(UPDATE_VA_MAPPING)
def update_va_mapping(vcpu: VCPU, va: int, entry: int, flags: int) -> int:
    """Change the L1 entry that maps `va`, and flush as `flags` (UVMF_*) say."""
    return map_va(vcpu, va, entry, flags, vcpu.domain)


@hypercall(UPDATE_VA_MAPPING_OTHERDOMAIN)
def update_va_mapping_otherdomain(vcpu: VCPU, va: int, entry: int, flags: int, domid: int) -> int:
    """The same, to map a frame of another domain."""
    return map_va(vcpu, va, entry, flags, page_owner(vcpu, domid & 0xFFFF))


def map_va(vcpu: VCPU, va: int, entry: int, flags: int, owner: Domain) -> int:
    """Change the L1 entry that maps `va`, and flush. Raises HypercallError(EINVAL) if there is no such entry."""
    domain = vcpu.domain
    tables = domain.hypervisor.pagetables
    try:
        address = vcpu.memory.entry_address(va)
    except GuestFault:
        raise HypercallError(Errno.EINVAL) from None
    table = address >> 12
    frames = tables.frames
    if frames.owner[table] != domain.domid or frames.types[table] & FIT_FOR != L1_TABLE:
        raise HypercallError(Errno.EINVAL)
    tables.modify(address, entry, False, domain.domid, owner.domid)
    kind = flags & UVMF_FLUSHTYPE_MASK
    if kind in (UVMF_TLB_FLUSH, UVMF_INVLPG):
        bitmap = flags & ~UVMF_FLUSHTYPE_MASK
        if bitmap not in (UVMF_LOCAL, UVMF_ALL):
            vcpus_of_bitmap(vcpu, bitmap)  # all vCPUs of a domain share one pCPU and its TLB
        if kind == UVMF_TLB_FLUSH:
            domain.timeline.cpu.flush()
        else:
            domain.timeline.cpu.flush_page(va)
    return 0


def vcpus_of_bitmap(vcpu: VCPU, address: int) -> list[VCPU]:
    """The vCPUs a guest's bitmap names. Raises GuestFault."""
    vcpus = vcpu.domain.vcpus
    words = vcpu.memory.read_words(address, (len(vcpus) + 63) // 64)
    return [each for each in vcpus if words[each.vcpu_id // 64] >> each.vcpu_id % 64 & 1]
