# SPDX-License-Identifier: GPL-2.0-or-later
"""A fully virtualized guest's memory as the architecture shows it: guest-physical, and linear through its own tables.

Three kinds of addresses meet here. A *linear* address is what the guest's instructions use; the guest's page tables
take it to a *guest-physical* one (`walk`); `GuestPhysical` knows at which *machine* frame that is. Which of the two
steps the engine does by itself, and from which tables, is each technique's own affair; what a guest may access is
decided by this walk alone, so it is the yardstick that shadow tables are tested against.

Invariant: `walk` has no effect but the accessed and dirty bits it sets in the guest's own entries, and these only when
it succeeds.

Read beside it: AMD's manual volume 2, chapter 5 (5.3 long-mode translation, 5.4 entry fields, 5.6 protection).

Not modelled: 32-bit and PAE paging without long mode (a monitor refuses them; `bare` and `hw-nested` leave them to the
engine), five levels, protection keys of the guest's own.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from mmap import mmap
from typing import TYPE_CHECKING, Final, NamedTuple

from pvhv.core.errors import DomainCrash
from pvhv.machine.ram import PAGE_SIZE, Ram

if TYPE_CHECKING:
    from pvhv.hvm.cpu.guestcpu import GuestCpu

PRESENT, RW, USER, ACCESSED, DIRTY, PSE, GLOBAL = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
NX: Final = 1 << 63
ADDRESS: Final = 0x000F_FFFF_FFFF_F000
PHYSICAL_BITS: Final = 40  # what the engine has, and CPUID says
BEYOND: Final = ADDRESS & ~((1 << PHYSICAL_BITS) - 1)

CODE_P, CODE_W, CODE_U, CODE_RSVD, CODE_I = 1, 2, 4, 8, 16
PF, GP, UD = 14, 13, 6
CR0_WP, CR0_PG = 1 << 16, 1 << 31
CR4_SMEP, CR4_SMAP = 1 << 20, 1 << 21
EFER_LMA, EFER_NXE = 1 << 10, 1 << 11
AC: Final = 1 << 18
ALL_ONES: Final = (1 << 64) - 1
PIECE = 256 << 10  # bytes written at a time
CANONICAL_HALF: Final = 1 << 47


class GuestException(Exception):
    """An exception that is the guest's own: `vector`, and the error code where it has one."""

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
        """`frames` is how many there will be, where they come later."""
        self.ram = ram
        self.mfns = mfns
        self.frames: Final = len(mfns) if frames is None else frames

    def mfn(self, gfn: int) -> int | None:
        """The machine frame of a guest frame, or None."""
        return self.mfns[gfn] if 0 <= gfn < self.frames else None

    def word(self, gpa: int) -> int:
        """The aligned 64-bit word at a guest-physical address."""
        mfn = self.mfn(gpa >> 12)
        return ALL_ONES if mfn is None else self.ram.words[mfn << 9 | gpa >> 3 & 511]

    def set_word(self, gpa: int, value: int) -> None:
        """Write it."""
        mfn = self.mfn(gpa >> 12)
        if mfn is not None:
            self.ram.words[mfn << 9 | gpa >> 3 & 511] = value

    def read(self, gpa: int, size: int) -> bytes:
        """`size` bytes."""
        data = b""
        while size:
            step = min(size, PAGE_SIZE - gpa % PAGE_SIZE)
            mfn = self.mfn(gpa >> 12)
            at = 0 if mfn is None else (mfn << 12) + gpa % PAGE_SIZE
            data += b"\xff" * step if mfn is None else bytes(self.ram.bytes[at : at + step])
            gpa, size = gpa + step, size - step
        return data

    def fill(self, gpa: int, data: bytes | bytearray | mmap | memoryview) -> Iterator[None]:
        """Put many bytes there, piece by piece."""
        view = memoryview(data)
        for at in range(0, len(view), PIECE):
            self.write(gpa + at, view[at : at + PIECE])
            yield

    def write(self, gpa: int, data: bytes | memoryview) -> None:
        """Put bytes there."""
        done = 0
        while done < len(data):
            step = min(len(data) - done, PAGE_SIZE - gpa % PAGE_SIZE)
            mfn = self.mfn(gpa >> 12)
            if mfn is not None:
                at = (mfn << 12) + gpa % PAGE_SIZE
                self.ram.bytes[at : at + step] = data[done : done + step]
            gpa, done = gpa + step, done + step


class Translation(NamedTuple):
    """Where a linear address leads, and what all levels together permit."""

    gpa: int
    page_bits: int  # 12, 21 or 30
    writable: bool
    user: bool
    executable: bool
    is_global: bool
    dirty: bool


UNPAGED: Final = 12


def walk(
    physical: GuestPhysical,
    cpu: GuestCpu,
    va: int,
    *,
    write: bool = False,
    user: bool = False,
    fetch: bool = False,
    set_bits: bool = True,
) -> Translation:
    """The guest's own translation of `va` for one access. Raises PageFault, with the error code hardware would push.

    `va` is canonical: an access that is not never gets to the tables."""
    if not cpu.cr0 & CR0_PG:
        return Translation(va & 0xFFFF_FFFF, UNPAGED, True, True, True, False, True)
    efer = cpu.efer
    if not efer & EFER_LMA:
        raise PagingModeUnsupported
    nxe = bool(efer & EFER_NXE)
    code = (CODE_W if write else 0) | (CODE_U if user else 0) | (CODE_I if fetch and nxe else 0)
    reserved = BEYOND | (0 if nxe else NX)
    table = cpu.cr3 & ADDRESS
    rights, nx = RW | USER, 0
    entries: list[tuple[int, int]] = []
    shift = 39
    while True:
        at = table + (va >> shift & 511) * 8
        entry = physical.word(at)
        if not entry & PRESENT:
            raise PageFault(va, code)
        leaf = shift == 12 or (shift < 39 and bool(entry & PSE))
        misplaced = entry & ADDRESS & ((1 << shift) - 1) & ~PAGE_SIZE if leaf and shift > 12 else 0
        if entry & reserved or misplaced or (shift == 39 and entry & PSE):
            raise PageFault(va, code | CODE_P | CODE_RSVD)
        rights &= entry
        nx |= entry & NX
        entries.append((at, entry))
        if leaf:
            break
        table = entry & ADDRESS
        shift -= 9
    _permit(cpu, va, code, rights, nx, write=write, user=user, fetch=fetch)
    if set_bits:
        _set_bits(physical, entries, write)
    within = (1 << shift) - 1
    return Translation(
        gpa=entry & ADDRESS & ~within | va & within,
        page_bits=shift,
        writable=bool(rights & RW),
        user=bool(rights & USER),
        executable=not nx,
        is_global=bool(entry & GLOBAL),
        dirty=write or bool(entry & DIRTY),
    )


def _permit(
    cpu: GuestCpu, va: int, code: int, rights: int, nx: int, *, write: bool, user: bool, fetch: bool
) -> None:
    """5.6: does what all levels permit allow this access?"""
    if user:
        allowed = rights & USER and not (write and not rights & RW)
    else:
        allowed = not (write and not rights & RW and cpu.cr0 & CR0_WP)
        if rights & USER:
            if fetch:
                allowed = allowed and not cpu.cr4 & CR4_SMEP
            else:
                allowed = allowed and not (cpu.cr4 & CR4_SMAP and not cpu.rflags & AC)
    if not allowed or (fetch and nx):
        raise PageFault(va, code | CODE_P)


def _set_bits(physical: GuestPhysical, entries: list[tuple[int, int]], write: bool) -> None:
    for at, entry in entries[:-1]:
        if not entry & ACCESSED:
            physical.set_word(at, entry | ACCESSED)
    at, entry = entries[-1]
    bits = ACCESSED | DIRTY if write else ACCESSED
    if entry & bits != bits:
        physical.set_word(at, entry | bits)
