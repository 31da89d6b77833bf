# SPDX-License-Identifier: GPL-2.0-or-later
"""The clock page's two figures belong to one moment, however the host treats who reads them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pvhv.core.sched.pvclock import TIME, TIME_OFFSET
from pvhv.core.sched.timekeeping import READINGS, Timekeeper
from pvhv.machine.ram import Ram

KHZ = 1_000_000  # a tick is a nanosecond


class Host:
    """Time goes on by 100 ns with each look at it, and by `taken_away` where the host runs somebody else meanwhile."""

    virtual = False

    def __init__(self, *taken_away: int) -> None:
        self.time = 5_000_000_000
        self.taken_away = list(taken_away)
        self.tsc_lags = 0
        self.cpu: Any = SimpleNamespace(pcpu=SimpleNamespace(read_tsc=self.read_tsc, tsc_khz=KHZ))

    def now(self) -> int:
        self.time += 100
        return self.time

    def read_tsc(self) -> int:
        counter = self.now()
        self.time += self.taken_away.pop(0) if self.taken_away else 0
        return counter - self.tsc_lags


def error(*taken_away: int) -> int:
    """How far apart TSC and time are in a clock page that is made then."""
    host: Any = Host(*taken_away)
    tsc, now = Timekeeper(Ram(1))._together(host)
    return abs(now - tsc)


def test_an_undisturbed_reading() -> None:
    assert error() <= 200


def test_readings_that_were_interrupted_are_made_again() -> None:
    assert error(600_000) <= 200
    assert error(50_000_000, 4_000_000, 700_000) <= 200


def test_on_a_host_that_interrupts_all_of_them_the_best_counts() -> None:
    each = [900_000, 700_000, 10_000, *[800_000] * READINGS]
    assert error(*each) <= 10_200


class Cpu:
    """A vCPU, as far as its clock page is concerned."""

    vcpu_info = time_guest = 0

    def __init__(self, timeline: Host) -> None:
        self.domain = SimpleNamespace(hvm=None, timeline=timeline)


def test_no_timer_comes_before_its_time_by_the_guests_clock() -> None:
    host, ram = Host(), Ram(1)
    keeper: Any = Timekeeper(ram)
    cpu = Cpu(host)
    keeper.update(cpu)
    host.tsc_lags = 40_000  # the host's clock was set a little forward, or runs a little faster
    due = host.now()

    def shown() -> int:
        """What the guest makes of its page now."""
        _, _, tsc, time, *_ = TIME.unpack(ram.bytes[TIME_OFFSET : TIME_OFFSET + TIME.size])
        return int(time + host.read_tsc() - tsc)

    assert shown() < due
    keeper.show_at_least(cpu, due)
    assert shown() >= due
    before = bytes(ram.bytes[:4096])
    keeper.show_at_least(cpu, due)
    assert bytes(ram.bytes[:4096]) == before  # nothing to mend
