# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of a guest kernel's system calls and errors. The kernel is known by the name in its notes.

Each kernel has its own numbers; a hypervisor only sees RAX. The tables of Linux and of the teaching kernel are known
(pvhv.observe.syscall_tables); for any other kernel a system call has only its number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pvhv.observe.record import AMD64, I386
from pvhv.observe.syscall_tables import ERRORS, LINUX_I386, LINUX_X86_64, TEACHING_KERNEL
from pvhv.observe.wanted import ANY, unknown, words

LONGEST_ERROR = 4095
NEVER_RETURN = frozenset({"exit", "exit_group"})


@dataclass(frozen=True)
class Table:
    """The system calls of one kernel, by convention and number."""

    names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    def name(self, abi: str, number: int) -> str:
        """`openat`; `openat (i386)` for a 32-bit program's; a number that has no name is `syscall_N`."""
        name = self.names.get(abi, {}).get(number, f"syscall_{number}")
        return name if abi == AMD64 else f"{name} ({abi})"

    def named(self, lists: Iterable[str]) -> frozenset[tuple[str, int]]:
        """(convention, number) of system calls that are given by name or number; an empty set for `any`. Raises
        UnknownWord."""
        found: set[tuple[str, int]] = set()
        wanted = words(lists)
        if ANY in wanted:
            return frozenset()
        for word in wanted:
            if word.isascii() and word.isdigit():
                found.add((AMD64, int(word)))
                continue
            of_it = self._all({word})
            if not of_it:
                raise unknown("system call", word, [ANY, *sorted({*self.names.get(AMD64, {}).values()})])
            found |= of_it
        return frozenset(found)

    @property
    def endless(self) -> frozenset[tuple[str, int]]:
        """The system calls that never return."""
        return frozenset(self._all(NEVER_RETURN))

    def _all(self, wanted: Collection[str]) -> set[tuple[str, int]]:
        return {
            (abi, number) for abi, names in self.names.items() for number, name in names.items() if name in wanted
        }


KERNELS = {
    "linux": Table({AMD64: LINUX_X86_64, I386: LINUX_I386}),
    "guest_kernel": Table({AMD64: TEACHING_KERNEL}),
}
UNKNOWN = Table()


def table_of(guest_os: str) -> Table:
    """The table of a kernel, by XEN_ELFNOTE_GUEST_OS."""
    return KERNELS.get(guest_os, UNKNOWN)


def error_name(result: int) -> str | None:
    """The error that a system call's result is, by name; None for success."""
    if not -LONGEST_ERROR <= result < 0:
        return None
    return ERRORS.get(-result, str(-result))
