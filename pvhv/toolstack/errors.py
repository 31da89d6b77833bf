# SPDX-License-Identifier: GPL-2.0-or-later
"""What the operator got wrong, or what stands in the operator's way: one sentence, and what to do next."""

from __future__ import annotations


class ToolstackError(Exception):
    """For the person at the keyboard: `hint` says what to do, `status` is the command's exit status."""

    def __init__(self, message: str, hint: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.status = status

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


def no_domain(who: str, hint: str = "no domain is there; `pvhv create FILE` makes one") -> ToolstackError:
    """Nobody is called `who`, which may be anything a keyboard has."""
    return ToolstackError(f"there is no domain {who if who and who.isprintable() else ascii(who)}", hint)


class UsageError(ToolstackError):
    """The command line itself was wrong."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, status=2)
