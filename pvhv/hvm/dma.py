# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's memory as its devices see it.

A device that is a bus master accesses memory by guest-physical addresses, past the page tables of the guest. So it
reaches this guest's memory and nothing else, whatever address it is given. What it writes may be a page table that the
technique shadows, a descriptor table, or code that the engine has translated; the technique is told, page by page, as
when it emulates a store.

Read beside it: hvm_copy_to_guest_phys in xen/arch/x86/hvm/hvm.c; dma_memory_write in QEMU.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.hvm.cpu.memory import GuestPhysical
from pvhv.machine.ram import PAGE_SIZE


class GuestMemory:
    """`wrote(address, size)` is told of each write, within one page."""

    def __init__(self, physical: GuestPhysical, wrote: Callable[[int, int], object]) -> None:
        self.physical = physical
        self.wrote = wrote

    def holds(self, address: int, size: int) -> bool:
        """Whether all of these bytes are memory."""
        return address + size <= self.physical.frames * PAGE_SIZE

    def read(self, address: int, size: int) -> bytes:
        """Bytes of it; all ones where there is none."""
        return self.physical.read(address, size)

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Change bytes of it; what is beyond it is lost."""
        self.physical.write(address, data)
        at, end = address, min(address + len(data), self.physical.frames * PAGE_SIZE)
        while at < end:
            step = min(end - at, PAGE_SIZE - at % PAGE_SIZE)
            self.wrote(at, step)
            at += step
