# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypervisor. In the middle stand the things it is about; around them, in wings, what it does.

    domain.py       an owner of frames, vCPUs, ports and grants     mm/       memory: types of frames, page tables
    vcpu.py         a virtual processor: its saved context          traps/    exits, and how they go back to a guest
    cpu.py          a pCPU, and which vCPU is on it                 sched/    turns, timelines, timers, clock pages
    context.py      a vCPU's context given or told as a whole       events/   event channels, in both ABIs
    hypervisor.py   one machine and its domains, wired together     grants/   grant tables, in both versions
    lifecycle.py    how a domain ends                               calls/    the hypercalls, a file for each family

Beside these: `errors.py` and `privilege.py`; what dom0 may do to others (`control.py`); and what somebody looks at when
something went wrong (`crash.py`, `debugger.py`, `keyhandler.py`, `xenlog.py`).
"""
