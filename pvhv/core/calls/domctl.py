# SPDX-License-Identifier: GPL-2.0-or-later
"""domctl, sysctl and platform_op as hypercalls: a guest is refused, as these are for dom0.

The answer is EPERM, after the checks that Xen makes before the one for privilege: the argument can be read, it has the
right interface version, and (domctl) it names a domain. A few commands check more (`BEFORE`). Domain 0 uses the Python
methods of pvhv.core.control instead.

Read beside it: do_domctl in xen/common/domctl.c, arch_do_domctl in xen/arch/x86/domctl.c, do_sysctl in
xen/common/sysctl.c, do_platform_op in xen/arch/x86/platform_hypercall.c, do_paging_domctl_cont in
xen/arch/x86/mm/paging.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ctypes import sizeof
from typing import TYPE_CHECKING, Any

from pvhv.abi import control as abi
from pvhv.abi.errno import Errno
from pvhv.abi.physdev import NR_PIRQS
from pvhv.abi.xen import DOMID_FIRST_RESERVED, DOMID_INVALID, DOMID_IO
from pvhv.core.errors import HypercallError
from pvhv.core.traps.dispatch import hypercall
from pvhv.machine.x86 import IO_PORTS

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU

PORTS_MASK = 0xFFFF_FFFF
ADDRESS_MASK = 0xFFFF_FFFF_FFFF_FFFF
FRAME_BITS = 40 - 12  # of the physical addresses that CPUID tells
NO_DOMAIN_NEEDED = (abi.XEN_DOMCTL_test_assign_device, abi.XEN_DOMCTL_vm_event_op)  # ... if it says DOMID_INVALID
DEVICES = (abi.XEN_DOMCTL_assign_device, abi.XEN_DOMCTL_deassign_device)  # which may be nobody's


def load(vcpu: VCPU, record: Any, address: int, version: int) -> Any:
    """The head of the structure. Raises GuestFault, and HypercallError(EACCES) for another interface version."""
    op = record.from_buffer_copy(vcpu.memory.read(address, sizeof(record)))
    if op.interface_version != version:
        raise HypercallError(Errno.EACCES)
    return op


@hypercall(abi.DOMCTL)
def domctl(vcpu: VCPU, address: int) -> int:
    op = load(vcpu, abi.XenDomctl, address, abi.XEN_DOMCTL_INTERFACE_VERSION)
    domain = meant(vcpu, op)
    inside = bytes(op.u)
    if op.cmd == abi.XEN_DOMCTL_vm_event_op and inside[:4] == struct.pack("<I", abi.XEN_VM_EVENT_GET_VERSION):
        answer = inside[:8] + struct.pack("<I", abi.VM_EVENT_INTERFACE_VERSION) + inside[12:]
        vcpu.memory.write(address, bytes(op)[: abi.XenDomctl.u.offset] + answer)
        return 0
    look = BEFORE.get(op.cmd)
    if look is not None and domain is not None:
        look(vcpu.domain, domain, inside)
    raise HypercallError(Errno.EPERM)


def meant(vcpu: VCPU, op: Any) -> Domain | None:
    """The domain a command names; None if the command needs none. Raises HypercallError: ESRCH, EINVAL."""
    hypervisor = vcpu.domain.hypervisor
    if op.cmd == abi.XEN_DOMCTL_getdomaininfo:
        # It means the first domain from this id on.
        if op.domain >= DOMID_FIRST_RESERVED:
            raise HypercallError(Errno.EINVAL)
        if not any(domid >= op.domain for domid in hypervisor.domains):
            raise HypercallError(Errno.ESRCH)
        return None
    if op.cmd == abi.XEN_DOMCTL_createdomain:
        return None
    if (op.cmd in NO_DOMAIN_NEEDED and op.domain == DOMID_INVALID) or (op.cmd in DEVICES and op.domain == DOMID_IO):
        return None
    domain = hypervisor.domain_by_id(op.domain)
    if domain is None:
        raise HypercallError(Errno.ESRCH)
    return domain


# -- what some commands look at before they ask who calls; each gets the structure's inside --------------------
Look = Callable[["Domain", "Domain", bytes], None]


def needs_hvm(errno: Errno) -> Look:
    """The check of a command for HVM domains only."""

    def look(_caller: Domain, domain: Domain, _inside: bytes) -> None:
        if domain.hvm is None:
            raise HypercallError(errno)

    return look


def irq_permission(_caller: Domain, _domain: Domain, inside: bytes) -> None:
    (pirq,) = struct.unpack_from("<I", inside)
    if pirq >= NR_PIRQS:
        raise HypercallError(Errno.EINVAL)


def iomem_permission(_caller: Domain, _domain: Domain, inside: bytes) -> None:
    first, count = struct.unpack_from("<QQ", inside)
    if (first + count - 1) & ADDRESS_MASK < first:
        raise HypercallError(Errno.EINVAL)


def ioport_permission(_caller: Domain, _domain: Domain, inside: bytes) -> None:
    first, count = struct.unpack_from("<II", inside)
    end = (first + count) & PORTS_MASK
    if end <= first or end > IO_PORTS:
        raise HypercallError(Errno.EINVAL)


def memory_mapping(_caller: Domain, _domain: Domain, inside: bytes) -> None:
    gfn, mfn, count = struct.unpack_from("<QQQ", inside)
    last = (mfn + count - 1) & ADDRESS_MASK
    if last < mfn or (mfn | last) >> FRAME_BITS or (gfn + count - 1) & ADDRESS_MASK < gfn:
        raise HypercallError(Errno.EINVAL)


def set_target(caller: Domain, domain: Domain, inside: bytes) -> None:
    (domid,) = struct.unpack_from("<H", inside)
    target = caller.hypervisor.domain_by_id(domid)
    if target is None:
        raise HypercallError(Errno.ESRCH)
    if target is domain:
        raise HypercallError(Errno.EINVAL)
    if target.hvm is None:
        raise HypercallError(Errno.EOPNOTSUPP)


def get_device_group(_caller: Domain, _domain: Domain, _inside: bytes) -> None:
    raise HypercallError(Errno.EOPNOTSUPP)  # there is no IOMMU


BEFORE: dict[int, Look] = {
    abi.XEN_DOMCTL_irq_permission: irq_permission,
    abi.XEN_DOMCTL_iomem_permission: iomem_permission,
    abi.XEN_DOMCTL_ioport_permission: ioport_permission,
    abi.XEN_DOMCTL_bind_pt_irq: needs_hvm(Errno.EINVAL),
    abi.XEN_DOMCTL_memory_mapping: memory_mapping,
    abi.XEN_DOMCTL_ioport_mapping: needs_hvm(Errno.EOPNOTSUPP),
    abi.XEN_DOMCTL_set_target: set_target,
    abi.XEN_DOMCTL_unbind_pt_irq: needs_hvm(Errno.EINVAL),
    abi.XEN_DOMCTL_get_device_group: get_device_group,
}


@hypercall(abi.PAGING_DOMCTL_CONT)
def paging_domctl_cont(vcpu: VCPU, address: int) -> int:
    op = abi.XenDomctl.from_buffer_copy(vcpu.memory.read(address, sizeof(abi.XenDomctl)))
    if op.interface_version != abi.XEN_DOMCTL_INTERFACE_VERSION or op.cmd != abi.XEN_DOMCTL_shadow_op:
        raise HypercallError(Errno.EOPNOTSUPP)
    if vcpu.domain.hypervisor.domain_by_id(op.domain) is None:
        raise HypercallError(Errno.ESRCH)
    vcpu.memory.write(address + abi.XenDomctl.u.offset, bytes(op.u))
    raise HypercallError(Errno.EPERM)


@hypercall(abi.SYSCTL)
def sysctl(vcpu: VCPU, address: int) -> int:
    load(vcpu, abi.XenSysctl, address, abi.XEN_SYSCTL_INTERFACE_VERSION)
    raise HypercallError(Errno.EPERM)


@hypercall(abi.PLATFORM_OP)
def platform_op(vcpu: VCPU, address: int) -> int:
    load(vcpu, abi.XenPlatformOp, address, abi.XENPF_INTERFACE_VERSION)
    raise HypercallError(Errno.EPERM)
