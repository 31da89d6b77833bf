# SPDX-License-Identifier: GPL-2.0-or-later
"""Watched frames: the stock engine has to notice every store to them, because code translated from them may be in use.

(The corrected engine notices every store to translated code by itself, through any mapping: code-pages.toml.)

When the stock engine fills a TLB entry, it marks the entry "may hold code". A store through a marked entry drops the
translations of the bytes it changes. But if the mapping is not executable, the first store also removes the mark. Then
the other code of the page, executed through another mapping, survives further stores.

The mark stays where a memory hook covers the page's physical address. A hook on fetches that violate protection is
never called in our flat RAM and, unlike a hook on reads or writes, does not put accesses to other pages on the slow
path. So each watched frame gets such a hook, bounded to the frame. Each hook makes a store through a marked entry about
10 ns slower, so there should be dozens of them, not thousands.

Invariant: a frame is watched from its next store on, because the caller of `add` flushes the TLB afterwards. It does
not know why a frame deserves this (pvhv.core.mm.coherence). Read beside it: notdirty_write and uc_mem_hook_installed in
the engine's cputlb.c and exec-all.h.
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
        """Watch a frame; True if the TLB has to be flushed before the guest continues."""
        if seam.corrected or mfn in self._hooks:
            return False
        begin = mfn * PAGE_SIZE
        self._hooks[mfn] = self._engine.add_hook(
            HOOK_MEM_FETCH_PROT, _never_called, begin=begin, end=begin + PAGE_SIZE - 1
        )
        return True

    def remove(self, mfn: int) -> None:
        """Stop watching a frame."""
        hook = self._hooks.pop(mfn, None)
        if hook is not None:
            self._engine.remove_hook(hook)
