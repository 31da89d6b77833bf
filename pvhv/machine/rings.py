# SPDX-License-Identifier: GPL-2.0-or-later
"""Which half of a paravirtual guest runs, as the CPU state says it.

Under Xen the kernel and the users of a 64-bit guest both run at CPL 3, and so it looks to the kernel (selectors it
pushes and loads, far returns, alignment checks). The corrected engine has a flag for "CPL 3, and the guest's kernel"
(corrections/guest-kernel.toml), which chooses the page tables and nothing else. The stock engine has no such flag.
There the kernel runs at CPL 1, and can notice (tests/core/test_traps.py has the list).

`MODE` is the mask of the bits of HFLAGS whose value is KERNEL or USER.

Read beside it: guest_mode, guest_kernel_mode in xen/arch/x86/include/asm/regs.h.
"""

from __future__ import annotations

from typing import Final

from pvhv.machine import seam
from pvhv.machine.cpustate import HF_CPL, HF_PV_KERNEL

MODE: Final = HF_CPL | HF_PV_KERNEL
USER: Final = 3
KERNEL: Final = 3 | HF_PV_KERNEL if seam.corrected else 1
KERNEL_CPL: Final = KERNEL & HF_CPL
