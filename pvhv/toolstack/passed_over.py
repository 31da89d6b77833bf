# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys of a domain file that have no effect: which are warned of, which are refused, and which need no word.

The table is pvhv.toolstack.keys; this module applies it to one file.
"""

from __future__ import annotations

from pvhv.toolstack.keys import KEYS, QUIET, Fate, Key, Reads
from pvhv.toolstack.names import shown
from pvhv.toolstack.nearest import nearest
from pvhv.toolstack.problems import MOST_TOLD
from pvhv.toolstack.values import Values, as_number
from pvhv.toolstack.xlcfg import Value

NUMBERS = (Reads.NUMBER, Reads.BOOLEAN, Reads.NUMBER_OR_STRING, Reads.BOOLEAN_OR_LIST)


def pass_over(found: Values, kind: str) -> None:
    """Warn of each key that has no effect on a domain of type `kind`, or refuse it, as the table says."""
    problems = found.problems
    for name, setting in found.settings.items():
        key = KEYS.get(name)
        if key is None:
            _unknown(found, name)
        elif key.fate is Fate.TAKEN or kind not in key.of or says_nothing(key, setting.value):
            continue
        elif not _as_it_is_read(found, key):
            continue  # which was told
        elif key.fate is Fate.REFUSED:
            problems.error(setting.place, f"'{name}': {key.doc}", key.hint)
        else:
            problems.warn(setting.place, f"'{name}' is passed over: {key.doc}")


def says_nothing(key: Key, value: Value) -> bool:
    """Whether a value asks for what a domain has anyway."""
    if isinstance(value, list):
        return not value
    if key.reads in NUMBERS:
        number = as_number(value)
        return str(number) in (*QUIET, *key.quiet) if number is not None else value in (*QUIET, *key.quiet)
    return value in (*QUIET, *key.quiet)


def _as_it_is_read(found: Values, key: Key) -> bool:
    """Whether xl would find a value of the key's type: it passes over a list where a single value should be."""
    if key.reads is Reads.LIST:
        return found.items(key.name) is not None
    if key.reads in (Reads.STRING, Reads.NUMBER, Reads.BOOLEAN, Reads.NUMBER_OR_STRING):
        return found.string(key.name) is not None
    return True


def _unknown(found: Values, name: str) -> None:
    close = nearest(name, KEYS) if len(found.problems.warnings) < MOST_TOLD else None
    hint = f"; did you mean '{close}'?" if close else ""
    found.problems.warn(found.place(name), f"there is no key '{shown(name)}', so it has no effect{hint}")
