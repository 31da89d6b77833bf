# SPDX-License-Identifier: GPL-2.0-or-later
"""One counter of an 8254, computed from the time in ticks: no work is done between two accesses.

A counting sequence is a count `n` and the tick `start` at which it was loaded, the first one after the write or
trigger that caused it; all else (OUT, the count, the next rising edge) follows from how many ticks have passed since,
by the mode's waveform in the data sheet. While the gate holds the counting, `held` is how far it got.

A count written in mode 2 or 3 while counting waits in `following` until the period (mode 3: the half period) ends.

A counter that was never programmed does not count and its OUT is high. (The data sheet leaves this undefined.) Between
the write of a count and its load, a read gives the new count. A program can hardly notice that: on real hardware the
write takes longer than that tick. A count of 1 in mode 2 or 3, which the data sheet forbids, leaves OUT high.

Read beside it: Intel 8254 data sheet (231164), mode definitions and figures 15 to 20.
"""

from __future__ import annotations

ONE_SHOT, TRIGGERED, RATE, SQUARE, STROBE, TRIGGERED_STROBE = range(6)


def to_bcd(value: int) -> int:
    """Four decimal digits, a nibble each."""
    return value // 1000 % 10 << 12 | value // 100 % 10 << 8 | value // 10 % 10 << 4 | value % 10


def from_bcd(value: int) -> int:
    """The reverse of `to_bcd`; a nibble above 9 counts with its value."""
    return (value >> 12) * 1000 + (value >> 8 & 15) * 100 + (value >> 4 & 15) * 10 + (value & 15)


class Counter:
    """The counting element. In every method `t` is the current tick."""

    def __init__(self, gate: bool) -> None:
        self.gate = gate
        self.mode = SQUARE
        self.bcd = False
        self.written = 0  # the count register: what the next load takes, 0 when none was written in this mode
        self.n = 0  # the count of the sequence under way, 0 for none
        self.start = 0
        self.held: int | None = None
        self.following: tuple[int, int] | None = None  # (the tick it begins at, how far into its period it begins)
        self._unloaded = True  # the count register holds something new
        self._before = True  # OUT until the sequence is loaded
        self._stale = 0  # what is read when nothing counts

    # -- what can be seen ----------------------------------------------------------------------------------------
    def settle(self, t: int) -> None:
        """Load a count that was waiting, if its time has come."""
        if self.following is not None and t >= self.following[0]:
            begins, at = self.following
            self.n, self.start = self.written, begins - at
            self.following = None
            self._unloaded = False

    def elapsed(self, t: int) -> int:
        """Ticks since the load; -1 before it."""
        return self.held if self.held is not None else max(t - self.start, -1)

    def out(self, t: int) -> bool:
        """The level of the OUT pin."""
        self.settle(t)
        n, e = self.n, self.elapsed(t)
        if n == 0 or e < 0:
            return self._before
        if self.mode in (ONE_SHOT, TRIGGERED):
            return e >= n
        if self.mode in (STROBE, TRIGGERED_STROBE):
            return e != n
        if self.held is not None or n == 1:
            return True
        return e % n != n - 1 if self.mode == RATE else e % n < high_half(n)

    def count(self, t: int) -> int:
        """The count that a read returns."""
        self.settle(t)
        n, e = self.n, max(self.elapsed(t), 0)
        if n == 0:
            return self._stale
        if self.mode == RATE:
            value = n - e % n
        elif self.mode == SQUARE:
            at, high = e % n, high_half(n)
            value = (n & ~1) - 2 * (at if at < high else at - high)
        else:
            value = n - e  # and it goes on below zero
        return to_bcd(value % 10_000) if self.bcd else value & 0xFFFF

    def null(self, t: int) -> bool:
        """The status byte's NULL COUNT: whether a count that was written is not loaded yet."""
        self.settle(t)
        return self._unloaded or (self.held is None and t < self.start)

    def next_rise(self, t: int) -> int | None:
        """The tick after `t` at which OUT goes high by itself."""
        self.settle(t)
        n, e = self.n, self.elapsed(t)
        if n == 0 or self.held is not None:
            return None
        if self.mode in (ONE_SHOT, TRIGGERED):
            return self.start + n if e < n else None
        if self.mode in (STROBE, TRIGGERED_STROBE):
            return self.start + n + 1 if e <= n else None
        if self.following is not None:
            begins, at = self.following
            if at == 0:
                return begins
            return begins - at + self.written if self.written > 1 else None
        return self.start + (max(e, 0) // n + 1) * n if n > 1 else None

    # -- what is done to it --------------------------------------------------------------------------------------
    def set_mode(self, t: int, mode: int, bcd: bool) -> None:
        """Take a control word: counting stops until a count is written."""
        self._stale = self.count(t)
        self.mode = mode
        self.bcd = bcd
        self.written = self.n = 0
        self.held = self.following = None
        self._unloaded = True
        self._before = mode != ONE_SHOT

    def first_byte(self, t: int) -> None:
        """Take the first of two bytes of a count: in mode 0 it stops the counting."""
        if self.mode == ONE_SHOT:
            self._stale = self.count(t)
            self.n = 0
            self._before = False

    def write(self, t: int, value: int) -> None:
        """Take a complete count."""
        if self.bcd:
            value = from_bcd(value)
        self.settle(t)
        running = self.n != 0 and self.elapsed(t) >= 0
        self.written = value or (10_000 if self.bcd else 0x1_0000)
        self._unloaded = True
        if self.mode in (TRIGGERED, TRIGGERED_STROBE):
            if self.n and self.elapsed(t) < 0:
                self._load(self.start)  # a trigger came, and its tick is still to come
            return  # else the next trigger takes it
        if self.mode in (RATE, SQUARE) and running:
            if self.held is None:
                self._follow(t)
            return  # else the gate's rise takes it
        self._before = self.mode != ONE_SHOT
        self._load(t + 1)
        if not self.gate:
            self.held = 0

    def _follow(self, t: int) -> None:
        """Compute when the waiting count will begin, and where in its period."""
        n = self.n
        at, high = self.elapsed(t) % n, high_half(n)
        if self.mode == SQUARE and n > 1 and at < high:
            self.following = (t - at + high, high_half(self.written))
        else:
            self.following = (t - at + n, 0)

    def set_gate(self, t: int, high: bool) -> None:
        """Set the GATE pin."""
        rises, falls = high and not self.gate, self.gate and not high
        if rises or falls:
            self.settle(t)
        self.gate = high
        if self.mode in (TRIGGERED, TRIGGERED_STROBE):
            if rises and self.written:
                self._before = self.out(t)
                self._load(t + 1)
        elif self.n and falls:
            self.held = max(self.elapsed(t), 0)
            self.following = None
        elif self.n and rises and self.held is not None:
            if self.mode in (RATE, SQUARE):
                self._before = True
                self._load(t + 1)
            else:
                self.start = t - self.held
                self.held = None

    def _load(self, tick: int) -> None:
        self.n, self.start = self.written, tick
        self.held = self.following = None
        self._unloaded = False


def high_half(n: int) -> int:
    """The number of ticks of its period for which a square wave is high."""
    return (n + 1) // 2
