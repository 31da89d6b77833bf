# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypervisor. The files here are its objects; the folders hold what it does with them.

    domain.py       an owner of frames, vCPUs, ports and grants     mm/       memory: types of frames, page tables
    vcpu.py         a virtual processor, its turns and timers       traps/    exits, and how they go back to a guest
    arch.py         the processor's side of both                    sched/    turns, timelines, timers, clock pages
    services.py     what a handler may ask of the hypervisor        events/   event channels, in both ABIs
    cpu.py          a pCPU, and which vCPU is on it (pv_cpu.py)     grants/   grant tables, in both versions
    context.py      a vCPU's context given or told as a whole       calls/    the hypercalls, a file for each family
    lifecycle.py    how a domain ends
    hypervisor.py   one machine and its domains, wired together

Beside these: `errors.py` and `privilege.py`; what dom0 may do to others (`control.py`); and what helps to find errors
(`crash.py`, `debugger.py` and `breakpoints.py`, `keyhandler.py`, `xenlog.py`).

`domain.py`, `vcpu.py` and `services.py` name each other. No other files of the core import in a circle, so each can be
read with what it imports and nothing else. `hypervisor.py` imports nearly all of them, and none of them imports it.
"""
