# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns and time: who runs next, how long, and what a guest is told about it.

    scheduler.py    the main loop                           timekeeping.py  TSC, clock pages, wall-clock time
    timeline.py     a clock, its timers and its run queue   pvclock.py      the clock page's arithmetic
    activity.py     run, wait, sleep, wake                  vtimer.py       a vCPU's timers
                                                            runstate.py     where a vCPU's time went
"""
