# SPDX-License-Identifier: GPL-2.0-or-later
"""hvm_op and dm_op for a PV guest: two commands work, the others are refused with Xen's errors.

A fully virtualized guest (pvhv.hvm) makes no hypercalls here. If another domain names it, the answer is EPERM.

Not modelled: Xen's trace buffers, monitoring by another domain; what these calls do for HVM guests.

Read beside it: do_hvm_op in xen/arch/x86/hvm/hvm.c, do_dm_op in xen/common/dm.c, dm_op in xen/arch/x86/hvm/dm.c.
"""

from __future__ import annotations

from ctypes import sizeof
from typing import TYPE_CHECKING, Any

from pvhv.abi.errno import Errno
from pvhv.abi.hvm import DM_OP, DM_OP_BUFS, HVM_NR_PARAMS, HVMOP, TRACE_EVENTS, TRACE_EXTRA_BYTES, XenDmOpBuf
from pvhv.core.errors import HypercallError
from pvhv.core.privilege import require_control
from pvhv.core.traps.dispatch import handles, hypercall

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU


def find(vcpu: VCPU, domid: int) -> Domain:
    """The domain a command names. Raises HypercallError(ESRCH)."""
    domain = vcpu.domain.hypervisor.resolve(vcpu.domain, domid)
    if domain is None:
        raise HypercallError(Errno.ESRCH)
    return domain


def not_hvm(domain: Domain) -> HypercallError:
    """The error after all other checks: EINVAL for a PV domain, EPERM for an HVM domain."""
    return HypercallError(Errno.EINVAL if domain.hvm is None else Errno.EPERM)


@handles(HVMOP.set_param)
def set_param(vcpu: VCPU, op: Any) -> None:
    if op.index >= HVM_NR_PARAMS:
        raise HypercallError(Errno.EINVAL)
    raise not_hvm(find(vcpu, op.domid))


@handles(HVMOP.get_param)
def get_param(vcpu: VCPU, op: Any) -> None:
    set_param(vcpu, op)


@handles(HVMOP.pagetable_dying)
def pagetable_dying(vcpu: VCPU, op: Any) -> None:
    raise HypercallError(Errno.EINVAL if find(vcpu, op.domid) is vcpu.domain else Errno.EOPNOTSUPP)


@handles(HVMOP.get_time)
def get_time(vcpu: VCPU, op: Any) -> None:
    op.now = vcpu.domain.timeline.now()


@handles(HVMOP.xentrace)
def xentrace(vcpu: VCPU, op: Any) -> None:
    if op.extra_bytes > TRACE_EXTRA_BYTES or op.event >= TRACE_EVENTS:
        raise HypercallError(Errno.EINVAL)


@handles(HVMOP.get_mem_type)
def get_mem_type(vcpu: VCPU, op: Any) -> None:
    domain = find(vcpu, op.domid)
    require_control(vcpu.domain, domain)
    raise HypercallError(Errno.EINVAL)


@handles(HVMOP.guest_request_vm_event)
def guest_request_vm_event(vcpu: VCPU, address: int) -> None:
    if address:
        raise HypercallError(Errno.EINVAL)


@hypercall(DM_OP)
def dm_op(vcpu: VCPU, domid: int, nr_bufs: int, bufs: int) -> int:
    """Read the list of buffers, then refuse: the caller is no device model of the domain."""
    nr_bufs &= 0xFFFF_FFFF
    if nr_bufs == 0:
        raise HypercallError(Errno.ENODATA)
    if nr_bufs > DM_OP_BUFS:
        raise HypercallError(Errno.E2BIG)
    vcpu.memory.read(bufs, nr_bufs * sizeof(XenDmOpBuf))
    domain = vcpu.domain.hypervisor.domain_by_id(domid & 0xFFFF)
    if domain is None:
        raise HypercallError(Errno.ESRCH)
    if domain is vcpu.domain:
        raise HypercallError(Errno.EPERM)
    raise not_hvm(domain)
