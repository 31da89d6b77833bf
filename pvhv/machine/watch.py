# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames whose every store the stock engine has to see, because code translated from them may be in use.

(The corrected engine sees every store to translated code by itself, through whatever mapping: code-pages.toml.)

The stock engine marks a page's TLB entry "may hold code" when it fills it, and a store through such an entry drops what
was translated from the bytes it changes. If the mapping is not executable, the first store also takes the mark away:
all other code of the page that is executed through another mapping then survives further stores.

The mark stays where a memory hook covers the page's physical address. A hook on fetches that break protection is called
for nothing in our flat RAM, and, unlike hooks on reads and writes, does not put other pages' accesses on the slow path;
so there is one, bounded to the frame, for every frame that is watched. Each makes a store through a marked entry about
ten ns slower, so there should be dozens of them, not thousands.

Invariant: a frame that comes to be watched is so from its next store on, because whoever watches flushes the TLB after.
It does not know why a frame deserves this (pvhv.core.mm.coherence). Read beside it: notdirty_write and
uc_mem_hook_installed in the engine's cputlb.c and exec-all.h.
"""

from __future__ import annotations

from ctypes import CFUNCTYPE, c_bool

from pvhv.machine import seam
from pvhv.machine.engine import HOOK_MEM_FETCH_PROT, Engine
from pvhv.machine.ram import PAGE_SIZE

_never_called = CFUNCTYPE(c_bool)(lambda: False)


class Watch:
    """The watched frames of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hooks: dict[int, int] = {}

    def add(self, mfn: int) -> bool:
        """Watch a frame. Whether the TLB has to be flushed before the guest goes on."""
        if seam.corrected or mfn in self._hooks:
            return False
        begin = mfn * PAGE_SIZE
        self._hooks[mfn] = self._engine.add_hook(
            HOOK_MEM_FETCH_PROT, _never_called, begin=begin, end=begin + PAGE_SIZE - 1
        )
        return True

    def remove(self, mfn: int) -> None:
        """Watch it no longer."""
        hook = self._hooks.pop(mfn, None)
        if hook is not None:
            self._engine.remove_hook(hook)
