# SPDX-License-Identifier: GPL-2.0-or-later
"""The domain builder of fully virtualized guests: a kernel at its physical addresses, and what a PVH loader tells it.

PVH is how Xen and QEMU start a kernel without firmware: a note names a 32-bit entry, and EBX points to a start_info
with the command line, the modules and a map of memory. What lies where here:

    0x1000   hvm_start_info, the memory map, the module list, the command line
    p_paddr  the kernel's segments
    behind   the ramdisk, at the next page

Read beside it: docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h.

Not modelled: ACPI tables (there is no rsdp), video, real-mode entry.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pvhv.abi.elfnote import XEN_ELFNOTE_PHYS32_ENTRY
from pvhv.abi.memory import E820_RAM, E820_RESERVED
from pvhv.hvm.cpu.memory import GuestPhysical
from pvhv.machine.ram import PAGE_SIZE
from pvhv.toolstack.bulk import Buffer
from pvhv.toolstack.elf import Kernel
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import as_bytes

XEN_HVM_START_MAGIC_VALUE = 0x336E_C578
START_INFO = struct.Struct("<IIIIQQQQII")  # magic version flags nr_modules modlist cmdline rsdp memmap entries reserved
MEMORY_ENTRY = struct.Struct("<QQII")  # addr size type reserved
MODULE_ENTRY = struct.Struct("<QQQQ")  # paddr size cmdline reserved

TELL_AT, LOW_END, HIGH_START = 0x1000, 0x9F000, 0x10_0000
MAP_AT, MODULES_AT, LINE_AT = TELL_AT + 0x80, TELL_AT + 0x100, TELL_AT + 0x200
LONGEST_LINE = LOW_END - LINE_AT


@dataclass(frozen=True)
class Plan:
    """Where everything goes, in bytes from physical 0."""

    memory: int
    entry: int
    ramdisk_at: int
    ramdisk_size: int


def plan(kernel: Kernel, memory_mib: int, ramdisk_size: int) -> Plan:
    """Lay out a kernel and a ramdisk of `ramdisk_size` bytes in `memory_mib` MiB. Raises ToolstackError."""
    if kernel.pvh_entry is None:
        raise ToolstackError(
            f"{kernel.path} has no PVH entry, so it cannot start in a fully virtualized domain",
            f'it needs the note PHYS32_ENTRY (type {XEN_ELFNOTE_PHYS32_ENTRY}, name "Xen"); '
            'a paravirtual kernel runs with type = "pv"',
            status=2,
        )
    memory = memory_mib << 20
    start = min(segment.paddr for segment in kernel.segments)
    end = max(segment.paddr + segment.memsz for segment in kernel.segments)
    if start < HIGH_START:
        raise ToolstackError(f"{kernel.path} wants to be loaded at {start:#x}; below 1 MiB there is no room for it")
    ramdisk_at = (end + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)
    end = ramdisk_at + ramdisk_size
    if end > memory:
        raise ToolstackError(
            f"{kernel.path} and its ramdisk end at {end >> 20} MiB: {memory_mib} MiB is too little",
            f"memory = {(end >> 20) + 16} at least",
        )
    if sum(len(segment.data) for segment in kernel.segments) > memory:
        raise ToolstackError(f"{kernel.path}: its segments overlap, and together are larger than the domain's memory")
    return Plan(memory, kernel.pvh_entry, ramdisk_at, ramdisk_size)


def load(
    physical: GuestPhysical, kernel: Kernel, plan: Plan, cmdline: str, ramdisk: Buffer
) -> Iterator[None]:
    """Fill a new guest's memory, piece by piece. The start_info, for EBX, is at TELL_AT."""
    for segment in kernel.segments:
        yield from physical.fill(segment.paddr, segment.data)
    if ramdisk:
        yield from physical.fill(plan.ramdisk_at, ramdisk)
        physical.write(MODULES_AT, MODULE_ENTRY.pack(plan.ramdisk_at, len(ramdisk), 0, 0))
    ranges = [(0, LOW_END, E820_RAM), (LOW_END, HIGH_START - LOW_END, E820_RESERVED)]
    ranges.append((HIGH_START, plan.memory - HIGH_START, E820_RAM))
    physical.write(MAP_AT, b"".join(MEMORY_ENTRY.pack(start, size, kind, 0) for start, size, kind in ranges))
    physical.write(LINE_AT, as_bytes(cmdline) + b"\0")
    modules = (1, MODULES_AT) if ramdisk else (0, 0)
    physical.write(
        TELL_AT, START_INFO.pack(XEN_HVM_START_MAGIC_VALUE, 1, 0, *modules, LINE_AT, 0, MAP_AT, len(ranges), 0)
    )
