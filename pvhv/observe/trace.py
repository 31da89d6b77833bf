# SPDX-License-Identifier: GPL-2.0-or-later
"""Recording what a domain does to its hypervisor: hypercalls, faults, events and the other exits, as they
happen.

While nobody traces, none of this exists: the pCPU's handlers are what the core put there. A first trace puts
a recording function around each of them, the last one to end takes them away again, so the price of not
tracing is nothing. A record holds numbers and copies of the structures a hypercall pointed to, before and
after; names and meanings come later, off the hypervisor's thread (pvhv.observe.decode).

A fully virtualized domain makes no hypercalls: of it there is a record for every exit, by the name that its technique's
hardware has for it, and for every callout of a binary translator's.

Recording changes nothing a guest can see but, on the wall clock, its speed: on a virtual clock the same run
gives the same records whether or not somebody looks on.

Read beside it: xen/include/public/trace.h, for what Xen's own trace buffers hold.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import sizeof
from typing import TYPE_CHECKING, Any, NamedTuple

from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.xen import (
    MULTICALL_ENTRY_CODEC,
    CONSOLEIO_write,
    HYPERVISOR_console_io,
    HYPERVISOR_iret,
    HYPERVISOR_multicall,
)
from pvhv.core.errors import GuestFault
from pvhv.machine.cpustate import ERROR_CODE, R8, R9, R10, RAX, RDI, RDX, RIP, RSI
from pvhv.machine.pcpu import FAULT_ADDRESS

if TYPE_CHECKING:
    from pvhv.core.cpu import Cpu
    from pvhv.core.domain import Domain, FullVirtualization
    from pvhv.core.events import Channel
    from pvhv.core.hypervisor import Hypervisor
    from pvhv.core.vcpu import VCPU

ARGUMENTS = (RDI, RSI, RDX, R10, R8, R9)
ITEMS_KEPT = 8  # of a batch
TEXT_KEPT = 256
MASK64 = 0xFFFF_FFFF_FFFF_FFFF
PAGE_FAULT = 14


class Record(NamedTuple):
    """One thing that happened. `data` depends on `kind`; see pvhv.observe.decode."""

    time: int  # ns of the domain's own clock
    domid: int
    vcpu: int
    kind: str
    rip: int
    kernel: bool
    data: tuple[Any, ...]


class Structure(NamedTuple):
    """Bytes a hypercall pointed to: `record` is their ctypes class, `total` how many there were in all."""

    record: Any
    items: tuple[bytes, ...]
    total: int


class HypercallRecord(NamedTuple):
    """`data` of a hypercall. `result` is None when it was put aside and goes on later, or does not return."""

    number: int
    arguments: tuple[int, ...]
    given: Structure | bytes | None
    result: int | None
    answered: Structure | None
    entries: tuple[HypercallRecord, ...] = ()  # of a multicall


Sink = Callable[[Record], None]


class Recorder:
    """The traces of one hypervisor. The hypervisor's thread only, between slices."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self.hypervisor = hypervisor
        self.sinks: dict[Domain, list[Sink]] = {}
        self._undo: dict[int, Callable[[], None]] = {}

    def start(self, domain: Domain, sink: Sink) -> None:
        """Give `sink` a Record of everything `domain` does from now on."""
        if domain not in self.sinks:
            self.sinks[domain] = []
            if domain.full is not None:
                domain.full.listen(self._exit_of(domain, domain.full))
            else:
                self._watch_events(domain)
        self.sinks[domain].append(sink)
        if domain.full is not None:
            return
        cpu = domain.timeline.cpu
        if id(cpu) not in self._undo:
            self._undo[id(cpu)] = self._install(cpu)

    def stop(self, domain: Domain, sink: Sink) -> None:
        """End what `start` began; harmless when it has ended already."""
        sinks = self.sinks.get(domain, [])
        if sink in sinks:
            sinks.remove(sink)
        if sinks or domain not in self.sinks:
            return
        del self.sinks[domain]
        cpu = domain.timeline.cpu
        if id(cpu) not in self._undo:
            if domain.full is not None:
                domain.full.listen(None)
            return
        domain.events.set_pending = domain.events.ops.set_pending
        if not any(other.timeline.cpu is cpu for other in self.sinks):
            self._undo.pop(id(cpu))()

    def emit(self, vcpu: VCPU | None, domain: Domain, kind: str, rip: int, kernel: bool, *data: Any) -> None:
        """Hand a record to everybody who wants it."""
        number = -1 if vcpu is None else vcpu.vcpu_id
        record = Record(domain.timeline.now(), domain.domid, number, kind, rip, kernel, data)
        for sink in self.sinks.get(domain, ()):
            sink(record)

    def _exit_of(self, domain: Domain, full: FullVirtualization) -> Callable[[str, str, str], None]:
        def happened(kind: str, reason: str, detail: str) -> None:
            if kind != "assist":  # of which no real hypervisor would know
                self.emit(domain.vcpus[0], domain, kind, *full.where(), reason, detail)

        return happened

    # -- events ----------------------------------------------------------------------------------------------
    def _watch_events(self, domain: Domain) -> None:
        original = domain.events.ops.set_pending

        def set_pending(channel: Channel) -> None:
            status = domain.events.status(channel.port)
            self.emit(None, domain, "event", 0, False, channel.port, channel.state, tuple(status))
            original(channel)

        domain.events.set_pending = set_pending

    # -- exits -----------------------------------------------------------------------------------------------
    def _install(self, cpu: Cpu) -> Callable[[], None]:
        """Put recording functions around a pCPU's handlers; what takes them away again."""
        pcpu, hypervisor = cpu.pcpu, self.hypervisor
        syscall, on_int, cpuid, io = pcpu.on_syscall, pcpu.on_int, pcpu.on_cpuid, pcpu.on_io
        exceptions = [pcpu.on_exception[vector] for vector in range(32)]
        deliver = hypervisor.deliver_pending
        pcpu.on_syscall = self._syscall(cpu, syscall)
        for vector, handler in enumerate(exceptions):
            pcpu.on_exception[vector] = self._exception(cpu, vector, handler)
        pcpu.on_int = self._software_interrupt(cpu, on_int)
        pcpu.on_cpuid = self._cpuid(cpu, cpuid)
        pcpu.on_io = self._io(cpu, io)
        if not self._undo:
            vars(hypervisor)["deliver_pending"] = self._deliver(deliver)

        def undo() -> None:
            pcpu.on_syscall, pcpu.on_int, pcpu.on_cpuid, pcpu.on_io = syscall, on_int, cpuid, io
            for vector, handler in enumerate(exceptions):
                pcpu.on_exception[vector] = handler
            if not self._undo:
                del vars(hypervisor)["deliver_pending"]  # the class's own shows again

        return undo

    def _deliver(self, original: Callable[[VCPU], None]) -> Callable[[VCPU], None]:
        def deliver_pending(vcpu: VCPU) -> None:
            before = vcpu.state[RIP]
            kernel = vcpu.kernel_mode
            original(vcpu)
            self._upcall(vcpu, before, kernel, vcpu.state[RIP])

        return deliver_pending

    def _upcall(self, vcpu: VCPU, before: int, kernel: bool, after: int) -> None:
        if after == vcpu.event_callback_eip and after != before and vcpu.domain in self.sinks:
            self.emit(vcpu, vcpu.domain, "upcall", before, kernel)

    def _syscall(self, cpu: Cpu, original: Callable[[], object]) -> Callable[[], None]:
        state, sinks = cpu.state, self.sinks

        def syscall() -> None:
            vcpu = cpu.current
            domain = vcpu.domain
            if domain not in sinks:
                original()
                return
            rip, kernel, number = state[RIP] - 2 & MASK64, vcpu.kernel_mode, state[RAX]  # of the `syscall`
            registers = tuple(state[register] for register in ARGUMENTS)
            if not kernel:
                original()
                self.emit(vcpu, domain, "syscall", rip, kernel, number, registers)
                return
            call = capture(vcpu, number, registers)
            try:
                original()
            finally:
                after = state[RIP]
                again = after == rip and state[RAX] == number  # a continuation executes the syscall once more
                result = None if again or number == HYPERVISOR_iret else state[RAX]
                call = answer(vcpu, call, result)
                self.emit(vcpu, domain, "hypercall", rip, kernel, call)
                self._upcall(vcpu, rip, kernel, after)

        return syscall

    def _exception(self, cpu: Cpu, vector: int, original: Callable[[], object]) -> Callable[[], None]:
        state, aux, vmcb, sinks = cpu.state, cpu.pcpu.aux, cpu.pcpu.vmcb, self.sinks

        def exception() -> None:
            vcpu = cpu.current
            domain = vcpu.domain
            if domain not in sinks:
                original()
                return
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
                self.emit(vcpu, domain, "exception", rip, kernel, vector, code, address, outcome)
                self._upcall(vcpu, rip, kernel, after)

        return exception

    def _software_interrupt(self, cpu: Cpu, original: Callable[[int], object]) -> Callable[[int], None]:
        def software_interrupt(vector: int) -> None:
            vcpu, rip, kernel = cpu.current, cpu.state[RIP], cpu.current.kernel_mode
            try:
                original(vector)
            finally:
                if vcpu.domain in self.sinks:
                    self.emit(vcpu, vcpu.domain, "int", rip, kernel, vector)

        return software_interrupt

    def _cpuid(self, cpu: Cpu, original: Callable[[], object]) -> Callable[[], None]:
        def cpuid() -> None:
            vcpu, rip, leaf = cpu.current, cpu.state[RIP], cpu.state[RAX] & 0xFFFF_FFFF
            original()
            if vcpu.domain in self.sinks:
                self.emit(vcpu, vcpu.domain, "cpuid", rip, vcpu.kernel_mode, leaf)

        return cpuid

    def _io(self, cpu: Cpu, original: Callable[..., int | None]) -> Callable[..., int | None]:
        def port_io(port: int, size: int, is_write: bool, value: int) -> int | None:
            vcpu, rip = cpu.current, cpu.state[RIP]
            result = original(port, size, is_write, value)
            if vcpu.domain in self.sinks:
                shown = value if is_write else result
                self.emit(vcpu, vcpu.domain, "io", rip, vcpu.kernel_mode, port, size, is_write, shown)
            return result

        return port_io


# -- what a hypercall points to ------------------------------------------------------------------------------
def capture(vcpu: VCPU, number: int, registers: tuple[int, ...], nested: bool = False) -> HypercallRecord:
    """A hypercall as it was asked, with copies of what its arguments point to."""
    spec = HYPERCALLS.get(number)
    if spec is None:
        return HypercallRecord(number, registers, None, None, None)
    arguments = registers[: len(spec.args)]
    given: Structure | bytes | None = None
    entries: tuple[HypercallRecord, ...] = ()
    if number == HYPERVISOR_console_io:
        if arguments[0] == CONSOLEIO_write:
            given = _read(vcpu, arguments[2], min(arguments[1] & 0xFFFF_FFFF, TEXT_KEPT))
    elif number == HYPERVISOR_multicall and not nested:
        given = _structure(vcpu, number, arguments)
        if given is not None:
            unpacked = [MULTICALL_ENTRY_CODEC.unpack(item) for item in given.items]
            entries = tuple(capture(vcpu, op, tuple(args), nested=True) for op, _result, *args in unpacked)
    else:
        given = _structure(vcpu, number, arguments)
    return HypercallRecord(number, arguments, given, None, None, entries)


def answer(vcpu: VCPU, call: HypercallRecord, result: int | None) -> HypercallRecord:
    """The same hypercall with its result, and copies of what it filled in."""
    if result is not None and result >> 63:
        result -= 1 << 64
    answered = None
    spec = HYPERCALLS.get(call.number)
    if result is not None and result >= 0 and spec is not None:
        direction, _record, _batch = _kind(spec, call.arguments)
        if direction in ("out", "inout"):
            answered = _structure(vcpu, call.number, call.arguments)
    entries = call.entries
    if answered is not None and entries:
        results = [MULTICALL_ENTRY_CODEC.unpack(item)[1] for item in answered.items]
        entries = tuple(answer(vcpu, entry, value) for entry, value in zip(entries, results, strict=True))
        answered = None
    return call._replace(result=result, answered=answered, entries=entries)


def _kind(spec: Any, arguments: tuple[int, ...]) -> tuple[str, Any, bool]:
    """(direction, ctypes class, whether an array) of what a hypercall's pointer points to."""
    chooser = spec.index("cmd")
    if spec.commands is not None and chooser is not None:
        command = spec.commands.by_number.get(arguments[chooser] & spec.command_mask)
        if command is None or command.arg is None:
            return "none", None, False
        return command.direction, command.arg, command.batch
    return spec.direction, spec.arg, spec.batch


def _structure(vcpu: VCPU, number: int, arguments: tuple[int, ...]) -> Structure | None:
    spec = HYPERCALLS[number]
    _direction, record, batch = _kind(spec, arguments)
    pointer = spec.index("arg")
    if record is None or pointer is None or not arguments[pointer]:
        return None
    counter = spec.index("count")
    count = arguments[counter] & 0xFFFF_FFFF if batch and counter is not None else 1
    size = sizeof(record)
    items = []
    for index in range(min(count, ITEMS_KEPT)):
        data = _read(vcpu, arguments[pointer] + index * size, size)
        if data is None:
            break
        items.append(data)
    return Structure(record, tuple(items), count) if items else None


def _read(vcpu: VCPU, address: int, size: int) -> bytes | None:
    try:
        return vcpu.memory.read(address, size)
    except GuestFault:
        return None
