# SPDX-License-Identifier: GPL-2.0-or-later
"""The MC146818 real-time clock and its CMOS RAM, at 0x70 and 0x71.

The clock is a number: its time in ns is the timeline's plus an offset, which begins as the wall clock's time (asked
once, so that the clock is as steady as the timeline) and which setting the date changes. The date registers are made
from it when they are read. While the date does not run (SET, or the divider held in reset) they are plain memory; when
it runs again they are the new time. A second continues during SET; after a divider reset the first one takes half a
second, as the data sheet says.

PF, AF and UF are also computed when they are read: for each source it is known when it is due next. A timer is set only
for a source that may interrupt and while no interrupt is pending, so a guest that ignores the clock costs nothing, and
a guest that slept long gets one interrupt. An update takes no time; UIP is on for the 244 us before it.

Changing DM or 24/12 changes how the running date reads at once, instead of leaving the registers' bytes as they are.
Impossible dates count on (32 January is 1 February) and the day of the week is computed, as in QEMU.

Not modelled: SQW, daylight saving, the NMI mask in index bit 7, time bases other than 32768 Hz (a divider selection
that is no reset runs), checksums of the configuration bytes.

Read beside it: Motorola MC146818 data sheet; QEMU's hw/i386/pc.c for where the memory's size is kept.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.hvm.platform.calendar import Alarm, Format, civil, days_from_civil
from pvhv.hvm.platform.timebase import Cancellable, Timebase
from pvhv.machine.clock import NS

SECOND, MINUTE, HOUR, WEEKDAY, DAY, MONTH, YEAR = 0, 2, 4, 6, 7, 8, 9
SECOND_ALARM, MINUTE_ALARM, HOUR_ALARM = 1, 3, 5
REG_A, REG_B, REG_C, REG_D, CENTURY = 0x0A, 0x0B, 0x0C, 0x0D, 0x32
DATE = (SECOND, MINUTE, HOUR, WEEKDAY, DAY, MONTH, YEAR, CENTURY)

UIP = 0x80
SET, PIE, AIE, UIE, BINARY, HOURS_24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
IRQF, PF, AF, UF = 0x80, 0x40, 0x20, 0x10
VRT = 0x80
SLOW_TICKS = 32768
UIP_NS = 8 * NS // SLOW_TICKS
SETTLE_NS = NS // 2  # from the end of a divider reset to the first update


class Rtc:
    """The clock, its interrupt, 128 bytes."""

    PORTS = range(0x70, 0x72)

    def __init__(self, timebase: Timebase, line: Callable[[bool], None], memory_bytes: int) -> None:
        self.timebase = timebase
        self.line = line
        self.index = 0
        self.ram = bytearray(128)
        self.ram[REG_A], self.ram[REG_B], self.ram[REG_D] = 0x26, HOURS_24, VRT
        self.ram[0x14] = 0x02  # equipment: a coprocessor
        memory_sizes(self.ram, memory_bytes)
        self.offset = timebase.wallclock()
        self.due: dict[int, int | None] = {PF: None, AF: None, UF: None}  # in the clock's own time
        self._timer: Cancellable | None = None
        self._plan((PF, AF, UF))

    # -- ports ---------------------------------------------------------------------------------------------------
    def read(self, port: int) -> int:
        """The byte at the index; the index itself cannot be read."""
        if port == 0x70:
            return 0xFF
        now = self._now()
        if self.index == REG_A:
            soon = self._updates() and NS - now % NS <= UIP_NS
            return self.ram[REG_A] | (UIP if soon else 0)
        if self.index == REG_C:
            self._notice(now)
            self._interrupt()  # it may have come due just now
            flags, self.ram[REG_C] = self.ram[REG_C], 0
            self._interrupt()
            return flags
        if self.index in DATE and self._updates():
            self._fill(now)
        return self.ram[self.index]

    def write(self, port: int, value: int) -> None:
        """The index, or the byte at it."""
        if port == 0x70:
            self.index = value & 0x7F
            return
        now = self._now()
        self._notice(now)
        index = self.index
        if index == REG_A:
            self._write_a(now, value & 0x7F)
        elif index == REG_B:
            self._write_b(now, value)
        elif index in (REG_C, REG_D):
            return
        elif index in DATE and self._updates():
            self._fill(now)
            self.ram[index] = value
            self._adopt(now, now % NS)
        else:
            self.ram[index] = value
            if index in (SECOND_ALARM, MINUTE_ALARM, HOUR_ALARM):
                self._plan((AF,))
        self._interrupt()

    def close(self) -> None:
        """The machine is gone: cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the date ------------------------------------------------------------------------------------------------
    def _now(self) -> int:
        return self.timebase.now() + self.offset

    def _divides(self) -> bool:
        return self.ram[REG_A] & 0x60 != 0x60

    def _updates(self) -> bool:
        return self._divides() and not self.ram[REG_B] & SET

    def _format(self) -> Format:
        return Format(bool(self.ram[REG_B] & BINARY), bool(self.ram[REG_B] & HOURS_24))

    def _fill(self, now: int) -> None:
        """Set the date registers from the time."""
        form = self._format()
        days, second = divmod(now // NS, 86400)
        year, month, day = civil(days)
        ram = self.ram
        ram[SECOND], ram[MINUTE] = form.encode(second % 60), form.encode(second // 60 % 60)
        ram[HOUR] = form.encode_hour(second // 3600)
        ram[WEEKDAY] = form.encode((days + 4) % 7 + 1)  # 1970 began on a Thursday; Sunday is 1
        ram[DAY], ram[MONTH], ram[YEAR] = form.encode(day), form.encode(month), form.encode(year % 100)
        ram[CENTURY] = form.encode(year // 100 % 100)

    def _adopt(self, now: int, within: int) -> None:
        """Set the time from the date registers; `within` is the place within the second."""
        form, ram = self._format(), self.ram
        year = form.decode(ram[CENTURY]) * 100 + form.decode(ram[YEAR])
        days = days_from_civil(year, form.decode(ram[MONTH]), form.decode(ram[DAY]))
        second = form.decode_hour(ram[HOUR]) * 3600 + form.decode(ram[MINUTE]) * 60 + form.decode(ram[SECOND])
        self.offset += (days * 86400 + second) * NS + within - now
        self._plan((PF, AF, UF))

    def _write_a(self, now: int, value: int) -> None:
        divided = self._divides()
        if self._updates():
            self._fill(now)
        self.ram[REG_A] = value
        if self._divides() and not divided:
            self._adopt(now, NS - SETTLE_NS)
        else:
            self._plan((PF, AF, UF) if self._divides() != divided else (PF,))

    def _write_b(self, now: int, value: int) -> None:
        updated = self._updates()
        if value & SET:
            value &= ~UIE
            if updated:
                self._fill(now)
        was_set = self.ram[REG_B] & SET
        self.ram[REG_B] = value
        if was_set and self._updates():
            self._adopt(now, now % NS)
        else:
            self._plan((AF, UF))

    # -- interrupts ----------------------------------------------------------------------------------------------
    def _period(self) -> int:
        """The periodic interrupt's period in 32768ths of a second, 0 for none."""
        rate = self.ram[REG_A] & 15
        if rate == 0 or not self._divides():
            return 0
        return 1 << (rate + 6 if rate < 3 else rate - 1)

    def _next(self, source: int) -> int | None:
        """When `source` is due next, in the clock's time."""
        now = self._now()
        if source == PF:
            period = self._period()
            if period == 0:
                return None
            tick = (now * SLOW_TICKS // NS // period + 1) * period
            return -(-tick * NS // SLOW_TICKS)
        if not self._updates():
            return None
        second = now // NS
        if source == UF:
            return (second + 1) * NS
        ram = self.ram
        alarm = Alarm.of(self._format(), ram[HOUR_ALARM], ram[MINUTE_ALARM], ram[SECOND_ALARM])
        after = alarm.seconds_until(second % 86400)
        return None if after is None else (second + after) * NS

    def _plan(self, sources: tuple[int, ...]) -> None:
        for source in sources:
            self.due[source] = self._next(source)

    def _notice(self, now: int) -> None:
        """Set the flags of the sources that are due."""
        for source, due in self.due.items():
            if due is not None and due <= now:
                self.ram[REG_C] |= source
                self.due[source] = self._next(source)

    def _interrupt(self) -> None:
        """Set the interrupt line: a flag or an enable bit changed."""
        if self.ram[REG_C] & self.ram[REG_B] & (PF | AF | UF):
            self.ram[REG_C] |= IRQF
            self.line(True)
        else:
            self.ram[REG_C] &= ~IRQF
            self.line(False)
        self._arm()

    def _arm(self) -> None:
        """Set the timer for the next interrupt, if one may come before register C is read."""
        self.close()
        if self.ram[REG_C] & IRQF:
            return
        enabled = [due for source, due in self.due.items() if due is not None and self.ram[REG_B] & source]
        if enabled:
            self._timer = self.timebase.after(min(enabled) - self.offset, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._notice(self._now())
        self._interrupt()


def memory_sizes(ram: bytearray, memory_bytes: int) -> None:
    """The memory's size, where a PC's BIOS leaves it; split around the hole below 4 GiB as QEMU's i440FX does."""
    low = memory_bytes if memory_bytes < 0xE000_0000 else 0xC000_0000
    extended = min(max(low - (1 << 20), 0) >> 10, 0xFFFF)  # KiB above 1 MiB
    more = min(max(low - (16 << 20), 0) >> 16, 0xFFFF)  # 64 KiB above 16 MiB
    ram[0x15:0x17] = (640).to_bytes(2, "little")
    ram[0x17:0x19] = ram[0x30:0x32] = extended.to_bytes(2, "little")
    ram[0x34:0x36] = more.to_bytes(2, "little")
    ram[0x5B:0x5E] = (memory_bytes - low >> 16).to_bytes(3, "little")
