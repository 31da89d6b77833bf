# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves of a hostile guest that are about page tables and descriptors (tests/core/fuzz_moves.py has the others)."""

from __future__ import annotations

import struct
from typing import Any

from pvhv.abi.arch_x86 import FLAT_KERNEL_CS, FLAT_KERNEL_SS, VcpuGuestContext
from pvhv.abi.mmu import MMUEXT
from pvhv.abi.spec import Command
from pvhv.abi.vcpu import VCPUOP_initialise
from pvhv.abi.xen import DOMID_SELF, HYPERVISOR_vcpu_op
from pvhv.core.errors import GuestFault
from pvhv.core.mm.frames import L4, TYPE_MASK
from pvhv.core.mm.pte import ADDRESS, PRESENT
from tests.core.fuzz import CONTEXT_PAGE, FIRST_FREE_PFN, PAGES, Hostile
from tests.core.guests import BASE

MMU_UPDATE, SET_GDT, UPDATE_DESCRIPTOR, UPDATE_VA_MAPPING, UPDATE_VA_MAPPING_OTHERDOMAIN = 1, 2, 10, 14, 22
RW, DATA, LINK, LINEAR = 0x63 | 1 << 63, 0x61 | 1 << 63, 0x67, 0x25

def free_pfn(it: Hostile) -> int:
    return it.rng.randrange(FIRST_FREE_PFN, PAGES)


def slot_of(it: Hostile, pfn: int) -> int:
    """Machine address of the L1 entry of one of its pages; 0 when its tables do not lead there."""
    it.machine.enter(it.vcpu)
    try:
        return it.machine.cpu.memory.entry_address(BASE + pfn * 4096)
    except GuestFault:
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


def some_link(it: Hostile, level: int, own: int) -> int:
    """An entry for a table of this level: of the next lower level, or of the same (a linear page table)."""
    if it.rng.random() < 0.85:
        return some_table(it, level - 1) << 12 | LINK
    return (own if it.rng.random() < 0.3 else some_table(it, level)) << 12 | it.rng.choice((LINEAR, LINEAR, LINK))


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
            words[slot] = some_link(it, level, mfn) if rng.random() < 0.95 else it.entry()
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


def initialise_vcpu(it: Hostile, vcpu_id: int, kernel_mfn: int, **fields: int) -> None:
    """VCPUOP_initialise with a context that would do but for what `fields` say."""
    context: Any = VcpuGuestContext()
    context.flags = 1 << 2
    context.user_regs.rip, context.user_regs.rsp = BASE, BASE + 8 * 4096
    context.user_regs.cs, context.user_regs.ss = FLAT_KERNEL_CS, FLAT_KERNEL_SS
    context.ctrlreg[3] = kernel_mfn << 12
    for name, value in fields.items():
        if name == "user_table":
            context.ctrlreg[1] = value
        elif name == "gdt_frame":
            context.gdt_frames[0] = value
        else:
            setattr(context, name, value)
    address = BASE + CONTEXT_PAGE * 4096
    it.store(address, bytes(context))
    it.call(HYPERVISOR_vcpu_op, VCPUOP_initialise, vcpu_id, address)


def build_tree(it: Hostile) -> None:
    """Several tables at once, none of which was looked at before the top one is pinned or loaded."""
    rng = it.rng
    below = 0
    height = rng.choice((2, 3, 4, 4, 4))
    for level in range(1, height + 1):
        mfn = clear_page_entry(it)
        if not it.alive or not mfn or not it.writable(mfn):
            return
        words = [0] * 512
        if level == 1:
            for _ in range(rng.randrange(1, 8)):
                words[rng.randrange(512)] = it.own_mfn() << 12 | DATA
            peer = rng.choice(it.peers) if it.peers else it.domain
            busy = (it.first_l4 << 12 | RW, peer.shared_info << 12 | DATA)
            slip = rng.choice((0, 0, 0, *busy, *busy, 1 << 40 | DATA, 1 << 40 | DATA, it.entry()))
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
        if rng.random() < 0.6 and not it.domain.vcpus[1].initialised:
            initialise_vcpu(it, 1, below)
            return
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
    value = some_link(it, level, table) if it.rng.random() < 0.7 else it.rng.choice((0, it.entry()))
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
