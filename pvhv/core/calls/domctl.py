# SPDX-License-Identifier: GPL-2.0-or-later
"""domctl, sysctl and platform_op as hypercalls: what a guest hears that asks for what is dom0's.

It hears EPERM, after what Xen looks at before it asks who calls: that the argument can be read, that it
speaks the interface version, and (domctl) that it names a domain. The real thing, for domain 0 in Python, is
pvhv.core.control.

Read beside it: do_domctl in xen/common/domctl.c, do_sysctl in xen/common/sysctl.c, do_platform_op in
xen/arch/x86/platform_hypercall.c.
"""

from __future__ import annotations

from ctypes import sizeof
from typing import TYPE_CHECKING, Any

from pvhv.abi import control as abi
from pvhv.abi.errno import Errno
from pvhv.core.dispatch import hypercall
from pvhv.core.domain import DOMID_FIRST_RESERVED
from pvhv.core.errors import HypercallError

if TYPE_CHECKING:
    from pvhv.core.vcpu import VCPU


def load(vcpu: VCPU, record: Any, address: int, version: int) -> Any:
    """The head of the structure. Raises GuestFault, and HypercallError(EACCES) for another interface version."""
    op = record.from_buffer_copy(vcpu.memory.read(address, sizeof(record)))
    if op.interface_version != version:
        raise HypercallError(Errno.EACCES)
    return op


@hypercall(abi.DOMCTL)
def domctl(vcpu: VCPU, address: int) -> int:
    op = load(vcpu, abi.XenDomctl, address, abi.XEN_DOMCTL_INTERFACE_VERSION)
    hypervisor = vcpu.domain.hypervisor
    if op.cmd == abi.XEN_DOMCTL_getdomaininfo:
        # It means the first domain from this id on.
        if op.domain >= DOMID_FIRST_RESERVED:
            raise HypercallError(Errno.EINVAL)
        if not any(domid >= op.domain for domid in hypervisor.domains):
            raise HypercallError(Errno.ESRCH)
    elif op.cmd != abi.XEN_DOMCTL_createdomain and hypervisor.domain_by_id(op.domain) is None:
        raise HypercallError(Errno.ESRCH)
    raise HypercallError(Errno.EPERM)


@hypercall(abi.SYSCTL)
def sysctl(vcpu: VCPU, address: int) -> int:
    load(vcpu, abi.XenSysctl, address, abi.XEN_SYSCTL_INTERFACE_VERSION)
    raise HypercallError(Errno.EPERM)


@hypercall(abi.PLATFORM_OP)
def platform_op(vcpu: VCPU, address: int) -> int:
    load(vcpu, abi.XenPlatformOp, address, abi.XENPF_INTERFACE_VERSION)
    raise HypercallError(Errno.EPERM)
