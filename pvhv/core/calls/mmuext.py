# SPDX-License-Identifier: GPL-2.0-or-later
"""mmuext_op: page-table roots, pins, and TLBs.

Each operation is a row of a table. The loop copies in, counts, and continues the call when the share of work is used
up, as mmu_update does.

Read beside it: do_mmuext_op in xen/arch/x86/mm.c.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.abi.arch_x86 import HYPERVISOR_VIRT_END
from pvhv.abi.errno import Errno
from pvhv.abi.mmu import MMUEXT_OP
from pvhv.abi.xen import (
    MMUEXT_CLEAR_PAGE,
    MMUEXT_COPY_PAGE,
    MMUEXT_FLUSH_CACHE,
    MMUEXT_FLUSH_CACHE_GLOBAL,
    MMUEXT_INVLPG_ALL,
    MMUEXT_INVLPG_LOCAL,
    MMUEXT_INVLPG_MULTI,
    MMUEXT_MARK_SUPER,
    MMUEXT_NEW_BASEPTR,
    MMUEXT_NEW_USER_BASEPTR,
    MMUEXT_PIN_L1_TABLE,
    MMUEXT_PIN_L2_TABLE,
    MMUEXT_PIN_L3_TABLE,
    MMUEXT_PIN_L4_TABLE,
    MMUEXT_SET_LDT,
    MMUEXT_TLB_FLUSH_ALL,
    MMUEXT_TLB_FLUSH_LOCAL,
    MMUEXT_TLB_FLUSH_MULTI,
    MMUEXT_UNMARK_SUPER,
    MMUEXT_UNPIN_TABLE,
)
from pvhv.core.calls.mmu import vcpus_of_bitmap
from pvhv.core.calls.mmu_batch import MMU_UPDATE_PREEMPTED, add_done, open_batch, page_owner, settle_or_continue
from pvhv.core.domain import Domain
from pvhv.core.errors import GuestFault, HypercallError, Interrupted, Restart
from pvhv.core.mm.frames import L1, L2, L3, L4, WRITABLE
from pvhv.core.traps.dispatch import Continue, hypercall
from pvhv.core.vcpu import VCPU
from pvhv.machine.x86 import LOWER_END

PIN_LEVELS = {MMUEXT_PIN_L1_TABLE: L1, MMUEXT_PIN_L2_TABLE: L2, MMUEXT_PIN_L3_TABLE: L3, MMUEXT_PIN_L4_TABLE: L4}
PIN_COST = 4

Operation = Callable[[VCPU, Domain, int, int], None]


@hypercall(MMUEXT_OP)
def mmuext_op(vcpu: VCPU, uops: int, count: int, pdone: int, foreigndom: int) -> int:
    """Carry out `count` extended MMU operations."""
    foreigndom &= 0xFFFF_FFFF
    count, before, finished = open_batch(vcpu, uops, count & 0xFFFF_FFFF, pdone, foreigndom, 24)
    if finished is not None:
        return finished
    memory = vcpu.memory
    owner = page_owner(vcpu, foreigndom & 0xFFFF)
    must_yield = vcpu.domain.hypervisor.must_yield

    result = 0
    done = 0
    while done < count:
        try:
            if vcpu.deferred.mfn or (must_yield(PIN_COST) and done):
                raise Restart
            command, first, second = memory.read_words(uops + done * 24, 3)
            perform(vcpu, owner, command & 0xFFFF_FFFF, first, second)
        except (Restart, Interrupted):
            add_done(vcpu, pdone, before, done)
            raise Continue(uops + done * 24, count - done | MMU_UPDATE_PREEMPTED, pdone, foreigndom) from None
        except HypercallError as error:
            result = -int(error.errno)
            break
        except GuestFault:
            result = -int(Errno.EFAULT)
            break
        done += 1
    add_done(vcpu, pdone, before, done)
    if vcpu.deferred.mfn:
        settle_or_continue(vcpu, 0, MMU_UPDATE_PREEMPTED, 0, result)
    return result


def perform(vcpu: VCPU, owner: Domain, command: int, first: int, second: int) -> None:
    """One operation: `first` is arg1 (mfn or linear_addr), `second` arg2 (nr_ents, vcpumask or src_mfn)."""
    level = PIN_LEVELS.get(command)
    if level is not None:
        pin(vcpu, owner, first, level)
        return
    operation = OPERATIONS.get(command)
    if operation is None:
        raise HypercallError(Errno.EOPNOTSUPP if command in (MMUEXT_MARK_SUPER, MMUEXT_UNMARK_SUPER) else Errno.ENOSYS)
    if owner is not vcpu.domain and command not in FOR_OTHERS:
        raise HypercallError(Errno.EPERM)
    operation(vcpu, owner, first, second)


# -- pins ----------------------------------------------------------------------------------------------------------
def pin(vcpu: VCPU, owner: Domain, mfn: int, level: int) -> None:
    """Pin a table: it stays validated even if nothing else uses it (MMUEXT_PIN_Ln_TABLE)."""
    tables = vcpu.domain.hypervisor.pagetables
    frames = tables.frames
    if not frames.get_page(mfn, owner.domid):
        raise HypercallError(Errno.EINVAL)
    try:
        frames.get_page_type(mfn, level, preemptible=True)
    except (HypercallError, Interrupted, Restart):
        if vcpu.deferred.mfn != mfn:
            frames.put_page(mfn)
        raise
    if not frames.pin(mfn):
        if level == L1:
            frames.put_page_and_type(mfn)
        else:
            vcpu.deferred.put(mfn, partial=False)
        raise HypercallError(Errno.EINVAL)


def unpin(vcpu: VCPU, owner: Domain, mfn: int, _second: int) -> None:
    """Unpin a table (MMUEXT_UNPIN_TABLE); a tree that nothing else uses is dropped, in pieces if it is large."""
    tables = vcpu.domain.hypervisor.pagetables
    frames = tables.frames
    if not frames.get_page(mfn, owner.domid):
        raise HypercallError(Errno.EINVAL)
    if not frames.unpin(mfn):
        frames.put_page(mfn)
        raise HypercallError(Errno.EINVAL)
    try:
        frames.put_page_and_type_preemptible(mfn)
    except Restart:
        vcpu.deferred.put(mfn, partial=True)
    except Interrupted:
        vcpu.deferred.put(mfn, partial=False)
    frames.put_page(mfn)


# -- roots ---------------------------------------------------------------------------------------------------------
def new_baseptr(vcpu: VCPU, _owner: Domain, mfn: int, _second: int) -> None:
    """Run the kernel on another L4."""
    vcpu.domain.hypervisor.new_guest_cr3(vcpu, mfn)


def new_user_baseptr(vcpu: VCPU, _owner: Domain, mfn: int, _second: int) -> None:
    """Run user mode on another L4; 0 for none."""
    old = vcpu.guest_table_user
    if old == mfn:
        return
    tables = vcpu.domain.hypervisor.pagetables
    if mfn:
        tables.get_root(mfn, vcpu.domain.domid)
        if vcpu.domain.m2p_strict:
            tables.show_m2p(mfn, False)
    vcpu.guest_table_user = mfn
    vcpu.domain.timeline.cpu.user_tables_changed(vcpu)
    if old:
        tables.put_root(old)


# -- TLBs and caches -----------------------------------------------------------------------------------------------
def tlb_flush(vcpu: VCPU, _owner: Domain, _first: int, _second: int) -> None:
    """Flush the TLB. All vCPUs of a domain share one pCPU, so local, all and multi are the same."""
    vcpu.domain.timeline.cpu.flush()


def tlb_flush_multi(vcpu: VCPU, _owner: Domain, _first: int, bitmap: int) -> None:
    """The same for vCPUs of a bitmap. EINVAL when it cannot be read."""
    check_bitmap(vcpu, bitmap)
    vcpu.domain.timeline.cpu.flush()


def invlpg(vcpu: VCPU, _owner: Domain, address: int, _second: int) -> None:
    """Flush one page from the TLB; an address in the hypervisor's part is ignored."""
    if address < LOWER_END or address >= HYPERVISOR_VIRT_END:
        vcpu.domain.timeline.cpu.flush_page(address)


def invlpg_multi(vcpu: VCPU, owner: Domain, address: int, bitmap: int) -> None:
    """The same for vCPUs of a bitmap."""
    check_bitmap(vcpu, bitmap)
    invlpg(vcpu, owner, address, 0)


def check_bitmap(vcpu: VCPU, bitmap: int) -> None:
    try:
        vcpus_of_bitmap(vcpu, bitmap)
    except GuestFault:
        raise HypercallError(Errno.EINVAL) from None


def flush_cache(vcpu: VCPU, _owner: Domain, _first: int, _second: int) -> None:
    """Only a domain with device memory may."""
    raise HypercallError(Errno.EACCES)


def flush_cache_global(vcpu: VCPU, _owner: Domain, _first: int, _second: int) -> None:
    """Only a domain with device memory may."""
    raise HypercallError(Errno.EINVAL)


# -- descriptors and frames ----------------------------------------------------------------------------------------
def set_ldt(vcpu: VCPU, _owner: Domain, address: int, entries: int) -> None:
    """Make `entries` descriptors at `address` the LDT; each page is checked when it is first used."""
    entries &= 0xFFFF_FFFF
    in_range = address < LOWER_END or address >= HYPERVISOR_VIRT_END
    if entries > 8192 or (entries and (address & 0xFFF or not in_range)):
        raise HypercallError(Errno.EINVAL)
    vcpu.domain.hypervisor.set_ldt(vcpu, address if entries else 0, entries)


def clear_page(vcpu: VCPU, owner: Domain, mfn: int, _second: int) -> None:
    """Zero a frame that is not in use as a table."""
    write_frame(vcpu, owner, mfn, bytes(4096))


def copy_page(vcpu: VCPU, owner: Domain, destination: int, source: int) -> None:
    """Copy one frame to another."""
    hypervisor = vcpu.domain.hypervisor
    frames = hypervisor.frames
    if not frames.get_page(source, owner.domid):
        raise HypercallError(Errno.EINVAL)
    try:
        write_frame(vcpu, owner, destination, bytes(hypervisor.ram.frame(source)))
    finally:
        frames.put_page(source)


def write_frame(vcpu: VCPU, owner: Domain, mfn: int, contents: bytes) -> None:
    hypervisor = vcpu.domain.hypervisor
    frames = hypervisor.frames
    frames.get_page_and_type(mfn, owner.domid, WRITABLE)
    hypervisor.ram.bytes[mfn << 12 : (mfn + 1) << 12] = contents
    hypervisor.host_wrote(mfn)
    frames.put_page_and_type(mfn)


OPERATIONS: dict[int, Operation] = {
    MMUEXT_UNPIN_TABLE: unpin,
    MMUEXT_NEW_BASEPTR: new_baseptr,
    MMUEXT_NEW_USER_BASEPTR: new_user_baseptr,
    MMUEXT_TLB_FLUSH_LOCAL: tlb_flush,
    MMUEXT_TLB_FLUSH_MULTI: tlb_flush_multi,
    MMUEXT_TLB_FLUSH_ALL: tlb_flush,
    MMUEXT_INVLPG_LOCAL: invlpg,
    MMUEXT_INVLPG_MULTI: invlpg_multi,
    MMUEXT_INVLPG_ALL: invlpg,
    MMUEXT_FLUSH_CACHE: flush_cache,
    MMUEXT_FLUSH_CACHE_GLOBAL: flush_cache_global,
    MMUEXT_SET_LDT: set_ldt,
    MMUEXT_CLEAR_PAGE: clear_page,
    MMUEXT_COPY_PAGE: copy_page,
}
FOR_OTHERS = frozenset((MMUEXT_UNPIN_TABLE, MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE))

WRAPPABLE = frozenset({"perform"})  # see pvhv.machine.wrapping
