# SPDX-License-Identifier: GPL-2.0-or-later
"""vcpu_op: a domain looks after its own vCPUs.

The vCPU is looked up before the command, even for an unknown command. So the whole call has one handler, which finds
the command in a table (`row`).

Read beside it: common_vcpu_op in xen/common/domain.c, arch_do_vcpu_op in xen/arch/x86/domain.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pvhv.abi.errno import Errno
from pvhv.abi.sched import SHUTDOWN_poweroff
from pvhv.abi.vcpu import VCPU_OP, VCPUOP, VCPUOP_set_singleshot_timer
from pvhv.abi.xen import VIRQ_TIMER
from pvhv.core.context import set_context
from pvhv.core.errors import HypercallError
from pvhv.core.events.virq import send_virq
from pvhv.core.mm.kept_pages import keep_page
from pvhv.core.sched.vtimer import set_periodic, set_singleshot, stop_singleshot
from pvhv.core.traps.dispatch import NEG_ENOSYS, command_row, handles, hypercall
from pvhv.core.vcpu import VCPU, VCPU_INFO_SIZE

MILLISECOND = 1_000_000
STIME_DELTA_MAX = (1 << 62) - 1

Row = Callable[[VCPU, VCPU, Any], "int | None"]


def row(command: Any) -> Callable[[Row], Row]:
    """Register a command of vcpu_op: its function gets the caller, the vCPU meant, and the structure or address."""

    def wrap(function: Row) -> Row:
        @handles(command)
        def handler(vcpu: VCPU, op: Any, vcpuid: int) -> int | None:
            return function(vcpu, vcpu.domain.vcpus[vcpuid], op)

        return function

    return wrap


_ROWS: dict[int, Callable[..., int]] = {}


@hypercall(VCPU_OP)
def vcpu_op(vcpu: VCPU, cmd: int, vcpuid: int, arg: int) -> int:
    """Find the vCPU, then the command; only then read the structure."""
    target = vcpu.domain.vcpu(vcpuid & 0xFFFF_FFFF)
    if target is None:
        raise HypercallError(Errno.ENOENT)
    if not _ROWS:
        _ROWS.update({command.number: command_row(command) for command in VCPUOP})
    cmd &= 0xFFFF_FFFF
    command = _ROWS.get(cmd)
    if command is None:
        return NEG_ENOSYS
    if cmd == VCPUOP_set_singleshot_timer and target is not vcpu:
        raise HypercallError(Errno.EINVAL)  # before its structure is read
    return command(vcpu, arg, target.vcpu_id)


@row(VCPUOP.initialise)
def initialise(vcpu: VCPU, target: VCPU, context: Any) -> None:
    """Give a vCPU that never ran its registers, tables and callbacks."""
    if target.initialised:
        raise HypercallError(Errno.EEXIST)
    set_context(vcpu.domain.hypervisor, target, context)


@row(VCPUOP.up)
def up(_vcpu: VCPU, target: VCPU, _arg: int) -> None:
    """Start the vCPU."""
    if not target.initialised:
        raise HypercallError(Errno.EINVAL)
    target.domain.hypervisor.activity.bring_up(target)


@row(VCPUOP.down)
def down(_vcpu: VCPU, target: VCPU, _arg: int) -> None:
    """Stop the vCPU; when the last one stops, the domain powers off."""
    domain = target.domain
    if all(other.down for other in domain.vcpus if other is not target):
        domain.hypervisor.shutdown_domain(domain, SHUTDOWN_poweroff)
    else:
        domain.hypervisor.activity.take_down(target)


@row(VCPUOP.is_up)
def is_up(_vcpu: VCPU, target: VCPU, _arg: int) -> int:
    """Whether the vCPU is up: 1 or 0."""
    return int(not target.down)


@row(VCPUOP.get_runstate_info)
def get_runstate_info(_vcpu: VCPU, target: VCPU, info: Any) -> None:
    """The vCPU's runstate, and the time spent in each."""
    target.domain.hypervisor.activity.fill_runstate(target, info)


@row(VCPUOP.register_runstate_memory_area)
def register_runstate_memory_area(vcpu: VCPU, target: VCPU, op: Any) -> None:
    """Keep a copy of the vCPU's runstate at a guest address."""
    address = op.addr.p
    if not vcpu.memory.accessible(address, 48):
        raise HypercallError(Errno.EFAULT)
    target.runstate_guest = address
    target.domain.hypervisor.activity.show_runstate(target)


@row(VCPUOP.set_periodic_timer)
def set_periodic_timer(_vcpu: VCPU, target: VCPU, op: Any) -> None:
    """Raise VIRQ_TIMER at every period."""
    if not MILLISECOND <= op.period_ns <= STIME_DELTA_MAX:
        raise HypercallError(Errno.EINVAL)
    set_periodic(target, op.period_ns)


@row(VCPUOP.stop_periodic_timer)
def stop_periodic_timer(_vcpu: VCPU, target: VCPU, _arg: int) -> None:
    """Stop the periodic timer."""
    set_periodic(target, 0)


@row(VCPUOP.set_singleshot_timer)
def set_singleshot_timer(vcpu: VCPU, target: VCPU, op: Any) -> None:
    """Raise VIRQ_TIMER once; at once if the time is past."""
    if target is not vcpu:
        raise HypercallError(Errno.EINVAL)
    if op.timeout_abs_ns < vcpu.domain.timeline.now():
        stop_singleshot(vcpu)
        send_virq(vcpu, VIRQ_TIMER)
    else:
        set_singleshot(vcpu, op.timeout_abs_ns)


@row(VCPUOP.stop_singleshot_timer)
def stop_singleshot_timer(vcpu: VCPU, target: VCPU, _arg: int) -> None:
    """Cancel the one-shot timer."""
    if target is not vcpu:
        raise HypercallError(Errno.EINVAL)
    stop_singleshot(target)


@row(VCPUOP.register_vcpu_info)
def register_vcpu_info(vcpu: VCPU, target: VCPU, op: Any) -> None:
    """Move the vCPU's vcpu_info into a frame of the guest's. (map_vcpu_info)"""
    if op.offset > 0x1000 - VCPU_INFO_SIZE or op.offset & 7:
        raise HypercallError(Errno.ENXIO)
    if target.vcpu_info_mfn or (target is not vcpu and not target.down):
        raise HypercallError(Errno.EINVAL)
    hypervisor, mfn = vcpu.domain.hypervisor, op.mfn
    keep_page(hypervisor.pagetables, vcpu.domain.domid, mfn)
    ram = hypervisor.ram.bytes
    new = (mfn << 12) + op.offset
    if target.vcpu_info:
        ram[new : new + VCPU_INFO_SIZE] = ram[target.vcpu_info : target.vcpu_info + VCPU_INFO_SIZE]
    target.vcpu_info = new
    target.vcpu_info_mfn = mfn
    # Whatever was sent meanwhile: mark everything pending, so that nothing is lost on the way.
    ram[new] = 1
    hypervisor.ram.words[(new >> 3) + 1] = 0xFFFF_FFFF_FFFF_FFFF
    hypervisor.timekeeper.update(target, force=True)


@row(VCPUOP.register_vcpu_time_memory_area)
def register_vcpu_time_memory_area(vcpu: VCPU, target: VCPU, op: Any) -> None:
    """Keep a second copy of the vCPU's time information, for user code to read."""
    address = op.addr.p
    if not vcpu.memory.accessible(address, 32):
        raise HypercallError(Errno.EFAULT)
    target.time_guest = address
    target.domain.hypervisor.timekeeper.update(target, force=True)


@row(VCPUOP.send_nmi)
def send_nmi(_vcpu: VCPU, target: VCPU, arg: int) -> None:
    """Raise an NMI."""
    if arg:
        raise HypercallError(Errno.EINVAL)
    target.nmi_pending = True
    target.domain.hypervisor.activity.wake(target)
    target.domain.hypervisor.scheduler.break_off()  # should it be the one that runs: it is told on its way back
