# SPDX-License-Identifier: GPL-2.0-or-later
"""What a hostile guest tries that takes more than one call: mostly valid, in an order nobody meant.

Each move is a function of a Hostile. It does what a kernel would do to get somewhere (clear an entry, fill a frame,
take it as a page table) with a slip here and there, and leaves the guest in whatever state came of it; the next move
goes on from there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ctypes import sizeof
from typing import Any

from pvhv.abi import memory, physdev, xen
from pvhv.abi.callback import CallbackRegister, XennmiCallback
from pvhv.abi.control import XEN_DOMCTL_INTERFACE_VERSION, XEN_DOMCTL_shadow_op, XenDomctl
from pvhv.abi.sched import SCHEDOP_watchdog, SchedWatchdog
from pvhv.abi.vcpu import VCPUOP_register_vcpu_info, VCPUOP_up, VcpuRegisterVcpuInfo
from pvhv.abi.xen import DOMID_SELF
from pvhv.core.calls.domctl import BEFORE
from pvhv.core.mm.frames import L4
from pvhv.core.mm.pte import ADDRESS
from tests.core import fuzz_events as events
from tests.core import fuzz_grants as grants
from tests.core import fuzz_mmu as mmu
from tests.core.fuzz import LIST_PAGE, NON_CANONICAL, PAGES, ROOM, XENS, Hostile
from tests.core.fuzz_mmu import clear_page_entry, free_pfn, slot_of, some_table, update
from tests.core.guests import BASE


# -- vCPUs -----------------------------------------------------------------------------------------------------
def second_vcpu(it: Hostile) -> None:
    rng = it.rng
    fields = {
        "flags": rng.choice((1 << 2, 1 << 2 | 1 << 5, 0, 0x3C)),
        "user_table": rng.choice((0, 0, it.first_l4 << 12, it.mfn() << 12 & ADDRESS)),
    }
    if rng.random() < 0.2:
        fields |= {"gdt_ents": rng.choice((1, 512, 9000)), "gdt_frame": it.mfn() & (1 << 52) - 1}
    if rng.random() < 0.1:
        fields |= {"ldt_ents": it.small() & 0xFFFF, "ldt_base": it.address()}
    kernel = it.first_l4 if rng.random() < 0.7 else some_table(it, L4)
    mmu.initialise_vcpu(it, rng.choice((1, 1, 1, 0, 5)), kernel & (1 << 52) - 1, **fields)
    if it.alive and rng.random() < 0.5:
        it.call(xen.HYPERVISOR_vcpu_op, VCPUOP_up, 1, 0)


def change_vcpu(it: Hostile) -> None:
    """Go on from another vCPU that was given a context."""
    ready = [vcpu for vcpu in it.domain.vcpus if vcpu.initialised and vcpu.guest_table]
    if ready:
        it.vcpu = it.rng.choice(ready)


def move_vcpu_info(it: Hostile) -> None:
    op = VcpuRegisterVcpuInfo(it.mfn() & (1 << 60) - 1, it.rng.choice((0, 64, 4032, 4040, 4)))
    it.call(xen.HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, it.rng.randrange(3), it.request(op))
    mask_events(it)


def mask_events(it: Hostile) -> None:
    """Most of the time it wants no upcalls; now and then it takes them."""
    for vcpu in it.domain.vcpus:
        if vcpu.vcpu_info:
            it.machine.ram.bytes[vcpu.vcpu_info + 1] = it.rng.random() < 0.97


def time_goes_by(it: Hostile) -> None:
    timeline: Any = it.machine.timeline
    timeline._time += it.rng.choice((1000, 10**6, 10**8))
    timeline.fire()
    if not it.domain.runs:
        it.alive = False


def watchdogs(it: Hostile) -> None:
    """More of them than there are."""
    for _ in range(it.rng.randrange(1, 4)):
        op = SchedWatchdog(it.rng.choice((0, 0, 0, 1, 2, 3)), it.rng.choice((1000, 1000, 0)))
        if it.alive:
            it.call(xen.HYPERVISOR_sched_op, SCHEDOP_watchdog, it.request(op))


def debug_registers(it: Hostile) -> None:
    value = it.rng.choice((0, 0x400, 1 << 40, 0x2000, 0x20003, XENS, NON_CANONICAL, BASE, it.word()))
    it.call(xen.HYPERVISOR_set_debugreg, it.rng.randrange(9), value)


def entry_points(it: Hostile) -> None:
    """Callbacks here, there and where no code can be."""
    address = it.rng.choice((BASE, NON_CANONICAL, NON_CANONICAL, XENS, it.address()))
    if it.rng.random() < 0.4:
        it.call(xen.HYPERVISOR_nmi_op, 0, it.request(XennmiCallback(address)))
    else:
        op = CallbackRegister(it.rng.randrange(9), it.rng.randrange(3), address)
        it.call(xen.HYPERVISOR_callback_op, it.rng.choice((0, 0, 2)), it.request(op))


def ask_as_dom0(it: Hostile) -> None:
    """What only a control domain is answered."""
    op = XenDomctl(
        cmd=it.rng.choice((1, 2, 5, XEN_DOMCTL_shadow_op, *BEFORE)),
        interface_version=XEN_DOMCTL_INTERFACE_VERSION,
        domain=it.domid(),
    )
    op.u.pad[0] = it.rng.choice((0, it.domid(), it.word()))
    op.u.pad[1] = it.rng.choice((0, 1, it.word()))
    it.call(it.rng.choice((xen.HYPERVISOR_domctl, xen.HYPERVISOR_arch_1)), it.request(op))


# -- interrupts ------------------------------------------------------------------------------------------------
def all_interrupts(it: Hostile) -> None:
    """Every number there is, and one more."""
    kind = it.rng.randrange(3)
    for _ in range(physdev.NR_PIRQS - physdev.NR_ISA_IRQS + 1):
        if it.alive:
            physdev_op(it, physdev.PHYSDEVOP_get_free_pirq, physdev.PhysdevGetFreePirq(kind))


def page_of_interrupts(it: Hostile) -> None:
    command = it.rng.choice((physdev.PHYSDEVOP_pirq_eoi_gmfn_v1, physdev.PHYSDEVOP_pirq_eoi_gmfn_v2))
    physdev_op(it, command, physdev.PhysdevPirqEoiGmfn(it.mfn() & (1 << 64) - 1))


def physdev_op(it: Hostile, command: int, structure: Any) -> None:
    """By the call of today, or the older one."""
    if it.rng.random() < 0.5:
        it.call(xen.HYPERVISOR_physdev_op, command, it.request(structure))
    else:
        whole = bytes(physdev.PhysdevOp(cmd=command))[: physdev.PhysdevOp.u.offset] + bytes(structure)
        it.call(xen.HYPERVISOR_physdev_op_compat, it.request(whole.ljust(sizeof(physdev.PhysdevOp), b"\0")))


# -- memory ----------------------------------------------------------------------------------------------------
def reservation(it: Hostile) -> None:
    rng = it.rng
    number = rng.choice((memory.XENMEM_increase_reservation, memory.XENMEM_decrease_reservation,
                         memory.XENMEM_populate_physmap))
    count = rng.choice((1, 1, 2, 8, 30))
    if number == memory.XENMEM_decrease_reservation:
        values = [clear_page_entry(it) if rng.random() < 0.5 else it.mfn() for _ in range(min(count, 4))]
    else:
        values = [it.word() for _ in range(count)]
    if not it.alive:
        return
    where = BASE + LIST_PAGE * 4096
    it.store(where, struct.pack(f"<{len(values)}Q", *values))
    order = rng.choice((0, 0, 0, 0, 1, 3))
    op = memory.XenMemoryReservation(where, len(values), order, rng.choice((0, 0, 24)), DOMID_SELF)
    it.call(xen.HYPERVISOR_memory_op, number, it.request(op))
    if it.alive and number == memory.XENMEM_populate_physmap:
        made = struct.unpack("<Q", it.load(where, 8))[0]
        update(it, (slot_of(it, free_pfn(it)), (made << 12 & ADDRESS) | mmu.RW))


def exchange(it: Hostile) -> None:
    rng = it.rng
    order = rng.choice((0, 0, 1, 2))
    count = 1 << order
    given = [clear_page_entry(it) if rng.random() < 0.85 else it.mfn() for _ in range(count)]
    if not it.alive:
        return
    it.store(BASE + LIST_PAGE * 4096, struct.pack(f"<{count}Q", *given))
    op: Any = memory.XenMemoryExchange()
    one, two = getattr(op, "in"), op.out
    one.extent_start, one.nr_extents, one.domid = BASE + LIST_PAGE * 4096, count, DOMID_SELF
    two.extent_start, two.nr_extents, two.extent_order, two.domid = BASE + LIST_PAGE * 4096 + 2048, 1, order, DOMID_SELF
    if rng.random() < 0.3:
        slips = (
            (one, "domid", 99), (one, "domid", it.domid()), (two, "extent_order", 11), (op, "nr_exchanged", 1),
            (two, "mem_flags", 13), (two, "extent_start", it.address()), (one, "extent_start", it.address()),
        )  # fmt: skip
        setattr(*rng.choice(slips))
        two.domid = one.domid
    it.call(xen.HYPERVISOR_memory_op, memory.XENMEM_exchange, it.request(op))


def room(it: Hostile) -> None:
    """The toolstack gives it more memory, or less."""
    it.domain.max_pages = PAGES + it.rng.choice((0, ROOM, 2 * ROOM))


def topology(it: Hostile) -> None:
    """Of any domain."""
    op = memory.XenVnumaTopologyInfo(domid=it.domid(), pad=it.rng.choice((0, 0, 1)))
    it.call(xen.HYPERVISOR_memory_op, memory.XENMEM_get_vnumainfo, it.request(op))


MOVES: tuple[tuple[float, Callable[[Hostile], object]], ...] = (
    (30, Hostile.typed),
    (6, Hostile.noise),
    (5, Hostile.multicall),
    (8, mmu.map_something),
    (4, mmu.map_by_address),
    (4, clear_page_entry),
    (6, mmu.build_table),
    (9, mmu.build_tree),
    (3, mmu.any_extended),
    (3, mmu.unpin_table),
    (4, mmu.link_table),
    (2, mmu.change_tables),
    (1, mmu.clear_and_copy),
    (2, mmu.write_after_pin),
    (3, mmu.descriptors),
    (0.4, second_vcpu),
    (1, change_vcpu),
    (0.3, move_vcpu_info),
    (1, mask_events),
    (0.5, time_goes_by),
    (1, watchdogs),
    (1, debug_registers),
    (1, ask_as_dom0),
    (0.3, all_interrupts),
    (0.5, page_of_interrupts),
    (1, entry_points),
    (3, events.connect),
    (3, events.send_some),
    (0.3, events.run_out_of_ports),
    (3, events.older_calls),
    (2, events.give_control_block),
    (2, events.give_words),
    (2, events.garble),
    (2, events.priorities),
    (0.3, events.whole_array),
    (0.3, events.reset),
    (0.2, events.reset_beside_others),
    (0.3, events.reset_under_way),
    (6, grants.grant),
    (6, grants.map_grants),
    (5, grants.unmap_grants),
    (2, grants.replace_grants),
    (4, grants.copy_grants),
    (2, grants.transfer),
    (4, grants.about_the_table),
    (0.7, grants.change_version),
    (3, reservation),
    (2, exchange),
    (0.3, room),
    (0.3, topology),
)
