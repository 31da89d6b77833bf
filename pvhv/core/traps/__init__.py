# SPDX-License-Identifier: GPL-2.0-or-later
"""What brings a vCPU into the hypervisor, and how it gets back.

    exits.py           what happens at each kind of exit         emulate.py    privileged instructions, done for it
    bounce.py          into the guest's kernel: bounce frames,   msrs.py       ... RDMSR and WRMSR
                       upcalls; and out of it: iret              cpuid.py      ... CPUID
    dispatch.py        from `syscall` to a handler, and back     debugregs.py  ... moves to debug registers
    hypercall_page.py  stubs for a kernel's hypercalls

Read `bounce.py` first.
"""
