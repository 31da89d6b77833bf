# SPDX-License-Identifier: GPL-2.0-or-later
"""Who sees every call of the hostile guests and every answer.

An error no spec declares is written down with the call. Errors that came are counted by spec, so that a test can tell
which of them never do.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from pvhv.abi.errno import Errno
from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.spec import Command, Hypercall

UNTOUCHED = 0x7777  # a status nobody answered


class Judge:
    """What was answered, by whom it was declared, and what should not have been."""

    def __init__(self) -> None:
        self.calls = 0
        self.reached: Counter[tuple[Any, int]] = Counter()  # (spec, errno) and (command, status)
        self.undeclared: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.untouchable: set[int] = set()

    def answer(self, number: int, arguments: list[int], result: int, subject: Command | None = None) -> None:
        """One call's result. `subject` is what it was about where the arguments do not tell (mmuext_op)."""
        self.calls += 1
        if not -4096 < result < 0:
            return
        spec = HYPERCALLS.get(number)
        if spec is None:
            if result != -Errno.ENOSYS:
                self.undeclared[f"hypercall {number}: {result}"] += 1
            return
        command = subject or chosen(spec, arguments)
        for each in (command, spec):
            if each is not None and (-result in each.errors or each.answer == -result):
                self.reached[each, -result] += 1
                return
        name = command.full_name if command else spec.full_name
        self.undeclared[f"{name}({', '.join(map(hex, arguments))}): {Errno(-result).name}"] += 1

    def status(self, command: Command, status: int) -> None:
        """One item's status in a batch."""
        if status in (0, UNTOUCHED):
            return
        if status in command.statuses:
            self.reached[command, status] += 1
        else:
            self.undeclared[f"{command.full_name}: status {status}"] += 1


def chosen(spec: Hypercall, arguments: list[int]) -> Command | None:
    """The command a call's arguments name."""
    place = spec.index("cmd")
    if spec.commands is None or place is None:
        return None
    mask = 0xFFF if spec.name == "grant_table_op" else spec.command_mask
    return spec.commands.by_number.get(arguments[place] & mask)
