# SPDX-License-Identifier: GPL-2.0-or-later
"""The real-time clock, by the MC146818 data sheet."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvhv.hvm.platform.calendar import Alarm, Format, civil, days_from_civil
from pvhv.machine.clock import NS
from tests.hvm.platform_lab import Machine

DATE = (0x32, 9, 8, 7, 6, 4, 2, 0)  # century, year, month, day, day of the week, hour, minute, second
A, B, C, D = 0x0A, 0x0B, 0x0C, 0x0D
VECTOR = 0x38
PERIOD_1024 = NS // 1024


def get(machine: Machine, index: int) -> int:
    machine.outb(0x70, index)
    return machine.inb(0x71)


def put(machine: Machine, index: int, value: int) -> None:
    machine.outb(0x70, index)
    machine.outb(0x71, value)


def date(machine: Machine) -> str:
    return " ".join(f"{get(machine, index):02x}" for index in DATE)


def ready(**of: int) -> Machine:
    machine = Machine(**of)
    machine.init_pics()
    return machine


def test_the_date_in_each_format() -> None:
    machine = ready()
    assert date(machine) == "20 01 09 09 01 01 46 40"
    machine.timeline.run(12 * 3600 * NS)
    assert date(machine) == "20 01 09 09 01 13 46 40"
    put(machine, B, 0x00)
    assert date(machine) == "20 01 09 09 01 81 46 40", "1 pm"
    put(machine, B, 0x04)
    assert date(machine) == "14 01 09 09 01 81 2e 28"
    put(machine, B, 0x06)
    assert date(machine) == "14 01 09 09 01 0d 2e 28"
    machine.timeline.run(NS - 1)
    assert get(machine, 0) == 40
    machine.timeline.run(1)
    assert get(machine, 0) == 41


def test_registers_at_the_start() -> None:
    machine = ready()
    assert [get(machine, index) for index in (A, B, C, D)] == [0x26, 0x02, 0x00, 0x80]
    put(machine, D, 0)
    put(machine, C, 0xFF)
    assert (get(machine, D), get(machine, C)) == (0x80, 0)
    assert machine.inb(0x70) == 0xFF
    machine.outb(0x70, 0x80 | D)  # bit 7 is the NMI mask
    assert machine.inb(0x71) == 0x80


def test_setting_the_date_as_linux_does() -> None:
    """mc146818_set_time: SET on, divider in reset, the date, SET off, divider on."""
    machine = ready()
    put(machine, B, get(machine, B) | 0x80)
    put(machine, A, 0x26 | 0x70)
    for index, value in zip(DATE, (0x20, 0x24, 0x02, 0x28, 0x04, 0x23, 0x59, 0x58), strict=True):
        put(machine, index, value)
    machine.timeline.run(5 * NS)
    assert date(machine) == "20 24 02 28 04 23 59 58", "it stands still"
    put(machine, B, 0x02)
    put(machine, A, 0x26)
    machine.timeline.run(NS // 2 - 1)
    assert get(machine, 0) == 0x58
    machine.timeline.run(1)
    assert get(machine, 0) == 0x59, "the first update is half a second after the divider's start"
    machine.timeline.run(NS)
    assert date(machine) == "20 24 02 29 05 00 00 00", "a leap day, a Thursday"
    machine.timeline.run(86400 * NS)
    assert date(machine) == "20 24 03 01 06 00 00 00"


def test_a_second_goes_on_through_set() -> None:
    machine = ready()
    machine.timeline.run(NS * 7 // 10)
    put(machine, B, 0x82)
    put(machine, 0, 0x10)
    machine.timeline.run(NS)
    assert get(machine, 0) == 0x10
    put(machine, B, 0x02)
    assert get(machine, 0) == 0x10
    machine.timeline.run(NS * 3 // 10)
    assert get(machine, 0) == 0x11


def test_a_register_written_while_it_runs() -> None:
    machine = ready()
    put(machine, 4, 0x23)
    put(machine, 0x32, 0x19)
    assert date(machine) == "19 01 09 09 02 23 46 40", "9 September 1901 was a Monday"


def test_twelve_hours() -> None:
    machine = ready()
    for hour, byte in ((0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)):
        put(machine, B, 0x00)
        put(machine, 4, byte)
        put(machine, B, 0x06)
        assert get(machine, 4) == hour


def test_update_in_progress() -> None:
    machine = ready()
    machine.timeline.run_to(NS - 244_141)
    assert get(machine, A) == 0x26
    machine.timeline.run_to(NS - 244_140)
    assert get(machine, A) == 0xA6
    machine.timeline.run_to(NS)
    assert get(machine, A) == 0x26
    put(machine, B, 0x82)
    machine.timeline.run_to(2 * NS - 1)
    assert get(machine, A) == 0x26, "SET keeps the date from being updated"


@pytest.mark.parametrize(
    ("rate", "hertz"), [(1, 256), (2, 128), (3, 8192), (6, 1024), (8, 256), (13, 8), (14, 4), (15, 2)]
)
def test_periodic_interrupts(rate: int, hertz: int) -> None:
    machine = ready()
    put(machine, A, 0x20 | rate)
    put(machine, B, 0x42)
    served = 0
    end = 2 * NS
    while machine.timeline.live() and machine.timeline.live()[0] <= end:
        machine.timeline.run_to(machine.timeline.live()[0])
        served += 1
        assert machine.timeline.now() == -(-served * NS // hertz), "no drift"
        assert machine.taken() == [VECTOR]
        assert get(machine, C) & 0xC0 == 0xC0
        assert get(machine, C) == 0
    assert served == 2 * hertz


def test_no_rate_no_interrupt() -> None:
    machine = ready()
    put(machine, A, 0x20)
    put(machine, B, 0x42)
    machine.timeline.run(3 * NS)
    assert machine.taken() == [] and get(machine, C) & 0x40 == 0


def test_a_long_sleep_is_one_interrupt() -> None:
    machine = ready()
    put(machine, B, 0x42)
    machine.timeline.sleep_to(1000 * NS + 1)
    assert machine.timeline.fired == 1 and machine.taken() == [VECTOR]
    assert machine.timeline.live() == [], "nothing more before register C is read"
    machine.timeline.run(NS)
    assert machine.taken() == []
    assert get(machine, C) == 0xF0 & ~0x20
    assert machine.timeline.live() == [1001 * NS + PERIOD_1024 + 1]


def test_flags_without_interrupts() -> None:
    machine = ready()
    machine.timeline.run(NS)
    assert get(machine, C) == 0x50, "periodic and update, but no IRQF"
    assert get(machine, C) == 0
    machine.timeline.run(PERIOD_1024 + 1)
    assert get(machine, C) == 0x40
    assert machine.timeline.fired == 0


def test_enabling_what_is_there_already_interrupts() -> None:
    machine = ready()
    machine.timeline.run(NS)
    put(machine, B, 0x12)
    assert machine.taken() == [VECTOR]
    assert get(machine, C) == 0xD0
    put(machine, B, 0x02)
    machine.timeline.run(NS)
    assert machine.taken() == []


def test_update_interrupts() -> None:
    machine = ready()
    machine.timeline.run(NS // 3)
    put(machine, B, 0x12)
    for second in (1, 2, 3):
        machine.timeline.run_to(second * NS - 1)
        assert machine.taken() == []
        machine.timeline.run_to(second * NS)
        assert machine.taken() == [VECTOR]
        assert get(machine, C) & 0x90 == 0x90
    put(machine, B, 0x92)
    assert get(machine, B) == 0x82, "SET clears UIE"
    put(machine, B, 0x02)
    assert machine.timeline.live() == []


@pytest.mark.parametrize(
    ("hour", "minute", "second", "after"),
    [
        (0x01, 0x46, 0x41, 1),
        (0x01, 0x46, 0x40, 86400),  # it is just that now
        (0x01, 0x46, 0x00, 86400 - 40),
        (0xFF, 0x00, 0x00, 13 * 60 + 20),  # every hour
        (0xFF, 0xFF, 0x05, 25),  # every minute
        (0xC0, 0xC0, 0xC0, 1),  # every second
        (0x00, 0xFF, 0x30, 22 * 3600 + 13 * 60 + 50),
        (0x25, 0xFF, 0xFF, None),
    ],
)
def test_alarms(hour: int, minute: int, second: int, after: int | None) -> None:
    machine = ready()
    for index, value in ((5, hour), (3, minute), (1, second)):
        put(machine, index, value)
    put(machine, B, 0x22)
    assert (get(machine, 5), get(machine, 3), get(machine, 1)) == (hour, minute, second)
    if after is None:
        assert machine.timeline.live() == []
        return
    machine.timeline.run_to(after * NS - 1)
    assert machine.taken() == []
    machine.timeline.run_to(after * NS)
    assert machine.taken() == [VECTOR]
    assert get(machine, C) & 0xA0 == 0xA0


def test_memory_sizes() -> None:
    def word(machine: Machine, index: int) -> int:
        return get(machine, index) | get(machine, index + 1) << 8

    machine = ready(memory_bytes=32 << 20)
    assert [word(machine, index) for index in (0x15, 0x17, 0x30, 0x34)] == [640, 31 << 10, 31 << 10, 16 << 4]
    machine = ready(memory_bytes=1 << 30)
    assert [word(machine, index) for index in (0x17, 0x30, 0x34, 0x5B)] == [0xFFFF, 0xFFFF, 1008 << 4, 0]
    machine = ready(memory_bytes=4 << 30)
    assert [word(machine, index) for index in (0x34, 0x5B)] == [(3072 - 16) << 4, 1 << 14]
    machine = ready(memory_bytes=1 << 20)
    assert [word(machine, index) for index in (0x17, 0x34)] == [0, 0]
    put(machine, 0x40, 0xAB)
    assert get(machine, 0x40) == 0xAB


@settings(deadline=None)  # the machine may be busy
@given(st.dates())
def test_civil_dates(day: datetime.date) -> None:
    days = (day - datetime.date(1970, 1, 1)).days
    assert civil(days) == (day.year, day.month, day.day)
    assert days_from_civil(day.year, day.month, day.day) == days


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(st.sampled_from((*DATE, 1, 3, 5, A, B)), st.integers(0, 255)), max_size=12))
def test_whatever_is_written_the_clock_goes_on(writes: list[tuple[int, int]]) -> None:
    machine = ready()
    for index, value in writes:
        put(machine, index, value)
        date(machine)
        machine.timeline.run(NS // 3)
        get(machine, C)
        assert all(deadline > machine.timeline.now() for deadline in machine.timeline.live())


@settings(deadline=None, max_examples=40)  # the machine may be busy
@given(
    st.sampled_from([Format(binary, hours) for binary in (False, True) for hours in (False, True)]),
    st.integers(0, 86399),
    *[st.one_of(st.integers(0, 255))] * 3,
)
def test_alarms_against_trying_each_second(form: Format, now: int, hour: int, minute: int, second: int) -> None:
    alarm = Alarm.of(form, hour, minute, second)

    def those(byte: int, value: int, limit: int) -> set[int]:
        return set(range(limit)) if byte & 0xC0 == 0xC0 else {value}

    hours = those(hour, form.decode_hour(hour), 24)
    minutes = those(minute, form.decode(minute), 60)
    seconds = those(second, form.decode(second), 60)
    expected = None
    for step in range(1, 86401):
        at = (now + step) % 86400
        if at % 60 in seconds and at // 60 % 60 in minutes and at // 3600 in hours:
            expected = step
            break
    assert alarm.seconds_until(now) == expected
