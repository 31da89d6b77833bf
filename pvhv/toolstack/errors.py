# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors for the person at the keyboard: one sentence says what is wrong, and another one what to do."""

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
    """The error for a domain that does not exist. `who` is what was typed, which may be anything."""
    return ToolstackError(f"there is no domain {who if who and who.isprintable() else ascii(who)}", hint)


class NotThere(ToolstackError):
    """There is no domain of that name; `names` are the names that exist. The hint names the nearest of them. To find it
    takes long, so the hint is not to be asked for on the hypervisor's thread."""

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
    """The command line is wrong. The exit status is 2."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, status=2)
