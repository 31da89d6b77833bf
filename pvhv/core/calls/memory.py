# SPDX-License-Identifier: GPL-2.0-or-later
"""memory_op: frames for a domain and back, and what it may know about memory.

The low six bits of the first argument are the command. The bits above them are the extent at which a continued call
resumes. So the whole call is one handler, and each command gets that extent as its third argument. The three commands
that change a reservation do not fail: they return how many extents were done. Commands for a physmap kept by the
hypervisor, which a PV guest does not have, answer EACCES after the same checks as in Xen.

Read beside it: do_memory_op in xen/common/memory.c, arch_memory_op in xen/arch/x86/mm.c. The exchange of
frames is in pvhv.core.calls.memory_exchange, what every PV guest is refused in pvhv.core.calls.memory_refused.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import sizeof
from typing import TYPE_CHECKING, Any, NamedTuple

from pvhv.abi import memory as abi
from pvhv.abi.arch_x86 import MACH2PHYS_NR_ENTRIES, MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START, arch_shared_info
from pvhv.abi.errno import Errno
from pvhv.abi.layout import record
from pvhv.abi.memory import MEMORY_OP, XENMEM
from pvhv.abi.xen import SharedInfo
from pvhv.core.errors import GuestFault, HypercallError
from pvhv.core.mm.pte import ADDRESS, PRESENT
from pvhv.core.mm.reservation import allocate, name, remove
from pvhv.core.privilege import controls, require_control
from pvhv.core.traps.dispatch import HANDLERS, Continue, handles, hypercall

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU

CONTROL_MAX_ORDER = 18  # CONFIG_CTLDOM_MAX_ORDER
MAX_NODES = 64
NO_NODE = 0xFF
MAX_EXTENTS = 0xFFFF_FFFF >> abi.MEMOP_EXTENT_SHIFT  # more could not be told to a continuation
EXTENT_COST = 4
M2P_EXTENT = 1 << 21
MAX_PFN_WORD = (SharedInfo.arch.offset + record(arch_shared_info).max_pfn.offset) // 8


@hypercall(MEMORY_OP)
def memory_op(vcpu: VCPU, cmd: int, arg: int) -> int:
    """Split the first argument into command and place of continuation, and call the command's handler."""
    command = XENMEM.by_number.get(cmd & abi.MEMOP_CMD_MASK)
    if command is None:
        raise HypercallError(Errno.ENOSYS)
    handler = HANDLERS.get(command)
    if handler is None:
        raise HypercallError(command.answer or Errno.ENOSYS)
    return handler(vcpu, arg, cmd >> abi.MEMOP_EXTENT_SHIFT) or 0


def load(vcpu: VCPU, kind: Any, address: int) -> Any:
    """Copy in the structure a command points to. Raises GuestFault."""
    return kind.from_buffer_copy(vcpu.memory.read(address, sizeof(kind)))


def find(vcpu: VCPU, domid: int) -> Domain:
    """The domain a command names. Raises HypercallError(ESRCH)."""
    domain = vcpu.domain.hypervisor.resolve(vcpu.domain, domid)
    if domain is None:
        raise HypercallError(Errno.ESRCH)
    return domain


def not_continued(place: int) -> None:
    """Raises HypercallError(EINVAL) if a command that is never continued has a place of continuation."""
    if place:
        raise HypercallError(Errno.EINVAL)


def not_arch(place: int) -> None:
    """Likewise, ENOSYS: for commands that Xen finds by the whole first argument."""
    if place:
        raise HypercallError(Errno.ENOSYS)


def max_order(vcpu: VCPU) -> int:
    """The largest extent, as an order, that the caller may ask for."""
    return CONTROL_MAX_ORDER if vcpu.domain.privileged else abi.DOMU_MAX_ORDER


def node_acceptable(vcpu: VCPU, flags: int) -> bool:
    """Whether the NUMA node asked for is allowed: only a control domain may insist on one. (propagate_node)"""
    node = abi.XENMEMF_get_node(flags)
    if node == NO_NODE:
        return True
    if vcpu.domain.privileged:
        return node < MAX_NODES
    return not flags & abi.XENMEMF_exact_node_request


# -- reservations --------------------------------------------------------------------------------------------
class Request(NamedTuple):
    """A checked xen_memory_reservation; `domain` is None if the request is invalid or not permitted."""

    domain: Domain | None
    list_at: int
    total: int
    order: int
    address_bits: int
    flags: int


NOTHING = Request(None, 0, 0, 0, 0, 0)


def request(vcpu: VCPU, arg: int, place: int) -> Request:
    """Read and check a xen_memory_reservation; NOTHING if any check fails, so that no extent is done."""
    try:
        op = load(vcpu, abi.XenMemoryReservation, arg)
    except GuestFault:
        return NOTHING
    hypervisor = vcpu.domain.hypervisor
    if op.nr_extents > MAX_EXTENTS or place >= op.nr_extents or op.extent_order > max_order(vcpu):
        return NOTHING
    domain = hypervisor.resolve(vcpu.domain, op.domid)
    if domain is None or not controls(vcpu.domain, domain):
        return NOTHING
    bits = abi.XENMEMF_get_address_bits(op.mem_flags)
    if bits >= (hypervisor.ram.frames - 1).bit_length() + 12:
        bits = 0
    if 0 < bits <= 12:
        return NOTHING
    if not op.mem_flags & abi.XENMEMF_vnode and not node_acceptable(vcpu, op.mem_flags):
        return NOTHING
    return Request(domain, op.extent_start, op.nr_extents, op.extent_order, bits, op.mem_flags)


def list_accessible(vcpu: VCPU, wanted: Request, place: int) -> bool:
    """Whether the rest of the list stays out of the hypervisor's range."""
    return vcpu.memory.accessible(wanted.list_at + place * 8, (wanted.total - place) * 8)


def work(vcpu: VCPU, command: int, arg: int, place: int, wanted: Request, one: Callable[[int], bool]) -> int:
    """Do extents one by one until one fails; returns how many are done. Raises Continue after a share of work."""
    must_yield = vcpu.domain.hypervisor.must_yield
    for index in range(place, wanted.total):
        if must_yield(EXTENT_COST << wanted.order) and index > place:
            raise Continue(command | index << abi.MEMOP_EXTENT_SHIFT, arg)
        try:
            if not one(index):
                return index
        except GuestFault:
            return index
    return wanted.total


@handles(XENMEM.increase_reservation)
def increase_reservation(vcpu: VCPU, arg: int, place: int) -> int:
    wanted = request(vcpu, arg, place)
    domain = wanted.domain
    if domain is None or (wanted.list_at and not list_accessible(vcpu, wanted, place)):
        return place
    target = domain

    def one(index: int) -> bool:
        mfn = allocate(target, wanted.order, wanted.address_bits)
        if mfn is None:
            return False
        if wanted.list_at:
            vcpu.memory.write(wanted.list_at + index * 8, mfn.to_bytes(8, "little"))
        return True

    return work(vcpu, abi.XENMEM_increase_reservation, arg, place, wanted, one)


@handles(XENMEM.populate_physmap)
def populate_physmap(vcpu: VCPU, arg: int, place: int) -> int:
    wanted = request(vcpu, arg, place)
    domain = wanted.domain
    if domain is None or not list_accessible(vcpu, wanted, place):
        return place
    target = domain

    def one(index: int) -> bool:
        at = wanted.list_at + index * 8
        pfn = vcpu.memory.read_words(at, 1)[0]
        if wanted.flags & abi.XENMEMF_populate_on_demand:
            return target is not vcpu.domain  # nothing is done for a PV guest, and not even that for oneself
        mfn = allocate(target, wanted.order, wanted.address_bits)
        if mfn is None:
            return False
        name(target, mfn, pfn, wanted.order)
        vcpu.memory.write(at, mfn.to_bytes(8, "little"))
        return True

    return work(vcpu, abi.XENMEM_populate_physmap, arg, place, wanted, one)


@handles(XENMEM.decrease_reservation)
def decrease_reservation(vcpu: VCPU, arg: int, place: int) -> int:
    wanted = request(vcpu, arg, place)
    domain = wanted.domain
    if domain is None or not list_accessible(vcpu, wanted, place):
        return place
    target = domain

    def one(index: int) -> bool:
        first = vcpu.memory.read_words(wanted.list_at + index * 8, 1)[0]
        return all(remove(target, first + each) for each in range(1 << wanted.order))

    return work(vcpu, abi.XENMEM_decrease_reservation, arg, place, wanted, one)


# -- how much there is ---------------------------------------------------------------------------------------
@handles(XENMEM.maximum_ram_page)
def maximum_ram_page(vcpu: VCPU, arg: int, place: int) -> int:
    not_continued(place)
    return vcpu.domain.hypervisor.ram.frames


def domain_asked_about(vcpu: VCPU, arg: int, place: int) -> Domain:
    """The domain of a xen_memory_domain, which the caller must control."""
    not_continued(place)
    domain = find(vcpu, load(vcpu, abi.XenMemoryDomain, arg).domid)
    require_control(vcpu.domain, domain)
    return domain


@handles(XENMEM.current_reservation)
def current_reservation(vcpu: VCPU, arg: int, place: int) -> int:
    return domain_asked_about(vcpu, arg, place).tot_pages


@handles(XENMEM.maximum_reservation)
def maximum_reservation(vcpu: VCPU, arg: int, place: int) -> int:
    return domain_asked_about(vcpu, arg, place).max_pages


@handles(XENMEM.maximum_gpfn)
def maximum_gpfn(vcpu: VCPU, arg: int, place: int) -> int:
    domain = domain_asked_about(vcpu, arg, place)
    return max(domain.hypervisor.ram.words[(domain.shared_info << 9) + MAX_PFN_WORD], 1) - 1


# -- maps ----------------------------------------------------------------------------------------------------
@handles(XENMEM.memory_map)
def memory_map(vcpu: VCPU, arg: int, place: int) -> int:
    not_arch(place)
    op = load(vcpu, abi.XenMemoryMap, arg)
    entries = vcpu.domain.memory_map
    if not entries:
        raise HypercallError(Errno.ENOSYS)
    size = abi.E820_ENTRY.size
    op.nr_entries = min(op.nr_entries, len(entries) // size)
    vcpu.memory.write(op.buffer, entries[: op.nr_entries * size])
    vcpu.memory.write(arg, bytes(op))
    return 0


@handles(XENMEM.set_memory_map)
def set_memory_map(vcpu: VCPU, arg: int, place: int) -> int:
    not_arch(place)
    op = load(vcpu, abi.XenForeignMemoryMap, arg)
    if op.map.nr_entries > abi.E820_MAX:
        raise HypercallError(Errno.EINVAL)
    domain = find(vcpu, op.domid)
    require_control(vcpu.domain, domain)
    domain.memory_map = vcpu.memory.read(op.map.buffer, op.map.nr_entries * abi.E820_ENTRY.size)
    return 0


@handles(XENMEM.machphys_mapping)
def machphys_mapping(vcpu: VCPU, arg: int, place: int) -> int:
    not_arch(place)
    mapping = abi.XenMachphysMapping(MACH2PHYS_VIRT_START, MACH2PHYS_VIRT_END, MACH2PHYS_NR_ENTRIES - 1)
    vcpu.memory.write(arg, bytes(mapping))
    return 0


@handles(XENMEM.machphys_mfn_list)
def machphys_mfn_list(vcpu: VCPU, arg: int, place: int) -> int:
    """The frames of the M2P, read from the page tables that map it for guests, as Xen does."""
    not_arch(place)
    op = load(vcpu, abi.XenMachphysMfnList, arg)
    hypervisor = vcpu.domain.hypervisor
    words = hypervisor.ram.words
    extents = min(op.max_extents, -(-hypervisor.ram.frames * 8 // M2P_EXTENT))
    last = 0
    for index in range(extents):
        l2 = (words[(hypervisor.m2p_l3 << 9) + (index >> 9)] & ADDRESS) >> 12
        entry = words[(l2 << 9) + (index & 511)]
        if entry & PRESENT:
            last = (entry & ADDRESS) >> 12
        vcpu.memory.write(op.extent_start + index * 8, last.to_bytes(8, "little"))
    op.nr_extents = extents
    vcpu.memory.write(arg, bytes(op))
    return 0


# -- what needs a physmap kept by the hypervisor -------------------------------------------------------------
def progress_of_16_bits(place: int) -> None:
    """Raises HypercallError(EDOM) for a place that a count of 16 bits cannot reach."""
    if place >> 16:
        raise HypercallError(Errno.EDOM)


@handles(XENMEM.add_to_physmap)
def add_to_physmap(vcpu: VCPU, arg: int, place: int) -> int:
    progress_of_16_bits(place)
    op = load(vcpu, abi.XenAddToPhysmap, arg)
    if op.space == abi.XENMAPSPACE_gmfn_foreign:
        raise HypercallError(Errno.ENOSYS)
    find(vcpu, op.domid)
    raise HypercallError(Errno.EACCES)


@handles(XENMEM.add_to_physmap_batch)
def add_to_physmap_batch(vcpu: VCPU, arg: int, place: int) -> int:
    progress_of_16_bits(place)
    op = load(vcpu, abi.XenAddToPhysmapBatch, arg)
    if op.space == abi.XENMAPSPACE_gmfn_range:
        raise HypercallError(Errno.EOPNOTSUPP)
    find(vcpu, op.domid)
    raise HypercallError(Errno.EACCES)


@handles(XENMEM.remove_from_physmap)
def remove_from_physmap(vcpu: VCPU, arg: int, place: int) -> int:
    not_continued(place)
    op = load(vcpu, abi.XenRemoveFromPhysmap, arg)
    find(vcpu, op.domid)
    raise HypercallError(Errno.EACCES)
