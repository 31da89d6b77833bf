# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU's debug registers: the checks Xen makes, and breakpoints that fire while the vCPU runs.

DR0-3 and DR7 are the pCPU's for as long as they have a breakpoint. DR6 is kept for the vCPU only. The bits the
processor reports at a debug exception are added to it and stay until the guest writes it, so they may tell of several
exceptions.

Not modelled: breakpoints on the stock engine; those on memory that the hypervisor reads or writes for the guest.

Read beside it: set_debugreg in xen/arch/x86/pv/misc-hypercalls.c, xen/arch/x86/include/asm/debugreg.h, do_debug in
xen/arch/x86/traps.c, activate_debugregs in xen/arch/x86/debug.c.
"""

from __future__ import annotations

from pvhv.abi.arch_x86 import HYPERVISOR_VIRT_END
from pvhv.abi.errno import Errno
from pvhv.core.errors import HypercallError
from pvhv.core.vcpu import VCPU
from pvhv.machine.x86 import CR4_DE, DR6_DEFAULT, DR7_ACTIVE, DR7_DEFAULT, LOWER_END

DR6_ZERO = 0x1000
DR6_STEP = 1 << 14
DR7_ZERO = 0xD800
DR7_GENERAL_DETECT = 1 << 13
IO_BREAKPOINT = 2


def set_register(vcpu: VCPU, number: int, value: int) -> None:
    """Write a debug register. Raises HypercallError: ENODEV, EPERM, EINVAL."""
    if number in (4, 5):
        if vcpu.cr4 & CR4_DE:
            raise HypercallError(Errno.ENODEV)
        number += 2
    if number <= 3:
        if not breakable(value):
            raise HypercallError(Errno.EPERM)
    elif number not in (6, 7):
        raise HypercallError(Errno.ENODEV)
    elif value >> 32:
        raise HypercallError(Errno.EINVAL)
    elif number == 6:
        value = value & ~DR6_ZERO | DR6_DEFAULT
    else:
        value = value & ~DR7_ZERO | DR7_DEFAULT
        if value & DR7_GENERAL_DETECT:
            raise HypercallError(Errno.EPERM)
        if value & DR7_ACTIVE and not vcpu.cr4 & CR4_DE:
            if any(value >> shift & 3 == IO_BREAKPOINT for shift in range(16, 32, 4)):
                raise HypercallError(Errno.EPERM)
    vcpu.debugreg[number] = value
    if number != 6:
        vcpu.domain.timeline.cpu.debug_registers_changed(vcpu)


def get_register(vcpu: VCPU, number: int) -> int:
    """Read a debug register. Raises HypercallError(ENODEV)."""
    if number in (4, 5):
        if vcpu.cr4 & CR4_DE:
            raise HypercallError(Errno.ENODEV)
        number += 2
    if number > 7:
        raise HypercallError(Errno.ENODEV)
    return vcpu.debugreg[number]


def note(vcpu: VCPU, dr6: int) -> None:
    """Record in the vCPU's DR6 what the processor reported (`dr6`) at a debug exception. (do_debug)"""
    vcpu.debugreg[6] = (vcpu.debugreg[6] | dr6 & ~DR6_DEFAULT) & (dr6 | ~DR6_DEFAULT)


def breakable(address: int) -> bool:
    """Whether a guest may have a breakpoint at `address`: outside the hypervisor's part of the address space."""
    return address < LOWER_END or address >= HYPERVISOR_VIRT_END
