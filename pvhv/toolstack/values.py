# SPDX-License-Identifier: GPL-2.0-or-later
"""Values of a domain file, read as xl reads them: strings, numbers, booleans, lists.

To xl everything is a string or a list. A number is whatever C's strtol takes whole, be it in quotes or not: decimal,
`0` octal, `0x` hexadecimal, with a sign. A list instead of one value (or the reverse), a text instead of a number,
and a number made by += get a warning, and count as not given.

Read beside it: find_atom, xlu_cfg_get_bounded_long and xlu_cfg_get_list in tools/libs/util/libxlu_cfg.c.
"""

from __future__ import annotations

import re

from pvhv.toolstack.problems import Place, Problems
from pvhv.toolstack.xlcfg import Settings

STRTOL = re.compile(r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
LONG = range(-(1 << 63), 1 << 63)
MOST_DIGITS = 20
LONGEST = 40  # of what is no number, as it is shown


class Values:
    """The settings of one file, asked for by type. None: the key is not given."""

    def __init__(self, settings: Settings, problems: Problems) -> None:
        self.settings = settings
        self.problems = problems
        self.ignored: set[str] = set()  # keys whose values are not what is wanted of them

    def place(self, *keys: str) -> Place:
        """Where the first of these keys that is given stands."""
        return next(self.settings[key].place for key in keys if key in self.settings)

    def string(self, key: str) -> str | None:
        """The value of a key, if it is not a list."""
        setting = self.settings.get(key)
        if setting is None:
            return None
        if isinstance(setting.value, list):
            self._ignore(key, "is a list, and should be a single value")
            return None
        if "\0" in setting.value:
            self.problems.error(
                setting.place, f"'{key}' has a NUL character in it, which the guest would take for its end"
            )
            return None
        return setting.value

    def number(self, key: str) -> int | None:
        """The value of a key as a number, which has to fit into C's type long."""
        text = self.string(key)
        if text is None:
            return None
        if self.settings[key].added:
            self._ignore(key, "is made by +=, which makes no number")
            return None
        number = as_number(text)
        if number is None:
            shown = ascii(text if len(text) <= LONGEST else text[:LONGEST] + "...")
            self._ignore(key, f"has to be a number, not {shown}")
        return number

    def boolean(self, key: str) -> bool | None:
        """The value of a key as a boolean: a number, which is 0 or not."""
        number = self.number(key)
        return None if number is None else number != 0

    def items(self, key: str) -> list[str] | None:
        """The strings of a list, up to the first item that is not a string, where xl stops."""
        setting = self.settings.get(key)
        if setting is None:
            return None
        if not isinstance(setting.value, list):
            self._ignore(key, "is a single value, and should be a list")
            return None
        strings = []
        for item in setting.value:
            if isinstance(item, list):
                break
            strings.append(item)
        return strings

    def _ignore(self, key: str, why: str) -> None:
        if key in self.ignored:
            return
        self.ignored.add(key)
        self.problems.warn(self.settings[key].place, f"'{key}' {why}; it is passed over, as xl does")


def as_number(text: str) -> int | None:
    """The number that strtol reads, if it takes all of `text`; else None. None as well for a number beyond a long."""
    match = STRTOL.fullmatch(text)
    if match is None:
        return None
    sign, digits = match.groups()
    base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") else 10
    if base == 10 and len(digits) > MOST_DIGITS:
        return None
    number = int(digits, base) * (-1 if sign == "-" else 1)
    return number if number in LONG else None
