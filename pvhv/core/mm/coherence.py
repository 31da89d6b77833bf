# SPDX-License-Identifier: GPL-2.0-or-later
"""What pCPUs remember of memory, and when they have to forget it.

A TLB may hold entries the guest has removed and not flushed: that is the guest's business, until the frame changes
hands or type (`flush_if_stale`). Translated code survives writes the engine does not see: those made by the
hypervisor, by another engine's guests and, on the published engine, through a mapping that is not executable.
`FrameTable.code` knows which frames may be written so, and they are forgotten when they are made executable again.
Frames that can be written while they are executable are watched for the published engine (pvhv.machine.watch), but for
what executable.made_executable takes for a kernel's view of all its memory.

Not modelled: domains on different clocks, which have a pCPU each, where one writes what the other executes after both
have mapped it; what the hypervisor says by way of memory (in shared_info, event words, rings, clock pages, bounce
frames, results of a multicall) when it is run as code; on the published engine, more than WATCHED such frames at a time
(the oldest is watched no longer).

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
    """Flushes, over all pCPUs (`cpus` is asked each time: they are made as they are needed)."""

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
        """A frame is about to be used as something else: no TLB may still know a removed entry."""
        if self.tables.stale:
            self.tables.stale = False
            for cpu in self.cpus:
                cpu.flush()

    def l4_changed(self) -> None:
        """Some L4 changed: pCPUs compare tables anew."""
        for cpu in self.cpus:
            cpu.l4_changed()

    def forget_code(self, mfn: int) -> None:
        """Drop what was translated from a frame."""
        for cpu in self.cpus:
            cpu.pcpu.forget_code(mfn)
        if mfn in self.watched and not self.frames.refs[mfn]:
            self.unwatch(mfn)

    def watch_code(self, mfn: int, wanted: bool) -> None:
        """A frame can be executed by one mapping and written by another, or (not `wanted`) can no more."""
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
        """The hypervisor or a backend wrote to a frame a guest may execute."""
        if self.frames.code[mfn]:
            self.forget_code(mfn)

    def write_frame_word(self, address: int, value: int) -> None:
        """Write one word of machine memory."""
        self.frames.ram.words[address >> 3] = value
        self.host_wrote(address >> 12)
