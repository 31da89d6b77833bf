# SPDX-License-Identifier: GPL-2.0-or-later
"""Where everything goes in a new domain's memory, decided before a byte of it is written.

Pseudo-physical memory is filled from its start, and the first part of it is mapped at VIRT_BASE in the same
order:

    kernel | ramdisk | p2m list | start_info, xenstore page, console page | page tables | boot stack | room

The mapping ends on a 4 MiB boundary with at least 512 KiB of room, and the page tables that make it are
counted into what they have to map. A kernel that takes its ramdisk by pfn (MOD_START_PFN) finds it after the
mapping, unmapped; one that names a place for the p2m list (INIT_P2M) finds it mapped there by tables of its
own, last of all.

Guests rely on this order (Linux and mini-os take everything after the boot stack for free), so it is
libxenguest's, page for page. This module computes; pvhv.toolstack.builder writes.

A kernel's file says how much it wants, which may be more than any machine has. So everything is counted first, and
nothing is listed before it is known to fit into the domain.

Read beside it: tools/libs/guest/xg_dom_core.c (xc_dom_build_image), xg_dom_x86.c (alloc_pgtables_pv).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pvhv.abi.arch_x86 import HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START
from pvhv.machine.ram import PAGE_SIZE
from pvhv.machine.x86 import LOWER_END
from pvhv.toolstack.elf import Kernel
from pvhv.toolstack.errors import ToolstackError

ROOM = 512 * 1024 // PAGE_SIZE
MAPPED_TO = 4 << 20
PADDING_PAGES = ROOM + 1  # the room, and the boot stack
KIB_PER_PAGE = PAGE_SIZE >> 10
EXTRA_KIB = 1024  # LIBXL_MAXMEM_CONSTANT: what every domain may have beside the memory it asks for


class Area(NamedTuple):
    """Consecutive pages; `va` is None for pages that are not mapped."""

    name: str
    pfn: int
    pages: int
    va: int | None


class Mapping(NamedTuple):
    """Virtual addresses [va, va + pages * PAGE_SIZE) onto pages from `pfn` on."""

    va: int
    pfn: int
    pages: int


# A page table by (level, number): level 4 has number 0 only, an L1's number is va >> 21, and so on up.
Table = tuple[int, int]


@dataclass
class Layout:
    """The plan. `tables` gives the pfn of each page table, the L4 first."""

    nr_pages: int
    virt_base: int
    areas: dict[str, Area] = field(default_factory=dict)
    mappings: list[Mapping] = field(default_factory=list)
    tables: dict[Table, int] = field(default_factory=dict)
    boot_tables: int = 0  # how many of them make the first mapping: start_info.nr_pt_frames
    next_pfn: int = 0
    planned: list[tuple[int, Mapping]] = field(default_factory=list)  # where the tables of each mapping begin

    def va(self, name: str) -> int:
        """The virtual address of an area. The area has to be mapped."""
        address = self.areas[name].va
        assert address is not None, f"{name} is not mapped"
        return address

    def place(self, name: str, pages: int, mapped: bool = True) -> Area:
        """The next `pages` pages, as an area of that name."""
        at = self.next_pfn
        area = self.areas[name] = Area(name, at, pages, self.virt_base + at * PAGE_SIZE if mapped else None)
        self.next_pfn = at + pages
        return area

    def new_tables(self, mapping: Mapping) -> Iterator[Table]:
        """The page tables that a mapping needs and no earlier mapping has, from the top level down."""
        before = [numbers_of(each) for each in self.mappings]
        for level, numbers in numbers_of(mapping).items():
            taken = [each[level] for each in before]
            yield from ((level, number) for number in numbers if not any(number in there for there in taken))

    def map(self, first_pfn: int, mapping: Mapping) -> None:
        """Add a mapping; the page tables that are new for it begin at `first_pfn`."""
        self.planned.append((first_pfn, mapping))
        self.mappings.append(mapping)

    def list_tables(self) -> None:
        """Give each table its pfn."""
        mappings, self.mappings = self.mappings, []
        for first_pfn, mapping in self.planned:
            self.tables.update({table: first_pfn + n for n, table in enumerate(self.new_tables(mapping))})
            self.mappings.append(mapping)
        assert self.mappings == mappings


def numbers_of(mapping: Mapping) -> dict[int, range]:
    """The numbers of the tables that a mapping goes through, by level."""
    first, last = _index(mapping.va), _index(mapping.va + mapping.pages * PAGE_SIZE - 1)
    return {level: range(first >> shift, (last >> shift) + 1) for level, shift in ((4, 48), (3, 39), (2, 30), (1, 21))}


def plan(kernel: Kernel, nr_pages: int, ramdisk_size: int = 0) -> Layout:
    """Lay out a domain of `nr_pages` pages. Raises ToolstackError when that is too few."""
    layout = Layout(nr_pages, kernel.virt_base)
    ramdisk_pages = -(-ramdisk_size // PAGE_SIZE)
    p2m_pages = -(-nr_pages * 8 // PAGE_SIZE)
    start = (kernel.start - kernel.virt_base) // PAGE_SIZE
    layout.next_pfn = start
    layout.place("kernel", -(-(kernel.end - kernel.virt_base) // PAGE_SIZE) - start)
    ramdisk_apart = kernel.mod_start_pfn
    p2m_apart = (
        kernel.init_p2m is not None and kernel.init_p2m < kernel.virt_base and not kernel.init_p2m % PAGE_SIZE
    )
    if ramdisk_pages and not ramdisk_apart:
        layout.place("ramdisk", ramdisk_pages)
    if not p2m_apart:
        layout.place("p2m", p2m_pages)
    for name in ("start_info", "xenstore", "console"):
        layout.place(name, 1)
    _page_tables(layout)
    if ramdisk_pages and ramdisk_apart:
        layout.place("ramdisk", ramdisk_pages, mapped=False)
    if p2m_apart:
        assert kernel.init_p2m is not None
        _p2m_apart(layout, kernel.init_p2m, p2m_pages)
    if layout.next_pfn > nr_pages:
        needs = -(-layout.next_pfn * PAGE_SIZE >> 20)
        with_it = f" and its ramdisk of {ramdisk_size >> 20} MiB" if ramdisk_size >> 20 else ""
        raise ToolstackError(
            f"{nr_pages * PAGE_SIZE >> 20} MiB is too little memory for {kernel.path.name}{with_it}: "
            f"it needs {needs} MiB to start",
            f"say memory = {max(needs + 4, 16)} or more in the domain file, or memory={max(needs + 4, 16)} "
            "on the command line",
        )
    if sum(len(segment.data) for segment in kernel.segments) > nr_pages * PAGE_SIZE:
        raise ToolstackError(f"{kernel.path}: its segments overlap, and together are larger than the domain's memory")
    for mapping in layout.mappings:
        _check_place(kernel, mapping)
    layout.list_tables()
    return layout


def _check_place(kernel: Kernel, mapping: Mapping) -> None:
    """Check that a mapping stays within one half of the address space, and out of the hypervisor's part of it."""
    first, last = mapping.va, mapping.va + mapping.pages * PAGE_SIZE - 1
    if not last < LOWER_END and not (HYPERVISOR_VIRT_START <= first and last < 1 << 64):
        raise ToolstackError(
            f"{kernel.path}: it wants {first:#x}..{last:#x} mapped, and not all of these addresses are canonical",
            "check its notes VIRT_BASE and INIT_P2M: behind a kernel there are its ramdisk, tables and 512 KiB of room",
        )
    if first < HYPERVISOR_VIRT_END and last >= HYPERVISOR_VIRT_START:
        raise ToolstackError(f"{kernel.path}: it wants {first:#x}..{last:#x} mapped, which is the hypervisor's own")


def _page_tables(layout: Layout) -> None:
    """Find how many page tables map everything up to themselves, themselves included; place them and what follows."""
    pages = PADDING_PAGES
    while True:
        # The next 4 MiB boundary, strictly above: libxenguest's round_up(), which sets the low bits.
        end = ((layout.virt_base + (layout.next_pfn + pages) * PAGE_SIZE) | (MAPPED_TO - 1)) + 1
        mapping = Mapping(layout.virt_base, 0, (end - layout.virt_base) // PAGE_SIZE)
        wanted = sum(map(len, numbers_of(mapping).values()))
        pages = wanted + PADDING_PAGES
        if layout.virt_base + (layout.next_pfn + pages) * PAGE_SIZE <= end:
            break
    area = layout.place("page tables", wanted)
    layout.boot_tables = wanted
    layout.map(area.pfn, mapping)
    layout.place("boot stack", 1)
    layout.place("room", mapping.pages - layout.next_pfn)


def _p2m_apart(layout: Layout, va: int, pages: int) -> None:
    """The p2m list at a place of its own, followed by the tables that map it there."""
    mapping = Mapping(va, layout.next_pfn, pages)
    wanted = sum(1 for _table in layout.new_tables(mapping))
    area = layout.place("p2m", pages + wanted, mapped=False)
    layout.areas["p2m"] = area._replace(va=va)
    layout.map(area.pfn + pages, mapping)


def _index(va: int) -> int:
    """The 48 bits of an address that page tables translate."""
    return va & 0xFFFF_FFFF_FFFF
