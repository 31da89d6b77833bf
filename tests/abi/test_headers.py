# SPDX-License-Identifier: GPL-2.0-or-later
"""A C compiler's word for it: sizes, offsets and constants, in Xen's own headers and in the guest's.

A C file generated from the declarations holds one array of everything to compare; it is compiled, not run,
and the array is read out of the object file.
"""

from __future__ import annotations

import importlib.util
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pvhv.abi.layout import size_of

ROOT = Path(__file__).resolve().parents[2]
XEN = Path(os.environ.get("XEN_HEADERS", "/usr/include/xen"))

_spec = importlib.util.spec_from_file_location("declared", Path(__file__).with_name("declared.py"))
assert _spec and _spec.loader
declared = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(declared)

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="no C compiler: pip install ziglang==0.17.0")
needs_xen = pytest.mark.skipif(
    not (XEN / "xen.h").is_file(), reason="no Xen headers: apt-get install libxen-dev (or set XEN_HEADERS)")

XEN_PREAMBLE = """\
#define __XEN_TOOLS__ 1
#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#include <stddef.h>
#include <stdint.h>
""" + "".join(f"#include <xen/{name}>\n" for name in (
    "xen.h", "arch-x86/cpuid.h", "event_channel.h", "grant_table.h", "memory.h", "sched.h",
    "vcpu.h", "version.h", "callback.h", "nmi.h", "physdev.h", "features.h", "elfnote.h", "errno.h",
    "io/ring.h", "io/console.h", "io/xs_wire.h", "io/xenbus.h", "io/protocols.h", "io/blkif.h",
    "domctl.h", "sysctl.h", "platform.h", "xenoprof.h", "vm_event.h", "hvm/hvm_op.h", "hvm/params.h", "hvm/dm_op.h"))
OUR_PREAMBLE = '#include "xen/xen_abi.h"\n'
RING = "DEFINE_RING_TYPES(ring, uint64_t, uint32_t);\n"


def expectations(skip_modules: tuple[str, ...]) -> dict[str, int]:
    """C expression -> the value the declarations say it has."""
    skipped = {id(value) for name, module in declared.modules() if name in skip_modules
               for value in vars(module).values()}
    expected = dict(declared.constants(skip_modules))
    for c_name, aggregate in declared.aggregates().items():
        if id(aggregate) in skipped:
            continue
        expected[f"sizeof({c_name})"] = aggregate.size
        expected[f"_Alignof({c_name})"] = aggregate.alignment
        if aggregate.is_array:
            continue
        if aggregate.typedef:
            expected[f"sizeof({aggregate.typedef})"] = aggregate.size
        for path, field, offset in declared.fields(aggregate):
            expected[f"offsetof({c_name}, {path})"] = offset
            if size_of(field):
                expected[f"sizeof((({c_name} *)0)->{path})"] = size_of(field)
    return expected


def compiled(preamble: str, expressions: Iterable[str], include: Path, work: Path) -> list[int]:
    """The values a compiler for x86-64 gives some constant expressions."""
    source, target = work / "values.c", work / "values.o"
    body = ",\n".join(f"(unsigned long long)({expression})" for expression in expressions)
    source.write_text(f"{preamble}{RING}const unsigned long long values[] "
                      f"__attribute__((section(\"abi_values\"))) = {{\n{body}\n}};\n")
    environment = {**os.environ}
    for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
        environment.setdefault(name, str(work / "zig"))
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-freestanding-none", "-ffreestanding",
               "-fno-sanitize=undefined", "-w", "-c", "-I", str(include), "-o", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[:4000]
    with target.open("rb") as stream:
        data = ELFFile(stream).get_section_by_name("abi_values").data()
    return [value for (value,) in struct.iter_unpack("<Q", data)]


def differences(preamble: str, include: Path, work: Path, skip_modules: tuple[str, ...] = ()) -> list[str]:
    expected = expectations(skip_modules)
    values = compiled(preamble, expected, include, work)
    assert len(values) == len(expected)
    return [f"{name}: C says {value:#x}, the declaration {expected[name]:#x}"
            for name, value in zip(expected, values, strict=True) if value != expected[name] & 2**64 - 1]


@needs_compiler
@needs_xen
def test_xen_s_headers_agree(tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "xen").symlink_to(XEN)
    assert differences(XEN_PREAMBLE, tmp_path / "include", tmp_path) == []


@needs_compiler
def test_the_guest_s_header_agrees(tmp_path: Path) -> None:
    # control.py is dom0's side and hvm.py other guests', which a guest's header has no use for.
    assert differences(OUR_PREAMBLE, ROOT / "guest_kernel" / "include", tmp_path, ("control", "hvm")) == []


@needs_compiler
def test_a_disagreement_would_be_seen(tmp_path: Path) -> None:
    """The comparison itself: a header with one field moved is caught."""
    text = (ROOT / "guest_kernel" / "include" / "xen" / "xen_abi.h").read_text()
    moved = text.replace("    uint32_t wc_version;\n", "    uint32_t extra;\n    uint32_t wc_version;\n", 1)
    assert moved != text
    (tmp_path / "include" / "xen").mkdir(parents=True)
    (tmp_path / "include" / "xen" / "xen_abi.h").write_text(moved)
    found = differences(OUR_PREAMBLE, tmp_path / "include", tmp_path, ("control", "hvm"))
    assert any(line.startswith("offsetof(struct shared_info, wc_version)") for line in found)


@needs_compiler
def test_the_guest_s_header_is_plain_c_and_assembly(tmp_path: Path) -> None:
    """It compiles with every warning on, and an assembler can use its constants."""
    (tmp_path / "a.c").write_text(
        '#include "xen/xen_abi.h"\n' + RING + "unsigned use(ring_front_ring_t *front, ring_sring_t *shared,"
        " gnttab_setup_table_t *setup, xen_pfn_t *frames);\n"
        "unsigned use(ring_front_ring_t *front, ring_sring_t *shared, gnttab_setup_table_t *setup,"
        " xen_pfn_t *frames) {\n    int notify;\n    set_xen_guest_handle(setup->frame_list, frames);\n"
        "    XEN_FRONT_RING_INIT(front, shared, 4096);\n    RING_GET_REQUEST(front, 0)[0] = 1;\n"
        "    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(front, notify);\n"
        "    return (unsigned)notify + __CONST_RING_SIZE(ring, 4096);\n}\n")
    (tmp_path / "b.S").write_text(
        '#include "xen/xen_abi.h"\n.quad HYPERVISOR_VIRT_START, __HYPERVISOR_iret, FLAT_KERNEL_CS, UVMF_ALL\n'
        "XEN_CPUID\n")
    environment = {**os.environ}
    for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
        environment.setdefault(name, str(tmp_path / "zig"))
    for extra in (["-Wall", "-Wextra", "-Werror", str(tmp_path / "a.c")],
                  ["-D__ASSEMBLY__", str(tmp_path / "b.S")]):
        done = subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-freestanding-none", "-ffreestanding",
             "-c", "-I", str(ROOT / "guest_kernel" / "include"), "-o", str(tmp_path / "out.o"), *extra],
            capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[:4000]


# Families of constants of which every member must be declared: header, pattern, and members left out on
# purpose.
FAMILIES = (
    ("xen.h", r"__HYPERVISOR_\w+", {"__HYPERVISOR_dom0_op"}),  # an old name of platform_op
    ("xen.h", r"(?:VIRQ|MMU|MMUEXT|UVMF|CONSOLEIO|VMASST|DOMID|SIF|XEN_VGATYPE|XEN_PVCLOCK)_\w+", set()),
    ("arch-x86/xen-x86_64.h", r"(?:FLAT|SEGBASE|VGCF)_\w+", set()),
    ("arch-x86/xen.h", r"(?:VGCF|FIRST_RESERVED)_\w+", set()),
    ("arch-x86/cpuid.h", r"XEN_(?:HVM_)?CPUID_\w+", {"XEN_CPUID_LEAF"}),  # takes an argument
    ("event_channel.h", r"(?:EVTCHNOP|EVTCHNSTAT|EVTCHN_FIFO|EVTCHN_2L)_\w+", {
        "EVTCHNOP_reset_cont"}),  # Xen's own
    ("grant_table.h", r"(?:GNTTABOP|GTF|GNTST|GNTMAP|GNTCOPY|GNTTAB)_\w+", {
        "GNTTABOP_error_msgs"}),  # strings
    ("memory.h", r"(?:XENMEM|XENMAPSPACE|XENMAPIDX)_[a-z]+(?:_[a-z]+)*", {
        "XENMEM_add_to_physmap_range"}),  # an old name of add_to_physmap_batch
    ("sched.h", r"(?:SCHEDOP|SHUTDOWN)_\w+", set()),
    ("vcpu.h", r"(?:VCPUOP|RUNSTATE|VCPU)_\w+", set()),
    ("version.h", r"XENVER_\w+", set()),
    ("callback.h", r"(?:CALLBACKOP|CALLBACKTYPE|CALLBACKF)_\w+", set()),
    ("nmi.h", r"(?:XENNMI|XEN_NMIREASON)_\w+", {"XEN_NMIREASON_parity_error"}),  # an old name of pci_serr
    ("physdev.h", r"(?:PHYSDEVOP_\w+|XENIRQSTAT_\w+|MAP_PIRQ_TYPE_\w+)", {
        # names from before interface 0x00040600
        "PHYSDEVOP_IRQ_STATUS_QUERY", "PHYSDEVOP_SET_IOPL", "PHYSDEVOP_SET_IOBITMAP", "PHYSDEVOP_APIC_READ",
        "PHYSDEVOP_APIC_WRITE", "PHYSDEVOP_ASSIGN_VECTOR", "PHYSDEVOP_FREE_VECTOR",
        "PHYSDEVOP_IRQ_NEEDS_UNMASK_NOTIFY", "PHYSDEVOP_IRQ_SHARED"}),
    ("features.h", r"XENFEAT_\w+", set()),
    ("elfnote.h", r"XEN_ELFNOTE_\w+", set()),
    ("io/xs_wire.h", r"XENSTORE_(?!RING_IDX)\w+", set()),
    ("io/blkif.h", r"(?:BLKIF|VDISK)_\w+", set()),
)
# Sub-operations of memory calls that are declined whole.
DECLINED = re.compile(r"XENMEM_(access|paging|sharing)_op_\w+|XENMEM_resource_ioreq_server_frame_\w+")


@needs_xen
@pytest.mark.parametrize(("header", "pattern", "left_out"), FAMILIES,
                         ids=[f"{header}:{pattern}" for header, pattern, _ in FAMILIES])
def test_no_constant_is_forgotten(header: str, pattern: str, left_out: set[str]) -> None:
    text = re.sub(r"/\*.*?\*/", "", (XEN / header).read_text(), flags=re.DOTALL)
    defined = set(re.findall(rf"^#\s*define\s+({pattern})\b(?!\()", text, flags=re.MULTILINE))
    assert defined, f"{pattern} matches nothing in {header}"
    missing = defined - left_out - set(declared.constants())
    missing = {name for name in missing if not DECLINED.fullmatch(name)}
    assert missing == set()
