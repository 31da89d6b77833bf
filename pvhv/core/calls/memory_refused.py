# SPDX-License-Identifier: GPL-2.0-or-later
"""memory_op's commands that a PV guest is refused: those for dom0, for HVM guests, and for features pvhv does not have.

In Xen each of them checks its argument, in an order of its own, before it refuses. The same checks in the same order
are here, so that a guest that probes gets the same errors.

Not modelled: virtual NUMA, memory sharing, passthrough; claims and resources of other domains, which only a control
domain could ask for.

Read beside it: do_memory_op in xen/common/memory.c, arch_memory_op in xen/arch/x86/mm.c, xen/common/mem_access.c.
"""

from __future__ import annotations

from ctypes import sizeof
from typing import TYPE_CHECKING

from pvhv.abi import memory as abi
from pvhv.abi.errno import Errno
from pvhv.abi.layout import record
from pvhv.abi.memory import XENMEM
from pvhv.core.calls.memory import find, load, not_arch, not_continued
from pvhv.core.errors import HypercallError
from pvhv.core.privilege import require_control
from pvhv.core.traps.dispatch import handles

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU

RESERVED_MEMORY_ENTRY = sizeof(record(abi.xen_reserved_device_memory))


@handles(XENMEM.machine_memory_map)
def machine_memory_map(vcpu: VCPU, arg: int, place: int) -> int:
    not_arch(place)
    raise HypercallError(Errno.EPERM)


@handles(XENMEM.machphys_compat_mfn_list)
def machphys_compat_mfn_list(vcpu: VCPU, arg: int, place: int) -> int:
    not_arch(place)
    raise HypercallError(Errno.EOPNOTSUPP)


@handles(XENMEM.set_pod_target)
def set_pod_target(vcpu: VCPU, arg: int, place: int) -> int:
    not_arch(place)
    domain = find(vcpu, load(vcpu, abi.XenPodTarget, arg).domid)
    raise HypercallError(Errno.EINVAL if domain.hvm is None else Errno.EPERM)


@handles(XENMEM.get_pod_target)
def get_pod_target(vcpu: VCPU, arg: int, place: int) -> int:
    set_pod_target(vcpu, arg, place)
    return 0


@handles(XENMEM.get_sharing_freed_pages)
def get_sharing_freed_pages(vcpu: VCPU, arg: int, place: int) -> int:
    not_arch(place)
    return 0


@handles(XENMEM.get_sharing_shared_pages)
def get_sharing_shared_pages(vcpu: VCPU, arg: int, place: int) -> int:
    not_arch(place)
    return 0


def remote(vcpu: VCPU, domid: int) -> Domain:
    """The other domain with this id. Raises HypercallError: ESRCH, or EPERM for the caller itself."""
    domain = vcpu.domain.hypervisor.domain_by_id(domid)
    if domain is None:
        raise HypercallError(Errno.ESRCH)
    if domain is vcpu.domain:
        raise HypercallError(Errno.EPERM)
    return domain


@handles(XENMEM.access_op)
def access_op(vcpu: VCPU, arg: int, place: int) -> int:
    remote(vcpu, load(vcpu, abi.XenMemAccessOp, arg).domid)
    raise HypercallError(Errno.EINVAL)


@handles(XENMEM.claim_pages)
def claim_pages(vcpu: VCPU, arg: int, place: int) -> int:
    not_continued(place)
    op = load(vcpu, abi.XenMemoryReservation, arg)
    if op.extent_start or op.extent_order or op.mem_flags:
        raise HypercallError(Errno.EINVAL)
    if vcpu.domain.hypervisor.domain_by_id(op.domid) is None:
        raise HypercallError(Errno.EINVAL)
    raise HypercallError(Errno.EPERM)


@handles(XENMEM.get_vnumainfo)
def get_vnumainfo(vcpu: VCPU, arg: int, place: int) -> int:
    not_continued(place)
    op = load(vcpu, abi.XenVnumaTopologyInfo, arg)
    if op.pad:
        raise HypercallError(Errno.EINVAL)
    require_control(vcpu.domain, find(vcpu, op.domid))
    raise HypercallError(Errno.EOPNOTSUPP)


@handles(XENMEM.reserved_device_memory_map)
def reserved_device_memory_map(vcpu: VCPU, arg: int, place: int) -> int:
    not_continued(place)
    op = load(vcpu, abi.XenReservedDeviceMemoryMap, arg)
    if not vcpu.memory.accessible(op.buffer, op.nr_entries * RESERVED_MEMORY_ENTRY):
        raise HypercallError(Errno.EFAULT)
    if op.flags & ~abi.XENMEM_RDM_ALL:
        raise HypercallError(Errno.EINVAL)
    op.nr_entries = 0
    vcpu.memory.write(arg, bytes(op))
    return 0


@handles(XENMEM.acquire_resource)
def acquire_resource(vcpu: VCPU, arg: int, place: int) -> int:
    op = load(vcpu, abi.XenMemAcquireResource, arg)
    if op.pad or op.frame >> 32 or op.frame + op.nr_frames >> 32:
        raise HypercallError(Errno.EINVAL)
    remote(vcpu, op.domid)
    raise HypercallError(Errno.EPERM)
