# SPDX-License-Identifier: GPL-2.0-or-later
"""TLB flushes and instruction-cache coherence, over all pCPUs.

A TLB may hold entries the guest has removed and not flushed. That is harmless until the frame changes its owner or
type; then the TLBs are flushed (`flush_if_stale`). Translated code survives writes the engine does not notice: those of
the hypervisor, of another engine's guests and, on the stock engine, those through a mapping that is not executable.
`FrameTable.code` says which frames may be written so; their translations are dropped when they are made executable
again. On the stock engine, frames that are executable and have a writable alias are watched (pvhv.machine.watch),
except for the alias that executable.made_executable takes for the kernel's map of all memory.

Not modelled: two domains on different clocks, and so on different pCPUs, where one writes a shared frame that the other
executes; execution of memory that the hypervisor writes its answers to (shared_info, event words, rings, clock pages,
bounce frames, results of a multicall); on the stock engine, more than WATCHED watched frames (the oldest is dropped).

Read beside it: tlbflush_timestamp in xen/arch/x86/flushtlb.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pvhv.core.mm.frames import FrameTable
from pvhv.core.mm.pagetables import PageTables

if TYPE_CHECKING:
    from pvhv.core.cpu import Cpu


WATCHED = 64


class Coherence:
    """Flushes over all pCPUs. `cpus` is a live view, since pCPUs are made on first use."""

    def __init__(self, frames: FrameTable, tables: PageTables, cpus: Iterable[Cpu]) -> None:
        self.frames = frames
        self.tables = tables
        self.cpus = cpus
        self.watched: dict[int, int] = {}  # mfn -> how many writable uses it had when it came to be watched
        tables.flush_before_reuse = self.flush_if_stale
        tables.executable.forget_code = self.forget_code
        tables.executable.watch_code = self.watch_code
        tables.l4_changed = self.l4_changed

    def flush_if_stale(self) -> None:
        """A frame is about to change its type or owner: flush all TLBs if one may hold a removed entry."""
        if self.tables.stale:
            self.tables.stale = False
            for cpu in self.cpus:
                cpu.flush()

    def l4_changed(self) -> None:
        """An L4 changed: pCPUs must compare L4s again (`Cpu.follows`)."""
        for cpu in self.cpus:
            cpu.l4_changed()

    def forget_code(self, mfn: int) -> None:
        """Drop all translations of a frame, on every pCPU."""
        for cpu in self.cpus:
            cpu.pcpu.forget_code(mfn)
        if mfn in self.watched and not self.frames.refs[mfn]:
            self.unwatch(mfn)

    def watch_code(self, mfn: int, wanted: bool) -> None:
        """Watch a frame that is executable and has a writable alias; without `wanted`, stop watching it."""
        watched, counts = self.watched, self.frames.type_counts
        if mfn in watched:
            if not wanted:
                self.unwatch(mfn)
            return
        if not wanted:
            return
        if len(watched) >= WATCHED:
            for other in [other for other, uses in watched.items() if counts[other] < uses] or [next(iter(watched))]:
                self.unwatch(other)
        watched[mfn] = counts[mfn]
        for cpu in self.cpus:
            if cpu.pcpu.watch.add(mfn):
                cpu.pcpu.flush_on_entry()

    def unwatch(self, mfn: int) -> None:
        """Stop watching stores to a frame."""
        del self.watched[mfn]
        for cpu in self.cpus:
            cpu.pcpu.watch.remove(mfn)

    def host_wrote(self, mfn: int) -> None:
        """The hypervisor or a backend wrote to a frame: drop its translations, if it may have any."""
        if self.frames.code[mfn]:
            self.forget_code(mfn)

    def host_wrote_all(self, mfns: list[int]) -> None:
        """The same for many frames."""
        code = self.frames.code
        for mfn in [mfn for mfn in mfns if code[mfn]]:
            self.forget_code(mfn)

    def write_frame_word(self, address: int, value: int) -> None:
        """Write one 64-bit word at a machine address."""
        self.frames.ram.words[address >> 3] = value
        self.host_wrote(address >> 12)
