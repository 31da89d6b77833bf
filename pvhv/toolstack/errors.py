# SPDX-License-Identifier: GPL-2.0-or-later
"""What the operator got wrong, or what stands in the operator's way: one sentence, and what to do next."""

from __future__ import annotations

import difflib

LONGEST_NAME, MOST_NAMES = 128, 64  # of domains, when one is looked for that was meant


class ToolstackError(Exception):
    """For the person at the keyboard: `hint` says what to do, `status` is the command's exit status."""

    def __init__(self, message: str, hint: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self._hint = hint
        self.status = status

    @property
    def hint(self) -> str:
        """What to do next; empty where there is nothing to say."""
        return self._hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


def no_domain(who: str, hint: str = "there are no domains; `pvhv create FILE` makes one") -> ToolstackError:
    """Nobody is called `who`, which may be anything a keyboard has."""
    return ToolstackError(f"there is no domain {who if who and who.isprintable() else ascii(who)}", hint)


class NotThere(ToolstackError):
    """There is no domain of that name; `names` are those there are. The nearest of them is looked for when the hint is
    asked for, which takes long: not on the thread that guests wait for."""

    def __init__(self, who: str, names: list[str]) -> None:
        super().__init__(no_domain(who).message)
        self.who = who
        self.names = names

    @property
    def hint(self) -> str:
        """What to do next."""
        if not self.names:
            return no_domain(self.who).hint
        nearest = difflib.get_close_matches(self.who[:LONGEST_NAME], self.names[:MOST_NAMES], 1)
        if nearest:
            return f"did you mean {nearest[0]}?"
        more = f" and {len(self.names) - MOST_NAMES} more" if len(self.names) > MOST_NAMES else ""
        return f"there are: {', '.join(self.names[:MOST_NAMES])}{more}"


class UsageError(ToolstackError):
    """The command line itself was wrong."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, status=2)
