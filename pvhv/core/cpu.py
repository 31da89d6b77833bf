# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypervisor's side of one pCPU: which vCPU runs on it, on which page tables, and whether its TLB may be stale.

A vCPU switch saves and loads the raw CPU state, as on a real machine. It is lazy: the context of the vCPU that ran last
stays in the engine until another one is loaded.

User code of a 64-bit PV guest runs on an L4 of its own. The corrected engine has a second root for users beside CR3 and
keeps their TLB entries apart from the kernel's, so a system call needs neither a change of tables nor a flush. (On the
stock engine it needs both, as on real hardware.)

Invariant: at any moment the users' root is the current vCPU's guest_table_user, or a root that maps nothing. On the
stock engine a guest kernel can enter user mode without an exit, and must not find a root there whose frame has another
type by now.

Read beside it: toggle_guest_mode in xen/arch/x86/pv/domain.c, context_switch in xen/arch/x86/domain.c.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from pvhv.abi.arch_x86 import FIRST_RESERVED_GDT_ENTRY
from pvhv.core.arch import ArchVCPU
from pvhv.core.errors import GuestFault
from pvhv.core.mm.descriptors import GDT_LIMIT, IS_PRESENT, RESERVED, SEGMENT, DescriptorTables
from pvhv.core.mm.guestmem import GuestMemory
from pvhv.machine.cpustate import BASE, CR3, CS, GDT, GS, GS_BASE, HF_CS32, HF_CS64, HFLAGS, SS
from pvhv.machine.pcpu import PCPU
from pvhv.machine.ram import Ram
from pvhv.machine.rings import KERNEL, MODE, USER
from pvhv.machine.seam import note_running
from pvhv.machine.x86 import (
    DR6_DEFAULT,
    DR7_ACTIVE,
    DR7_DEFAULT,
    FLAT_USER_CODE64,
    GENERAL_PROTECTION,
    NOT_PRESENT,
    STACK_FAULT,
)

if TYPE_CHECKING:
    from pvhv.core.breakpoints import Breakpoints
    from pvhv.core.mm.pagetables import PageTables

NOT_ACCESSED_OR_DIRTY = ~0x60

CODE, WRITABLE_DATA, LONG, GRANULAR = 1 << 43, 1 << 41, 1 << 53, 1 << 55


class Cpu:
    """One pCPU and the vCPU on it."""

    WRAPPABLE: ClassVar = frozenset({"load"})

    def __init__(self, pcpu: PCPU, ram: Ram) -> None:
        self.pcpu = pcpu
        self.state = pcpu.state
        self.words = ram.words
        self.memory = GuestMemory(ram)
        self.current: ArchVCPU  # set before anything runs
        self.loaded: ArchVCPU | None = None  # whose context the engine holds
        self.iret: Callable[[ArchVCPU], int]  # HYPERVISOR_iret (pvhv.core.traps.bounce)
        self.breakpoints: Breakpoints | None = None  # once a debugger wanted some
        self.pagetables: PageTables | None = None  # whose `stale` a flush of this pCPU answers, if it is the only one
        self._armed = False  # the pCPU has breakpoints of the vCPU that is loaded
        self._separate = pcpu.has_user_tables
        self._users_known = 0  # the only user L4 whose mappings the TLB may know; -1: there may be several
        self._following: dict[tuple[int, int], bool] = {}
        self._root = 0

    # -- page tables -------------------------------------------------------------------------------------------
    def flush(self) -> None:
        """Flush the guest's TLB: the software TLB now, the engine's before guest code runs again."""
        if self.pagetables is not None:
            self.pagetables.stale = False
        self.memory.clear()
        self.pcpu.flush_on_entry()

    def flush_page(self, va: int) -> None:
        """Forget one page of the guest's TLB."""
        self.memory.forget(va)
        self.pcpu.flush_page(va)

    def l4_changed(self) -> None:
        """An L4 entry changed: forget the results of `follows`."""
        self._following.clear()

    def _same(self, one: int, other: int) -> bool:
        """Whether two halves of L4s (256 entries from the indices `one` and `other` in `words`) map the same."""
        ours, theirs = self.words[one : one + 256], self.words[other : other + 256]
        return ours.tobytes() == theirs.tobytes() or all(
            (a ^ b) & NOT_ACCESSED_OR_DIRTY == 0 for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)
        )

    def load_tables(self, vcpu: ArchVCPU) -> None:
        """Load the page tables of `vcpu`'s current mode into the engine.

        This flushes the TLB, as on real hardware, unless a flush makes no difference: the TLB has no stale entry, and
        the new tables map all that the old ones do. (That is so for a kernel's own tables and those of a process; a
        Linux that boots switches there and back for each of 8000 instructions it patches.)
        """
        before, root = self._root, self._choose_tables(vcpu)
        if self.pagetables is not None:
            if not self.pagetables.stale and self.follows(root >> 12, before):
                self.state[CR3] = root
                return
            self.pagetables.stale = False
        self.pcpu.load_cr3(root)

    def follows(self, new: int, old: int) -> bool:
        """Whether L4 `new` maps all that L4 `old` does. An `old` of 0 means no L4, and is False."""
        if not old or new == old:
            return bool(old)
        known = self._following.get((new, old))
        if known is None:
            if len(self._following) > 1000:
                self._following.clear()
            low = old << 9
            known = not any(self.words[low : low + 256].tobytes()) and self._same((new << 9) + 256, low + 256)
            self._following[new, old] = known
        return known

    def _choose_tables(self, vcpu: ArchVCPU) -> int:
        """The machine address of the page tables for `vcpu`'s current mode; the software TLB is set to its kernel's."""
        self.memory.root = vcpu.guest_table
        root = vcpu.guest_table
        if self._separate:
            self.pcpu.set_user_tables(vcpu.guest_table_user << 12)
        elif not vcpu.kernel_mode:
            root = vcpu.guest_table_user
        self._root = root
        self.memory.clear()
        return root << 12

    def user_tables_changed(self, vcpu: ArchVCPU) -> None:
        """The user L4 of `vcpu` was changed; the vCPU is current and in kernel mode."""
        self._users_known = -1
        if self._separate:
            self.pcpu.set_user_tables(vcpu.guest_table_user << 12)

    # -- kernel and user mode ------------------------------------------------------------------------------------
    def to_kernel(self, vcpu: ArchVCPU) -> None:
        """Switch the vCPU to kernel mode: the kernel's GS base and page tables."""
        state = self.state
        vcpu.kernel_mode = True
        vcpu.gs_base_user = state[GS_BASE]
        state[GS_BASE] = vcpu.gs_base_kernel
        state[HFLAGS] = state[HFLAGS] & ~MODE | KERNEL
        if self._root != vcpu.guest_table:  # never where users have tables of their own
            self.load_tables(vcpu)

    def to_user(self, vcpu: ArchVCPU) -> None:
        """Switch the vCPU to user mode: the user's GS base and page tables."""
        state = self.state
        vcpu.kernel_mode = False
        vcpu.gs_base_kernel = state[GS_BASE]
        state[GS_BASE] = vcpu.gs_base_user
        state[HFLAGS] = state[HFLAGS] & ~MODE | USER
        if self._users_known != vcpu.guest_table_user:
            self._users_known = vcpu.guest_table_user
            self.pcpu.flush_on_entry()
        if not self._separate:
            self.load_tables(vcpu)

    # -- segments ------------------------------------------------------------------------------------------------
    def flat_kernel(self) -> None:
        """Load the flat 64-bit CS, if user code had another one."""
        self.pcpu.set_segment(CS, self.state[CS], 0, 0xFFFF_FFFF, FLAT_USER_CODE64)
        self.state[HFLAGS] |= HF_CS64 | HF_CS32

    def load_code_and_stack(self, vcpu: ArchVCPU, cs: int, ss: int, rip: int) -> tuple[int, int] | None:
        """Load CS and SS as a return to `rip` in ring 3 does; None, or the exception (vector, error code) that it
        raises.

        The selectors are set even then, so that the exception's frame shows them: in Xen, Xen's own iret faults, and
        the guest gets that fault with the frame of the failed return.
        """
        code, stack = self.descriptor(vcpu, cs), self.descriptor(vcpu, ss)
        self.state[CS], self.state[SS] = cs, ss
        fault = code_fault(cs, code) or stack_fault(ss, stack)
        if fault is None and not code & LONG and rip > limit_of(code):
            fault = GENERAL_PROTECTION, 0
        if fault is not None:
            return fault
        self._load_segment(CS, cs, code)
        self._load_segment(SS, ss, stack)
        hflags = self.state[HFLAGS] & ~(HF_CS64 | HF_CS32)
        long_mode = code & LONG
        big = HF_CS32 if code >> 54 & 1 else 0
        self.state[HFLAGS] = hflags | (HF_CS64 | HF_CS32 if long_mode else big)
        return None

    def load_user_gs(self, vcpu: ArchVCPU, selector: int) -> None:
        """SEGBASE_GS_USER_SEL: load the user's GS from a descriptor; a selector without a usable one becomes null."""
        descriptor = self.descriptor(vcpu, selector | 3)
        if is_readable(descriptor):
            selector |= 3
        else:
            selector = descriptor = 0
        vcpu.gs_base_user, limit, flags = hidden_part(descriptor)
        self.pcpu.set_segment(GS, selector, self.state[GS_BASE], limit, flags)

    def _load_segment(self, register: int, selector: int, descriptor: int) -> None:
        self.pcpu.set_segment(register, selector, *hidden_part(descriptor))

    def descriptor(self, vcpu: ArchVCPU, selector: int) -> int:
        """The descriptor a selector names in the vCPU's tables; 0 (not present) where there is none."""
        index = selector >> 3
        if selector & 4:
            if index >= vcpu.ldt_ents:
                return 0
            try:
                return self.memory.read_words(vcpu.ldt_base + index * 8, 1)[0]
            except GuestFault:
                return 0
        if index >= FIRST_RESERVED_GDT_ENTRY:
            return RESERVED.get(selector & ~7 | 3, 0)
        if not index or index >= vcpu.gdt_ents:
            return 0
        return self.words[(vcpu.gdt_frames[index >> 9] << 9) + (index & 511)]

    def load_ldt(self, vcpu: ArchVCPU) -> None:
        """Load LDTR: the address and size of the vCPU's LDT."""
        limit = max(vcpu.ldt_ents * 8 - 1, 0)
        self.pcpu.set_ldtr(0xE000 if vcpu.ldt_ents else 0, DescriptorTables.ldt_address(vcpu), limit)

    def fpu_taskswitch(self, vcpu: ArchVCPU, on: bool) -> None:
        """Set or clear the virtual CR0.TS of the vCPU that runs."""
        vcpu.ts = on
        self.pcpu.set_ts(on)

    # -- which vCPU ----------------------------------------------------------------------------------------------
    def load(self, vcpu: ArchVCPU) -> None:
        """Load `vcpu` into the pCPU, after saving the vCPU that was there."""
        if self.loaded is not vcpu:
            self.unload()
            self.pcpu.load(vcpu.context, self._choose_tables(vcpu))
            self._users_known = vcpu.guest_table_user
            vcpu.state = self.state
            self.loaded = vcpu
            self.debug_registers_changed(vcpu)
            note_running(f"{vcpu.domain}, vCPU {vcpu.vcpu_id}")
            if not self.state[GDT + BASE]:  # it never ran
                self.pcpu.set_gdtr(DescriptorTables.gdt_address(vcpu), GDT_LIMIT)
                self.load_ldt(vcpu)
        self.current = vcpu

    def debug_registers_changed(self, vcpu: ArchVCPU) -> None:
        """Load the debug registers of `vcpu` into the pCPU, if `vcpu` is loaded there."""
        armed = bool(vcpu.debugreg[7] & DR7_ACTIVE)
        if self.loaded is vcpu and (armed or self._armed):
            self._armed = armed
            self.pcpu.load_debug_registers((*vcpu.debugreg[:4], 0, 0, DR6_DEFAULT, vcpu.debugreg[7]))

    def unload(self) -> None:
        """Save the context in the engine into its vCPU; then no vCPU is loaded."""
        vcpu = self.loaded
        if vcpu is not None:
            self.pcpu.save_into(vcpu.context)
            vcpu.state = vcpu.saved_state
            self.loaded = None

    def park(self) -> None:
        """Leave the page tables of a vCPU that is being destroyed."""
        self.memory.clear()
        self.memory.root = 0
        self._root = 0
        if self._separate:
            self.pcpu.set_user_tables(0)
        if self._armed:
            self._armed = False
            self.pcpu.load_debug_registers((0, 0, 0, 0, 0, 0, DR6_DEFAULT, DR7_DEFAULT))
        self.pcpu.load(self.pcpu.initial)
        self.pcpu.flush_tlb()


@lru_cache(256)  # a guest loads the same few at each switch between processes
def hidden_part(descriptor: int) -> tuple[int, int, int]:
    """What a segment register has of a descriptor besides the selector: base, limit, and PCPU.set_segment's flags."""
    base = descriptor >> 16 & 0xFF_FFFF | descriptor >> 32 & 0xFF00_0000
    return base, limit_of(descriptor), descriptor >> 32 & 0x00FF_FF00


def is_readable(descriptor: int) -> bool:
    """Whether it is a present segment that can be read: data, or readable code."""
    readable = descriptor & (IS_PRESENT | SEGMENT) == IS_PRESENT | SEGMENT
    return readable and (not descriptor & CODE or bool(descriptor & WRITABLE_DATA))


def limit_of(descriptor: int) -> int:
    """The last offset in a segment, from its descriptor."""
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF_0000
    return limit << 12 | 0xFFF if descriptor & GRANULAR else limit


def code_fault(selector: int, descriptor: int) -> tuple[int, int] | None:
    """The exception (vector, error code) that a return to ring 3 raises for this CS, or None."""
    if selector & ~3 == 0:
        return GENERAL_PROTECTION, 0
    if descriptor & (SEGMENT | CODE) != SEGMENT | CODE:
        return GENERAL_PROTECTION, selector & ~3
    return None if descriptor & IS_PRESENT else (NOT_PRESENT, selector & ~3)


def stack_fault(selector: int, descriptor: int) -> tuple[int, int] | None:
    """The exception (vector, error code) that a return to ring 3 raises for this SS, or None."""
    if selector & ~3 == 0:
        return GENERAL_PROTECTION, 0
    if descriptor & (SEGMENT | CODE | WRITABLE_DATA) != SEGMENT | WRITABLE_DATA:
        return GENERAL_PROTECTION, selector & ~3
    return None if descriptor & IS_PRESENT else (STACK_FAULT, selector & ~3)
