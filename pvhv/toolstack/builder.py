# SPDX-License-Identifier: GPL-2.0-or-later
"""The domain builder: a planned layout, put into a new domain's frames.

What a PV guest finds when its first instruction runs: itself in memory, page tables that map the beginning of
it (executable, and writable but for the page tables), the list of its frames, a start_info page in RSI, a stack
in RSP, rings to the console and to xenstore with an event channel each, and two grants (references 0 and 1) by
which domain 0 may map those rings.

The builder is dom0's code: it writes frames the domain owns and asks the hypervisor for everything else. The
tables it leaves are checked like any guest's when the first vCPU gets its context, so a mistake here cannot
become a hole.

Read beside it: tools/libs/guest/xg_dom_x86.c (setup_pgtables_x86_64, start_info_x86_64, vcpu_x86_64).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

from pvhv.abi.arch_x86 import (
    FLAT_KERNEL_CS,
    FLAT_KERNEL_DS,
    FLAT_KERNEL_SS,
    XEN_LEGACY_MAX_VCPUS,
    VcpuGuestContext,
    VGCF_in_kernel,
    VGCF_online,
)
from pvhv.abi.grant_table import GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE
from pvhv.abi.xen import SIF_MOD_START_PFN, SIF_VIRT_P2M_4TOOLS, StartInfo, VcpuInfo
from pvhv.machine.cpustate import IF
from pvhv.machine.paging import PTE_ACCESSED, PTE_DIRTY, PTE_PRESENT, PTE_RW, PTE_USER
from pvhv.machine.ram import PAGE_SIZE, Ram
from pvhv.machine.x86 import DR6_DEFAULT, DR7_DEFAULT
from pvhv.toolstack.bulk import Buffer
from pvhv.toolstack.elf import Kernel
from pvhv.toolstack.layout import Layout
from pvhv.toolstack.names import as_bytes

TABLE_ENTRY = PTE_PRESENT | PTE_RW | PTE_USER | PTE_ACCESSED | PTE_DIRTY
PAGE_ENTRY = PTE_PRESENT | PTE_ACCESSED
GUEST_TYPE = b"xen-3.0-x86_64"
PIECE = 256 << 10  # bytes put into a domain at a time


class Ports(NamedTuple):
    """The guest's ends of its two built-in event channels."""

    xenstore: int
    console: int


class Pages:
    """A domain's pseudo-physical memory as bytes; `mfns[pfn]` is where each page is."""

    def __init__(self, ram: Ram, mfns: array[int]) -> None:
        self.ram = ram
        self.mfns = mfns

    def write(self, paddr: int, data: bytes | memoryview) -> None:
        """Put a few bytes at a pseudo-physical address, over as many pages as it takes."""
        done = 0
        for offset, size in self._runs(paddr, len(data)):
            self.ram.bytes[offset : offset + size] = data[done : done + size]
            done += size

    def fill(self, paddr: int, data: Buffer | memoryview) -> Iterator[None]:
        """Write many bytes at a pseudo-physical address, piece by piece."""
        view = memoryview(data)
        for at in range(0, len(view), PIECE):
            self.write(paddr + at, view[at : at + PIECE])
            yield

    def words(self, pfn: int) -> memoryview:
        """The 512 words of a page."""
        mfn = self.mfns[pfn]
        return self.ram.words[mfn << 9 : (mfn + 1) << 9]

    def _runs(self, paddr: int, size: int) -> Iterator[tuple[int, int]]:
        """(offset in machine memory, bytes) of the contiguous pieces of a range."""
        while size:
            pfn, within = divmod(paddr, PAGE_SIZE)
            mfn = self.mfns[pfn]
            last = (paddr + size - 1) // PAGE_SIZE
            end = pfn + 1
            while end <= last and self.mfns[end] == mfn + end - pfn:
                end += 1
            step = min(size, end * PAGE_SIZE - paddr)
            yield mfn * PAGE_SIZE + within, step
            paddr += step
            size -= step


def load(pages: Pages, kernel: Kernel, layout: Layout, ramdisk: Buffer = b"") -> Iterator[None]:
    """Write kernel, ramdisk, p2m list and page tables into a domain's memory, piece by piece."""
    for segment in kernel.segments:
        yield from pages.fill(segment.paddr - kernel.paddr_offset, segment.data)
    yield from pages.fill(layout.areas["ramdisk"].pfn * PAGE_SIZE if ramdisk else 0, ramdisk)
    yield from pages.fill(layout.areas["p2m"].pfn * PAGE_SIZE, memoryview(pages.mfns).cast("B"))
    yield from _write_tables(pages, layout)


def _write_tables(pages: Pages, layout: Layout) -> Iterator[None]:
    tables = {table: pages.words(pfn) for table, pfn in layout.tables.items()}
    mfns = pages.mfns
    for (level, number), pfn in layout.tables.items():
        if level < 4:
            # An L1's entry stands in the L2 that covers it, and so on up; the L4 covers everything.
            parent = (level + 1, number >> 9 if level < 3 else 0)
            tables[parent][number & 511] = mfns[pfn] << 12 | TABLE_ENTRY
    yield
    table_pfns = set(layout.tables.values())
    for mapping in layout.mappings:
        index = 0
        while index < mapping.pages:
            linear = (mapping.va + index * PAGE_SIZE) & 0xFFFF_FFFF_FFFF
            slot = linear >> 12 & 511
            count = min(512 - slot, mapping.pages - index)
            pfn = mapping.pfn + index
            entries = [mfn << 12 | PAGE_ENTRY | PTE_RW for mfn in mfns[pfn : pfn + count]]
            for each in table_pfns.intersection(range(pfn, pfn + count)):
                entries[each - pfn] &= ~PTE_RW
            tables[1, linear >> 21][slot : slot + count] = memoryview(array("Q", entries))
            index += count
            yield


def write_start_info(
    pages: Pages,
    layout: Layout,
    ports: Ports,
    shared_info_mfn: int,
    cmdline: str = "",
    ramdisk_size: int = 0,
) -> None:
    """Fill the start_info page, whose address the guest finds in RSI."""
    areas, mfns = layout.areas, pages.mfns
    info = StartInfo()
    info.magic = GUEST_TYPE
    info.nr_pages = layout.nr_pages
    info.shared_info = shared_info_mfn * PAGE_SIZE
    info.flags = SIF_VIRT_P2M_4TOOLS
    info.store_mfn = mfns[areas["xenstore"].pfn]
    info.store_evtchn = ports.xenstore
    info.console.domU.mfn = mfns[areas["console"].pfn]
    info.console.domU.evtchn = ports.console
    info.pt_base = layout.va("page tables")
    info.nr_pt_frames = layout.boot_tables
    info.mfn_list = layout.va("p2m")
    if len(layout.mappings) > 1:
        info.first_p2m_pfn = areas["p2m"].pfn
        info.nr_p2m_frames = areas["p2m"].pages
    if ramdisk_size:
        place = areas["ramdisk"]
        if place.va is None:
            info.flags |= SIF_MOD_START_PFN
            info.mod_start = place.pfn
            info.mod_len = place.pages * PAGE_SIZE
        else:
            info.mod_start = place.va
            info.mod_len = ramdisk_size
    line = as_bytes(cmdline)
    info.cmd_line[: len(line)] = [byte - 256 if byte > 127 else byte for byte in line]
    pages.write(areas["start_info"].pfn * PAGE_SIZE, bytes(info))


def write_shared_info(ram: Ram, mfn: int) -> None:
    """Fill the shared_info page: events are masked until the guest is ready for them. (shared_info_x86_64)"""
    page = ram.frame(mfn)
    for vcpu_id in range(XEN_LEGACY_MAX_VCPUS):
        page[vcpu_id * VcpuInfo.abi.size + VcpuInfo.evtchn_upcall_mask.offset] = 1


def grants(pages: Pages, layout: Layout) -> dict[int, int]:
    """The grants that let domain 0 map the rings: reference -> mfn. (xc_dom_gnttab_seed)"""
    return {
        GNTTAB_RESERVED_CONSOLE: pages.mfns[layout.areas["console"].pfn],
        GNTTAB_RESERVED_XENSTORE: pages.mfns[layout.areas["xenstore"].pfn],
    }


def first_context(pages: Pages, kernel: Kernel, layout: Layout) -> Any:
    """What the first vCPU starts with: a vcpu_guest_context record."""
    context = VcpuGuestContext()
    context.flags = VGCF_in_kernel | VGCF_online
    registers = context.user_regs
    registers.rip = kernel.entry
    registers.rsp = context.kernel_sp = layout.va("boot stack") + PAGE_SIZE
    registers.rsi = layout.va("start_info")
    registers.rflags = IF
    registers.cs = FLAT_KERNEL_CS
    registers.ss = context.kernel_ss = FLAT_KERNEL_SS
    registers.ds = registers.es = registers.fs = registers.gs = FLAT_KERNEL_DS
    context.debugreg[6], context.debugreg[7] = DR6_DEFAULT, DR7_DEFAULT
    context.ctrlreg[3] = pages.mfns[layout.tables[4, 0]] * PAGE_SIZE
    return context
