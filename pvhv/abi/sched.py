# SPDX-License-Identifier: GPL-2.0-or-later
"""Giving up the processor, and shutting a domain down.

yield, block and poll differ in what wakes the vCPU: its turn, any event, or one of a few ports.  block and
poll look for pending events after they decided to sleep, so a signal that comes in between is not lost.  A
shutdown's first reason is the one that counts.

Read beside it: xen/include/public/sched.h, xen/common/sched/core.c.
"""

from __future__ import annotations

from pvhv.abi.errno import Errno
from pvhv.abi.layout import c_uint, cstruct, handle, int32_t, record, uint32_t, uint64_t
from pvhv.abi.spec import Arg, Command, Commands, Hypercall
from pvhv.abi.xen import HYPERVISOR_sched_op, HYPERVISOR_sched_op_compat, HYPERVISOR_set_timer_op, domid_t

SCHEDOP_yield = 0
SCHEDOP_block = 1
SCHEDOP_shutdown = 2
SCHEDOP_poll = 3
SCHEDOP_remote_shutdown = 4
SCHEDOP_shutdown_code = 5
SCHEDOP_watchdog = 6
SCHEDOP_pin_override = 7

SHUTDOWN_poweroff = 0
SHUTDOWN_reboot = 1
SHUTDOWN_suspend = 2
SHUTDOWN_crash = 3
SHUTDOWN_watchdog = 4
SHUTDOWN_soft_reset = 5
SHUTDOWN_MAX = 5

sched_shutdown = cstruct("sched_shutdown", "reason" / c_uint)
SchedShutdown = record(sched_shutdown)

sched_poll = cstruct(
    "sched_poll",
    "ports" / handle("evtchn_port_t"),
    "nr_ports" / c_uint,
    "timeout" / uint64_t,
)
SchedPoll = record(sched_poll)

sched_remote_shutdown = cstruct("sched_remote_shutdown", "domain_id" / domid_t, "reason" / c_uint)
SchedRemoteShutdown = record(sched_remote_shutdown)

sched_watchdog = cstruct("sched_watchdog", "id" / uint32_t, "timeout" / uint32_t)
SchedWatchdog = record(sched_watchdog)

sched_pin_override = cstruct("sched_pin_override", "pcpu" / int32_t)
SchedPinOverride = record(sched_pin_override)

SCHEDOP = Commands(
    "SCHEDOP",
    Command("yield", SCHEDOP_yield, doc="Let others run; the vCPU stays runnable."),
    Command(
        "block", SCHEDOP_block,
        doc="Unmask events and sleep until one is pending; returns at once when one is already.",
    ),
    Command(
        "shutdown", SCHEDOP_shutdown, SchedShutdown, "in",
        doc="End the domain for a reason (SHUTDOWN_*), of which the low eight bits count. The vCPUs stop "
            "before their next instruction.",
    ),
    Command(
        "poll", SCHEDOP_poll, SchedPoll, "in",
        doc="Sleep until one of some ports is pending, masked or not, an event is deliverable, or system "
            "time reaches `timeout` (0: never).",
        errors={
            Errno.EINVAL: "more than 128 ports, or one of them is not an open port",
            Errno.EFAULT: "`ports` cannot be read",
        },
    ),
    Command(
        "remote_shutdown", SCHEDOP_remote_shutdown, SchedRemoteShutdown, "in",
        doc="Shut down another domain, as its device model or dom0 may. DOMID_SELF is not understood here.",
        errors={
            Errno.ESRCH: "`domain_id` names no domain",
            Errno.EPERM: "the caller does not control the domain; that includes the caller itself",
        },
    ),
    Command(
        "shutdown_code", SCHEDOP_shutdown_code, SchedShutdown, "in",
        doc="Set the reason a later shutdown will be recorded with; a reason already recorded stays.",
    ),
    Command(
        "watchdog", SCHEDOP_watchdog, SchedWatchdog, "in", returns="the timer's id when `id` was 0, else 0",
        doc="Start (id 0), restart, or with timeout 0 stop one of two timers, in seconds, whose expiry "
            "shuts the domain down with SHUTDOWN_watchdog.",
        errors={
            Errno.EINVAL: "`id` is above 2, or names a timer that is not running",
            Errno.ENOSPC: "both timers are in use",
        },
    ),
    Command(
        "pin_override", SCHEDOP_pin_override, SchedPinOverride, "in", refusal=Errno.EPERM,
        doc="Pin the caller to a physical CPU for firmware calls.",
        errors={Errno.EPERM: "only the hardware domain may"},
    ),
)

SCHED_OP = Hypercall(
    HYPERVISOR_sched_op, "sched_op",
    (Arg("cmd", "int", role="cmd"), Arg("arg", "void *", role="arg")),
    SCHEDOP,
    doc="Yield, sleep, shut down.",
    errors={Errno.EFAULT: "`arg` cannot be read", Errno.ENOSYS: "`cmd` is not one of these"},
    test="guest_kernel/tests/sched-block/sched-block.c",
)

SCHED_OP_COMPAT = Hypercall(
    HYPERVISOR_sched_op_compat, "sched_op_compat",
    (Arg("cmd", "int"), Arg("arg", "unsigned long", "SHUTDOWN_* for a shutdown")),
    doc="The call before interface 0x00030101: yield (0), block (1) and shutdown (2), with the reason itself "
        "as the argument.",
    errors={Errno.ENOSYS: "`cmd` is above 2"},
    test="tests/core/test_fuzz_hypercalls.py",
)

SET_TIMER_OP = Hypercall(
    HYPERVISOR_set_timer_op, "set_timer_op", (Arg("timeout", "s_time_t", "system time in nanoseconds"),),
    doc="Set the vCPU's one-shot timer: VIRQ_TIMER at an absolute system time, 0 to stop it. A time that is "
        "negative or more than 2^50 ns ahead fires in 100 ms, for kernels whose arithmetic wrapped.",
    test="guest_kernel/tests/timers/timers.c",
)
