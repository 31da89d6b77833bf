# SPDX-License-Identifier: GPL-2.0-or-later
"""A built domain: laid out as libxenguest does it, and acceptable to the hypervisor as it stands."""

from array import array
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from pvhv.abi import elfnote
from pvhv.abi.xen import SIF_MOD_START_PFN, StartInfo
from pvhv.core.mm.frames import L4, FrameTable
from pvhv.core.mm.pagetables import PageTables
from pvhv.machine.paging import PTE_NX, PTE_RW, walk
from pvhv.machine.ram import Ram
from pvhv.toolstack import builder, elf
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.layout import Layout, plan

BASE = 0xFFFF_FFFF_8000_0000
LINUX_P2M = 0x80_0000_0000
PAGE = 4096
DOMID = 7
Maker = Callable[..., bytes]


class Built:
    """A domain of `pages` pages in frames that are not all in one piece."""

    def __init__(self, data: bytes, pages: int, ramdisk: bytes = b"", cmdline: str = "") -> None:
        self.ram = Ram(4 * pages + 64)
        self.frames = FrameTable(self.ram)
        PageTables(self.frames)
        self.kernel = elf.parse(data, Path("kernel.elf"))
        self.layout: Layout = plan(self.kernel, pages, len(ramdisk))
        first = self.frames.allocate_run(DOMID, pages // 3)
        self.frames.allocate_run(99, 5)
        second = self.frames.allocate_run(DOMID, pages - pages // 3)
        self.mfns = array("Q", [*range(second, second + pages - pages // 3), *range(first, first + pages // 3)])
        self.pages = builder.Pages(self.ram, self.mfns)
        for _piece in builder.load(self.pages, self.kernel, self.layout, ramdisk):
            pass
        builder.write_start_info(self.pages, self.layout, builder.Ports(3, 4), 2, cmdline, len(ramdisk))
        self.context = builder.first_context(self.pages, self.kernel, self.layout)
        self.pfn = {mfn: pfn for pfn, mfn in enumerate(self.mfns)}

    def entry(self, va: int) -> int:
        """The L1 entry of an address, 0 where there is none."""
        entry, level, _address = walk(self.ram.words, self.context.ctrlreg[3], va)
        return entry if level == 1 else 0

    def page(self, va: int) -> bytes:
        mfn = (self.entry(va) & 0xF_FFFF_FFFF_F000) >> 12
        return bytes(self.ram.frame(mfn))

    def start_info(self) -> StartInfo:  # type: ignore[valid-type]
        return StartInfo.from_buffer_copy(self.page(self.context.user_regs.rsi))


def test_a_small_kernel(make_kernel: Maker) -> None:
    built = Built(make_kernel(code=b"code", data=b"data"), 4096, cmdline="one two")
    assert built.page(BASE + 0x10_0000)[:4] == b"code"
    assert built.page(BASE + 0x10_1000)[:4] == b"data"
    names = ["kernel", "p2m", "start_info", "xenstore", "console", "page tables", "boot stack", "room"]
    areas = [built.layout.areas[name] for name in names]
    assert areas[0].pfn == 0x100
    for before, after in pairwise(areas):
        assert after.pfn == before.pfn + before.pages  # no gaps
        assert after.va == BASE + after.pfn * PAGE
    info = built.start_info()
    assert info.magic == b"xen-3.0-x86_64"
    assert info.nr_pages == 4096
    assert info.shared_info == 2 * PAGE
    assert info.pt_base == built.layout.va("page tables")
    assert info.nr_pt_frames == 1 + 1 + 1 + 2  # 4 MiB: L4, L3, L2 and two L1s
    assert (info.store_evtchn, info.console.domU.evtchn) == (3, 4)
    assert built.pfn[info.store_mfn] == areas[3].pfn
    assert built.pfn[info.console.domU.mfn] == areas[4].pfn
    assert bytes(info.cmd_line)[:8] == b"one two\0"
    assert (info.mod_start, info.mod_len, info.first_p2m_pfn) == (0, 0, 0)
    p2m = memoryview(built.page(info.mfn_list)).cast("Q")
    assert list(p2m) == list(built.mfns[:512])
    registers = built.context.user_regs
    assert (registers.rip, registers.rsp) == (BASE + 0x10_0000, areas[6].va + PAGE)
    assert built.context.flags == 4 | 1 << 5


def test_everything_up_to_4_mib_is_mapped_in_order(make_kernel: Maker) -> None:
    built = Built(make_kernel(), 4096)
    mapped = [built.entry(BASE + pfn * PAGE) for pfn in range(1024)]
    assert [built.pfn[(entry & 0xF_FFFF_FFFF_F000) >> 12] for entry in mapped] == list(range(1024))
    assert built.entry(BASE + 0x40_0000) == 0
    tables = set(built.layout.tables.values())
    assert {pfn for pfn in range(1024) if not mapped[pfn] & PTE_RW} == tables
    assert not any(entry & PTE_NX for entry in mapped)


@pytest.mark.parametrize("bss", [0, 0x1000, 2 << 20, 8 << 20, 17 << 20])
@pytest.mark.parametrize("p2m", [None, LINUX_P2M])
def test_the_hypervisor_accepts_the_tables(make_kernel: Maker, bss: int, p2m: int | None) -> None:
    notes = {elfnote.XEN_ELFNOTE_INIT_P2M: p2m} if p2m else {}
    built = Built(make_kernel(bss=bss, notes=notes), 8192)
    mfn = built.context.ctrlreg[3] >> 12
    assert built.frames.get_page(mfn, DOMID)
    built.frames.get_page_type(mfn, L4)
    end = BASE + built.layout.mappings[0].pages * PAGE
    assert not end & 0x3F_FFFF  # 4 MiB
    assert built.layout.areas["room"].pages * PAGE >= 512 * 1024
    assert built.entry(end - PAGE) and not built.entry(end)


def test_a_p2m_list_at_a_place_of_its_own(make_kernel: Maker) -> None:
    built = Built(make_kernel(notes={elfnote.XEN_ELFNOTE_INIT_P2M: LINUX_P2M}), 8192)
    info = built.start_info()
    assert info.mfn_list == LINUX_P2M
    p2m_pages = 8192 * 8 // PAGE
    assert info.nr_p2m_frames == p2m_pages + 3  # and its L3, L2 and L1
    assert info.first_p2m_pfn == built.layout.mappings[0].pages
    listed = b"".join(built.page(LINUX_P2M + index * PAGE) for index in range(p2m_pages))
    assert list(memoryview(listed).cast("Q")) == list(built.mfns)
    assert info.nr_pt_frames == built.layout.boot_tables


def test_a_ramdisk_mapped_and_unmapped(make_kernel: Maker) -> None:
    ramdisk = bytes(range(256)) * 20
    info = (built := Built(make_kernel(), 4096, ramdisk)).start_info()
    assert (info.mod_start, info.mod_len) == (built.layout.va("ramdisk"), len(ramdisk))
    assert built.page(info.mod_start) == ramdisk[:PAGE]
    assert built.layout.areas["ramdisk"].pfn == built.layout.areas["p2m"].pfn - 2

    built = Built(make_kernel(notes={elfnote.XEN_ELFNOTE_MOD_START_PFN: 1}), 4096, ramdisk)
    info = built.start_info()
    assert info.flags & SIF_MOD_START_PFN
    assert (info.mod_start, info.mod_len) == (1024, 2 * PAGE)
    assert bytes(built.ram.frame(built.mfns[1025]))[: len(ramdisk) - PAGE] == ramdisk[PAGE:]


def test_too_little_memory_says_how_much_it_wants(make_kernel: Maker) -> None:
    kernel = elf.parse(make_kernel(bss=20 << 20), Path("kernel.elf"))
    with pytest.raises(ToolstackError, match="8 MiB is too little memory for kernel") as caught:
        plan(kernel, 2048)
    assert "memory = 28" in caught.value.hint
    assert plan(kernel, 24 * 256).next_pfn == 24 * 256
