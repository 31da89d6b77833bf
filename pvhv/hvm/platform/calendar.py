# SPDX-License-Identifier: GPL-2.0-or-later
"""Dates as the real-time clock writes them: civil dates, BCD and 12-hour bytes, alarms with "any" in them.

The proleptic Gregorian calendar by integers only, and without its limits: any bytes that a guest writes into the
registers give a date. Days are counted from 1970-01-01.
"""

from __future__ import annotations

from typing import NamedTuple

ANY = 0xC0  # an alarm byte with both of these bits set matches everything
PM = 0x80
ERA_DAYS = 146_097  # 400 years


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01; a month or day outside of its range counts on."""
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    year -= month <= 2  # years that begin in March end with the leap day
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * ERA_DAYS + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def civil(days: int) -> tuple[int, int, int]:
    """(year, month, day) of a day, the reverse of `days_from_civil`."""
    era, of_era = divmod(days + 719_468, ERA_DAYS)
    years = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    from_march = (5 * of_year + 2) // 153
    month = (from_march + 2) % 12 + 1
    return era * 400 + years + (month <= 2), month, of_year - (153 * from_march + 2) // 5 + 1


class Format(NamedTuple):
    """The number format: register B's bits DM and 24/12."""

    binary: bool
    hours_24: bool

    def encode(self, value: int) -> int:
        """A number below 100 as a register byte."""
        return value if self.binary else value // 10 << 4 | value % 10

    def decode(self, byte: int) -> int:
        """The reverse."""
        return byte if self.binary else (byte >> 4) * 10 + (byte & 15)

    def encode_hour(self, hour: int) -> int:
        """An hour of the day as a register byte."""
        if self.hours_24:
            return self.encode(hour)
        return self.encode((hour + 11) % 12 + 1) | (PM if hour >= 12 else 0)

    def decode_hour(self, byte: int) -> int:
        """The reverse."""
        if self.hours_24:
            return self.decode(byte)
        return self.decode(byte & 0x7F) % 12 + (12 if byte & PM else 0)


class Alarm(NamedTuple):
    """The hours, minutes and seconds at which the alarm goes off."""

    hours: range
    minutes: range
    seconds: range

    @classmethod
    def of(cls, form: Format, hour: int, minute: int, second: int) -> Alarm:
        """From the three alarm bytes."""

        def those(byte: int, value: int, limit: int) -> range:
            if byte & ANY == ANY:
                return range(limit)
            return range(value, value + 1) if value < limit else range(0)

        return cls(
            those(hour, form.decode_hour(hour), 24),
            those(minute, form.decode(minute), 60),
            those(second, form.decode(second), 60),
        )

    def seconds_until(self, now: int) -> int | None:
        """From the second `now` of a day to the next one that matches; None if none ever does."""
        for today in (True, False):
            for hour in self.hours:
                for minute in self.minutes:
                    latest = hour * 3600 + minute * 60 + 59
                    if today and latest <= now:
                        continue
                    for second in self.seconds:
                        at = latest - 59 + second
                        if not today or at > now:
                            return at - now + (0 if today else 86400)
        return None
