# SPDX-License-Identifier: GPL-2.0-or-later
"""event_channel_op: the commands, and the older call that carried command and structure together.

Each handler finds the domain that the command names, checks the caller's privilege, and calls
pvhv.core.events.channels. Its structure is read before any check, and written only on success.

Read beside it: do_event_channel_op in xen/common/event_channel.c, xen/arch/x86/compat.c.
"""

from __future__ import annotations

from ctypes import sizeof
from typing import TYPE_CHECKING, Any

from pvhv.abi.errno import Errno
from pvhv.abi.event_channel import (
    EVENT_CHANNEL_OP,
    EVENT_CHANNEL_OP_COMPAT,
    EVTCHN_FIFO_LINK_BITS,
    EVTCHNOP,
    EvtchnFifoControlBlock,
    EvtchnOp,
    EVTCHNOP_reset_cont,
    EVTCHNOP_send,
    EVTCHNOP_unmask,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq,
)
from pvhv.abi.physdev import NR_PIRQS
from pvhv.abi.xen import DOMID_SELF
from pvhv.core.errors import HypercallError
from pvhv.core.privilege import require_control
from pvhv.core.traps.dispatch import Continue, command_row, handles, hypercall, multiplexer

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU

SWITCH_COST = 512  # of looking through the ports for signals that wait


def find(vcpu: VCPU, domid: int) -> Domain:
    """The domain a command names. Raises HypercallError(ESRCH)."""
    domain: Domain | None = vcpu.domain.hypervisor.resolve(vcpu.domain, domid)
    if domain is None:
        raise HypercallError(Errno.ESRCH)
    return domain


@handles(EVTCHNOP.alloc_unbound)
def alloc_unbound(vcpu: VCPU, op: Any) -> None:
    domain = find(vcpu, op.dom)
    domain.events.free_port()  # Xen looks for room before it asks who wants it
    require_control(vcpu.domain, domain)
    remote = vcpu.domain.domid if op.remote_dom == DOMID_SELF else op.remote_dom
    op.port = domain.events.alloc_unbound(remote)


@handles(EVTCHNOP.bind_interdomain)
def bind_interdomain(vcpu: VCPU, op: Any) -> None:
    remote = find(vcpu, op.remote_dom)
    op.local_port = vcpu.domain.events.bind_interdomain(remote.events, op.remote_port)


@handles(EVTCHNOP.bind_virq)
def bind_virq(vcpu: VCPU, op: Any) -> None:
    op.port = vcpu.domain.events.bind_virq(op.virq, op.vcpu)


@handles(EVTCHNOP.bind_ipi)
def bind_ipi(vcpu: VCPU, op: Any) -> None:
    op.port = vcpu.domain.events.bind_ipi(op.vcpu)


@handles(EVTCHNOP.bind_pirq)
def bind_pirq(vcpu: VCPU, op: Any) -> None:
    raise HypercallError(Errno.EINVAL if op.pirq >= NR_PIRQS else Errno.EPERM)


@handles(EVTCHNOP.bind_vcpu)
def bind_vcpu(vcpu: VCPU, op: Any) -> None:
    vcpu.domain.events.bind_vcpu(op.port, op.vcpu)


@handles(EVTCHNOP.close)
def close(vcpu: VCPU, op: Any) -> None:
    vcpu.domain.events.close(op.port)


@handles(EVTCHNOP.send)
def send(vcpu: VCPU, op: Any) -> None:
    vcpu.domain.events.send(op.port)


@handles(EVTCHNOP.unmask)
def unmask(vcpu: VCPU, op: Any) -> None:
    vcpu.domain.events.unmask(op.port)


@handles(EVTCHNOP.status)
def status(vcpu: VCPU, op: Any) -> None:
    domain = find(vcpu, op.dom)
    domain.events.channel(op.port)  # EINVAL goes before EPERM
    require_control(vcpu.domain, domain)
    found = domain.events.status(op.port)
    op.status, op.vcpu = found.status, found.vcpu_id
    if found.status == EVTCHNSTAT_unbound:
        op.u.unbound.dom = found.domid
    elif found.status == EVTCHNSTAT_interdomain:
        op.u.interdomain.dom, op.u.interdomain.port = found.domid, found.port
    elif found.status == EVTCHNSTAT_virq:
        op.u.virq = found.virq


@handles(EVTCHNOP.reset)
def reset(vcpu: VCPU, op: Any) -> None:
    close_all(vcpu, op, resuming=False)


@handles(EVTCHNOP.reset_cont)
def reset_cont(vcpu: VCPU, op: Any) -> None:
    close_all(vcpu, op, resuming=True)


def close_all(vcpu: VCPU, op: Any, resuming: bool) -> None:
    """Begin or resume a reset; if it is not complete, continue the call with the same structure."""
    domain = find(vcpu, op.dom)
    require_control(vcpu.domain, domain)
    if domain is not vcpu.domain and not domain.controller_paused:
        raise HypercallError(Errno.EINVAL)
    if not domain.events.reset(resuming):
        raise Continue(EVTCHNOP_reset_cont)


# -- the FIFO ABI --------------------------------------------------------------------------------------------
@handles(EVTCHNOP.init_control)
def init_control(vcpu: VCPU, op: Any) -> None:
    domain = vcpu.domain
    op.link_bits = EVTCHN_FIFO_LINK_BITS
    if domain.vcpu(op.vcpu) is None:
        raise HypercallError(Errno.ENOENT)
    if op.offset > 0x1000 - sizeof(EvtchnFifoControlBlock) or op.offset & 7:
        raise HypercallError(Errno.EINVAL)
    domain.hypervisor.must_yield(SWITCH_COST)
    domain.events.init_control(op.vcpu, op.control_gfn, op.offset)


@handles(EVTCHNOP.expand_array)
def expand_array(vcpu: VCPU, op: Any) -> None:
    vcpu.domain.hypervisor.must_yield(SWITCH_COST)
    vcpu.domain.events.expand_array(op.array_gfn)


@handles(EVTCHNOP.set_priority)
def set_priority(vcpu: VCPU, op: Any) -> None:
    vcpu.domain.events.set_priority(op.port, op.priority)


# -- the calls -----------------------------------------------------------------------------------------------
@hypercall(EVENT_CHANNEL_OP)
def event_channel_op(vcpu: VCPU, cmd: int, address: int) -> int:
    """Choose the command. A send is by far the most frequent, so it is decoded here: its structure is one port."""
    if cmd == EVTCHNOP_send:
        vcpu.domain.events.send(int.from_bytes(vcpu.memory.read(address, 4), "little"))
        return 0
    return choose(vcpu, cmd, address)


choose = multiplexer(EVENT_CHANNEL_OP)


@hypercall(EVENT_CHANNEL_OP_COMPAT)
def event_channel_op_compat(vcpu: VCPU, address: int) -> int:
    """The commands up to unmask; each answers in the union of the structure."""
    op: Any = EvtchnOp.from_buffer_copy(vcpu.memory.read(address, sizeof(EvtchnOp)))
    if op.cmd > EVTCHNOP_unmask:
        raise HypercallError(Errno.ENOSYS)
    return command_row(EVTCHNOP.by_number[op.cmd])(vcpu, address + EvtchnOp.u.offset)
