# SPDX-License-Identifier: GPL-2.0-or-later
"""What a trace is made of: numbers, and copies of the structures a hypercall pointed to, before and after.

Names and meanings come later, off the hypervisor's thread (pvhv.observe.decode). A record's kind is the first word of
its line in `pvhv trace`, and says what `data` is:

    hypercall  (HypercallRecord,)                             the guest's kernel asked for something
    syscall    (number, registers, abi)                       user code asked that kernel
    fault      (vector, error code, address, outcome)         an exception
    event      (port, state, status)                          a port became pending; the vCPU is the one it notifies
    upcall     ()                                             the guest's event callback was entered
    int        (vector, rax)                                  a software interrupt
    cpuid      (leaf,)
    io         (port, size, is_write, value)
    device     (disk, ring, operation, status, sector,        a request of a disk was answered; `spent` is the time
                segments, sectors, id, device model)          since it was taken from its ring, or since the command.
                                                              A PC's disk has ring 0; IDE, blocks for segments
    running    (runstate,)                                    the vCPU got the pCPU, or left it: its state now
    exit       (reason, detail)                               a fully virtualized guest left
    callout    (reason, detail)                               what its binary translator put in an instruction's place
    switch     (what,)                                        a followed system call was switched "out", or is "back"
    return     (SystemCall,)                                  a followed system call is over
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

OTHERS = "(others)"  # the name of what is counted beyond so many names
AMD64, I386 = "x86-64", "i386"  # by which convention a system call was made


class Record(NamedTuple):
    """One thing that happened."""

    time: int  # ns of the domain's own clock, when the guest could go on
    domid: int
    vcpu: int  # -1: none in particular
    kind: str
    rip: int
    kernel: bool
    data: tuple[Any, ...]
    spent: int = 0  # ns of the hypervisor's on it
    stack: int = 0  # the kernel stack (stack_switch) of the vCPU when it happened: which task of the guest's it was
    call: int = 0  # the system call that it belongs to, where these are followed: the how manieth of this trace
    depth: int = 0  # 1: of the call itself; more: of handlers that interrupted it


class Structure(NamedTuple):
    """Bytes a hypercall pointed to: `record` is their ctypes class, `total` how many there were in all."""

    record: Any
    items: tuple[bytes, ...]
    total: int


class Landed(NamedTuple):
    """Where user code goes on when the kernel returns to user mode."""

    rip: int
    rax: int


class HypercallRecord(NamedTuple):
    """`data` of a hypercall. `result` is None if the call is continued later, or does not return."""

    number: int
    arguments: tuple[int, ...]
    given: Structure | bytes | None
    result: int | None
    answered: Structure | None
    entries: tuple[HypercallRecord, ...] = ()  # of a multicall
    landed: Landed | None = None  # it was an iret to user mode
    stack: int = 0  # the vCPU's kernel stack when it was over
    above: int = 0  # what stands on the stack where a stub's caller is (capture.caller)


class SystemCall(NamedTuple):
    """`data` of the end of a system call. `how`: returned, restarts, elsewhere, lost, unfinished."""

    number: int
    abi: str
    result: int | None
    how: str
    landed: int  # rip, where it is known
    began: int
    away: int  # ns during which other tasks had the vCPU
    spent: int  # ns in the hypervisor
    exits: tuple[tuple[str, str, int], ...]  # kind, name, how often


Sink = Callable[[Record], None]
