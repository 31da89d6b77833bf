# SPDX-License-Identifier: GPL-2.0-or-later
"""physdev_op: what is left of it for a guest without devices, its virtual I/O privilege.

IOPL and the I/O bitmap are remembered for the vCPU; pvhv.core.traps.emulate checks them when the guest executes an I/O
instruction. Interrupt numbers below the domain's limit can be queried and reserved, but none is ever bound. So the
hypervisor never writes to the page of pirq_eoi_gmfn.

A command for dom0 has a handler here only if Xen checks something before it refuses; the others need none.

Not modelled: devices, and the word behind pci_device_add's structure, which Xen reads for the node of one.

Read beside it: do_physdev_op in xen/arch/x86/physdev.c, pci_physdev_op in xen/drivers/pci/physdev.c,
xen/arch/x86/compat.c.
"""

from __future__ import annotations

from ctypes import sizeof
from typing import TYPE_CHECKING, Any

from pvhv.abi.errno import Errno
from pvhv.abi.physdev import (
    MAP_PIRQ_TYPE_GSI,
    MAP_PIRQ_TYPE_MSI,
    MAP_PIRQ_TYPE_MSI_SEG,
    MAP_PIRQ_TYPE_MULTI_MSI,
    NR_GSIS,
    NR_ISA_IRQS,
    NR_PIRQS,
    PHYSDEV_OP_COMPAT,
    PHYSDEVOP,
    PhysdevOp,
    XENIRQSTAT_needs_eoi,
)
from pvhv.core.errors import HypercallError
from pvhv.core.mm.frames import WRITABLE
from pvhv.core.traps.dispatch import command_row, handles, hypercall
from pvhv.machine.x86 import IO_PORTS

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU

IO_BITMAP_BYTES = 8192


@handles(PHYSDEVOP.IRQ_UNMASK_NOTIFY)
def irq_unmask_notify(vcpu: VCPU, address: int) -> None:
    """Does nothing: no interrupt is bound, so none can be masked."""


@handles(PHYSDEVOP.irq_status_query)
def irq_status_query(vcpu: VCPU, op: Any) -> None:
    if op.irq >= NR_PIRQS:
        raise HypercallError(Errno.EINVAL)
    op.flags = XENIRQSTAT_needs_eoi  # without the page of pirq_eoi_gmfn, always


@handles(PHYSDEVOP.eoi)
def eoi(vcpu: VCPU, op: Any) -> None:
    if op.irq not in vcpu.domain.pirqs:
        raise HypercallError(Errno.EINVAL)


@handles(PHYSDEVOP.get_free_pirq)
def get_free_pirq(vcpu: VCPU, op: Any) -> None:
    taken = vcpu.domain.pirqs
    numbers = [*range(NR_PIRQS - 1, NR_GSIS - 1, -1)]
    if op.type == MAP_PIRQ_TYPE_GSI:
        numbers = [*range(NR_ISA_IRQS, NR_GSIS), *numbers]
    pirq = next((number for number in numbers if number not in taken), None)
    if pirq is None:
        raise HypercallError(Errno.ENOSPC)
    taken.add(pirq)
    op.pirq = pirq


@handles(PHYSDEVOP.pirq_eoi_gmfn_v1)
def pirq_eoi_gmfn_v1(vcpu: VCPU, op: Any) -> None:
    share_eoi_page(vcpu.domain, op.gmfn)


@handles(PHYSDEVOP.pirq_eoi_gmfn_v2)
def pirq_eoi_gmfn_v2(vcpu: VCPU, op: Any) -> None:
    share_eoi_page(vcpu.domain, op.gmfn)


def share_eoi_page(domain: Domain, mfn: int) -> None:
    """Hold a frame for the domain's lifetime. Raises HypercallError: EINVAL, or EBUSY for a second frame."""
    frames = domain.hypervisor.frames
    frames.get_page_and_type(mfn, domain.domid, WRITABLE)
    if domain.pirq_eoi_mfn:
        frames.put_page_and_type(mfn)
        raise HypercallError(Errno.EBUSY)
    domain.pirq_eoi_mfn = mfn


@handles(PHYSDEVOP.set_iopl)
def set_iopl(vcpu: VCPU, op: Any) -> None:
    if op.iopl > 3:
        raise HypercallError(Errno.EINVAL)
    vcpu.iopl = op.iopl


@handles(PHYSDEVOP.set_iobitmap)
def set_iobitmap(vcpu: VCPU, op: Any) -> None:
    if op.nr_ports > IO_PORTS or not vcpu.memory.accessible(op.bitmap, IO_BITMAP_BYTES):
        raise HypercallError(Errno.EINVAL)
    vcpu.iobmp = op.bitmap
    vcpu.iobmp_limit = op.nr_ports


# -- what Xen refuses, after a look -----------------------------------------------------------------------------
@handles(PHYSDEVOP.map_pirq)
def map_pirq(vcpu: VCPU, op: Any) -> int:
    """Write the structure back, with the type as it was understood; returns the error instead of raising it."""
    if op.type == MAP_PIRQ_TYPE_MULTI_MSI and op.table_base:
        raise HypercallError(Errno.EINVAL)
    if op.type == MAP_PIRQ_TYPE_MSI_SEG:
        op.type = MAP_PIRQ_TYPE_MSI
    return -(Errno.ESRCH if vcpu.domain.hypervisor.resolve(vcpu.domain, op.domid) is None else Errno.EPERM)


@handles(PHYSDEVOP.unmap_pirq)
def unmap_pirq(vcpu: VCPU, op: Any) -> None:
    if vcpu.domain.hypervisor.resolve(vcpu.domain, op.domid) is None:
        raise HypercallError(Errno.ESRCH)
    raise HypercallError(Errno.EPERM)


@handles(PHYSDEVOP.manage_pci_add_ext)
def manage_pci_add_ext(vcpu: VCPU, op: Any) -> None:
    raise HypercallError(Errno.EINVAL if op.is_extfn > 1 or op.is_virtfn > 1 else Errno.EPERM)


@handles(PHYSDEVOP.setup_gsi)
def setup_gsi(vcpu: VCPU, op: Any) -> None:
    raise HypercallError(Errno.EPERM if 0 <= op.gsi < NR_GSIS else Errno.EINVAL)


@hypercall(PHYSDEV_OP_COMPAT)
def physdev_op_compat(vcpu: VCPU, address: int) -> int:
    """The older form: the command stands before its structure."""
    op: Any = PhysdevOp.from_buffer_copy(vcpu.memory.read(address, sizeof(PhysdevOp)))
    command = PHYSDEVOP.by_number.get(op.cmd)
    if command is None:
        raise HypercallError(Errno.ENOSYS)
    return command_row(command)(vcpu, address + PhysdevOp.u.offset)
