# SPDX-License-Identifier: GPL-2.0-or-later
"""Full virtualization: a guest that has a whole machine to itself, run by one of five techniques.

    platform/    the machine's devices          guest.py     a guest: vCPU, memory, devices and technique together
    cpu/         the processor the guest sees   counts.py    what leaves the guest, counted
    paging/      nested and shadow tables       techniques/  bare, hardware-assisted, and in software
    emulator/    instructions, one at a time    monitor/     what the techniques in software are made of
    classify/    which instructions trap, shown on the engine
"""
