# SPDX-License-Identifier: GPL-2.0-or-later
"""The 8254 timer at 0x40 to 0x43, and port 0x61, which controls the gate of channel 2 and shows its OUT.

Channel 0's OUT is interrupt line 0, and its gate is tied high. The timer's ticks are those of the timeline since its
beginning, at 1193182 Hz exactly. Only rising edges of OUT 0 are waited for, each computed from the sequence's start, so
a periodic mode cannot drift; several edges that passed without a look make one interrupt, as on a PIC that was not
acknowledged in between. An edge that is due when the guest touches the timer is given before its access.

Port 0x61 bit 4 toggles with every memory refresh (18 ticks), independently of channel 1's settings.

Not modelled: sound; NMI (bits 2 and 3 are kept, 6 and 7 read as 0); the BIOS's setup of channel 0 (it stands still
until it is programmed).

Read beside it: counter.py; Intel 8254 data sheet, control word, latch and read-back commands.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.hvm.platform.counter import Counter
from pvhv.hvm.platform.timebase import Cancellable, Timebase, first_ns, ticks

HERTZ = 1_193_182
REFRESH_TICKS = 18
LSB, MSB, BOTH = 1, 2, 3  # access modes of the control word


class Channel:
    """A counter with its bus side: access mode, byte flip-flops, latches."""

    def __init__(self, gate: bool) -> None:
        self.counter = Counter(gate)
        self.access = BOTH
        self.mode_bits = 0  # the control word's mode and BCD, as written
        self.low: int | None = None  # the first byte of a count whose second is awaited
        self.second = False  # the next read is the second of two
        self.latched: int | None = None
        self.status: int | None = None

    def control(self, t: int, value: int) -> None:
        """A control word that is for this channel and no latch command."""
        self.access = value >> 4 & 3
        self.mode_bits = value & 0x0F
        mode = value >> 1 & 7
        self.counter.set_mode(t, mode if mode < 6 else mode - 4, bool(value & 1))
        self.low = self.latched = self.status = None
        self.second = False

    def latch_count(self, t: int) -> None:
        """Keep the count until it is read."""
        if self.latched is None:
            self.latched = self.counter.count(t)

    def latch_status(self, t: int) -> None:
        """Keep the status until it is read."""
        if self.status is None:
            self.status = self.counter.out(t) << 7 | self.counter.null(t) << 6 | self.access << 4 | self.mode_bits

    def read(self, t: int) -> int:
        """The status if latched, else the latched or running count's next byte."""
        if self.status is not None:
            status, self.status = self.status, None
            return status
        count = self.counter.count(t) if self.latched is None else self.latched
        if self.access == BOTH:
            high, self.second = self.second, not self.second
            done = high
        else:
            high, done = self.access == MSB, True
        if done:
            self.latched = None
        return count >> 8 if high else count & 0xFF

    def write(self, t: int, value: int) -> None:
        """A byte of a count."""
        if self.access == LSB:
            self.counter.write(t, value)
        elif self.access == MSB:
            self.counter.write(t, value << 8)
        elif self.low is None:
            self.low = value
            self.counter.first_byte(t)
        else:
            count, self.low = value << 8 | self.low, None
            self.counter.write(t, count)


class Pit:
    """The chip, its interrupt and port 0x61."""

    PORTS = (range(0x40, 0x44), range(0x61, 0x62))

    def __init__(self, timebase: Timebase, line: Callable[[bool], None]) -> None:
        self.timebase = timebase
        self.line = line
        self.channels = [Channel(True), Channel(True), Channel(False)]
        self._port61 = 0
        self._level = True  # what the line should show; it is not told before there is something new
        self._edge: int | None = None  # the tick of the next rising edge of OUT 0 ...
        self._timer: Cancellable | None = None  # ... and the timer set for it

    def read(self, port: int) -> int:
        """A byte of a counter, or port 0x61."""
        t = self._catch_up()
        if port == 0x61:
            return self._port61 | (t // REFRESH_TICKS & 1) << 4 | self.channels[2].counter.out(t) << 5
        return 0 if port == 0x43 else self.channels[port - 0x40].read(t)

    def write(self, port: int, value: int) -> None:
        """A command, a byte of a count, or port 0x61."""
        t = self._catch_up()
        if port == 0x61:
            self._port61 = value & 0x0F
            self.channels[2].counter.set_gate(t, bool(value & 1))
        elif port != 0x43:
            self.channels[port - 0x40].write(t, value)
        elif value >> 6 == 3:
            self._read_back(t, value)
            return
        elif value & 0x30 == 0:
            self.channels[value >> 6].latch_count(t)
            return
        else:
            self.channels[value >> 6].control(t, value)
        self._drive(t)

    def close(self) -> None:
        """The machine is gone: cancel the timer."""
        self._set_timer(None)

    def _read_back(self, t: int, value: int) -> None:
        for number, channel in enumerate(self.channels):
            if value >> 1 + number & 1:
                if not value & 0x20:
                    channel.latch_count(t)
                if not value & 0x10:
                    channel.latch_status(t)

    # -- interrupts ----------------------------------------------------------------------------------------------
    def _tick(self) -> int:
        return ticks(self.timebase.now(), HERTZ)

    def _catch_up(self) -> int:
        """Raise an edge that is due; returns the current tick."""
        t = self._tick()
        if self._edge is not None and t >= self._edge:
            self.line(False)
            self.line(True)
            self._level = True
            self._set_timer(self.channels[0].counter.next_rise(t))
        return t

    def _expired(self) -> None:
        self._timer = None
        edge = self._edge
        self._catch_up()
        if self._edge is not None and self._edge == edge:
            self._set_timer(edge)  # called before its time: ask again

    def _drive(self, t: int) -> None:
        """After a write: update OUT 0 and the time of its next rising edge."""
        level = self.channels[0].counter.out(t)
        if level != self._level:
            self._level = level
            self.line(level)
        edge = self.channels[0].counter.next_rise(t)
        if edge != self._edge:
            self._set_timer(edge)

    def _set_timer(self, edge: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._edge = edge
        self._timer = None if edge is None else self.timebase.after(first_ns(edge, HERTZ), self._expired)
