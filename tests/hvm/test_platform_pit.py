# SPDX-License-Identifier: GPL-2.0-or-later
"""The timer, by the 8254 data sheet's waveforms and by what kernels do with it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvhv.hvm.platform.pit import HERTZ
from pvhv.hvm.platform.timebase import first_ns, ticks
from pvhv.machine.clock import NS
from tests.hvm.platform_lab import Machine


def at_tick(machine: Machine, tick: int) -> None:
    machine.timeline.run_to(-(-tick * NS // HERTZ))


def program(machine: Machine, channel: int, mode: int, count: int, bcd: int = 0) -> None:
    machine.outb(0x43, channel << 6 | 0x30 | mode << 1 | bcd)
    machine.outb(0x40 + channel, count & 0xFF, count >> 8)


def gate(machine: Machine, high: bool) -> None:
    machine.outb(0x61, int(high))


def out2(machine: Machine) -> int:
    return machine.inb(0x61) >> 5 & 1


def wave(machine: Machine, start: int, length: int) -> str:
    """OUT of channel 2 at each of some ticks."""
    shown = ""
    for tick in range(start, start + length):
        at_tick(machine, tick)
        shown += "_H"[out2(machine)]
    return shown


def count(machine: Machine, channel: int) -> int:
    machine.outb(0x43, channel << 6)
    return machine.inb(0x40 + channel) | machine.inb(0x40 + channel) << 8


def counts(machine: Machine, channel: int, start: int, length: int) -> list[int]:
    shown = []
    for tick in range(start, start + length):
        at_tick(machine, tick)
        shown.append(count(machine, channel))
    return shown


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 10**15), st.sampled_from([HERTZ, 32768]))
def test_first_ns_is_the_inverse_of_ticks(tick: int, hertz: int) -> None:
    ns = first_ns(tick, hertz)
    assert ticks(ns, hertz) == tick
    assert tick == 0 or ticks(ns - 1, hertz) == tick - 1


# Written at tick 0 (so loaded at tick 1), looked at from tick 0 on.
@pytest.mark.parametrize(
    ("mode", "n", "expected", "values"),
    [
        (0, 4, "_____HHH", [4, 4, 3, 2, 1, 0, 0xFFFF, 0xFFFE]),
        (2, 3, "HHH_HH_HH_", [3, 3, 2, 1, 3, 2, 1, 3]),
        (3, 4, "HHH__HH__H", [4, 4, 2, 4, 2, 4, 2, 4]),
        (3, 5, "HHHH__HHH__H", [4, 4, 2, 0, 4, 2, 4, 2, 0]),
        (4, 3, "HHHH_HHH", [3, 3, 2, 1, 0, 0xFFFF]),
        (6, 3, "HHH_HH_HH_", [3, 3, 2, 1]),  # mode bits x10
        (2, 1, "HHHHHH", [1]),  # forbidden
        (3, 1, "HHHHHH", []),
    ],
)
def test_waveforms(mode: int, n: int, expected: str, values: list[int]) -> None:
    machine = Machine()
    gate(machine, True)
    program(machine, 2, mode, n)
    assert wave(machine, 0, len(expected)) == expected
    machine = Machine()
    gate(machine, True)
    program(machine, 2, mode, n)
    assert counts(machine, 2, 0, len(values)) == values


def test_mode_1_by_the_gate() -> None:
    machine = Machine()
    program(machine, 2, 1, 3)
    assert wave(machine, 0, 5) == "HHHHH"
    gate(machine, True)  # at tick 4: OUT is low for 3 ticks from tick 5 on
    assert wave(machine, 4, 6) == "H___HH"
    gate(machine, False)
    at_tick(machine, 20)
    gate(machine, True)
    assert wave(machine, 20, 3) == "H__"
    gate(machine, False)
    gate(machine, True)  # again, at tick 22: it is low until 26
    assert wave(machine, 22, 6) == "____HH"


def test_a_count_written_between_the_trigger_and_its_tick_is_the_one_loaded() -> None:
    machine = Machine()
    program(machine, 2, 1, 9)
    gate(machine, True)
    machine.outb(0x42, 2, 0)
    assert wave(machine, 0, 5) == "H__HH"


def test_mode_5_by_the_gate() -> None:
    machine = Machine()
    program(machine, 2, 5, 3)
    at_tick(machine, 4)
    gate(machine, True)
    assert wave(machine, 4, 7) == "HHHH_HH"


def test_the_gate_stops_modes_0_and_4() -> None:
    for mode, before, after in ((0, "____", "__HH"), (4, "HHHH", "HH_H")):
        machine = Machine()
        gate(machine, True)
        program(machine, 2, mode, 4)
        at_tick(machine, 3)  # counted: 4 at tick 1, 2 at tick 3
        gate(machine, False)
        assert wave(machine, 100, 4) == before
        assert count(machine, 2) == 2
        gate(machine, True)  # at tick 103
        assert wave(machine, 103, 4) == after


def test_the_gate_starts_modes_2_and_3_anew() -> None:
    for mode, expected in ((2, "HHHH_HHH_"), (3, "HHH__HH__")):
        machine = Machine()
        gate(machine, True)
        program(machine, 2, mode, 4)
        at_tick(machine, 4)
        assert out2(machine) == 0
        gate(machine, False)
        assert wave(machine, 4, 6) == "HHHHHH", "at once, and for as long as the gate is low"
        gate(machine, True)
        assert wave(machine, 9, 9) == expected


def test_a_new_count_waits_for_the_period_to_end() -> None:
    machine = Machine()
    gate(machine, True)
    program(machine, 2, 2, 4)  # loaded at 1; low at 4, 8
    at_tick(machine, 6)
    machine.outb(0x42, 2, 0)
    assert wave(machine, 6, 8) == "HH_H_H_H"
    machine = Machine()
    gate(machine, True)
    program(machine, 2, 3, 6)  # high 1-3, low 4-6, high 7-9
    at_tick(machine, 8)
    machine.outb(0x42, 4, 0)
    assert wave(machine, 8, 8) == "HH__HH__"
    at_tick(machine, 18)  # low at 18
    machine.outb(0x42, 6, 0)
    assert wave(machine, 18, 9) == "__HHH___H"


def test_mode_0_written_again() -> None:
    machine = Machine()
    gate(machine, True)
    program(machine, 2, 0, 2)
    assert wave(machine, 0, 5) == "___HH"
    machine.outb(0x42, 3)  # the first byte stops it
    assert wave(machine, 4, 9) == "_________"
    machine.outb(0x42, 0)
    assert wave(machine, 12, 6) == "____HH"


def test_bcd() -> None:
    machine = Machine()
    gate(machine, True)
    program(machine, 2, 2, 0x1000, bcd=1)
    at_tick(machine, 2)
    assert count(machine, 2) == 0x0999
    program(machine, 2, 0, 0x0000, bcd=1)  # loaded at 3: ten thousand
    assert count(machine, 2) == 0
    assert counts(machine, 2, 4, 1) == [0x9999]
    assert wave(machine, 3 + 9999, 2) == "_H"
    assert counts(machine, 2, 3 + 10_001, 1) == [0x9999], "below zero"


def test_count_zero_is_65536() -> None:
    machine = Machine()
    program(machine, 0, 2, 0)
    assert counts(machine, 0, 1, 2) == [0, 0xFFFF]
    assert counts(machine, 0, 65536, 2) == [1, 0]


def test_latches() -> None:
    machine = Machine()
    program(machine, 0, 2, 0x1234)
    at_tick(machine, 1)
    machine.outb(0x43, 0x00)
    at_tick(machine, 100)
    machine.outb(0x43, 0x00)  # a second latch before the read does nothing
    assert (machine.inb(0x40), machine.inb(0x40)) == (0x34, 0x12)
    now = 0x1234 - 99
    assert machine.inb(0x40) | machine.inb(0x40) << 8 == now, "no latch: the running count, a byte at a time"
    machine.outb(0x43, 0xC2)  # read back: count and status of channel 0
    at_tick(machine, 200)
    assert machine.inb(0x40) == 0x80 | 0x34
    assert machine.inb(0x40) | machine.inb(0x40) << 8 == now
    assert machine.inb(0x43) == 0


def test_one_byte_access() -> None:
    machine = Machine()
    machine.outb(0x43, 0x14)  # channel 0, low byte only, mode 2
    machine.outb(0x40, 9)
    at_tick(machine, 2)
    assert [machine.inb(0x40), machine.inb(0x40)] == [8, 8]
    machine.outb(0x43, 0x24)  # high byte only
    machine.outb(0x40, 9)
    at_tick(machine, 4)
    assert machine.inb(0x40) == 0x08  # 0x8ff


def test_status_null_count_and_out() -> None:
    machine = Machine()
    gate(machine, True)

    def status() -> int:
        machine.outb(0x43, 0xE8)
        return machine.inb(0x42)

    machine.outb(0x43, 0xB0)
    assert status() == 0x40 | 0x30
    machine.outb(0x42, 2)
    assert status() == 0x40 | 0x30
    machine.outb(0x42, 0)
    assert status() == 0x40 | 0x30, "loaded by the next tick"
    at_tick(machine, 1)
    assert status() == 0x30
    at_tick(machine, 3)
    assert status() == 0x80 | 0x30
    program(machine, 2, 7, 100)
    at_tick(machine, 4)
    assert status() == 0x80 | 0x3E, "the mode as it was written"
    machine.outb(0x42, 50, 0)
    assert status() == 0xC0 | 0x3E
    at_tick(machine, 4 + 50)
    assert status() == 0x3E


def test_port_61() -> None:
    machine = Machine()
    machine.outb(0x61, 0xFF)
    assert machine.inb(0x61) & 0xCF == 0x0F
    seen = []
    for tick in range(180):
        at_tick(machine, tick)
        seen.append(machine.inb(0x61) >> 4 & 1)
    assert sum(a != b for a, b in pairwise(seen)) == 9


def test_linux_calibrates_by_channel_2() -> None:
    """quick_pit_calibrate: mode 0 from 0xffff, then its high byte is watched; and pit_calibrate_tsc, OUT2."""
    machine = Machine()
    machine.outb(0x61, machine.inb(0x61) & ~0x02 | 0x01)
    machine.outb(0x43, 0xB0)
    machine.outb(0x42, 0xFF, 0xFF)
    machine.inb(0x42)
    assert machine.inb(0x42) == 0xFF
    at_tick(machine, 1 + 512)  # 0xffff - 512 is 0xfdff
    machine.inb(0x42)
    assert machine.inb(0x42) == 0xFD
    machine.outb(0x43, 0xB0)
    latch = HERTZ // 100  # 10 ms
    start = machine.timeline.now()
    machine.outb(0x42, latch & 0xFF, latch >> 8)
    while machine.inb(0x61) & 0x20 == 0:
        machine.timeline.run(1000)
    assert 9_999_000 <= machine.timeline.now() - start <= 10_002_000


def test_hz_without_drift() -> None:
    """Linux at 100 Hz: 11932 ticks a period. A minute of them is where it must be, to the nanosecond."""
    machine = Machine()
    machine.init_pics()
    program(machine, 0, 2, 11932)
    when = []
    for _ in range(300):
        machine.timeline.run_to(machine.timeline.live()[0])
        assert machine.taken() == [0x30]
        when.append(machine.timeline.now())
    assert when == [-(-(1 + k * 11932) * NS // HERTZ) for k in range(1, 301)]
    machine.timeline.run_to(60 * NS)
    assert machine.timeline.live() == [-(-(1 + ((60 * HERTZ - 1) // 11932 + 1) * 11932) * NS // HERTZ)]


@pytest.mark.parametrize("mode", [2, 3])
@pytest.mark.parametrize("n", [2, 3, 1000])
def test_a_long_sleep_is_one_interrupt(mode: int, n: int) -> None:
    machine = Machine()
    machine.init_pics()
    program(machine, 0, mode, n)
    machine.timeline.sleep_to(10_000 * NS)
    assert machine.timeline.fired == 1
    assert machine.taken() == [0x30]
    periods = (10_000 * HERTZ - 1) // n + 1
    assert machine.timeline.live() == [-(-(1 + periods * n) * NS // HERTZ)], "and the next is on the old grid"


def test_an_edge_that_is_due_comes_before_the_access() -> None:
    machine = Machine()
    machine.init_pics()
    program(machine, 0, 0, 100)
    machine.timeline.time = NS  # late, and the timer was not called yet
    machine.outb(0x43, 0x30)
    assert machine.taken() == [0x30]
    machine.timeline.run(NS)
    assert machine.taken() == []


@pytest.mark.parametrize(("mode", "ends"), [(0, 101), (4, 102)])
def test_one_shots(mode: int, ends: int) -> None:
    machine = Machine()
    machine.init_pics()
    program(machine, 0, mode, 100)
    at_tick(machine, ends - 1)
    assert machine.taken() == []
    at_tick(machine, ends)
    assert machine.taken() == [0x30]
    machine.timeline.run(NS)
    assert machine.taken() == [] and machine.timeline.live() == []
    machine.outb(0x40, 10, 0)  # and once more, without a control word, as Linux' one-shot device does
    machine.timeline.run(NS)
    assert machine.taken() == [0x30]


def test_pit_shutdown() -> None:
    machine = Machine()
    machine.init_pics()
    program(machine, 0, 2, 1000)
    machine.outb(0x43, 0x30)  # mode 0 with no count: no more ticks
    assert machine.timeline.live() == []
    machine.timeline.run(NS)
    assert machine.taken() == []


def test_a_period_changed_while_it_runs() -> None:
    machine = Machine()
    machine.init_pics()
    program(machine, 0, 3, 1000)  # rises at 1001, 2001, ...
    at_tick(machine, 1100)  # in the high half, which ends at 1501; then 50 ticks of the new low half
    machine.taken()
    machine.outb(0x40, 100, 0)
    rises = []
    for _ in range(3):
        machine.timeline.run_to(machine.timeline.live()[0])
        assert machine.taken() == [0x30]
        rises.append(machine.timeline.now() * HERTZ // NS)
    assert rises == [1551, 1651, 1751]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mode"), st.integers(0, 5), st.integers(1, 12)),
        st.tuples(st.just("count"), st.integers(1, 12)),
        st.tuples(st.just("gate"), st.booleans()),
        st.tuples(st.just("wait"), st.integers(1, 30)),
    ),
    max_size=20,
)


class Stepped:
    """The data sheet's counter, clock by clock: what `Counter` computes in one go."""

    def __init__(self) -> None:
        self.mode, self.cr, self.ce, self.gate = 3, 0, 0, False
        self.load = self.counting = self.armed = False
        self.out = True
        self.half = False  # mode 3: in the low half

    def set_mode(self, mode: int) -> None:
        self.mode, self.cr = mode, 0
        self.load = self.counting = self.armed = False
        self.out = mode != 0

    def write(self, n: int) -> None:
        self.cr = n
        if self.mode in (1, 5):
            return
        if self.mode in (0, 4) or not self.counting:
            self.load = True
            self.out = self.mode != 0

    def set_gate(self, high: bool) -> None:
        rises, self.gate = high and not self.gate, high
        if self.mode in (2, 3):
            if not high:
                self.out = True
            if rises and self.cr:
                self.load = True
        if self.mode in (1, 5) and rises and self.cr:
            self.load = True

    def clock(self) -> None:
        if self.load:
            self.load, self.counting, self.armed, self.half = False, True, True, False
            self.ce = self.cr
            self.out = self.mode not in (0, 1)
            if self.mode == 3:
                self.ce = (self.cr + 1) // 2
            return
        if not self.counting or (not self.gate and self.mode not in (1, 5)):
            return
        self.ce -= 1
        if self.mode in (0, 1):
            self.out = self.out or self.ce <= 0
        elif self.mode in (4, 5):
            self.out = self.ce != 0
        elif self.mode == 2:
            if self.ce == 0:
                self.ce = self.cr
            self.out = self.ce != 1
        elif self.ce == 0:
            self.half = not self.half
            self.out = not self.half
            self.ce = self.cr // 2 if self.half else (self.cr + 1) // 2


@settings(deadline=None)  # the machine may be busy
@given(STEPS)
def test_against_a_counter_that_is_stepped(steps: list[tuple[object, ...]]) -> None:
    machine, model = Machine(), Stepped()
    tick = 0
    for step in steps:
        if step[0] == "mode":
            n = max(int(step[2]), 2)  # type: ignore[call-overload]
            machine.outb(0x43, 0x90 | int(step[1]) << 1)  # type: ignore[call-overload]
            machine.outb(0x42, n)
            model.set_mode(int(step[1]))  # type: ignore[call-overload]
            model.write(n)
        elif step[0] == "count":
            n = max(int(step[1]), 2)  # type: ignore[call-overload]
            if model.cr == 0 or (model.mode in (2, 3) and not model.gate):
                continue
            machine.outb(0x42, n)
            model.write(n)
        elif step[0] == "gate":
            # A strobe cut off by the gate, or a load by it, is where the data sheet is silent.
            if model.mode in (0, 2, 3, 4) and (model.load or (model.mode == 4 and model.ce == 0)):
                continue
            gate(machine, bool(step[1]))
            model.set_gate(bool(step[1]))
        else:
            for _ in range(int(step[1])):  # type: ignore[call-overload]
                tick += 1
                at_tick(machine, tick)
                model.clock()
                assert out2(machine) == model.out
