# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine: RAM, pCPUs, clocks and the page-table walk.  The only folder that knows Unicorn.

`pcpu.py` is the pCPU as other folders use it, and lists the files it consists of.

    cpustate.py   where a register lies                      ram.py       physical memory
    engine.py     Unicorn's functions                        paging.py    entries, and the walk
    seam.py       ... and those of the corrected one         private.py   our own pages of a pCPU
    pacer.py      the Python side of pacer.c: counts, stops  hostmem.py   the host's memory, read safely
    stops.py      where a stop is looked for                 x86.py       what the processor's manuals define
    ticker.py     a deadline's thread                        svm.py       ... of AMD-V
    clock.py      the wall's clock, and the virtual one      rings.py     which half of a guest runs
    watch.py      frames whose stores are all to be seen     features.py  what CPUID counts
    ctrl_c.py     Ctrl-C while the engine runs

Read `pcpu.py` first, then `cpustate.py`, and `pacer.c` for how time is counted.
"""
