# SPDX-License-Identifier: GPL-2.0-or-later
"""The clock page: how a guest computes system time from its TSC, without a hypercall.

struct vcpu_time_info holds a system time, the TSC at that time, and a scale: system time is `system_time + ((tsc -
tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32`. The version is odd while the fields change, so a guest can
detect an inconsistent read. On the wall clock the TSC is the host's, read natively by the guest; on a virtual timeline
reading it traps, and it counts the timeline's nanoseconds.

Read beside it: __update_vcpu_system_time in xen/arch/x86/time.c, struct vcpu_time_info in xen/include/public/xen.h.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pvhv.abi.xen import XEN_PVCLOCK_TSC_STABLE_BIT
from pvhv.machine.clock import NS

TIME = struct.Struct("<IIQQIbBxx")  # version, pad, tsc_timestamp, system_time, mul, shift, flags
TIME_OFFSET = 32  # of `time` in struct vcpu_info


class Scale(NamedTuple):
    """ns = (ticks << shift) * mul >> 32 (shift may be negative)."""

    mul: int
    shift: int

    def ns(self, ticks: int) -> int:
        """Ticks as nanoseconds."""
        shifted = ticks << self.shift if self.shift >= 0 else ticks >> -self.shift
        return shifted * self.mul >> 32


def scale_of(khz: int) -> Scale:
    """The scale of a counter of that frequency: `mul` in the upper half of its range."""
    shift = 0
    hz = khz * 1000
    while hz > 2 * NS:
        hz >>= 1
        shift -= 1
    while hz <= NS:
        hz <<= 1
        shift += 1
    return Scale(min((NS << 32) // hz, 0xFFFF_FFFF), shift)


class Clock(NamedTuple):
    """One reading that a guest extrapolates from."""

    tsc: int
    system_time: int
    scale: Scale

    def at(self, tsc: int) -> int:
        """System time at a later TSC, as the guest computes it."""
        return self.system_time + self.scale.ns(tsc - self.tsc)


def encode(version: int, clock: Clock, stable: bool) -> bytes:
    """struct vcpu_time_info; `version` must be even."""
    flags = XEN_PVCLOCK_TSC_STABLE_BIT if stable else 0
    return TIME.pack(version, 0, clock.tsc, clock.system_time, clock.scale.mul, clock.scale.shift, flags)
