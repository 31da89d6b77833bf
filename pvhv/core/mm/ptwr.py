# SPDX-License-Identifier: GPL-2.0-or-later
"""Writable page tables: a guest kernel's store to an entry of its own L1 table, carried out for it.

Page tables are mapped read-only, so such a store faults. With the assist VMASST_TYPE_writable_pagetables on, the
hypervisor decodes the instruction (pvhv.core.mm.stores), checks the entry it would leave as it checks that of an
mmu_update, and does what the instruction does. If the instruction is another one, or would leave an entry the guest may
not have, the guest gets the page fault. A store to part of an entry counts as a store to the whole entry. A store that
is not aligned is refused, and so is every store to a table of a higher level. An instruction that would not change
memory stores nothing, and is never refused.

Xen stores plainly or compares and exchanges, by whether the instruction is locked. Nothing else runs between our look
at an entry and our store to it (no vCPU of the domain, and no accessed or dirty bit set by the engine), so here both
are the same.

Read beside it: xen/arch/x86/pv/ro-page-fault.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pvhv.abi.xen import VMASST_TYPE_writable_pagetables
from pvhv.core.errors import GuestFault, HypercallError
from pvhv.core.mm.frames import FIT_FOR, L1_TABLE
from pvhv.core.mm.pagetables import PageTables
from pvhv.core.mm.pte import ADDRESS, PRESENT, RW
from pvhv.core.mm.stores import OPERATIONS, Store, decode, ones, set_part, subtract
from pvhv.machine.cpustate import DF, EFLAGS, RAX, RBX, RCX, RDI, RDX, RIP, RSI, TF, ZF
from pvhv.machine.svm import DB, PFEC_FETCH, PFEC_PRESENT, PFEC_RESERVED, PFEC_WRITE

if TYPE_CHECKING:
    from pvhv.core.arch import ArchVCPU
    from pvhv.core.cpu import Cpu
    from pvhv.core.traps.bounce import Traps

PAGE = ~0xFFF
WRITE_DENIED = PFEC_PRESENT | PFEC_WRITE  # what the error code of such a fault has set


class Refused(Exception):
    """The instruction is not carried out; the guest gets the page fault."""


class WritablePageTables:
    """Stores to L1 entries on one pCPU."""

    WRAPPABLE: ClassVar = frozenset({"page_fault"})

    def __init__(self, tables: PageTables, cpu: Cpu, traps: Traps, fetch: Callable[[ArchVCPU, int], bytes]) -> None:
        self.pagetables = tables
        self.cpu = cpu
        self.state = cpu.state
        self.traps = traps
        self.fetch = fetch
        self._page = 0  # the guest-virtual page that faulted
        self._table = 0  # the L1 it maps
        self._domid = 0

    def page_fault(self, vcpu: ArchVCPU, address: int, code: int) -> bool:
        """Whether a page fault by a kernel's write to a read-only page was dealt with by emulation."""
        domain = vcpu.domain
        if code & (PFEC_RESERVED | PFEC_FETCH) or not domain.vm_assist >> VMASST_TYPE_writable_pagetables & 1:
            return False
        frames = self.pagetables.frames
        state = self.state
        try:
            entry = self.cpu.words[self.cpu.memory.entry_address(address) >> 3]
            table = (entry & ADDRESS) >> 12
            if (
                entry & (PRESENT | RW) != PRESENT
                or table >= frames.count
                or frames.owner[table] != domain.domid
                or frames.types[table] & FIT_FOR != L1_TABLE
                or not frames.type_counts[table]
            ):
                return False
            store = decode(self.fetch(vcpu, state[RIP]), state[RIP], state)
        except GuestFault:
            return False
        if store is None:
            return False
        self._page, self._table, self._domid = address & PAGE, table, domain.domid
        try:
            after = self._carry_out(store, state[EFLAGS])
        except Refused:
            return False
        except GuestFault as fault:  # it reads what the hypervisor may not read for it, such as the M2P
            self.traps.inject_page_fault(vcpu, fault.address, 0)
            return True
        state[EFLAGS] = after
        if after & TF:
            self.traps.inject(vcpu, DB)
        return True

    def _carry_out(self, store: Store, flags: int) -> int:
        """Do what the instruction does, registers last; returns the new flags. Raises Refused or GuestFault."""
        operation, size, state = store.operation, store.size, self.state
        following = store.end
        if operation == "mov":
            self._write(store, store.source)
        elif operation in ("stos", "movs"):
            following = self._string(store, flags)
        elif operation == "cmpxchg8b":
            flags = self._compare_pair(store, flags)
        else:
            old = self._read(store.address, size)
            if operation == "cmpxchg":
                expected = state[RAX] & ones(size)
                _difference, flags = subtract(expected, old, 8 * size, flags)
                if old == expected:
                    self._write(store, store.source)
                else:
                    set_part(state, (RAX, 0), size, old)
            else:
                new, flags = OPERATIONS[operation](old, store.source, 8 * size, flags)
                if new != old:
                    self._write(store, new)
                if operation in ("xchg", "xadd"):
                    set_part(state, store.register, size, old)
        state[RIP] = following
        return flags

    def _compare_pair(self, store: Store, flags: int) -> int:
        """cmpxchg8b, and cmpxchg16b as far as it does not store (that is more than an entry)."""
        state, half = self.state, 4 * store.size
        mask = ones(store.size // 2)
        old = self._read(store.address, store.size)
        if old == (state[RAX] & mask | (state[RDX] & mask) << half):
            self._write(store, state[RBX] & mask | (state[RCX] & mask) << half)
            return flags | ZF
        state[RAX], state[RDX] = old & mask, old >> half
        return flags & ~ZF

    def _string(self, store: Store, flags: int) -> int:
        """One iteration of stos or movs; returns the next RIP: the same instruction while iterations are left."""
        state, size, mask = self.state, store.size, store.address_mask
        step = -size if flags & DF else size
        if store.operation == "movs":
            self._write(store, self._read(state[RSI] & mask, size))
            state[RSI] = state[RSI] + step & mask
        else:
            self._write(store, store.source)
        state[RDI] = state[RDI] + step & mask
        if store.repeated:
            state[RCX] = state[RCX] - 1 & mask
            if state[RCX]:
                return int(state[RIP])
        return store.end

    def _read(self, address: int, size: int) -> int:
        return int.from_bytes(self.cpu.memory.read(address, size), "little")

    def _write(self, store: Store, value: int) -> None:
        """Leave `value` in the entry, or the part of it, that is at the store's address. Raises Refused."""
        address, size = store.address, store.size
        if address & PAGE != self._page or address & size - 1 or size > 8:
            raise Refused
        slot = self._table << 9 | address >> 3 & 511
        shift = (address & 7) * 8
        value = self.cpu.words[slot] & ~(ones(size) << shift) | value << shift
        try:
            self.pagetables.replace_l1_entry(slot, value, self._domid)
        except HypercallError:
            raise Refused from None
