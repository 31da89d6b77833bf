# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU's timers: one-shot and periodic. Both raise VIRQ_TIMER.

The periodic timer runs from the start, every 10 ms, until the guest stops it. It does not wake a vCPU that sleeps; such
a vCPU gets one tick, for all it missed, when it runs again.

Read beside it: vcpu_singleshot_timer_fn, vcpu_periodic_timer_work in xen/common/sched/core.c.
"""

from __future__ import annotations

from functools import partial

from pvhv.abi.xen import VIRQ_TIMER
from pvhv.core.events.virq import send_virq
from pvhv.core.vcpu import VCPU


def set_singleshot(vcpu: VCPU, deadline: int) -> None:
    """Raise VIRQ_TIMER at `deadline` (system time in ns); replaces an earlier setting."""
    stop_singleshot(vcpu)
    vcpu.singleshot = vcpu.domain.timeline.after(deadline, partial(_singleshot, vcpu, deadline))


def stop_singleshot(vcpu: VCPU) -> None:
    """Cancel the one-shot timer."""
    if vcpu.singleshot is not None:
        vcpu.singleshot.cancel()
        vcpu.singleshot = None


def _singleshot(vcpu: VCPU, deadline: int) -> None:
    vcpu.singleshot = None
    vcpu.domain.hypervisor.timekeeper.show_at_least(vcpu, deadline)
    send_virq(vcpu, VIRQ_TIMER)


def set_periodic(vcpu: VCPU, period: int) -> None:
    """Raise VIRQ_TIMER every `period` ns while the vCPU runs, counted from the last tick; 0 stops it."""
    if vcpu.periodic is not None:
        vcpu.periodic.cancel()
        vcpu.periodic = None
    vcpu.periodic_period = period
    periodic_work(vcpu)


def periodic_work(vcpu: VCPU) -> None:
    """A turn of the vCPU begins or continues: raise a tick that is due, and set a timer for the next one.

    (vcpu_periodic_timer_work.) The timer stays set when the vCPU leaves the pCPU, which is cheaper than setting it at
    every turn. If it expires meanwhile, it does nothing, and the next turn sets it again.
    """
    if vcpu.periodic is not None or not vcpu.periodic_period:
        return
    timeline = vcpu.domain.timeline
    now = timeline.now()
    if now >= vcpu.periodic_last + vcpu.periodic_period:
        send_virq(vcpu, VIRQ_TIMER)
        vcpu.periodic_last = now
    vcpu.periodic = timeline.after(vcpu.periodic_last + vcpu.periodic_period, partial(_periodic, vcpu))


def _periodic(vcpu: VCPU) -> None:
    vcpu.periodic = None
    turn = vcpu.domain.timeline.turn
    if turn is not None and turn.vcpu is vcpu:
        periodic_work(vcpu)


def stop_all(vcpu: VCPU) -> None:
    """The vCPU is being destroyed: cancel all its timers."""
    stop_singleshot(vcpu)
    set_periodic(vcpu, 0)
    if vcpu.poll_timer is not None:
        vcpu.poll_timer.cancel()
        vcpu.poll_timer = None
