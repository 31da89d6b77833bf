# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU's timers: one-shot and periodic, both heard as VIRQ_TIMER.

Read beside it: vcpu_singleshot_timer_fn, vcpu_periodic_timer_work in xen/common/sched/core.c.
"""

from __future__ import annotations

from functools import partial

from pvhv.abi.xen import VIRQ_TIMER
from pvhv.core.events import send_virq
from pvhv.core.vcpu import VCPU


def set_singleshot(vcpu: VCPU, deadline: int) -> None:
    """VIRQ_TIMER at `deadline`, instead of when it was set for before."""
    stop_singleshot(vcpu)
    vcpu.singleshot = vcpu.domain.timeline.after(deadline, partial(_singleshot, vcpu))


def stop_singleshot(vcpu: VCPU) -> None:
    """No VIRQ_TIMER from it any more."""
    if vcpu.singleshot is not None:
        vcpu.singleshot.cancel()
        vcpu.singleshot = None


def _singleshot(vcpu: VCPU) -> None:
    vcpu.singleshot = None
    send_virq(vcpu, VIRQ_TIMER)


def set_periodic(vcpu: VCPU, period: int) -> None:
    """VIRQ_TIMER every `period` ns from now; 0 stops it."""
    if vcpu.periodic is not None:
        vcpu.periodic.cancel()
        vcpu.periodic = None
    vcpu.periodic_period = period
    if period:
        _arm_periodic(vcpu, vcpu.domain.timeline.now() + period)


def _arm_periodic(vcpu: VCPU, deadline: int) -> None:
    vcpu.periodic = vcpu.domain.timeline.after(deadline, partial(_tick, vcpu, deadline))


def _tick(vcpu: VCPU, due: int) -> None:
    """One event for however many periods passed: a vCPU that did not run is not told each tick it missed."""
    period = vcpu.periodic_period
    now = vcpu.domain.timeline.now()
    send_virq(vcpu, VIRQ_TIMER)
    _arm_periodic(vcpu, due + (max(0, now - due) // period + 1) * period)


def stop_all(vcpu: VCPU) -> None:
    """The vCPU is no more."""
    stop_singleshot(vcpu)
    set_periodic(vcpu, 0)
    if vcpu.poll_timer is not None:
        vcpu.poll_timer.cancel()
        vcpu.poll_timer = None
