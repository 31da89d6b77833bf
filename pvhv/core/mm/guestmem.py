# SPDX-License-Identifier: GPL-2.0-or-later
"""Access to guest-virtual memory: the only place where a guest-virtual address becomes bytes.

The hypervisor reads and writes the memory of the vCPU that runs, through that vCPU's own page tables, with the rights
of the guest kernel: a page that is not mapped or not writable raises GuestFault, and so does any address in the
hypervisor's own range. A small software TLB saves most walks. It is cleared whenever the guest's hardware TLB is
(`clear`). Like the hardware TLB it may hold entries the guest has not flushed yet, but none for a frame that changed
its owner, because the hypervisor flushes before it reuses a frame.

Offsets: a translation is the byte offset in machine memory, so `ram.bytes[offset]` is the byte.

Read beside it: xen/arch/x86/usercopy.c, xen/include/asm-x86/guest_access.h.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.abi.arch_x86 import HYPERVISOR_VIRT_END
from pvhv.core.errors import GuestFault
from pvhv.core.mm.pte import ADDRESS, PRESENT, RW
from pvhv.machine.ram import Ram
from pvhv.machine.x86 import LOWER_END

MOST_KNOWN = 1 << 14  # pages whose frames are remembered, for reading and for writing
EVERYTHING = 0xFFFF_FFFF_FFFF_FFF8


class GuestMemory:
    """Guest-virtual memory of whichever vCPU runs on one pCPU; `root` is its guest kernel's L4."""

    def __init__(self, ram: Ram) -> None:
        self.ram = ram
        self.words = ram.words
        self.bytes = ram.bytes
        self.frames = ram.frames
        self.code: bytes | bytearray = bytes(ram.frames)  # FrameTable.code: which frames a guest may execute
        self.host_wrote: Callable[[int], None] = lambda mfn: None  # to be told when one of those is written
        self.root = 0
        self.read_tlb: dict[int, int] = {}  # virtual page -> byte offset of the frame
        self.write_tlb: dict[int, int] = {}

    def clear(self) -> None:
        """Forget all translations: the guest's TLB was flushed."""
        self.read_tlb.clear()
        self.write_tlb.clear()

    def forget(self, va: int) -> None:
        """Forget one page: the guest did invlpg."""
        self.read_tlb.pop(va >> 12, None)
        self.write_tlb.pop(va >> 12, None)

    def entry_address(self, va: int) -> int:
        """Machine address of the L1 entry that maps `va` (present or not). Raises GuestFault without an L1."""
        if not (0 <= va < LOWER_END or HYPERVISOR_VIRT_END <= va < 1 << 64):
            raise GuestFault(va)
        words = self.words
        table = self.root
        for shift in (39, 30, 21):
            entry = words[(table << 9) + (va >> shift & 511)]
            if not entry & PRESENT:
                raise GuestFault(va)
            table = (entry & ADDRESS) >> 12
        return (table << 12) + (va >> 12 & 511) * 8

    def translate(self, va: int, write: bool) -> int:
        """Byte offset in machine memory of `va`. Raises GuestFault."""
        if not (0 <= va < LOWER_END or HYPERVISOR_VIRT_END <= va < 1 << 64):
            raise GuestFault(va)
        tlb = self.write_tlb if write else self.read_tlb
        base = tlb.get(va >> 12)
        if base is None:
            base = self._walk(va, write)
            if len(tlb) >= MOST_KNOWN:
                tlb.clear()  # few tables can map very many pages
            tlb[va >> 12] = base
        return base + (va & 0xFFF)

    def read_through(self, root: int, va: int, size: int) -> bytes:
        """Like `read`, through another L4 than the running kernel's: user code, or a vCPU that does not run."""
        pieces = []
        while size:
            offset = self._walk(va, False, root) + (va & 0xFFF)
            step = min(size, 0x1000 - (va & 0xFFF))
            pieces.append(self.bytes[offset : offset + step])
            va, size = va + step, size - step
        return b"".join(pieces)

    def _walk(self, va: int, write: bool, root: int | None = None) -> int:
        words = self.words
        table = self.root if root is None else root
        need = PRESENT | RW if write else PRESENT
        for shift in (39, 30, 21, 12):
            entry = words[(table << 9) + (va >> shift & 511)]
            if entry & need != need:
                raise GuestFault(va)
            table = (entry & ADDRESS) >> 12
        if table >= self.frames:
            raise GuestFault(va)
        return table << 12

    def read(self, va: int, size: int) -> bytes:
        """`size` bytes at `va`. Raises GuestFault if any of them is not there."""
        offset = self.translate(va, False)
        room = 0x1000 - (va & 0xFFF)
        if size <= room:
            return bytes(self.bytes[offset : offset + size])
        pieces = [self.bytes[offset : offset + room]]
        done = room
        while done < size:
            offset = self.translate(va + done, False)
            step = min(size - done, 0x1000)
            pieces.append(self.bytes[offset : offset + step])
            done += step
        return b"".join(pieces)

    def write(self, va: int, data: bytes | bytearray | memoryview) -> None:
        """Put `data` at `va`. Raises GuestFault; the bytes before the bad page are written by then, as in Xen."""
        size = len(data)
        done = 0
        while done < size:
            offset = self.translate(va + done, True)
            step = min(size - done, 0x1000 - (va + done & 0xFFF))
            self.bytes[offset : offset + step] = data[done : done + step]
            if self.code[offset >> 12]:
                self.host_wrote(offset >> 12)
            done += step

    def read_words(self, va: int, count: int) -> memoryview:
        """`count` u64 words at `va`, copied. Raises GuestFault."""
        return memoryview(self.read(va, count * 8)).cast("Q")

    def read_pair(self, va: int) -> list[int]:
        """Two u64 words at `va`. Raises GuestFault."""
        base = self.read_tlb.get(va >> 12)
        offset = va & 0xFFF
        if base is None or offset > 0xFF0 or offset & 7:
            return self.read_words(va, 2).tolist()
        at = base + offset >> 3
        return self.words[at : at + 2].tolist()

    def read_string(self, va: int, size: int) -> bytes:
        """`size` bytes of text for console output: an alias of `read`. Raises GuestFault."""
        return self.read(va, size)

    def accessible(self, va: int, size: int) -> bool:
        """Xen's guest_handle_okay: whether the range begins outside the hypervisor's part; it may still be unmapped.

        As in Xen only the first address and the size are checked; a part of the range that is not mapped, or is the
        hypervisor's, faults when it is accessed.
        """
        return (0 <= va < LOWER_END or HYPERVISOR_VIRT_END <= va < 1 << 64) and size < EVERYTHING
