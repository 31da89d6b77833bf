# SPDX-License-Identifier: GPL-2.0-or-later
"""What the engine remembers of page tables and of code, and how it is made to forget: CR3, the TLB, translated blocks.

An engine walks the guest's tables and translates its code once, and goes by what it knows from then on. It sees the
guest's own INVLPG and CR3 loads only if there are any, which a PV guest makes by hypercall. So all of it is asked for
from here. (Whether a frame's code is still true, pvhv.core.mm.executable knows.)

Invariant: what is done here leaves no TLB entry or code of ours where a guest finds it.
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
    """The TLB and the translated code of one pCPU. What is called often is a closure, without attribute chains."""

    has_user_tables: Final = seam.corrected
    """Whether users, at CPL 3, can have page tables of their own beside CR3's."""

    flush_tlb: Callable[[], object]
    flush_on_entry: Callable[[], None]
    """Have the TLB flushed before guest code runs again: once, however often it is asked for."""
    load_cr3: Callable[[int], None]
    """Set CR3 (a machine address), and have the TLB flushed on entry."""
    set_user_tables: Callable[[int], None]
    """Have users at CPL 3 run on the L4 at a machine address, whatever CR3 is; 0 for one that maps nothing. What the
    TLB knows of users' mappings is as old as it was. Only where `has_user_tables`."""
    forget_code: Callable[[int], None]
    """Drop what was translated from a frame: its bytes changed other than by a guest's store."""
    _apart: Callable[..., None]
    """Make a call that has the engine look for code, on other page tables, by their root."""

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
        """Let the engine begin anew to remember what it translated under a block hook.

        The stock engine remembers of each such block where it is, for as long as the hook is there, in some 80 bytes: a
        guest that writes ever new code would fill the host's memory. With the hook it drops all code it finds at those
        addresses. Where nothing is mapped it finds none, which is quick, and right: the new hook is the old one.
        """
        self.flush_tlb()
        self._apart(self._private.nothing, self._pacer.forget_blocks)

    def flush_page(self, va: int) -> None:
        """Forget one page's translation (on the stock engine, which offers no less, all of them)."""
        if seam.corrected:
            seam.flush_page(self._handle, va)
        else:
            self.flush_on_entry()
