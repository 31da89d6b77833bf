# SPDX-License-Identifier: GPL-2.0-or-later
"""physdev_op: what is left of it for a guest without devices, its virtual I/O privilege.

IOPL and the I/O bitmap are remembered for the vCPU; pvhv.core.emulate asks them when code of the guest's
executes an I/O instruction. Interrupt numbers below the domain's limit can be asked about, but none is ever
bound.

Read beside it: do_physdev_op in xen/arch/x86/physdev.c, xen/arch/x86/compat.c.
"""

from __future__ import annotations

from ctypes import sizeof
from typing import TYPE_CHECKING, Any

from pvhv.abi.errno import Errno
from pvhv.abi.physdev import PHYSDEV_OP_COMPAT, PHYSDEVOP, PhysdevOp, XENIRQSTAT_needs_eoi
from pvhv.core.calls.event_channel import NR_PIRQS
from pvhv.core.dispatch import command_row, handles, hypercall
from pvhv.core.errors import HypercallError

if TYPE_CHECKING:
    from pvhv.core.vcpu import VCPU

IO_BITMAP_BYTES = 8192
MAX_PORTS = 65536


@handles(PHYSDEVOP.IRQ_UNMASK_NOTIFY)
def irq_unmask_notify(vcpu: VCPU, address: int) -> None:
    """No interrupt is bound, so none can be masked."""


@handles(PHYSDEVOP.irq_status_query)
def irq_status_query(vcpu: VCPU, op: Any) -> None:
    if op.irq >= NR_PIRQS:
        raise HypercallError(Errno.EINVAL)
    op.flags = XENIRQSTAT_needs_eoi  # without the page of pirq_eoi_gmfn, always


@handles(PHYSDEVOP.eoi)
def eoi(vcpu: VCPU, op: Any) -> None:
    raise HypercallError(Errno.EINVAL)  # beyond the limit, or not bound


@handles(PHYSDEVOP.set_iopl)
def set_iopl(vcpu: VCPU, op: Any) -> None:
    if op.iopl > 3:
        raise HypercallError(Errno.EINVAL)
    vcpu.iopl = op.iopl


@handles(PHYSDEVOP.set_iobitmap)
def set_iobitmap(vcpu: VCPU, op: Any) -> None:
    if op.nr_ports > MAX_PORTS or not vcpu.memory.accessible(op.bitmap, IO_BITMAP_BYTES):
        raise HypercallError(Errno.EINVAL)
    vcpu.iobmp = op.bitmap
    vcpu.iobmp_limit = op.nr_ports


@hypercall(PHYSDEV_OP_COMPAT)
def physdev_op_compat(vcpu: VCPU, address: int) -> int:
    """The command in front of its structure."""
    op: Any = PhysdevOp.from_buffer_copy(vcpu.memory.read(address, sizeof(PhysdevOp)))
    command = PHYSDEVOP.by_number.get(op.cmd)
    if command is None:
        raise HypercallError(Errno.ENOSYS)
    return command_row(command)(vcpu, address + PhysdevOp.u.offset)
