# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes on one pCPU: functions around the hypervisor's handlers that record what passes through them.

There are probes only for the kinds of records that somebody wants. A probe looks at the state, calls its handler, looks
again, and gives a Record to each watch of the domain. For a domain without a watch it only calls the handler.

Read beside it: pvhv/machine/wrapping.py, which puts them there; pvhv/core/traps/exits.py, whose handlers these
are; TRACE_PV_* in xen/include/public/trace.h.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pvhv.abi.xen import HYPERVISOR_iret
from pvhv.machine.cpustate import ERROR_CODE, HF_CS64, HFLAGS, R8, R9, R10, RAX, RDI, RDX, RIP, RSI, RSP
from pvhv.machine.pcpu import FAULT_ADDRESS
from pvhv.machine.svm import PFEC_USER
from pvhv.machine.wrapping import Around, wrap
from pvhv.machine.x86 import MASK64, PAGE_FAULT
from pvhv.observe.capture import answer, caller, capture, put_aside
from pvhv.observe.record import AMD64, I386, HypercallRecord, Landed, Record, Sink

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.events.ports import Channel
    from pvhv.core.hypervisor import Hypervisor
    from pvhv.core.pv_cpu import PvCpu
    from pvhv.core.vcpu import VCPU

ARGUMENTS = (RDI, RSI, RDX, R10, R8, R9)
VECTORS = range(32)


class Probes:
    """What is watched on one pCPU, until `remove`."""

    def __init__(
        self, hypervisor: Hypervisor, cpu: PvCpu, watched: dict[Domain, list[Sink]], kinds: frozenset[str], copies: bool
    ) -> None:
        self.hypervisor = hypervisor
        self.cpu = cpu
        self.watched = watched
        self.kinds = kinds
        self.copies = copies
        upcalls = "upcall" in kinds  # one may follow every exit
        around: list[tuple[str, Around, int | None]] = []
        if upcalls or kinds & {"hypercall", "syscall"}:
            around.append(("on_syscall", self._syscall, None))
        if upcalls or "fault" in kinds:
            around += [("on_exception", partial(self._exception, vector), vector) for vector in VECTORS]
        if upcalls or "int" in kinds:
            around.append(("on_int", self._software_interrupt, None))
        if "cpuid" in kinds:
            around.append(("on_cpuid", self._cpuid, None))
        if "io" in kinds:
            around.append(("on_io", self._io, None))
        self._unwrap = [wrap(cpu.pcpu, name, probe, entry) for name, probe, entry in around]
        if upcalls:
            self._unwrap.append(wrap(hypervisor, "deliver_pending", self._deliver))
        if "running" in kinds:
            self._entered: dict[VCPU, int] = {}
            self._unwrap.append(wrap(hypervisor.activity, "entering", self._entering))
            self._unwrap.append(wrap(hypervisor.activity, "leaving", self._leaving))
        if "event" in kinds:
            self._unwrap += [wrap(each.events, "set_pending", partial(self._pending, each)) for each in watched]

    def remove(self) -> None:
        """Remove the probes."""
        self.watched = {}
        for unwrap in self._unwrap:
            unwrap()
        self._unwrap = []

    # -- telling ---------------------------------------------------------------------------------------------
    def emit(self, vcpu: VCPU, began: int, stack: int, kind: str, rip: int, kernel: bool, *data: Any) -> None:
        """Give a record to every watch of the vCPU's domain."""
        domain = vcpu.domain
        now = domain.timeline.now()
        record = Record(now, domain.domid, vcpu.vcpu_id, kind, rip, kernel, data, now - began, stack)
        for sink in self.watched.get(domain, ()):
            sink(record)

    def _upcall(self, vcpu: VCPU, before: int, kernel: bool, after: int) -> None:
        if after == vcpu.event_callback_eip and after != before:
            self.emit(vcpu, vcpu.domain.timeline.now(), vcpu.kernel_sp, "upcall", before, kernel)

    # -- the probes ------------------------------------------------------------------------------------------
    def _syscall(self, original: Callable[[], object]) -> Callable[[], None]:
        cpu, state = self.cpu, self.cpu.state

        def syscall() -> None:
            vcpu = cpu.current
            domain = vcpu.domain
            if domain not in self.watched:
                original()
                return
            began, stack = domain.timeline.now(), vcpu.kernel_sp
            rip, kernel, number = state[RIP] - 2 & MASK64, vcpu.kernel_mode, state[RAX]  # of the `syscall`
            registers = tuple(state[register] for register in ARGUMENTS)
            abi = AMD64 if state[HFLAGS] & HF_CS64 else I386
            if not kernel or abi == I386:
                original()
                self.emit(vcpu, began, stack, "syscall", rip, kernel, number, registers, abi)
                return
            call = capture(vcpu, number, registers, copies=self.copies)
            if self.copies and number != HYPERVISOR_iret:
                call = call._replace(above=caller(vcpu, state[RSP]))
            try:
                original()
            finally:
                after = state[RIP]
                self.emit(vcpu, began, stack, "hypercall", rip, kernel, self._made(vcpu, call, rip))
                self._upcall(vcpu, rip, kernel, after)

        return syscall

    def _made(self, vcpu: VCPU, call: HypercallRecord, rip: int) -> HypercallRecord:
        """A hypercall's record at its end: with a result, returning to user mode, or to be continued."""
        state = self.cpu.state
        again = state[RIP] == rip and state[RAX] == call.number  # a continuation executes the `syscall` once more
        if again:
            call = put_aside(call, (state[RDI], state[RSI]))
        result = None if again or call.number == HYPERVISOR_iret else state[RAX]
        landed = None if vcpu.kernel_mode else Landed(state[RIP], state[RAX])
        return answer(vcpu, call, result, self.copies)._replace(landed=landed, stack=vcpu.kernel_sp)

    def _exception(self, vector: int, original: Callable[[], object]) -> Callable[[], None]:
        cpu, state, aux, vmcb = self.cpu, self.cpu.state, self.cpu.pcpu.aux, self.cpu.pcpu.vmcb

        def exception() -> None:
            vcpu = cpu.current
            if vcpu.domain not in self.watched:
                original()
                return
            began, stack = vcpu.domain.timeline.now(), vcpu.kernel_sp
            rip, kernel, code = state[RIP], vcpu.kernel_mode, aux[ERROR_CODE]
            address = vmcb[FAULT_ADDRESS] if vector == PAGE_FAULT else 0
            try:
                original()
            finally:
                after = state[RIP]
                if after == vcpu.trap_table[vector].address:
                    outcome = "bounced"
                else:
                    outcome = "retried" if after == rip else "handled"
                # A kernel had lowered its own CPL, which one of Xen's, at ring 3, cannot. Whether the engine notices
                # depends on what is in its TLB: so this is no exit of the guest's, nor the same in every run.
                if not (vector == PAGE_FAULT and kernel and code & PFEC_USER and outcome == "retried"):
                    self.emit(vcpu, began, stack, "fault", rip, kernel, vector, code, address, outcome)
                self._upcall(vcpu, rip, kernel, after)

        return exception

    def _software_interrupt(self, original: Callable[[int], object]) -> Callable[[int], None]:
        cpu, state = self.cpu, self.cpu.state

        def software_interrupt(vector: int) -> None:
            vcpu, rip, kernel = cpu.current, state[RIP] - 2 & MASK64, cpu.current.kernel_mode
            if vcpu.domain not in self.watched:
                original(vector)
                return
            began, stack, rax = vcpu.domain.timeline.now(), vcpu.kernel_sp, state[RAX]
            try:
                original(vector)
            finally:
                self.emit(vcpu, began, stack, "int", rip, kernel, vector, rax)
                self._upcall(vcpu, rip, kernel, state[RIP])

        return software_interrupt

    def _cpuid(self, original: Callable[[], object]) -> Callable[[], None]:
        cpu, state = self.cpu, self.cpu.state

        def cpuid() -> None:
            vcpu, rip, leaf = cpu.current, state[RIP], state[RAX] & 0xFFFF_FFFF
            began = vcpu.domain.timeline.now()
            original()
            self.emit(vcpu, began, vcpu.kernel_sp, "cpuid", rip, vcpu.kernel_mode, leaf)

        return cpuid

    def _io(self, original: Callable[..., int | None]) -> Callable[..., int | None]:
        cpu, state = self.cpu, self.cpu.state

        def port_io(port: int, size: int, is_write: bool, value: int) -> int | None:
            vcpu, rip = cpu.current, state[RIP]
            began = vcpu.domain.timeline.now()
            result = original(port, size, is_write, value)
            shown = value if is_write else result
            self.emit(vcpu, began, vcpu.kernel_sp, "io", rip, vcpu.kernel_mode, port, size, is_write, shown)
            return result

        return port_io

    def _deliver(self, original: Callable[[VCPU], None]) -> Callable[[VCPU], None]:
        def deliver_pending(vcpu: VCPU) -> None:
            before, kernel = vcpu.state[RIP], vcpu.kernel_mode
            original(vcpu)
            if vcpu.domain in self.watched:
                self._upcall(vcpu, before, kernel, vcpu.state[RIP])

        return deliver_pending

    def _entering(self, original: Callable[[VCPU, int], None]) -> Callable[[VCPU, int], None]:
        def entering(vcpu: VCPU, now: int) -> None:
            self._entered[vcpu] = now
            original(vcpu, now)
            self._ran(vcpu, now, 0)

        return entering

    def _leaving(self, original: Callable[[VCPU, int], None]) -> Callable[[VCPU, int], None]:
        def leaving(vcpu: VCPU, now: int) -> None:
            original(vcpu, now)
            began = self._entered.pop(vcpu, None)
            if began is not None:
                self._ran(vcpu, now, now - began)

        return leaving

    def _ran(self, vcpu: VCPU, now: int, spent: int) -> None:
        data = (vcpu.runstate.state,)
        record = Record(now, vcpu.domain.domid, vcpu.vcpu_id, "running", 0, False, data, spent)
        for sink in self.watched.get(vcpu.domain, ()):
            sink(record)

    def _pending(self, domain: Domain, original: Callable[[Channel], None]) -> Callable[[Channel], None]:
        events = domain.events

        def set_pending(channel: Channel) -> None:
            turn = self.hypervisor.scheduler.current_turn
            sender = turn.vcpu if turn is not None and turn.vcpu.domain is domain else None
            stack = sender.kernel_sp if sender is not None and sender.kernel_mode else 0  # of whose doing it is
            status = tuple(events.status(channel.port))
            now = domain.timeline.now()
            data = (channel.port, channel.state, status)
            record = Record(now, domain.domid, channel.vcpu_id, "event", 0, True, data, 0, stack)
            for sink in self.watched.get(domain, ()):
                sink(record)
            original(channel)

        return set_pending
