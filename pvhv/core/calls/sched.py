# SPDX-License-Identifier: GPL-2.0-or-later
"""sched_op and set_timer_op: yield, sleep, poll, shut down, watchdogs, the one-shot timer.

Read beside it: do_sched_op, do_poll, domain_watchdog, do_set_timer_op in xen/common/sched/core.c.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pvhv.abi.errno import Errno
from pvhv.abi.sched import SCHED_OP_COMPAT, SCHEDOP, SET_TIMER_OP, SHUTDOWN_watchdog
from pvhv.core.domain import Domain
from pvhv.core.errors import HypercallError
from pvhv.core.sched.vtimer import set_singleshot, stop_singleshot
from pvhv.core.traps.dispatch import handles, hypercall
from pvhv.core.vcpu import VCPU

POLL_PORTS_LIMIT = 128
WATCHDOGS = 2
SECOND = 1_000_000_000
HUGE_TIMEOUT = 1 << 50
HUGE_TIMEOUT_FIRES_IN = 100_000_000


@handles(SCHEDOP.yield_)
def sched_yield(vcpu: VCPU, _arg: int) -> None:
    """Let other vCPUs run."""
    vcpu.domain.hypervisor.activity.yield_now(vcpu)


@handles(SCHEDOP.block)
def block(vcpu: VCPU, _arg: int) -> None:
    """Unmask events and sleep until one is pending."""
    vcpu.domain.hypervisor.activity.block(vcpu)


@handles(SCHEDOP.shutdown)
def shutdown(vcpu: VCPU, op: Any) -> None:
    """Shut the domain down, for a reason that the toolstack acts upon."""
    vcpu.domain.hypervisor.shutdown_domain(vcpu.domain, op.reason & 0xFF)


@handles(SCHEDOP.shutdown_code)
def shutdown_code(vcpu: VCPU, op: Any) -> None:
    """Set the reason for a later shutdown; only the first call counts."""
    if vcpu.domain.announced_code is None:
        vcpu.domain.announced_code = op.reason & 0xFF


@handles(SCHEDOP.remote_shutdown)
def remote_shutdown(vcpu: VCPU, op: Any) -> None:
    """Shut another domain down."""
    caller = vcpu.domain
    target = caller.hypervisor.domain_by_id(op.domain_id)
    if target is None:
        raise HypercallError(Errno.ESRCH)
    if not caller.privileged:
        raise HypercallError(Errno.EPERM)
    caller.hypervisor.shutdown_domain(target, op.reason & 0xFF)


@handles(SCHEDOP.poll)
def poll(vcpu: VCPU, op: Any) -> None:
    """Sleep until one of some ports is pending (masked or not), or until a time."""
    if op.nr_ports > POLL_PORTS_LIMIT:
        raise HypercallError(Errno.EINVAL)
    address = op.ports.p if hasattr(op.ports, "p") else op.ports
    memory = vcpu.memory
    if not memory.accessible(address, op.nr_ports * 4):
        raise HypercallError(Errno.EFAULT)
    hypervisor = vcpu.domain.hypervisor
    if hypervisor.activity.events_deliverable(vcpu):
        return
    ports = []
    for index in range(op.nr_ports):
        port = int.from_bytes(memory.read(address + index * 4, 4), "little")
        if vcpu.domain.events.is_pending(port):
            return
        ports.append(port)
    hypervisor.activity.poll(vcpu, tuple(ports), op.timeout)


@handles(SCHEDOP.watchdog)
def watchdog(vcpu: VCPU, op: Any) -> int:
    """Set, restart or stop one of two timers that shut the domain down. Returns a new one's id."""
    domain = vcpu.domain
    if op.id > WATCHDOGS:
        raise HypercallError(Errno.EINVAL)
    if op.id == 0:
        for index, timer in enumerate(domain.watchdogs):
            if timer is None:
                _arm(domain, index, op.timeout)
                return index + 1
        raise HypercallError(Errno.ENOSPC)
    index = op.id - 1
    timer = domain.watchdogs[index]
    if timer is None:
        raise HypercallError(Errno.EINVAL)
    timer.cancel()
    domain.watchdogs[index] = None
    if op.timeout:
        _arm(domain, index, op.timeout)
    return 0


def _arm(domain: Domain, index: int, seconds: int) -> None:
    deadline = domain.timeline.now() + seconds * SECOND
    bite = partial(domain.hypervisor.shutdown_domain, domain, SHUTDOWN_watchdog)
    domain.watchdogs[index] = domain.timeline.after(deadline, bite)


@hypercall(SCHED_OP_COMPAT)
def sched_op_compat(vcpu: VCPU, cmd: int, arg: int) -> int:
    """The form of sched_op before interface 0x00030101."""
    cmd &= 0xFFFF_FFFF
    hypervisor = vcpu.domain.hypervisor
    if cmd == 0:
        hypervisor.activity.yield_now(vcpu)
    elif cmd == 1:
        hypervisor.activity.block(vcpu)
    elif cmd == 2:
        hypervisor.shutdown_domain(vcpu.domain, arg & 0xFF)
    else:
        raise HypercallError(Errno.ENOSYS)
    return 0


@hypercall(SET_TIMER_OP)
def set_timer_op(vcpu: VCPU, timeout: int) -> int:
    """Set the one-shot timer to an absolute system time; 0 stops it."""
    now = vcpu.domain.timeline.now()
    if timeout == 0:
        stop_singleshot(vcpu)
    elif timeout >> 63 or timeout - now >= HUGE_TIMEOUT:
        set_singleshot(vcpu, now + HUGE_TIMEOUT_FIRES_IN)
    else:
        set_singleshot(vcpu, timeout)
    return 0
