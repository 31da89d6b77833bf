# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls followed: all that happens between kernel and hypervisor from a program's SYSCALL to its return.

A hypervisor knows vCPUs, not processes. But it knows on which kernel stack each vCPU's next entry from user mode will
land, for the guest tells it at every context switch (stack_switch); and a kernel with a stack for each of its tasks, as
Linux has, thereby says which task runs. So a system call is known by its kernel stack: from the SYSCALL that entered on
it to the iret that leaves it for user mode. When the stack changes the call is switched out, and what follows is
another task's; when the stack is back, on whichever vCPU, the call goes on.

Handlers that interrupt the kernel in the middle of a call (upcalls, faults of the kernel's own) run on the call's
account, one level deeper, until their iret.

What cannot be known from here:
- in a kernel that has one stack for all tasks, which call goes on: the newer one is taken for the only one;
- the exits that a call which never returns (exit) makes after it was first switched out: its record ends there;
- more calls than are kept at once: when one too many begins, the oldest ends as unfinished;
- why a call ends elsewhere than behind its SYSCALL: in a signal's handler, or in another program (exec);
- what the kernel does on behalf of a call in another task's time (a kernel thread, a soft interrupt).

Read beside it: xen/arch/x86/pv/iret.c; arch/x86/kernel/process_64.c in Linux, where __switch_to ends in stack_switch.
"""

from __future__ import annotations

from collections import Counter

from pvhv.abi.xen import HYPERVISOR_iret
from pvhv.observe.naming import name_of
from pvhv.observe.record import I386, OTHERS, HypercallRecord, Landed, Record, Sink, SystemCall
from pvhv.observe.wanted import Wanted

EXITS = frozenset({"syscall", "hypercall", "fault", "int", "cpuid", "io"})  # the others are no exits of the call's
LEGACY_VECTOR = 0x80
SYSCALL_LENGTH = 2  # of `syscall`, and of `int 0x80`
MOST_OPEN = 2048  # calls under way at once: tasks that wait in one
MOST_NAMES = 64  # kinds of exits that one call is told of, each by its name


class OpenCall:
    """A system call under way."""

    def __init__(self, serial: int, number: int, abi: str, begin: Record) -> None:
        self.serial = serial
        self.number = number
        self.abi = abi
        self.rip = begin.rip
        self.began = begin.time - begin.spent
        self.stack = begin.stack
        self.depth = 1
        self.away_since: int | None = None
        self.away = 0
        self.spent = 0
        self.exits: Counter[tuple[str, str]] = Counter()

    def count(self, record: Record) -> None:
        """Count an exit that belongs to this call."""
        key = record.kind, name_of(record)
        if key not in self.exits and len(self.exits) >= MOST_NAMES:
            key = record.kind, OTHERS
        self.exits[key] += 1
        if record.kind in EXITS:
            self.spent += record.spent


class Following:
    """The system calls of one domain, for one trace. It is given every record, and passes on those of the calls it
    follows, and others if they are wanted as well."""

    def __init__(self, wanted: Wanted, sink: Sink) -> None:
        self.wanted = wanted
        self.sink = sink
        self.open: dict[int, OpenCall] = {}  # by kernel stack
        self.serial = 0

    def take(self, record: Record) -> None:
        """Handle the next record."""
        call = self.open.get(record.stack) if record.stack else None
        if call is not None and not record.kernel and record.kind != "event":
            self._end(call, record, "lost", None)  # user code runs where it was in the kernel: we misunderstood
            call = None
        if record.kind == "syscall":
            number, registers, abi = record.data
            self._begin(record, number, registers, abi)
            return
        if record.kind == "int" and not record.kernel and record.data[0] == LEGACY_VECTOR:
            self._begin(record, record.data[1] & 0xFFFF_FFFF, (), I386)
            return
        if call is not None:
            self._within(call, record)
        elif self.wanted.besides:
            self.sink(record)
        if record.kind == "hypercall":
            self._after_hypercall(call, record, record.data[0])

    def _begin(self, record: Record, number: int, registers: tuple[int, ...], abi: str) -> None:
        if self.wanted.syscalls and (abi, number) not in self.wanted.syscalls:
            if self.wanted.besides:
                self.sink(record)
            return
        if record.stack not in self.open and len(self.open) >= MOST_OPEN:
            self._end(next(iter(self.open.values())), record, "unfinished", None)
        self.serial += 1
        call = OpenCall(self.serial, number, abi, record)
        self.open[record.stack] = call
        call.count(record)
        self.sink(record._replace(kind="syscall", data=(number, registers, abi), call=call.serial))

    def _within(self, call: OpenCall, record: Record) -> None:
        call.count(record)
        depth = call.depth
        if record.kind == "hypercall" and record.data[0].number == HYPERVISOR_iret and not record.data[0].landed:
            call.depth = max(call.depth - 1, 1)
        elif record.kind == "upcall" or (record.kind == "fault" and record.data[3] == "bounced"):
            call.depth += 1
        self.sink(record._replace(call=call.serial, depth=depth))

    def _after_hypercall(self, call: OpenCall | None, record: Record, made: HypercallRecord) -> None:
        if made.stack != record.stack:
            if call is not None:
                self._switched_out(call, record)
            call = self.open.get(made.stack)
            if call is not None:
                self._back(call, record)
        if made.landed is not None and call is not None:
            self._returned(call, record, made.landed)

    def _switched_out(self, call: OpenCall, record: Record) -> None:
        if (call.abi, call.number) in self.wanted.endless:
            self._end(call, record, "unfinished", None)
            return
        call.away_since = record.time
        self._mark(call, record, "out")

    def _back(self, call: OpenCall, record: Record) -> None:
        if call.away_since is not None:
            call.away += record.time - call.away_since
            call.away_since = None
            self._mark(call, record, "back")

    def _mark(self, call: OpenCall, record: Record, what: str) -> None:
        self.sink(
            record._replace(kind="switch", data=(what,), spent=0, stack=call.stack, call=call.serial, depth=call.depth)
        )

    def _returned(self, call: OpenCall, record: Record, landed: Landed) -> None:
        behind = call.rip + SYSCALL_LENGTH
        how = "returned" if landed.rip == behind else "restarts" if landed.rip == call.rip else "elsewhere"
        self._end(call, record, how, landed)

    def _end(self, call: OpenCall, record: Record, how: str, landed: Landed | None) -> None:
        del self.open[call.stack]
        result = landed.rax if landed is not None and how == "returned" else None
        if result is not None and result >> 63:
            result -= 1 << 64
        away = call.away + (record.time - call.away_since if call.away_since is not None else 0)
        exits = tuple((kind, name, count) for (kind, name), count in call.exits.items())
        rip = landed.rip if landed is not None else 0
        told = SystemCall(call.number, call.abi, result, how, rip, call.began, away, call.spent, exits)
        self.sink(record._replace(kind="return", data=(told,), spent=0, call=call.serial))

    def finish(self, now: int, domid: int) -> None:
        """The trace ends: the calls that are under way end as unfinished."""
        for call in list(self.open.values()):
            record = Record(now, domid, -1, "return", call.rip, False, (), stack=call.stack)
            self._end(call, record, "unfinished", None)

