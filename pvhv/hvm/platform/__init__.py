# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual PC that a fully virtualized guest sees beside its CPU and memory.

Device models by their data sheets, where QEMU's "pc" machine has the same ones, so that a kernel which runs there runs
here. Pure Python that knows neither CPU nor hypervisor: a timeline gives the time, callables take what comes out. All
arithmetic is on integers, so a run is the same on every machine.

Read `platform.py` first, then the device you want.
"""

from pvhv.hvm.platform.bus import IOBus
from pvhv.hvm.platform.platform import Platform

__all__ = ["IOBus", "Platform"]
