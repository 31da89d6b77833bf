# SPDX-License-Identifier: GPL-2.0-or-later
"""A debugger for one domain: stop the whole domain, resume single vCPUs, read and change memory and registers.

Making a Debugger pauses its domain; `detach` removes all breakpoints and lets the domain run. In between the domain is
either stopped (`stopped`) or runs until it reaches a breakpoint, completes a step, or is interrupted. Then all its
vCPUs stop, and `on_stop` is told which vCPU caused the stop and why. The toolstack may pause, unpause and destroy the
domain meanwhile: pauses are counted.

The guest can notice none of this except by the time that passes. Breakpoints and watchpoints are the pCPU's
(machine/debug.py), not int3 in memory nor the guest's debug registers. A vCPU that steps gets no upcall before its
instruction: after a stop a timer is always due, so every step would enter the timer's handler. Memory is read through
the vCPU's own page tables without setting accessed bits. It can be written even if it is mapped read-only, as with
Xen's gdbsx. Page tables and descriptor pages cannot be written: they are validated once, and must not change without
another validation.

A breakpoint that is removed keeps its hook, which is ignored, until the domain next runs without a step: debuggers
remove and set all breakpoints at each stop.

Not modelled: a guest's own int3 and #DB are the guest's (Xen pauses the domain for gdbsx instead); a breakpoint in a
page that user code has at another place too; watchpoints on the stock engine, and on what the hypervisor writes for the
guest; fully virtualized domains.

Read beside it: xen/arch/x86/debug.c, XEN_DOMCTL_gdbsx_* in xen/arch/x86/domctl.c, tools/debugger/gdbsx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from pvhv.core.breakpoints import Breakpoints, Why
from pvhv.core.errors import GuestFault
from pvhv.core.mm.frames import NONE, TYPE_MASK, WRITABLE
from pvhv.machine.cpustate import RIP
from pvhv.machine.paging import LEVEL_SHIFTS, PTE_ADDRESS, PTE_PRESENT, PTE_RW, is_canonical, walk
from pvhv.machine.ram import PAGE_SIZE

if TYPE_CHECKING:
    from pvhv.core.arch import ArchVCPU
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU
    from pvhv.machine.debug import Watched


class Stop(NamedTuple):
    """Why the domain stopped: the vCPU that caused it, and the reason."""

    vcpu: VCPU
    why: Why
    reached: Watched | None = None  # a watchpoint, and the instruction before RIP did


class Debugger:
    """The debugger of one domain. Call it only on the hypervisor's thread, between slices (by `Scheduler.post`)."""

    def __init__(self, domain: Domain, on_stop: Callable[[Stop], None]) -> None:
        self.domain = domain
        self.on_stop = on_stop
        self.breakpoints: set[int] = set()
        self.watchpoints: set[Watched] = set()
        self.stopped = True
        self.stepping_within = range(0)  # a step goes on for as long as RIP is in it
        self._held: list[VCPU] = []  # vCPUs that rest while others run
        cpu = domain.timeline.cpu
        if cpu.breakpoints is None:
            cpu.breakpoints = Breakpoints(cpu)
        self._shared = cpu.breakpoints
        self._activity = domain.hypervisor.activity
        domain.debugger = self
        self._activity.pause(domain)
        self._shared.join(self)

    def detach(self) -> None:
        """Remove all breakpoints and undo the debugger's pause; the domain runs if nothing else pauses it."""
        if self.domain.debugger is not self:
            return
        self.breakpoints.clear()
        self.watchpoints.clear()
        self._end_steps()
        self._shared.leave(self)
        self.domain.debugger = None
        if not self.stopped:
            self._activity.pause(self.domain)  # vCPUs that were held come to rest, and go on, like the others
        self.stopped = False
        self._activity.unpause(self.domain)

    # -- running and resting -----------------------------------------------------------------------------------
    def resume(self, running: Iterable[VCPU], stepping: VCPU | None = None, within: range = range(0)) -> None:
        """Let these vCPUs run. `stepping`, one of them, stops after one instruction, or when RIP leaves `within`."""
        domain = self.domain
        if not self.stopped:
            return
        runs = set(running)
        for vcpu in domain.vcpus:
            if vcpu not in runs:
                vcpu.paused += 1
                self._held.append(vcpu)
        self._shared.settle_watchpoints()
        if stepping is None:
            self._shared.settle(self)
        else:
            stepping.stepping = True
            self.stepping_within = within
        self.stopped = False
        self._activity.unpause(domain)

    def stop(self, stop: Stop) -> None:
        """Stop the domain and call `on_stop`."""
        if self.stopped:
            return
        self.stopped = True
        self._end_steps()
        self._activity.pause(self.domain)
        self.on_stop(stop)

    def reached(self, vcpu: ArchVCPU, why: Why, place: Watched | None = None) -> None:
        """A vCPU reached a breakpoint, hit a watchpoint, or completed a step: stop, or continue the step."""
        if why is Why.STEP and vcpu.state[RIP] in self.stepping_within:
            self.domain.timeline.cpu.pcpu.debug.step()
        else:
            self.stop(Stop(self.domain.vcpus[vcpu.vcpu_id], why, place))

    def interrupt(self) -> None:
        """Stop the domain now; the vCPU reported is the one whose turn it is, else vCPU 0."""
        turn = self.domain.timeline.turn
        vcpu = turn.vcpu if turn is not None and turn.vcpu.domain is self.domain else self.domain.vcpus[0]
        self.stop(Stop(vcpu, Why.INTERRUPT))

    def _end_steps(self) -> None:
        for vcpu in self._held:
            vcpu.paused -= 1
        self._held.clear()
        for vcpu in self.domain.vcpus:
            vcpu.stepping = False

    @property
    def can_watch(self) -> bool:
        """Whether the engine supports watchpoints."""
        return self.domain.timeline.cpu.pcpu.debug.can_watch

    # -- memory ------------------------------------------------------------------------------------------------
    def read(self, vcpu: VCPU, va: int, size: int) -> bytes:
        """Up to `size` bytes at `va`, as far as pages are mapped. Raises GuestFault if there are none."""
        ram = self.domain.hypervisor.ram.bytes
        pieces: list[bytes] = []
        while size:
            try:
                offset, _ = self._translate(vcpu, va)
            except GuestFault:
                if not pieces:
                    raise
                break
            step = min(size, PAGE_SIZE - va % PAGE_SIZE)
            pieces.append(bytes(ram[offset : offset + step]))
            va, size = va + step, size - step
        return b"".join(pieces)

    def write(self, vcpu: VCPU, va: int, data: bytes) -> None:
        """Write all of `data` at `va`, or raise GuestFault and write nothing."""
        hypervisor = self.domain.hypervisor
        frames, ram = hypervisor.frames, hypervisor.ram.bytes
        pieces: list[tuple[int, bytes]] = []
        while data:
            offset, entry = self._translate(vcpu, va)
            mfn = offset // PAGE_SIZE
            ours = frames.owner[mfn] == self.domain.domid or entry & PTE_RW
            if not ours or frames.types[mfn] & TYPE_MASK not in (NONE, WRITABLE):
                raise GuestFault(va)
            step = min(len(data), PAGE_SIZE - va % PAGE_SIZE)
            pieces.append((offset, data[:step]))
            va, data = va + step, data[step:]
        for offset, piece in pieces:
            ram[offset : offset + len(piece)] = piece
            hypervisor.host_wrote(offset // PAGE_SIZE)

    def frames_at(self, addresses: Iterable[int]) -> set[int]:
        """The frames that any page tables of the domain's vCPUs map at these addresses."""
        found: set[int] = set()
        for address in addresses:
            for vcpu in self.domain.vcpus:
                for root in {vcpu.guest_table, vcpu.guest_table_user} - {0}:
                    leaf = self._walk(root, address)
                    if leaf is not None:
                        found.add(leaf[0] // PAGE_SIZE)
        return found

    def _translate(self, vcpu: VCPU, va: int) -> tuple[int, int]:
        """(offset in machine memory, leaf entry) of `va`: by the tables of the vCPU's mode, else by its kernel's."""
        roots = [vcpu.guest_table] if vcpu.kernel_mode else [vcpu.guest_table_user, vcpu.guest_table]
        for root in roots:
            leaf = self._walk(root, va) if root and is_canonical(va) else None
            if leaf is not None:
                return leaf
        raise GuestFault(va)

    def _walk(self, root: int, va: int) -> tuple[int, int] | None:
        ram = self.domain.hypervisor.ram
        entry, level, _ = walk(ram.words, root << 12, va)
        if not entry & PTE_PRESENT:
            return None
        mask = (1 << LEVEL_SHIFTS[level]) - 1
        offset = entry & PTE_ADDRESS & ~mask | va & mask
        return (offset, entry) if offset < ram.size else None
