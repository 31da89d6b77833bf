# SPDX-License-Identifier: GPL-2.0-or-later
"""A fully virtualized guest's memory by the architecture's rules: guest-physical, and linear through its own tables.

Three kinds of addresses meet here. A *linear* address is what the guest's instructions use; the guest's page tables
take it to a *guest-physical* one (`walk`); `GuestPhysical` maps that to a *machine* frame. Which of the two steps the
engine does, and from which tables, depends on the technique. But this walk alone decides what a guest may access, so
shadow tables are tested against it.

Invariant: `walk` has no effect but the accessed and dirty bits it sets in the guest's own entries, and these only when
it succeeds.

Read beside it: AMD's manual volume 2, chapter 5 (5.3 long-mode translation, 5.4 entry fields, 5.6 protection).

Not modelled: 32-bit and PAE paging without long mode (a monitor refuses them; `bare` and `hw-nested` leave them to the
engine), five levels, protection keys of the guest's own.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from mmap import mmap
from typing import Final, NamedTuple, Protocol

from pvhv.core.errors import DomainCrash
from pvhv.machine.cpustate import AC
from pvhv.machine.paging import (
    PTE_ACCESSED,
    PTE_ADDRESS,
    PTE_DIRTY,
    PTE_GLOBAL,
    PTE_NX,
    PTE_PRESENT,
    PTE_PSE,
    PTE_RW,
    PTE_USER,
)
from pvhv.machine.ram import PAGE_SIZE, Ram
from pvhv.machine.svm import GP, PF, PFEC_FETCH, PFEC_PRESENT, PFEC_RESERVED, PFEC_USER, PFEC_WRITE, UD
from pvhv.machine.x86 import CR0_PG, CR0_WP, CR4_SMAP, CR4_SMEP, EFER_LMA, EFER_NXE, MASK64

PHYSICAL_BITS: Final = 40  # what the engine has, and CPUID says
BEYOND: Final = PTE_ADDRESS & ~((1 << PHYSICAL_BITS) - 1)

PIECE = 256 << 10  # bytes written at a time


class GuestException(Exception):
    """An exception to be delivered to the guest: `vector`, and the error code if the vector has one."""

    def __init__(self, vector: int, code: int | None = None) -> None:
        super().__init__(vector, code)
        self.vector = vector
        self.code = code

    def __str__(self) -> str:
        return f"exception {self.vector}" + ("" if self.code is None else f", error code {self.code:#x}")


class PageFault(GuestException):
    """#PF at `va`."""

    def __init__(self, va: int, code: int) -> None:
        super().__init__(PF, code)
        self.va = va
        self.code: int = code


class GeneralProtection(GuestException):
    """#GP."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(GP, code)


class InvalidOpcode(GuestException):
    """#UD."""

    def __init__(self) -> None:
        super().__init__(UD)


class PagingModeUnsupported(DomainCrash):
    """The guest turned paging on without long mode, where the monitor would have to walk its tables."""

    def __init__(self) -> None:
        super().__init__("the monitor would have to walk page tables of the guest's that are not those of long mode")


class GuestPhysical:
    """A guest's memory: guest frame `gfn` is machine frame `mfns[gfn]`. There is nothing beyond it: reads all ones."""

    def __init__(self, ram: Ram, mfns: MutableSequence[int], frames: int | None = None) -> None:
        """`frames` is the number of frames, if they are allocated later."""
        self.ram = ram
        self.mfns = mfns
        self.frames: Final = len(mfns) if frames is None else frames

    def mfn(self, gfn: int) -> int | None:
        """The machine frame of a guest frame, or None."""
        return self.mfns[gfn] if 0 <= gfn < self.frames else None

    def word(self, gpa: int) -> int:
        """The aligned 64-bit word at a guest-physical address."""
        mfn = self.mfn(gpa >> 12)
        return MASK64 if mfn is None else self.ram.words[mfn << 9 | gpa >> 3 & 511]

    def set_word(self, gpa: int, value: int) -> None:
        """Write the aligned 64-bit word at a guest-physical address."""
        mfn = self.mfn(gpa >> 12)
        if mfn is not None:
            self.ram.words[mfn << 9 | gpa >> 3 & 511] = value

    def read(self, gpa: int, size: int) -> bytes:
        """`size` bytes at a guest-physical address."""
        data = b""
        while size:
            step = min(size, PAGE_SIZE - gpa % PAGE_SIZE)
            mfn = self.mfn(gpa >> 12)
            at = 0 if mfn is None else (mfn << 12) + gpa % PAGE_SIZE
            data += b"\xff" * step if mfn is None else bytes(self.ram.bytes[at : at + step])
            gpa, size = gpa + step, size - step
        return data

    def fill(self, gpa: int, data: bytes | bytearray | mmap | memoryview) -> Iterator[None]:
        """Write many bytes, piece by piece."""
        view = memoryview(data)
        for at in range(0, len(view), PIECE):
            self.write(gpa + at, view[at : at + PIECE])
            yield

    def write(self, gpa: int, data: bytes | memoryview) -> None:
        """Write bytes at a guest-physical address."""
        done = 0
        while done < len(data):
            step = min(len(data) - done, PAGE_SIZE - gpa % PAGE_SIZE)
            mfn = self.mfn(gpa >> 12)
            if mfn is not None:
                at = (mfn << 12) + gpa % PAGE_SIZE
                self.ram.bytes[at : at + step] = data[done : done + step]
            gpa, done = gpa + step, done + step


class MachineMemory(GuestPhysical):
    """All of RAM, each frame at its own address."""

    def __init__(self, ram: Ram) -> None:
        super().__init__(ram, [])

    def mfn(self, gfn: int) -> int | None:
        return gfn if 0 <= gfn < self.ram.frames else None


class Translation(NamedTuple):
    """The result of a walk: the guest-physical address, and the rights of all levels together."""

    gpa: int
    page_bits: int  # 12, 21 or 30
    writable: bool
    user: bool
    executable: bool
    is_global: bool
    dirty: bool


UNPAGED: Final = 12


class PagingControls(Protocol):
    """The registers that a translation depends on (GuestCpu has them)."""

    @property
    def cr0(self) -> int: ...

    @property
    def cr3(self) -> int: ...

    @property
    def cr4(self) -> int: ...

    @property
    def efer(self) -> int: ...

    @property
    def rflags(self) -> int: ...


def walk(
    physical: GuestPhysical,
    cpu: PagingControls,
    va: int,
    *,
    write: bool = False,
    user: bool = False,
    fetch: bool = False,
    set_bits: bool = True,
) -> Translation:
    """Translate `va` for one access by the guest's own tables. Raises PageFault, with the error code of the hardware.

    `va` must be canonical: the CPU checks that before it reads the tables."""
    if not cpu.cr0 & CR0_PG:
        return Translation(va & 0xFFFF_FFFF, UNPAGED, True, True, True, False, True)
    efer = cpu.efer
    if not efer & EFER_LMA:
        raise PagingModeUnsupported
    nxe = bool(efer & EFER_NXE)
    code = (PFEC_WRITE if write else 0) | (PFEC_USER if user else 0) | (PFEC_FETCH if fetch and nxe else 0)
    reserved = BEYOND | (0 if nxe else PTE_NX)
    table = cpu.cr3 & PTE_ADDRESS
    rights, nx = PTE_RW | PTE_USER, 0
    entries: list[tuple[int, int]] = []
    shift = 39
    while True:
        at = table + (va >> shift & 511) * 8
        entry = physical.word(at)
        if not entry & PTE_PRESENT:
            raise PageFault(va, code)
        leaf = shift == 12 or (shift < 39 and bool(entry & PTE_PSE))
        misplaced = entry & PTE_ADDRESS & ((1 << shift) - 1) & ~PAGE_SIZE if leaf and shift > 12 else 0
        if entry & reserved or misplaced or (shift == 39 and entry & PTE_PSE):
            raise PageFault(va, code | PFEC_PRESENT | PFEC_RESERVED)
        rights &= entry
        nx |= entry & PTE_NX
        entries.append((at, entry))
        if leaf:
            break
        table = entry & PTE_ADDRESS
        shift -= 9
    _permit(cpu, va, code, rights, nx, write=write, user=user, fetch=fetch)
    if set_bits:
        _set_bits(physical, entries, write)
    within = (1 << shift) - 1
    return Translation(
        gpa=entry & PTE_ADDRESS & ~within | va & within,
        page_bits=shift,
        writable=bool(rights & PTE_RW),
        user=bool(rights & PTE_USER),
        executable=not nx,
        is_global=bool(entry & PTE_GLOBAL),
        dirty=write or bool(entry & PTE_DIRTY),
    )


def _permit(
    cpu: PagingControls, va: int, code: int, rights: int, nx: int, *, write: bool, user: bool, fetch: bool
) -> None:
    """Whether the rights of all levels together permit this access (5.6)."""
    if user:
        allowed = rights & PTE_USER and not (write and not rights & PTE_RW)
    else:
        allowed = not (write and not rights & PTE_RW and cpu.cr0 & CR0_WP)
        if rights & PTE_USER:
            if fetch:
                allowed = allowed and not cpu.cr4 & CR4_SMEP
            else:
                allowed = allowed and not (cpu.cr4 & CR4_SMAP and not cpu.rflags & AC)
    if not allowed or (fetch and nx):
        raise PageFault(va, code | PFEC_PRESENT)


def _set_bits(physical: GuestPhysical, entries: list[tuple[int, int]], write: bool) -> None:
    for at, entry in entries[:-1]:
        if not entry & PTE_ACCESSED:
            physical.set_word(at, entry | PTE_ACCESSED)
    at, entry = entries[-1]
    bits = PTE_ACCESSED | PTE_DIRTY if write else PTE_ACCESSED
    if entry & bits != bits:
        physical.set_word(at, entry | bits)
