# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU's debug registers: the checks Xen makes, and the values read back.

Not modelled: breakpoints. What is written is checked and kept, but nothing fires.

Read beside it: set_debugreg in xen/arch/x86/pv/misc-hypercalls.c, xen/arch/x86/include/asm/debugreg.h.
"""

from __future__ import annotations

from pvhv.abi.errno import Errno
from pvhv.core.errors import HypercallError
from pvhv.core.guestmem import HYPERVISOR_VIRT_END, LOWER_END
from pvhv.core.vcpu import VCPU

CR4_DE = 1 << 3
DR6_DEFAULT = 0xFFFF_0FF0
DR6_ZERO = 0x1000
DR7_DEFAULT = 0x400
DR7_ZERO = 0xD800
DR7_GENERAL_DETECT = 1 << 13
DR7_ACTIVE = 0xFF
IO_BREAKPOINT = 2


def set_register(vcpu: VCPU, number: int, value: int) -> None:
    """Write one. Raises HypercallError: ENODEV, EPERM, EINVAL."""
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


def get_register(vcpu: VCPU, number: int) -> int:
    """Read one. Raises HypercallError(ENODEV)."""
    if number in (4, 5):
        if vcpu.cr4 & CR4_DE:
            raise HypercallError(Errno.ENODEV)
        number += 2
    if number > 7:
        raise HypercallError(Errno.ENODEV)
    return vcpu.debugreg[number]


def breakable(address: int) -> bool:
    """Whether a guest may have a breakpoint there: where it may have memory."""
    return address < LOWER_END or address >= HYPERVISOR_VIRT_END
