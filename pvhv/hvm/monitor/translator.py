# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding a kernel's sensitive instructions as it runs, and putting callouts in their places.

The engine is a dynamic translator already: it makes host code from a block of guest code when the block is first
reached. This translator works with it. Each block of the kernel that is about to run for the first time is decoded,
from its entry to its first transfer of control. Every sensitive or privileged instruction in it becomes a *callout*:
the engine's translation stops before that instruction and calls the monitor, which does the work. All other
instructions run as they are. The guest's bytes are not changed, so a kernel that reads its own code reads what it
wrote; a rewritten instruction differs only in its effect.

Code is found when it is entered, so nothing need be known of it beforehand. Data between code is never decoded. One
byte may belong to two instructions, because a callout is recorded by the address where its instruction *begins*.

Code that changes: the engine drops a block whose bytes change (the page is write-protected while there are translations
from it, npt.py) or whose address is mapped to another page. The block that the engine then translates is decoded here
again. A callout decodes the bytes at its address each time it is reached, so it does no harm if the instruction has
changed.

Invariant: no block of the kernel's runs whose bytes have not been decoded since they last changed.

Read beside it: binary_translation.py, which carries out the instructions; sensitive.py; breakpoints.py in pvhv/machine;
Adams and Agesen (2006), section 3; in QEMU, accel/tcg/translate-all.c.

Not modelled: what the paper's translator does to returns and other indirect jumps, because its code lies elsewhere than
the guest's; inlining of callouts (they are counted, and priced, apart); forgetting callouts that stay unused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pvhv.core.errors import DomainCrash
from pvhv.hvm.cpu.guestcpu import GuestCpu
from pvhv.hvm.cpu.memory import GuestException, walk
from pvhv.hvm.emulator.decode import LONGEST, decode
from pvhv.hvm.emulator.sensitive import reason
from pvhv.hvm.monitor.deprivileged import REAL_KERNEL, REAL_USER
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import HFLAGS
from pvhv.machine.pcpu import PCPU
from pvhv.machine.ram import PAGE_SIZE

MOST_BLOCKS: Final = 1 << 16
MOST_CALLOUTS: Final = 8192  # each costs the engine a look whenever it translates


class Translator:
    """The translations of one guest's kernel. `new_block` is called for each block that is new or changed."""

    def __init__(self, cpu: GuestCpu, pcpu: PCPU, new_block: Callable[[], object]) -> None:
        self.cpu = cpu
        self.pcpu = pcpu
        self.new_block = new_block
        self.callouts: set[tuple[int, int]] = set()  # (address, real CPL)
        self.users = False  # whether user code is translated, too
        self.frames: set[int] = set()  # machine frames with code of the kernel's that was decoded
        self._blocks: dict[tuple[int, int, int], bytes] = {}  # by address, size of the code segment and CPL
        self._stale: set[int] = set()  # frames of which the engine has translations without all the callouts
        pcpu.on_translated(self._translated)

    def reset(self) -> None:
        """Forget the blocks that were decoded: another kernel may be loaded."""
        self.users = False
        self.frames.clear()
        self._blocks.clear()

    def _bits(self) -> int:
        flags = self.cpu.state[HFLAGS]
        return 64 if flags & cs.HF_CS64 else 32 if flags & cs.HF_CS32 else 16

    def _translated(self, address: int, size: int) -> None:
        """The engine translated a block and would run it next: decode it and add callouts."""
        level = self.cpu.state[HFLAGS] & cs.HF_CPL
        if level != REAL_KERNEL and not self.users:
            return
        try:
            code = self.cpu.memory.fetch(address, size, user=level == REAL_USER)
            frames = {self._frame(address), self._frame(address + size - 1)}
        except GuestException:
            return  # it cannot be, for the engine has just fetched it
        self.frames |= frames
        bits = self._bits()
        if self._blocks.get((address, bits, level)) != code:
            if len(self._blocks) >= MOST_BLOCKS:
                self._blocks.clear()  # those still in use are counted again when they are next made
            self._blocks[address, bits, level] = code
            self.new_block()
        code += self._following(address + size, level)  # the engine reads no further than to where it must fault
        at = 0
        while at < size:
            instruction = decode(code[at : at + LONGEST], bits)
            if instruction.invalid:
                break  # which the CPU will say
            if reason(instruction) and self._add(address + at, level):
                self._stale |= frames
            at += instruction.length
        if self._stale:
            self.pcpu.pause()

    def _following(self, address: int, level: int) -> bytes:
        """The bytes behind a block that its last instruction may need, from the same page."""
        try:
            return self.cpu.memory.fetch(address, min(LONGEST - 1, -address % PAGE_SIZE), user=level == REAL_USER)
        except GuestException:
            return b""

    def _frame(self, address: int) -> int:
        gpa = walk(self.cpu.physical, self.cpu, address, set_bits=False).gpa
        mfn = self.cpu.physical.mfn(gpa >> 12)
        return -1 if mfn is None else mfn

    def _add(self, address: int, level: int) -> bool:
        """Add a callout at an address; False if there is one already."""
        if (address, level) in self.callouts:
            return False
        if len(self.callouts) >= MOST_CALLOUTS:
            raise DomainCrash(f"the guest has more than {MOST_CALLOUTS} sensitive instructions")
        self.callouts.add((address, level))
        self.pcpu.break_at(address, level == REAL_USER)
        return True

    def translate_users(self, frames: list[int]) -> None:
        """From now on translate user code, too; it may lie in `frames`. (Call it only in an exit.)"""
        self.users = True
        self._stale.update(frames)
        self.pcpu.pause()

    def add(self, address: int) -> None:
        """Add a callout for an instruction whose use has shown that it needs one. (Call it only in an exit.)"""
        if self._add(address, REAL_KERNEL):
            self._stale |= {self._frame(address)}
            self.pcpu.pause()

    def refresh(self) -> bool:
        """Between two instructions of the guest: drop translations that lack callouts. False if there were none."""
        if not self._stale:
            return False
        for mfn in self._stale:
            if mfn >= 0:
                self.pcpu.forget_code(mfn)
        self._stale.clear()
        return True

    def written(self, mfn: int) -> bool:
        """A frame that code was translated from was written; True if that was the kernel's code."""
        if mfn not in self.frames:
            return False
        self.frames.discard(mfn)
        return True


