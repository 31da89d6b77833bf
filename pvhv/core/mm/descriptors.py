# SPDX-License-Identifier: GPL-2.0-or-later
"""Segment descriptors: which ones a guest may have, and where its GDT and LDT live.

A frame of descriptors has a type of its own (seg_desc), checked like a page table: every present descriptor is an
ordinary segment of DPL 3 or a call gate whose DPL was set to 0, so that using it faults. The frames of a vCPU's GDT are
mapped, read-only, behind L4 slot 260 at the addresses Xen uses; page 14 of each GDT is Xen's and holds the flat
segments 0xe000 and up. The LDT follows the GDT and is mapped page by page as segment loads fault on it.

The mapping has no U bit. It is read-only as well, because on the stock engine a guest kernel runs at CPL 1 and could
reach it (pvhv.machine.rings). So that the CPU need not set an accessed bit in it, descriptors get that bit when they
are accepted.

Read beside it: xen/arch/x86/pv/descriptor-tables.c, xen/arch/x86/desc.c.
"""

from __future__ import annotations

from pvhv.abi.arch_x86 import FIRST_RESERVED_GDT_ENTRY, FIRST_RESERVED_GDT_PAGE, FLAT_KERNEL_CS, XEN_LEGACY_MAX_VCPUS
from pvhv.abi.errno import Errno
from pvhv.abi.xen import DOMID_XEN
from pvhv.core.arch import ArchDomain, ArchVCPU
from pvhv.core.errors import HypercallError
from pvhv.core.mm.frames import SEG_DESC, TYPE_MASK, WRITABLE
from pvhv.core.mm.pagetables import PageTables
from pvhv.core.mm.pte import ADDRESS, NX, PRESENT, RW

PERDOMAIN_VIRT_START = 0xFFFF_8200_0000_0000  # L4 slot 260
PAGES_PER_VCPU = 32  # 16 of GDT, then 16 of LDT
GDT_LIMIT = 0xFFFF  # the engine sees all 16 pages, Xen's own among them

# Bits of a descriptor as one u64.
TYPE = 0xF << 40
ACCESSED = 1 << 40
SEGMENT = 1 << 44  # S: code or data, not a system descriptor
DPL = 3 << 45
IS_PRESENT = 1 << 47
CALL_GATE = 0xC << 40

# Page 14 of every GDT, from selector 0xe000 (arch-x86/xen-x86_64.h): what the FLAT_* selectors name, RPL 3, accessed.
RESERVED = {
    0xE008: 0x00AF_9B00_0000_FFFF,  # Xen's own 64-bit code
    0xE010: 0x00CF_9300_0000_FFFF,  # Xen's own data
    0xE023: 0x00CF_FB00_0000_FFFF,  # FLAT_RING3_CS32
    0xE02B: 0x00CF_F300_0000_FFFF,  # FLAT_RING3_SS32 and _DS
    0xE033: 0x00AF_FB00_0000_FFFF,  # FLAT_RING3_CS64
}


def accept(descriptor: int) -> int | None:
    """The descriptor as Xen would install it for a 64-bit guest, or None if Xen refuses it. (check_descriptor)"""
    if not descriptor & IS_PRESENT:
        return descriptor
    if descriptor & SEGMENT:
        return descriptor | DPL | ACCESSED
    if not descriptor & TYPE:
        return descriptor  # the second half of a call gate is such
    if descriptor & TYPE != CALL_GATE:
        return None
    selector = descriptor >> 16 & 0xFFFF
    if not (selector >> 3 < FIRST_RESERVED_GDT_ENTRY or selector == FLAT_KERNEL_CS or selector & 4):
        return None
    if descriptor >> 32 & 0xFF:
        return None
    # DPL 0 makes every use fault; the DPL it had is kept in the target's RPL.
    selector |= 3
    return descriptor & ~DPL & ~(0xFFFF << 16) | selector << 16


class DescriptorTables:
    """The per-domain part of the address space (L4 slot 260): the GDT and LDT mappings of each vCPU."""

    def __init__(self, tables: PageTables) -> None:
        self.frames = frames = tables.frames
        self.words = frames.ram.words
        tables.descriptors_acceptable = self.contents_acceptable
        self.reserved_page = frames.allocate(DOMID_XEN)
        for selector, descriptor in RESERVED.items():
            self.words[(self.reserved_page << 9) + (selector >> 3) - FIRST_RESERVED_GDT_ENTRY] = descriptor
        self.zero_page = frames.allocate(DOMID_XEN)

    def contents_acceptable(self, mfn: int) -> bool:
        """Check and adjust a whole frame of descriptors; False at the first bad one, with those before it adjusted.

        (validate_segdesc_page)
        """
        for index, descriptor in enumerate(self.words[mfn << 9 : (mfn + 1) << 9].tolist(), mfn << 9):
            accepted = accept(descriptor)
            if accepted is None:
                return False
            if accepted != descriptor:
                self.words[index] = accepted
        return True

    # -- the mapping -----------------------------------------------------------------------------------------------
    def make(self, domain: ArchDomain) -> None:
        """Give `domain` its tables behind slot 260, every GDT empty but for Xen's page."""
        l3, l2, first, second = (self.frames.allocate(DOMID_XEN) for _ in range(4))
        for mfn in (l3, l2, first, second):
            self.words[mfn << 9 : (mfn + 1) << 9] = memoryview(bytes(4096)).cast("Q")
        domain.perdomain_l3 = l3
        domain.perdomain_l1s = [first, second]
        domain.hypervisor_frames += [l3, l2, first, second]
        self.words[l3 << 9] = l2 << 12 | PRESENT | RW
        self.words[l2 << 9] = first << 12 | PRESENT | RW
        self.words[(l2 << 9) + 1] = second << 12 | PRESENT | RW
        for vcpu_id in range(XEN_LEGACY_MAX_VCPUS):
            for page in range(FIRST_RESERVED_GDT_PAGE):
                self._map(domain, vcpu_id, page, self.zero_page)
            self._map(domain, vcpu_id, FIRST_RESERVED_GDT_PAGE, self.reserved_page)
            self._map(domain, vcpu_id, FIRST_RESERVED_GDT_PAGE + 1, self.zero_page)

    def _slot(self, domain: ArchDomain, vcpu_id: int, page: int) -> int:
        index = vcpu_id * PAGES_PER_VCPU + page
        return (domain.perdomain_l1s[index >> 9] << 9) + (index & 511)

    def _map(self, domain: ArchDomain, vcpu_id: int, page: int, mfn: int) -> None:
        self.words[self._slot(domain, vcpu_id, page)] = mfn << 12 | PRESENT | NX

    @staticmethod
    def gdt_address(vcpu: ArchVCPU) -> int:
        """The virtual address of a vCPU's GDT, for the engine."""
        return PERDOMAIN_VIRT_START + vcpu.vcpu_id * PAGES_PER_VCPU * 4096

    @staticmethod
    def ldt_address(vcpu: ArchVCPU) -> int:
        """The virtual address of a vCPU's LDT, for the engine."""
        return DescriptorTables.gdt_address(vcpu) + 16 * 4096

    # -- GDT -------------------------------------------------------------------------------------------------------
    def set_gdt(self, vcpu: ArchVCPU, mfns: list[int], entries: int) -> None:
        """HYPERVISOR_set_gdt: make these frames the GDT. Raises HypercallError(EINVAL)."""
        if entries > FIRST_RESERVED_GDT_ENTRY:
            raise HypercallError(Errno.EINVAL)
        frames, domid = self.frames, vcpu.domain.domid
        taken: list[int] = []
        try:
            for mfn in mfns:
                frames.get_page_and_type(mfn, domid, SEG_DESC)
                taken.append(mfn)
        except HypercallError:
            for mfn in taken:
                frames.put_page_and_type(mfn)
            raise
        self.destroy_gdt(vcpu)
        vcpu.gdt_frames = list(mfns)
        vcpu.gdt_ents = entries
        for page, mfn in enumerate(mfns):
            self._map(vcpu.domain, vcpu.vcpu_id, page, mfn)

    def destroy_gdt(self, vcpu: ArchVCPU) -> None:
        """Drop the GDT's frames. (pv_destroy_gdt)"""
        for page, mfn in enumerate(vcpu.gdt_frames):
            self._map(vcpu.domain, vcpu.vcpu_id, page, self.zero_page)
            self.frames.put_page_and_type(mfn)
        vcpu.gdt_frames = []
        vcpu.gdt_ents = 0

    # -- LDT -------------------------------------------------------------------------------------------------------
    def map_ldt_page(self, vcpu: ArchVCPU, offset: int, entry: int) -> bool:
        """A segment load faulted on the LDT at `offset`: map the guest's page there. (pv_map_ldt_shadow_page)

        `entry` is the L1 entry that maps ldt_base + offset in the guest's own tables. False if the guest has no page
        there, or the page is mapped already: then the fault had another cause.
        """
        slot = self._slot(vcpu.domain, vcpu.vcpu_id, 16 + (offset >> 12))
        if offset >> 3 >= vcpu.ldt_ents or not entry & PRESENT or self.words[slot] & PRESENT:
            return False
        mfn = (entry & ADDRESS) >> 12
        try:
            self.frames.get_page_and_type(mfn, vcpu.domain.domid, SEG_DESC)
        except HypercallError:
            return False
        self._map(vcpu.domain, vcpu.vcpu_id, 16 + (offset >> 12), mfn)
        return True

    def destroy_ldt(self, vcpu: ArchVCPU) -> bool:
        """Unmap the LDT's pages and drop their uses; True if there were any. (pv_destroy_ldt)"""
        dropped = False
        if not vcpu.ldt_ents:
            return False
        for page in range(16):
            slot = self._slot(vcpu.domain, vcpu.vcpu_id, 16 + page)
            entry = self.words[slot]
            if entry & PRESENT:
                self.words[slot] = 0
                self.frames.put_page_and_type((entry & ADDRESS) >> 12)
                dropped = True
        return dropped

    def update(self, domid: int, address: int, descriptor: int) -> None:
        """HYPERVISOR_update_descriptor: one descriptor at a machine address. Raises HypercallError(EINVAL)."""
        accepted = accept(descriptor)
        frames, mfn = self.frames, address >> 12
        if address & 7 or accepted is None or not frames.get_page(mfn, domid):
            raise HypercallError(Errno.EINVAL)
        wanted = SEG_DESC if frames.types[mfn] & TYPE_MASK == SEG_DESC else WRITABLE
        try:
            frames.get_page_type(mfn, wanted)
            self.words[address >> 3] = accepted
            frames.put_page_type(mfn)
        finally:
            frames.put_page(mfn)
