# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual PC that a fully virtualized guest sees beside its CPU and memory.

Device models, written after the data sheets; QEMU's "pc" machine has the same devices, so a kernel that runs there runs
here. They are pure Python and know neither CPU nor hypervisor: a timeline gives the time, and callables take the
output. All arithmetic is on integers, so a run is the same on every machine.

Read `platform.py` first, then the device you want.
"""

from pvhv.hvm.platform.bus import IOBus
from pvhv.hvm.platform.platform import Platform

__all__ = ["IOBus", "Platform"]
