# SPDX-License-Identifier: GPL-2.0-or-later
"""Which half of a paravirtual guest runs, as the CPU state says it.

Under Xen both halves of a 64-bit guest are at CPL 3, and what a kernel can find out about its ring (selectors it pushes
and loads, far returns, alignment checks) is so. The corrected engine has a flag for "CPL 3, and the guest's kernel"
(corrections/guest-kernel.toml), which chooses the page tables and nothing else. The stock engine has no such thing:
there the kernel is at CPL 1, and can tell (tests/core/test_traps.py has the list).

`MODE` are those bits of HFLAGS that are KERNEL or USER.

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
