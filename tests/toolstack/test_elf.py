# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel files: what a good one says, and what is said about a bad one."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pvhv.abi import elfnote
from pvhv.toolstack import elf
from pvhv.toolstack.errors import ToolstackError

BASE = 0xFFFF_FFFF_8000_0000
Maker = Callable[..., bytes]
HERE = Path("kernel.elf")


def complaint(data: bytes) -> str:
    with pytest.raises(ToolstackError) as caught:
        elf.parse(data, HERE)
    return str(caught.value)


def test_a_good_kernel(make_kernel: Maker) -> None:
    kernel = elf.parse(
        make_kernel(bss=0x3000, notes={elfnote.XEN_ELFNOTE_HYPERCALL_PAGE: BASE + 0x10_1000}), HERE
    )
    assert (kernel.virt_base, kernel.entry) == (BASE, BASE + 0x10_0000)
    assert (kernel.start, kernel.end) == (BASE + 0x10_0000, BASE + 0x10_5000)
    assert [(s.paddr, s.memsz, len(s.data)) for s in kernel.segments] == [
        (0x10_0000, 0x1000, 0x1000),
        (0x10_1000, 0x4000, 0x1000),
    ]
    assert kernel.executable == [(BASE + 0x10_0000, BASE + 0x10_0010)]
    assert kernel.hypercall_page == BASE + 0x10_1000
    assert kernel.guest_os == "test"
    assert not kernel.mod_start_pfn and kernel.init_p2m is None


def test_symbols(make_kernel: Maker) -> None:
    symbols = elf.parse(make_kernel(), HERE).symbols()
    assert symbols.by_name == {
        "start": BASE + 0x10_0000,
        "end_of_it": BASE + 0x10_0008,
        "table": BASE + 0x10_1000,
    }
    assert symbols.name(BASE + 0x10_0003) == "start+0x3"
    assert symbols.name(BASE + 0x10_0009) == "end_of_it+0x1"
    assert symbols.name(BASE + 0x10_1040) == hex(BASE + 0x10_1040)  # one past the last one's size
    assert symbols.name(0x10) == "0x10"


def test_a_stripped_kernel_goes_by_its_program_headers(make_kernel: Maker) -> None:
    kernel = elf.parse(make_kernel(sections=False), HERE)
    assert kernel.executable == [(BASE + 0x10_0000, BASE + 0x10_1000)]
    assert len(kernel.symbols()) == 0


def test_a_zipped_kernel(make_kernel: Maker) -> None:
    whole = gzip.compress(make_kernel())
    assert elf.parse(whole, HERE).entry == BASE + 0x10_0000
    assert "cut short" in complaint(whole[:-100])


NO_NOTES: dict[int, str] = dict.fromkeys(range(19), "absent")
OLD = "GUEST_OS=Mini-OS,XEN_VER=xen-3.0,LOADER=generic,PAE=yes[extended-cr3]"


def test_a_kernel_with_the_section_that_was_before_notes(make_kernel: Maker) -> None:
    def parse(said: str) -> elf.Kernel:
        return elf.parse(make_kernel(notes=NO_NOTES, guest_section=f"{OLD},{said}"), HERE)

    said = f"VIRT_BASE={BASE:#x},ELF_PADDR_OFFSET=0x0,HYPERCALL_PAGE=0x101,FEATURES=writable_page_tables"
    kernel = parse(said)
    assert (kernel.virt_base, kernel.paddr_offset, kernel.entry) == (BASE, 0, BASE + 0x10_0000)
    assert (kernel.start, kernel.end) == (BASE + 0x10_0000, BASE + 0x10_3000)
    assert kernel.hypercall_page == BASE + 0x10_1000
    assert (kernel.guest_os, kernel.features) == ("Mini-OS", ["writable_page_tables"])
    assert parse(f"{said},VIRT_ENTRY={BASE + 0x10_0008}").entry == BASE + 0x10_0008
    # Without VIRT_BASE it is loaded where it says; without ELF_PADDR_OFFSET that is counted from VIRT_BASE.
    assert parse("VIRT_ENTRY=0x100000").start == 0x10_0000
    kernel = parse("VIRT_BASE=0400000,VIRT_ENTRY=0x100000")
    assert (kernel.virt_base, kernel.paddr_offset, kernel.start) == (0x2_0000, 0x2_0000, 0x10_0000)


def test_notes_count_more_than_that_section(make_kernel: Maker) -> None:
    kernel = elf.parse(make_kernel(guest_section=f"{OLD},VIRT_BASE=0"), HERE)
    assert (kernel.guest_os, kernel.virt_base) == ("test", BASE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"machine": 183}, "another machine (64-bit ARM)"),
        ({"machine": 3, "bits": 1}, "another machine (32-bit x86)"),
        ({"type": 1}, "not linked yet"),
        ({"notes": NO_NOTES}, "no Xen notes, and no __xen_guest section"),
        ({"notes": NO_NOTES, "guest_section": "XEN_VER=xen-3.0,nonsense,=,VIRT_BASE=x"}, 'LOADER note says ""'),
        ({"notes": NO_NOTES, "guest_section": f"{OLD},ELF_PADDR_OFFSET=0"}, "PADDR_OFFSET but no VIRT_BASE"),
        ({"notes": {elfnote.XEN_ELFNOTE_VIRT_BASE: "absent"}}, "PADDR_OFFSET but no VIRT_BASE"),
        ({"notes": {elfnote.XEN_ELFNOTE_ENTRY: 0x1234}}, "entry point 0x1234 lies outside"),
        ({"notes": {elfnote.XEN_ELFNOTE_LOADER: "mine"}}, 'LOADER note says "mine"'),
        ({"notes": {elfnote.XEN_ELFNOTE_XEN_VERSION: "xen-2.0"}}, 'XEN_VERSION note says "xen-2.0"'),
        ({"notes": {elfnote.XEN_ELFNOTE_FEATURES: "!dom0"}}, "runs as dom0 only"),
        ({"notes": {elfnote.XEN_ELFNOTE_FEATURES: "!wings"}}, "an unknown feature: wings"),
        ({"notes": {elfnote.XEN_ELFNOTE_FEATURES: "!auto_translated_physmap"}}, "cannot have"),
        ({"notes": {elfnote.XEN_ELFNOTE_HYPERCALL_PAGE: 0x1000}}, "HYPERCALL_PAGE 0x1000"),
        ({"notes": {elfnote.XEN_ELFNOTE_INIT_P2M: BASE + 0x10_0000}}, "inside the kernel"),
        (
            {
                "notes": {
                    elfnote.XEN_ELFNOTE_VIRT_BASE: BASE + 0x800_0000,
                    elfnote.XEN_ELFNOTE_PADDR_OFFSET: 0x40_0000,
                }
            },
            "below its VIRT_BASE",
        ),
    ],
)
def test_complaints(make_kernel: Maker, options: dict[str, object], words: str) -> None:
    assert words in complaint(make_kernel(**options))


def test_features_that_are_only_offered_are_no_matter(make_kernel: Maker) -> None:
    notes = {elfnote.XEN_ELFNOTE_FEATURES: "dom0|wings|!writable_page_tables"}
    assert elf.parse(make_kernel(notes=notes), HERE).features == ["dom0", "wings", "!writable_page_tables"]


def test_files_that_are_no_kernels(make_kernel: Maker, tmp_path: Path) -> None:
    assert "is empty" in complaint(b"")
    assert "is not an ELF file" in complaint(b"#!/bin/sh\n")
    assert "bzImage" in complaint(b"\0" * 0x202 + b"HdrS" + b"\0" * 100)
    with pytest.raises(ToolstackError, match="cannot read the kernel"):
        elf.read(tmp_path / "nothing")


def test_a_file_that_is_cut_short_is_told_by_the_part_that_is_missing(make_kernel: Maker) -> None:
    whole = make_kernel()
    sections = len(whole) - 6 * 64
    for length, words in (
        (63, "its ELF header would be bytes 0 to 64, and the file has 63"),
        (64, "its program headers would be bytes 64 to 232, and the file has 64"),
        (231, "its program headers would be bytes 64 to 232, and the file has 231"),
        (8192, f"its section headers would be bytes {sections} to {len(whole)}, and the file has 8192"),
        (len(whole) - 1, f"its section headers would be bytes {sections} to {len(whole)}, and the file has"),
    ):
        said = complaint(whole[:length])
        assert said.startswith(f"kernel.elf is cut short: {words}")
        assert said.endswith("\ncopy it, or build it, anew")
    stripped = make_kernel(sections=False)
    assert "what is loaded at 0xffffffff80101000 would be bytes 8192 to 12288, and the file has 8192" in complaint(
        stripped[:8192]
    )
    assert "what is loaded at 0xffffffff80100000 would be bytes 4096 to 8192" in complaint(stripped[:5000])


def test_what_the_headers_contradict(make_kernel: Maker) -> None:
    whole = bytearray(make_kernel())
    whole[54] = 8  # e_phentsize
    assert "says a program header has 8 bytes, which has 56" in complaint(bytes(whole))
    whole = bytearray(make_kernel(notes=NO_NOTES, guest_section=OLD))
    guest_section = len(whole) - 64
    struct.pack_into("<Q", whole, guest_section + 32, 1 << 40)  # its size
    assert complaint(bytes(whole)).startswith("kernel.elf is damaged: its notes contradict each other\n")
    whole = bytearray(make_kernel())
    whole[62] = 200  # e_shstrndx: there are 6. Nothing a kernel needs has a name
    assert len(elf.parse(bytes(whole), HERE).symbols()) == 0


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    cut=st.integers(0, 1 << 15),
    changes=st.lists(st.tuples(st.integers(0, 0x3400), st.integers(0, 255)), max_size=6),
    near=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4),
)
def test_a_damaged_file_is_read_or_refused(
    make_kernel: Maker, cut: int, changes: list[tuple[int, int]], near: list[tuple[int, int]]
) -> None:
    data = bytearray(make_kernel())
    for offset, value in changes + near:
        data[offset % len(data)] = value
    try:
        elf.parse(bytes(data[: max(cut, 0x100)]), HERE).symbols()
    except ToolstackError as error:
        assert str(error).startswith("kernel.elf")
