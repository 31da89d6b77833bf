# SPDX-License-Identifier: GPL-2.0-or-later
"""Scheduling and time: which vCPU runs next, for how long, and the clocks and runstates that a guest sees.

    scheduler.py    the main loop                           timekeeping.py  TSC, clock pages, wall-clock time
    timeline.py     a clock, its timers and its run queue   pvclock.py      the clock page's arithmetic
    activity.py     run, wait, sleep, wake                  vtimer.py       a vCPU's timers
    worker.py       work of other threads, and its end      runstate.py     where a vCPU's time went
"""
