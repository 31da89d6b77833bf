# SPDX-License-Identifier: GPL-2.0-or-later
"""CR3, the TLB and translated blocks: what the engine keeps of page tables and code, and how to flush it.

An engine walks the guest's tables and translates its code once, and keeps the results. It would flush at the guest's
own INVLPG and CR3 loads, but a PV guest makes hypercalls instead. So the hypervisor asks for all flushes here.
(pvhv.core.mm.executable knows which translations are stale.)

Invariant: no method leaves a TLB entry or code of the hypervisor where a guest could use it.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_uint64
from typing import Final

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import seam
from pvhv.machine.cpustate import CR3, EFLAGS, HFLAGS
from pvhv.machine.hardware import Hardware
from pvhv.machine.ram import PAGE_SIZE


class Translations(Hardware):
    """The TLB and the translated code of one pCPU. Methods that are called often are closures, for speed."""

    has_user_tables: Final = seam.corrected
    """Whether users at CPL 3 can have their own root of page tables beside CR3."""

    flush_tlb: Callable[[], object]
    flush_on_entry: Callable[[], None]
    """Flush the TLB before guest code runs again: once, however often this is called."""
    load_cr3: Callable[[int], None]
    """Set CR3 (a machine address), and flush the TLB on entry."""
    set_user_tables: Callable[[int], None]
    """Set the L4 (a machine address) for users at CPL 3, beside CR3; 0 for one that maps nothing. The TLB entries of
    users are not flushed. Only if `has_user_tables`."""
    forget_code: Callable[[int], None]
    """Drop all translations of a frame whose bytes changed otherwise than by a guest's store."""
    _apart: Callable[..., None]
    """Make a call in which the engine looks up code, on the page tables at another root."""

    def _build_translation_calls(self) -> None:
        state, words, handle = self.state, self._words, self._handle
        nothing = self._private.nothing

        # Word numbers are written out here (and in registers.py): a constant is cheaper than a name.
        def flush_on_entry() -> None:
            words[35] = 1  # FLUSH

        def load_cr3(maddr: int) -> None:
            state[56] = maddr
            words[35] = 1

        def set_user_tables(maddr: int) -> None:
            words[55] = maddr or nothing  # USER_ROOT

        self.flush_tlb, self.flush_on_entry = self._pacer.flush_tlb, flush_on_entry
        self.load_cr3, self.set_user_tables = load_cr3, set_user_tables
        self._apart = apart = self._caller_apart()

        forget, identity = seam.forget_code, self._private.cr3
        ctl, remove = uc.uc_ctl, uc.CTL_REMOVE_CACHE

        def forget_code(mfn: int) -> None:
            address = mfn << 12
            if forget is not None:
                forget(handle, address)
            else:
                apart(identity, ctl, handle, remove, c_uint64(address), c_uint64(address + PAGE_SIZE))

        self.forget_code = forget_code

    def _caller_apart(self) -> Callable[..., None]:
        state, context = self.state, self._context

        def apart(root: int, call: Callable[..., object], *arguments: object) -> None:
            # The engine finds code by a virtual address, in the TLB set of the current mode: we borrow
            # the set of "supervisor with SMAP", which no guest is ever in, and page tables of our own.
            # So it neither finds a guest's entry, nor leaves one that a guest finds.
            hflags, cr3, eflags = state[HFLAGS], state[CR3], state[EFLAGS]
            state[HFLAGS] = hflags & ~(cs.HF_CPL | cs.HF2_NPT) | cs.HF_SMAP
            state[EFLAGS] = eflags & ~cs.AC
            state[CR3] = root
            if context is not None:
                context.restore()
            call(*arguments)
            state[HFLAGS], state[CR3], state[EFLAGS] = hflags, cr3, eflags
            if context is not None:
                context.restore()

        return apart

    def forget_blocks(self) -> None:
        """Reset the list of blocks that the stock engine translated under a block hook.

        The stock engine keeps some 80 bytes for each such block as long as the hook exists, so a guest that writes ever
        new code would fill the host's memory. When the hook is removed, the engine drops all code it finds at those
        addresses. On a root that maps nothing it finds none: that is quick, and correct, because the new hook equals
        the old one.
        """
        self.flush_tlb()
        self._apart(self._private.nothing, self._pacer.forget_blocks)

    def flush_page(self, va: int) -> None:
        """Flush one page's TLB entry (on the stock engine, which has no such function, the whole TLB)."""
        if seam.corrected:
            seam.flush_page(self._handle, va)
        else:
            self.flush_on_entry()
