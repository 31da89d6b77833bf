# SPDX-License-Identifier: GPL-2.0-or-later
"""The metal: RAM, pCPUs, clocks and the page-table walk.  The only folder that knows Unicorn.

Read `pcpu.py` first; `cpustate.py` says where a register lives, `pacer.c` how time is counted,
`x86.py` what the processor's manuals define.
"""
