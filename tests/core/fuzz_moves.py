# SPDX-License-Identifier: GPL-2.0-or-later
"""What a hostile guest tries that takes more than one call: mostly valid, in an order nobody meant.

Each move is a function of a Hostile. It does what a kernel would do to get somewhere (clear an entry, fill a frame,
take it as a page table) with a slip here and there, and leaves the guest in whatever state came of it; the next move
goes on from there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pvhv.abi import grant_table as gnttab
from pvhv.abi import memory, xen
from pvhv.abi.arch_x86 import FLAT_KERNEL_CS, FLAT_KERNEL_SS, VcpuGuestContext
from pvhv.abi.event_channel import (
    EVTCHNOP,
    EvtchnAllocUnbound,
    EvtchnBindInterdomain,
    EvtchnBindVirq,
    EvtchnOp,
    EvtchnSend,
)
from pvhv.abi.grant_table import GNTTABOP
from pvhv.abi.mmu import MMUEXT
from pvhv.abi.physdev import PHYSDEVOP, PhysdevOp
from pvhv.abi.spec import Command
from pvhv.abi.vcpu import VCPUOP_initialise, VCPUOP_register_vcpu_info, VCPUOP_up, VcpuRegisterVcpuInfo
from pvhv.core.domain import DOMID_SELF, Domain
from pvhv.core.frames import L4, TYPE_MASK
from pvhv.core.pagetables import ADDRESS, PRESENT
from tests.core.fuzz import BATCH_PAGE, CONTEXT_PAGE, FIRST_FREE_PFN, LIST_PAGE, PAGES, ROOM, UNTOUCHED, Hostile
from tests.core.guests import BASE, write_entry

MMU_UPDATE, SET_GDT, UPDATE_DESCRIPTOR, UPDATE_VA_MAPPING, UPDATE_VA_MAPPING_OTHERDOMAIN = 1, 2, 10, 14, 22
RW, DATA, LINK = 0x63 | 1 << 63, 0x61 | 1 << 63, 0x67


# -- page tables -----------------------------------------------------------------------------------------------
def free_pfn(it: Hostile) -> int:
    return it.rng.randrange(FIRST_FREE_PFN, PAGES)


def slot_of(it: Hostile, pfn: int) -> int:
    """Machine address of the L1 entry of one of its pages; 0 when its tables do not lead there."""
    it.machine.enter(it.vcpu)
    try:
        return it.machine.cpu.memory.entry_address(BASE + pfn * 4096)
    except Exception:
        return 0


def update(it: Hostile, *pairs: tuple[int, int], kind: int = 0) -> None:
    """mmu_update of (machine address, value) pairs."""
    address = it.request(*(struct.pack("<QQ", where | kind, value) for where, value in pairs))
    it.call(MMU_UPDATE, address, len(pairs), it.rng.choice((0, 0, BASE + 10 * 4096 + 8)), DOMID_SELF)


def ext(it: Hostile, command: Command, first: int, second: int = 0, foreign: int = DOMID_SELF) -> None:
    """One mmuext_op."""
    address = it.request(struct.pack("<QQQ", command.number, first, second))
    it.mmuext([address, 1, 0, foreign])


def map_something(it: Hostile) -> None:
    rng = it.rng
    kind = rng.choice((0, 0, 0, 2, 1, 3))
    if kind == 1:
        update(it, *((it.mfn() << 12 & ADDRESS, it.word()) for _ in range(rng.randrange(1, 4))), kind=1)
    else:
        update(it, *((slot_of(it, free_pfn(it)), it.entry()) for _ in range(rng.choice((1, 1, 4, 40)))), kind=kind)


def map_by_address(it: Hostile) -> None:
    flags = it.rng.choice((0, 1, 2, 2, 3, 6, it.address()))
    address = BASE + free_pfn(it) * 4096 if it.rng.random() < 0.9 else it.address()
    if it.rng.random() < 0.7:
        it.call(UPDATE_VA_MAPPING, address, it.entry(), flags)
    else:
        it.call(UPDATE_VA_MAPPING_OTHERDOMAIN, address, it.entry(), flags, it.domid())


def clear_page_entry(it: Hostile) -> int:
    """Unmap one of its pages; the frame that was there, 0 for none."""
    slot = slot_of(it, free_pfn(it))
    if not slot:
        return 0
    entry = it.machine.ram.words[slot >> 3]
    update(it, (slot, 0))
    return (entry & ADDRESS) >> 12 if entry & PRESENT else 0


def some_table(it: Hostile, level: int) -> int:
    """A frame of its own that is a table of this level just now, else any frame."""
    frames = it.machine.frames
    found = [mfn for mfn in it.owned() if frames.types[mfn] & TYPE_MASK == level and frames.type_counts[mfn]]
    return it.rng.choice(found) if found and it.rng.random() < 0.9 else it.own_mfn()


def fill_frame(it: Hostile, mfn: int, level: int) -> None:
    """Write what could be a table of this level, with stores the guest can make."""
    rng = it.rng
    if not 0 < mfn < it.machine.frames.count or not it.writable(mfn):
        return
    words = [0] * 512
    for _ in range(rng.choice((0, 1, 3, 12, 120))):
        slot = rng.randrange(512)
        if level == 1:
            words[slot] = it.own_mfn() << 12 | rng.choice((RW, DATA, DATA)) if rng.random() < 0.95 else it.entry()
        else:
            words[slot] = some_table(it, level - 1) << 12 | LINK if rng.random() < 0.95 else it.entry()
    if level == 4 and rng.random() < 0.9:
        kept = (BASE >> 39) & 511
        words[kept] = it.machine.ram.words[it.vcpu.guest_table * 512 + kept]
        for index in range(256, 272):
            words[index] = 0
    it.machine.ram.words[mfn * 512 : (mfn + 1) * 512] = memoryview(struct.pack("<512Q", *words)).cast("Q")


def build_table(it: Hostile) -> None:
    """Unmap a page, make a table of it, pin it."""
    level = it.rng.choice((1, 1, 1, 2, 2, 3, 4))
    mfn = clear_page_entry(it) or it.any_own_mfn()
    fill_frame(it, mfn, level)
    pins = (MMUEXT.PIN_L1_TABLE, MMUEXT.PIN_L2_TABLE, MMUEXT.PIN_L3_TABLE, MMUEXT.PIN_L4_TABLE)
    ext(it, pins[level - 1 if it.rng.random() < 0.95 else it.rng.randrange(4)], mfn)


def build_tree(it: Hostile) -> None:
    """Several tables at once, none of which was looked at before the top one is pinned or loaded."""
    rng = it.rng
    below = 0
    height = rng.randrange(2, 5)
    for level in range(1, height + 1):
        mfn = clear_page_entry(it)
        if not it.alive or not mfn or not it.writable(mfn):
            return
        words = [0] * 512
        if level == 1:
            for _ in range(rng.randrange(1, 8)):
                words[rng.randrange(512)] = it.own_mfn() << 12 | DATA
            peer = rng.choice(it.peers) if it.peers else it.domain
            slip = rng.choice((0, 0, it.first_l4 << 12 | RW, peer.shared_info << 12 | DATA, 1 << 40 | DATA, it.entry()))
            words[rng.randrange(512)] = slip
        else:
            words[rng.choice((0, rng.randrange(256)))] = below << 12 | LINK
        if level == 4:
            kept = (BASE >> 39) & 511
            words[kept] = it.machine.ram.words[it.vcpu.guest_table * 512 + kept]
        it.machine.ram.words[mfn * 512 : (mfn + 1) * 512] = memoryview(struct.pack("<512Q", *words)).cast("Q")
        below = mfn
    top = (MMUEXT.PIN_L2_TABLE, MMUEXT.PIN_L3_TABLE, MMUEXT.PIN_L4_TABLE)[height - 2]
    if height == 4:
        top = rng.choice((top, MMUEXT.NEW_BASEPTR, MMUEXT.NEW_USER_BASEPTR))
    ext(it, top, below, foreign=DOMID_SELF if rng.random() < 0.95 else it.domid())


def any_extended(it: Hostile) -> None:
    """An extended operation with operands by name."""
    command = it.rng.choice(list(MMUEXT))
    first = it.rng.choice((it.mfn(), it.address(), it.own_mfn())) & (1 << 64) - 1
    ext(it, command, first, it.rng.choice((it.mfn(), it.address(), it.small())) & (1 << 64) - 1, it.domid())


def unpin_table(it: Hostile) -> None:
    ext(it, MMUEXT.UNPIN_TABLE, some_table(it, it.rng.randrange(1, 5)))


def link_table(it: Hostile) -> None:
    """An entry of an upper table of its own, away from those the requests need."""
    level = it.rng.randrange(2, 5)
    table = some_table(it, level)
    index = it.rng.randrange(512)
    if index == BASE >> (12 + 9 * (level - 1)) & 511:
        return
    value = some_table(it, level - 1) << 12 | LINK if it.rng.random() < 0.7 else it.rng.choice((0, it.entry()))
    update(it, ((table << 12 & ADDRESS) + index * 8, value), kind=it.rng.choice((0, 0, 2)))


def change_tables(it: Hostile) -> None:
    """Run on another L4, kernel's or user's, or on the first one again."""
    rng = it.rng
    mfn = it.first_l4 if rng.random() < 0.5 else some_table(it, L4)
    ext(it, rng.choice((MMUEXT.NEW_BASEPTR, MMUEXT.NEW_USER_BASEPTR)), 0 if rng.random() < 0.1 else mfn)


def clear_and_copy(it: Hostile) -> None:
    if it.rng.random() < 0.5:
        ext(it, MMUEXT.CLEAR_PAGE, it.own_mfn(), foreign=it.domid())
    else:
        ext(it, MMUEXT.COPY_PAGE, it.own_mfn(), it.own_mfn(), it.domid())


def write_after_pin(it: Hostile) -> None:
    """Map a page table writable, which must not work."""
    update(it, (slot_of(it, free_pfn(it)), some_table(it, it.rng.randrange(1, 5)) << 12 | RW))


def descriptors(it: Hostile) -> None:
    """Frames of descriptors, as GDT, as LDT, and changed one by one."""
    rng = it.rng
    mfn = clear_page_entry(it) or it.any_own_mfn()
    choices = (0, 0x00CF_9300_0000_FFFF, 0x00AF_9B00_0000_FFFF, 0x0000_8C00_E033_0000, 0x0000_8900_0000_0067)
    if it.writable(mfn):
        words = [rng.choice(choices) for _ in range(512)]
        it.machine.ram.words[mfn * 512 : (mfn + 1) * 512] = memoryview(struct.pack("<512Q", *words)).cast("Q")
    what = rng.random()
    if what < 0.4:
        it.call(SET_GDT, it.request(struct.pack("<Q", mfn)), rng.choice((0, 1, 16, 512, 513, 8192)))
    elif what < 0.7:
        known = it.vcpu.gdt_frames or [mfn]
        where = (rng.choice(known) << 12) + rng.randrange(512) * 8
        it.call(UPDATE_DESCRIPTOR, where, rng.choice((*choices, it.word())))
    else:
        update(it, (slot_of(it, FIRST_FREE_PFN), mfn << 12 | DATA))
        ext(it, MMUEXT.SET_LDT, BASE + FIRST_FREE_PFN * 4096, rng.choice((0, 16, 512, 8193)))


# -- vCPUs -----------------------------------------------------------------------------------------------------
def second_vcpu(it: Hostile) -> None:
    rng = it.rng
    context: Any = VcpuGuestContext()
    context.flags = rng.choice((1 << 2, 1 << 2 | 1 << 5, 0, 0x3C))
    context.user_regs.rip, context.user_regs.rsp = BASE, BASE + 8 * 4096
    context.user_regs.cs, context.user_regs.ss = FLAT_KERNEL_CS, FLAT_KERNEL_SS
    context.ctrlreg[3] = (it.first_l4 if rng.random() < 0.7 else some_table(it, L4)) << 12
    context.ctrlreg[1] = rng.choice((0, 0, it.first_l4 << 12, it.mfn() << 12 & ADDRESS))
    if rng.random() < 0.2:
        context.gdt_ents, context.gdt_frames[0] = rng.choice((1, 512, 9000)), it.mfn() & (1 << 52) - 1
    if rng.random() < 0.1:
        context.ldt_ents, context.ldt_base = it.small() & 0xFFFF, it.address()
    address = BASE + CONTEXT_PAGE * 4096
    it.store(address, bytes(context))
    it.call(xen.HYPERVISOR_vcpu_op, VCPUOP_initialise, rng.choice((1, 1, 1, 0, 5)), address)
    if rng.random() < 0.5:
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


# -- events ----------------------------------------------------------------------------------------------------
def event(it: Hostile, command: Command, record: Any) -> None:
    it.call(xen.HYPERVISOR_event_channel_op, command.number, it.request(record))


def connect(it: Hostile) -> None:
    """Offer a port and bind it from the other side, or bind what was offered."""
    peer = it.rng.choice(it.peers) if it.peers else it.domain
    if it.rng.random() < 0.5:
        where = DOMID_SELF if it.rng.random() < 0.8 else peer.domid  # who may be dying
        event(it, EVTCHNOP.alloc_unbound, EvtchnAllocUnbound(where, peer.domid))
    else:
        offered = [channel.port for channel in peer.events.in_use() if channel.remote_domid == it.domain.domid]
        port = it.rng.choice(offered) if offered else it.port()
        event(it, EVTCHNOP.bind_interdomain, EvtchnBindInterdomain(peer.domid, port))


def send_some(it: Hostile) -> None:
    for _ in range(it.rng.randrange(1, 5)):
        if it.alive:
            event(it, EVTCHNOP.send, EvtchnSend(it.port()))


def older_calls(it: Hostile) -> None:
    """Command and structure together, as before interface 0x00030202."""
    record: Any = it.rng.choice((EvtchnOp, PhysdevOp))()
    commands = EVTCHNOP if isinstance(record, EvtchnOp) else PHYSDEVOP
    command = it.rng.choice(list(commands))
    record.cmd = command.number
    if command.arg is not None and hasattr(record.u, command.name):
        setattr(record.u, command.name, it.fill(command.arg))
    number = xen.HYPERVISOR_event_channel_op_compat if commands is EVTCHNOP else xen.HYPERVISOR_physdev_op_compat
    it.call(number, it.request(record))


def run_out_of_ports(it: Hostile) -> None:
    """Everything that wants a port, again and again."""
    for _ in range(3):
        connect(it)
        if it.alive:
            event(it, EVTCHNOP.bind_virq, EvtchnBindVirq(it.rng.randrange(24), 0))
        if it.alive:
            event(it, EVTCHNOP.bind_ipi, struct.pack("<LL", it.rng.randrange(2), 0))


# -- grants ----------------------------------------------------------------------------------------------------
def grant(it: Hostile) -> None:
    """Write an entry of its table."""
    rng = it.rng
    peer = rng.choice(it.peers).domid if it.peers and rng.random() < 0.8 else it.domain.domid
    flags = rng.choice((1, 1, 1, 1, 5, 2, 0, 3, 0x101, rng.getrandbits(9)))
    table = it.domain.grants
    if table.frames:
        write_entry(table, rng.randrange(8, 24), flags, peer, it.mfn() & 0xFFFF_FFFF)


def batch(it: Hostile, command: Command, *records: Any) -> list[Any]:
    """A grant_table_op over these records; them again, answered and judged."""
    for record in records:
        if hasattr(record, "status"):
            record.status = UNTOUCHED
    address = BASE + BATCH_PAGE * 4096 if it.rng.random() < 0.95 else it.request(*records)
    it.store(address, b"".join(map(bytes, records)))
    if it.call(xen.HYPERVISOR_grant_table_op, command.number, address, len(records)) is None:
        return []
    size = len(bytes(records[0]))
    answered = [command.arg.from_buffer_copy(it.load(address + index * size, size)) for index in range(len(records))]
    if address == BASE + BATCH_PAGE * 4096:
        for record, asked in zip(answered, records, strict=True):
            if hasattr(record, "status") and same_request(command, asked, record):
                it.judge.status(command, record.status)
    return answered


def same_request(command: Command, asked: Any, answered: Any) -> bool:
    """Whether nothing but the answer changed: no item of a batch wrote over another."""
    names = [field.name for field in command.arg.abi.fields if field.name not in command.out]
    return all(bytes_of(asked, name) == bytes_of(answered, name) for name in names)


def bytes_of(record: Any, name: str) -> bytes:
    field = getattr(type(record), name)
    return bytes(memoryview(record).cast("B")[field.offset : field.offset + field.size])


def granter(it: Hostile) -> Domain:
    return it.rng.choice(it.peers) if it.peers and it.rng.random() < 0.85 else it.domain


def map_grants(it: Hostile) -> None:
    rng = it.rng
    requests = []
    for _ in range(rng.choice((1, 1, 3, 8))):
        flags = rng.choice((2, 2, 2, 6, 6, 3, 7, 1, 5, 0xA, 0x12, 0x12, 0x16, 0, rng.getrandbits(20)))
        where = slot_of(it, free_pfn(it)) if flags & 0x10 else BASE + free_pfn(it) * 4096
        where = where if rng.random() < 0.95 else it.address()
        source = granter(it)
        table = source.grants
        good = [ref for ref in range(8, 24) if table.frames and table.words[table.slot(ref)] & 1]
        ref = rng.choice(good) if good and rng.random() < 0.8 else it.ref()
        domid = source.domid if rng.random() < 0.95 else it.domid()
        requests.append(gnttab.GnttabMapGrantRef(where, flags, ref, domid))
    for done in batch(it, GNTTABOP.map_grant_ref, *requests):
        if done.status == 0:
            it.mapped.append((done.handle, done.host_addr, done.flags))


def unmap_grants(it: Hostile) -> None:
    rng = it.rng
    chosen = [it.mapped.pop(rng.randrange(len(it.mapped))) for _ in range(min(len(it.mapped), rng.choice((1, 1, 4))))]
    if rng.random() < 0.15:
        chosen.append((it.value("handle"), it.address(), 2))
    if not chosen:
        return
    requests = []
    for handle, where, flags in chosen:
        bus = 0
        if flags & 1:
            mapping = it.domain.grants.mapping(handle)
            active = mapping.granter.grants.active.get(mapping.ref) if mapping and mapping.granter else None
            bus = active.mfn << 12 if active and rng.random() < 0.9 else it.word()
        requests.append(gnttab.GnttabUnmapGrantRef(where if rng.random() < 0.95 else it.address(), bus, handle))
    if rng.random() < 0.2:
        it.mapped += chosen  # and again
    batch(it, GNTTABOP.unmap_grant_ref, *requests)


def replace_grants(it: Hostile) -> None:
    if it.mapped:
        handle, where, _ = it.mapped.pop(it.rng.randrange(len(it.mapped)))
        other = it.rng.choice((0, BASE + free_pfn(it) * 4096, it.address()))
        batch(it, GNTTABOP.unmap_and_replace, gnttab.GnttabUnmapAndReplace(where, other, handle))


def copy_grants(it: Hostile) -> None:
    rng = it.rng
    requests = []
    for _ in range(rng.choice((1, 2, 5))):
        op: Any = gnttab.GnttabCopy()
        op.flags = rng.choice((0, 1, 1, 2, 2, 3, 3))
        for end, by_grant in ((op.source, op.flags & 1), (op.dest, op.flags & 2)):
            if by_grant:
                end.u.gmfn, end.domid = it.ref(), granter(it).domid if rng.random() < 0.95 else it.domid()
            else:
                end.u.gmfn, end.domid = it.mfn(), DOMID_SELF if rng.random() < 0.95 else it.domid()
            end.offset = rng.choice((0, 0, 8, 4000, 4096, 65535))
        op.len = rng.choice((0, 1, 16, 96, 4096, 65535))
        requests.append(op)
    batch(it, GNTTABOP.copy, *requests)


def transfer(it: Hostile) -> None:
    """Give a frame to a peer that offered to take it, or to itself."""
    receiver = granter(it)
    if receiver.grants.frames and it.rng.random() < 0.9:
        write_entry(receiver.grants, 20, 2, it.domain.domid, it.word() & 0xFFFF_FFFF)
    receiver.max_pages += it.rng.choice((0, 1))
    mfn = clear_page_entry(it) if it.rng.random() < 0.8 else it.mfn()
    domid = receiver.domid if it.rng.random() < 0.95 else it.domid()
    batch(it, GNTTABOP.transfer, gnttab.GnttabTransfer(mfn, domid, it.rng.choice((20, 20, 20, 21, 512))))


def about_the_table(it: Hostile) -> None:
    rng = it.rng
    what = rng.randrange(6)
    if what == 0:
        record = gnttab.GnttabSetupTable(it.domid(), rng.choice((0, 1, 2, 4, 65)), 0, it.address())
        if record.frame_list >> 47 not in (0, (1 << 17) - 1):
            record.frame_list = BASE
        batch(it, GNTTABOP.setup_table, record)
    elif what == 1:
        batch(it, GNTTABOP.query_size, gnttab.GnttabQuerySize(it.domid()))
    elif what == 2:
        batch(it, GNTTABOP.get_status_frames, gnttab.GnttabGetStatusFrames(rng.randrange(2), it.domid(), 0, BASE))
    elif what == 3:
        batch(it, GNTTABOP.swap_grant_ref, gnttab.GnttabSwapGrantRef(it.ref(), it.ref()))
    elif what == 4:
        batch(it, GNTTABOP.set_version, gnttab.GnttabSetVersion(rng.randrange(4)))
    else:
        record = gnttab.GnttabCacheFlush(offset=rng.choice((0, 4096)), length=rng.choice((0, 64)), op=rng.randrange(5))
        record.a.dev_bus_addr = it.mfn() << 12 & ADDRESS
        number = GNTTABOP.cache_flush.number | rng.choice((0, 0, 0x1000))
        it.call(xen.HYPERVISOR_grant_table_op, number, it.request(record), 1)


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
        update(it, (slot_of(it, free_pfn(it)), (made << 12 & ADDRESS) | RW))


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
    if rng.random() < 0.2:
        setattr(*rng.choice(((one, "domid", it.domid()), (two, "extent_order", 11), (op, "nr_exchanged", 1),
                             (two, "mem_flags", 13), (two, "extent_start", it.address()),
                             (one, "extent_start", it.address()))))
        two.domid = one.domid
    it.call(xen.HYPERVISOR_memory_op, memory.XENMEM_exchange, it.request(op))


def room(it: Hostile) -> None:
    """The toolstack gives it more memory, or less."""
    it.domain.max_pages = PAGES + it.rng.choice((0, ROOM, 2 * ROOM))


MOVES: tuple[tuple[float, Callable[[Hostile], object]], ...] = (
    (30, Hostile.typed),
    (6, Hostile.noise),
    (5, Hostile.multicall),
    (8, map_something),
    (4, map_by_address),
    (4, clear_page_entry),
    (6, build_table),
    (3, build_tree),
    (3, any_extended),
    (3, unpin_table),
    (4, link_table),
    (2, change_tables),
    (1, clear_and_copy),
    (2, write_after_pin),
    (3, descriptors),
    (1, second_vcpu),
    (1, change_vcpu),
    (0.3, move_vcpu_info),
    (1, mask_events),
    (0.5, time_goes_by),
    (3, connect),
    (3, send_some),
    (0.3, run_out_of_ports),
    (3, older_calls),
    (6, grant),
    (6, map_grants),
    (5, unmap_grants),
    (2, replace_grants),
    (4, copy_grants),
    (2, transfer),
    (3, about_the_table),
    (3, reservation),
    (2, exchange),
    (0.3, room),
)
