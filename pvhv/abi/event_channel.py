# SPDX-License-Identifier: GPL-2.0-or-later
"""Event channels: numbered ports by which domains, the hypervisor and a vCPU's own timers signal one another.

A port is pending or not, and masked or not; its binding decides which domain may signal it. A guest finds pending ports
by one of two ABIs, which it chooses for all its ports:

- the 2-level ABI, with which it begins: EVTCHN_2L_NR_CHANNELS pending bits and as many mask bits, in the shared_info
  page, and for each vCPU a selector word that says which words have pending bits;
- the FIFO ABI: EVTCHN_FIFO_NR_CHANNELS words in pages of its own (expand_array), linked into sixteen queues for
  each vCPU, one for each priority, whose heads are in that vCPU's control block (init_control).

Not modelled: physical interrupts; no guest here owns one.

Read beside it: xen/include/public/event_channel.h, xen/common/event_channel.c, xen/common/event_fifo.c.
"""

from __future__ import annotations

from pvhv.abi.errno import Errno
from pvhv.abi.layout import cstruct, cunion, record, typedef, uint8_t, uint32_t, uint64_t
from pvhv.abi.spec import Arg, Command, Commands, Hypercall
from pvhv.abi.xen import HYPERVISOR_event_channel_op, HYPERVISOR_event_channel_op_compat, domid_t

EVTCHNOP_bind_interdomain = 0
EVTCHNOP_bind_virq = 1
EVTCHNOP_bind_pirq = 2
EVTCHNOP_close = 3
EVTCHNOP_send = 4
EVTCHNOP_status = 5
EVTCHNOP_alloc_unbound = 6
EVTCHNOP_bind_ipi = 7
EVTCHNOP_bind_vcpu = 8
EVTCHNOP_unmask = 9
EVTCHNOP_reset = 10
EVTCHNOP_init_control = 11
EVTCHNOP_expand_array = 12
EVTCHNOP_set_priority = 13
EVTCHNOP_reset_cont = 14

BIND_PIRQ__WILL_SHARE = 1

EVTCHNSTAT_closed = 0
EVTCHNSTAT_unbound = 1
EVTCHNSTAT_interdomain = 2
EVTCHNSTAT_pirq = 3
EVTCHNSTAT_virq = 4
EVTCHNSTAT_ipi = 5

EVTCHN_2L_NR_CHANNELS = 8 * 8 * 64

EVTCHN_FIFO_PRIORITY_MAX = 0
EVTCHN_FIFO_PRIORITY_DEFAULT = 7
EVTCHN_FIFO_PRIORITY_MIN = 15
EVTCHN_FIFO_MAX_QUEUES = EVTCHN_FIFO_PRIORITY_MIN + 1
EVTCHN_FIFO_PENDING = 31
EVTCHN_FIFO_MASKED = 30
EVTCHN_FIFO_LINKED = 29
EVTCHN_FIFO_BUSY = 28
EVTCHN_FIFO_LINK_BITS = 17
EVTCHN_FIFO_LINK_MASK = (1 << EVTCHN_FIFO_LINK_BITS) - 1
EVTCHN_FIFO_NR_CHANNELS = 1 << EVTCHN_FIFO_LINK_BITS

evtchn_port_t = typedef("evtchn_port_t", uint32_t)
event_word_t = typedef("event_word_t", uint32_t)

evtchn_alloc_unbound = cstruct(
    "evtchn_alloc_unbound", "dom" / domid_t, "remote_dom" / domid_t, "port" / evtchn_port_t)
EvtchnAllocUnbound = record(evtchn_alloc_unbound)

evtchn_bind_interdomain = cstruct(
    "evtchn_bind_interdomain",
    "remote_dom" / domid_t,
    "remote_port" / evtchn_port_t,
    "local_port" / evtchn_port_t,
)
EvtchnBindInterdomain = record(evtchn_bind_interdomain)

evtchn_bind_virq = cstruct("evtchn_bind_virq", "virq" / uint32_t, "vcpu" / uint32_t, "port" / evtchn_port_t)
EvtchnBindVirq = record(evtchn_bind_virq)

evtchn_bind_pirq = cstruct("evtchn_bind_pirq", "pirq" / uint32_t, "flags" / uint32_t, "port" / evtchn_port_t)
EvtchnBindPirq = record(evtchn_bind_pirq)

evtchn_bind_ipi = cstruct("evtchn_bind_ipi", "vcpu" / uint32_t, "port" / evtchn_port_t)
EvtchnBindIpi = record(evtchn_bind_ipi)

evtchn_close = cstruct("evtchn_close", "port" / evtchn_port_t)
EvtchnClose = record(evtchn_close)

evtchn_send = cstruct("evtchn_send", "port" / evtchn_port_t)
EvtchnSend = record(evtchn_send)

evtchn_status = cstruct(
    "evtchn_status",
    "dom" / domid_t,
    "port" / evtchn_port_t,
    "status" / uint32_t,
    "vcpu" / uint32_t,
    "u" / cunion(
        None,
        "unbound" / cstruct(None, "dom" / domid_t),
        "interdomain" / cstruct(None, "dom" / domid_t, "port" / evtchn_port_t),
        "pirq" / uint32_t,
        "virq" / uint32_t,
    ),
)
EvtchnStatus = record(evtchn_status)

evtchn_bind_vcpu = cstruct("evtchn_bind_vcpu", "port" / evtchn_port_t, "vcpu" / uint32_t)
EvtchnBindVcpu = record(evtchn_bind_vcpu)

evtchn_unmask = cstruct("evtchn_unmask", "port" / evtchn_port_t)
EvtchnUnmask = record(evtchn_unmask)

evtchn_reset = cstruct("evtchn_reset", "dom" / domid_t)
EvtchnReset = record(evtchn_reset)

evtchn_init_control = cstruct(
    "evtchn_init_control",
    "control_gfn" / uint64_t,
    "offset" / uint32_t,
    "vcpu" / uint32_t,
    "link_bits" / uint8_t,
    "_pad" / uint8_t[7],
)
EvtchnInitControl = record(evtchn_init_control)

evtchn_expand_array = cstruct("evtchn_expand_array", "array_gfn" / uint64_t)
EvtchnExpandArray = record(evtchn_expand_array)

evtchn_set_priority = cstruct("evtchn_set_priority", "port" / evtchn_port_t, "priority" / uint32_t)
EvtchnSetPriority = record(evtchn_set_priority)

# The argument of event_channel_op_compat: the command and its structure in one.
evtchn_op = cstruct(
    "evtchn_op",
    "cmd" / uint32_t,
    "u" / cunion(
        None,
        "alloc_unbound" / evtchn_alloc_unbound,
        "bind_interdomain" / evtchn_bind_interdomain,
        "bind_virq" / evtchn_bind_virq,
        "bind_pirq" / evtchn_bind_pirq,
        "bind_ipi" / evtchn_bind_ipi,
        "close" / evtchn_close,
        "send" / evtchn_send,
        "status" / evtchn_status,
        "bind_vcpu" / evtchn_bind_vcpu,
        "unmask" / evtchn_unmask,
    ),
)
EvtchnOp = record(evtchn_op)

evtchn_fifo_control_block = cstruct(
    "evtchn_fifo_control_block",
    "ready" / uint32_t,
    "_rsvd" / uint32_t,
    "head" / uint32_t[EVTCHN_FIFO_MAX_QUEUES],
)

EvtchnFifoControlBlock = record(evtchn_fifo_control_block)

_NO_PORT = "every port of the domain is taken, or the limit its configuration sets is reached"
_BAD_PORT = "`port` is beyond the domain's ports"
_NO_BUCKET = {Errno.ENOMEM: "no memory for the port's bookkeeping"}
_HAS_BUCKET = {Errno.ENOMEM: "the bookkeeping's memory is the host's, and never refused"}


def _resetting(busy: str) -> dict[Errno, str]:
    return {
        Errno.ESRCH: "`dom` names no domain",
        Errno.EPERM: "`dom` is another domain and the caller does not control it",
        Errno.EINVAL: "`dom` is another domain and has not been paused by the toolstack",
        Errno.EBUSY: busy,
        Errno.EAGAIN: "a port was bound meanwhile among those that had been closed already",
    }


_ONLY_DOM0 = {Errno.EINVAL: "only dom0 gets past the permission check, and it asks through the core"}

EVTCHNOP = Commands(
    "EVTCHNOP",
    Command(
        "bind_interdomain", EVTCHNOP_bind_interdomain, EvtchnBindInterdomain, "inout", out=("local_port",),
        doc="Connect a new local port to a port the remote domain offers us. Both ends become interdomain; "
            "the local one is made pending once, since a signal may have been lost before they met.",
        errors={
            Errno.ESRCH: "`remote_dom` names no domain",
            Errno.ENOSPC: _NO_PORT,
            **_NO_BUCKET,
            Errno.EINVAL: "`remote_port` is not a port, not unbound, or offered to another domain; or the "
                          "caller is dying",
        },
        unreachable=_HAS_BUCKET,
    ),
    Command(
        "bind_virq", EVTCHNOP_bind_virq, EvtchnBindVirq, "inout", out=("port",),
        doc="Bind a virtual interrupt to a new port that notifies `vcpu`. A global VIRQ is bound on vCPU 0 "
            "and may be moved by bind_vcpu; a per-vCPU one (timer, debug) stays.",
        errors={
            Errno.EINVAL: "`virq` is no VIRQ, or is global and `vcpu` is not 0; or the caller is dying",
            Errno.ENOENT: "`vcpu` names no vCPU",
            Errno.EEXIST: "this VIRQ is bound on this vCPU already",
            Errno.ENOSPC: _NO_PORT,
            **_NO_BUCKET,
        },
        unreachable=_HAS_BUCKET,
    ),
    Command(
        "bind_pirq", EVTCHNOP_bind_pirq, EvtchnBindPirq, "inout", out=("port",),
        doc="Bind a physical interrupt. No guest here owns one, so none gets past the permission check.",
        errors={
            Errno.EINVAL: "`pirq` is not below the domain's number of physical interrupts",
            Errno.EPERM: "the domain was not given this interrupt",
        },
    ),
    Command(
        "close", EVTCHNOP_close, EvtchnClose, "in",
        doc="Free a port. The other end of an interdomain pair becomes unbound, offered to the caller's "
            "domain.",
        errors={Errno.EINVAL: f"{_BAD_PORT}, is not in use, or belongs to the hypervisor"},
    ),
    Command(
        "send", EVTCHNOP_send, EvtchnSend, "in",
        doc="Signal the other end. Sending on an unbound port is not an error and has no effect.",
        errors={Errno.EINVAL: f"{_BAD_PORT}, or is not interdomain, IPI or unbound"},
    ),
    Command(
        "status", EVTCHNOP_status, EvtchnStatus, "inout", out=("status", "vcpu", "u"),
        doc="What a port is bound to, and which vCPU it notifies.",
        errors={
            Errno.ESRCH: "`dom` names no domain",
            Errno.EINVAL: _BAD_PORT,
            Errno.EACCES: "the port belongs to the hypervisor",
            Errno.EPERM: "`dom` is another domain and the caller does not control it",
        },
        unreachable={Errno.EACCES: "no port of a PV guest has the hypervisor as its consumer"},
    ),
    Command(
        "alloc_unbound", EVTCHNOP_alloc_unbound, EvtchnAllocUnbound, "inout", out=("port",),
        doc="Make a port in `dom` that `remote_dom` may bind to. `remote_dom` need not exist yet.",
        errors={
            Errno.ESRCH: "`dom` names no domain",
            Errno.EINVAL: "`dom` is dying",
            Errno.ENOSPC: _NO_PORT,
            **_NO_BUCKET,
            Errno.EPERM: "`dom` is another domain and the caller does not control it",
        },
        unreachable=_HAS_BUCKET,
    ),
    Command(
        "bind_ipi", EVTCHNOP_bind_ipi, EvtchnBindIpi, "inout", out=("port",),
        doc="Make a port by which the domain signals one of its own vCPUs.",
        errors={
            Errno.ENOENT: "`vcpu` names no vCPU",
            Errno.EINVAL: "the caller is dying",
            Errno.ENOSPC: _NO_PORT,
            **_NO_BUCKET,
        },
        unreachable={Errno.EINVAL: "a dying domain's vCPUs do not run", **_HAS_BUCKET},
    ),
    Command(
        "bind_vcpu", EVTCHNOP_bind_vcpu, EvtchnBindVcpu, "in",
        doc="Choose the vCPU a port notifies. IPIs and per-vCPU VIRQs keep theirs.",
        errors={
            Errno.ENOENT: "`vcpu` names no vCPU",
            Errno.EINVAL: f"{_BAD_PORT}, is free, or is an IPI or a per-vCPU VIRQ",
        },
    ),
    Command(
        "unmask", EVTCHNOP_unmask, EvtchnUnmask, "in",
        doc="Clear the mask bit; a port found pending notifies its vCPU. A guest may clear the bit itself "
            "only where that vCPU is the one it runs on.",
        errors={Errno.EINVAL: _BAD_PORT},
    ),
    Command(
        "reset", EVTCHNOP_reset, EvtchnReset, "in",
        doc="Close every port of a domain, and go back to the 2-level ABI, as a new kernel taking over a running "
            "domain needs. After a share of work it continues, as `reset_cont`.",
        test="tests/core/test_event_fifo.py",
        errors=_resetting("a reset of this domain is under way, put aside"),
        unreachable=_ONLY_DOM0,
    ),
    Command(
        "init_control", EVTCHNOP_init_control, EvtchnInitControl, "inout", out=("link_bits",),
        doc="Give a vCPU its control block, at `offset` in the frame `control_gfn` (a machine frame); all its "
            "events are lost until it has one. The first one changes the domain over to the FIFO ABI: priorities "
            "become the default, and what is pending then is told when its word is there. `link_bits` is 17.",
        test="tests/core/test_event_fifo.py",
        errors={
            Errno.ENOENT: "`vcpu` names no vCPU",
            Errno.EINVAL: "`offset` is not a multiple of 8, or the block would cross the end of the page; the vCPU "
                          "has a control block; or the frame is not the caller's, or no ordinary memory",
            Errno.ENOMEM: "no memory for the queues' bookkeeping",
        },
        unreachable={Errno.ENOMEM: "the bookkeeping's memory is the host's, and never refused"},
    ),
    Command(
        "expand_array", EVTCHNOP_expand_array, EvtchnExpandArray, "in",
        doc="Add a page of 1024 event words, for the ports that follow those that have one; `array_gfn` is a machine "
            "frame. The domain refers to it until its ports are reset.",
        test="tests/core/test_event_fifo.py",
        errors={
            Errno.EOPNOTSUPP: "no vCPU was given a control block yet",
            Errno.ENOSPC: "every port has a word",
            Errno.EINVAL: "the frame is not the caller's, or no ordinary memory",
            Errno.ENOMEM: "no address space to map it",
        },
        unreachable={Errno.ENOMEM: "all memory is mapped"},
    ),
    Command(
        "set_priority", EVTCHNOP_set_priority, EvtchnSetPriority, "in",
        doc="Choose the queue for a port's signals to come, 0 (highest) to 15. A port begins at 7 each time it is "
            "bound.",
        test="tests/core/test_event_fifo.py",
        errors={
            Errno.EINVAL: f"{_BAD_PORT}; or, after all else, `priority` is above 15",
            Errno.ENOSYS: "the domain has the 2-level ABI, which knows no priorities",
            Errno.EACCES: "the port is closed",
        },
    ),
    Command(
        "reset_cont", EVTCHNOP_reset_cont, EvtchnReset, "in",
        doc="The continuation of a `reset` that was preempted. It is meant for Xen itself, but any guest may call it.",
        test="tests/core/test_event_fifo.py",
        errors=_resetting("no reset of this domain is under way"),
        unreachable=_ONLY_DOM0,
    ),
)

EVENT_CHANNEL_OP = Hypercall(
    HYPERVISOR_event_channel_op, "event_channel_op",
    (Arg("cmd", "int", role="cmd"), Arg("arg", "void *", role="arg")),
    EVTCHNOP,
    doc="Make, bind, signal and close event channels.",
    test="tests/core/test_events.py",
    errors={
        Errno.ENOSYS: "`cmd` is not one of these",
        Errno.EFAULT: "`arg` cannot be read, or not be written where the command answers in it",
    },
)

EVENT_CHANNEL_OP_COMPAT = Hypercall(
    HYPERVISOR_event_channel_op_compat, "event_channel_op_compat",
    (Arg("uop", "evtchn_op_t *", role="arg"),),
    arg=EvtchnOp, direction="inout", out=("u",),
    doc="The call before interface 0x00030202: command and structure together. It takes the commands up to "
        "`unmask` and answers as event_channel_op does, in place.",
    errors={
        Errno.EFAULT: "`uop` cannot be read, or its union not be written",
        Errno.ENOSYS: "`uop->cmd` is not one of the commands 0 to 9",
        Errno.EINVAL: "as the command's own",
        Errno.ENOENT: "as the command's own",
        Errno.EEXIST: "as the command's own",
        Errno.ENOSPC: "as the command's own",
        Errno.ESRCH: "as the command's own",
        Errno.EPERM: "as the command's own",
        Errno.EACCES: "as the command's own",
    },
    unreachable={Errno.EACCES: "no port of a PV guest has the hypervisor as its consumer"},
    test="tests/core/test_fuzz_hypercalls.py",
)
