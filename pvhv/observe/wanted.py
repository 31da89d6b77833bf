# SPDX-License-Identifier: GPL-2.0-or-later
"""Which records somebody wants of a trace.

They are given in words, as with strace: kinds (`hypercall,fault`, or `!cpuid,io` for all others), names of hypercalls
and exceptions (`mmu_update`, `sched_op.block`, `page_fault`), vCPUs, and system calls to be followed. A wrong word is
answered with the nearest and with all there are.

Records that nobody wants are not made: there are no probes for their kinds (pvhv.observe.probes).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.xen import HYPERVISOR_multicall
from pvhv.observe.naming import EXCEPTIONS, commands_of
from pvhv.observe.record import HypercallRecord, Record

KINDS: dict[str, str] = {
    "hypercall": "what the guest's kernel asks for, decoded",
    "syscall": "a system call of user code, on its way to the guest's kernel",
    "fault": "an exception, and what became of it",
    "event": "a port of the domain becomes pending",
    "upcall": "the guest's event callback is entered",
    "int": "a software interrupt",
    "cpuid": "CPUID, answered",
    "io": "an I/O port, answered",
    "exit": "a fully virtualized guest leaves, by the name its technique has for it",
    "callout": "what a binary translator put in an instruction's place",
    "device": "a disk's request, and how long until its answer (only where it is asked for)",
    "running": "a vCPU had the processor for so long (only where it is asked for)",
}
USUAL = frozenset(KINDS) - {"device", "running"}
OF_FULL = frozenset({"exit", "callout"})  # of fully virtualized domains, and of no others
OF_CALLS = frozenset({"syscall", "switch", "return"})  # of system calls that are followed: never left out there
ANY = "any"
MOST_LISTED = 64


class UnknownWord(Exception):
    """There is nothing with that name; `hint` lists the names."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Wanted:
    """What a trace is to have, by kind, name, vCPU and system call. None: all."""

    kinds: frozenset[str] = USUAL
    calls: Mapping[int, frozenset[int] | None] | None = None  # hypercalls; of each, the commands
    faults: frozenset[int] | None = None
    vcpus: frozenset[int] | None = None
    syscalls: frozenset[tuple[str, int]] | None = None  # to be followed, by convention and number; empty: every one
    besides: bool = False  # what belongs to none of these, too
    endless: frozenset[tuple[str, int]] = frozenset()  # system calls that never return
    copies: bool = True  # of what hypercalls point to

    @property
    def follows(self) -> bool:
        """Whether system calls are followed."""
        return self.syscalls is not None

    def hypercall(self, call: HypercallRecord) -> HypercallRecord | None:
        """A hypercall if it is wanted, else None. A multicall keeps the entries that are wanted."""
        if self.calls is None:
            return call
        if call.number == HYPERVISOR_multicall and HYPERVISOR_multicall not in self.calls:
            entries = tuple(entry for entry in call.entries if self.hypercall(entry) is not None)
            return call._replace(entries=entries) if entries else None
        if call.number not in self.calls:
            return None
        commands = self.calls[call.number]
        return call if commands is None or commands & commands_of(call) else None

    def of(self, record: Record) -> Record | None:
        """The part of a record that is wanted; None if nothing is."""
        if record.kind not in self.kinds and not (self.follows and record.kind in OF_CALLS):
            return None
        if self.vcpus is not None and record.vcpu not in self.vcpus:
            return None
        if record.kind == "hypercall" and self.calls is not None:
            call = self.hypercall(record.data[0])
            return None if call is None else record._replace(data=(call,))
        if record.kind == "fault" and self.faults is not None and record.data[0] not in self.faults:
            return None
        return record


EVERYTHING = Wanted()


# -- from words ----------------------------------------------------------------------------------------------
def words(lists: Iterable[str]) -> list[str]:
    """The words of comma-separated lists."""
    return [word.strip() for text in lists for word in text.split(",")]


def kinds_named(lists: Iterable[str]) -> frozenset[str] | None:
    """Kinds by name; after a `!`, all but those. None where none is named."""
    texts = list(lists)
    if not texts:
        return None
    named: set[str] = set()
    left_out: set[str] = set()
    for text in texts:
        bare = text.lstrip()
        chosen = left_out if bare.startswith(("!", "^")) else named
        for word in words([bare.lstrip("!^")]):
            if word not in KINDS:
                raise unknown("kind of record", word, KINDS)
            chosen.add(word)
    return frozenset((named or USUAL) - left_out)


def names_named(lists: Iterable[str]) -> tuple[dict[int, frozenset[int] | None], frozenset[int]]:
    """Hypercalls (with or without a command) and exceptions by name."""
    calls: dict[int, frozenset[int] | None] = {}
    faults: set[int] = set()
    numbers = {spec.name: number for number, spec in HYPERCALLS.items()}
    for word in words(lists):
        name, dot, command = word.partition(".")
        if word in EXCEPTIONS:
            faults.add(EXCEPTIONS.index(word))
        elif name in numbers:
            number = numbers[name]
            if not dot:
                calls[number] = None
            else:
                of_it = {each.name.casefold(): each.number for each in HYPERCALLS[number].commands or ()}
                if command.casefold() not in of_it:
                    raise unknown(f"command of {name}", command, of_it)
                known = calls.get(number, frozenset())
                calls[number] = None if known is None else known | {of_it[command.casefold()]}
        else:
            raise unknown("hypercall or exception", word, [*sorted(numbers), *EXCEPTIONS])
    return calls, frozenset(faults)


def unknown(kind: str, word: str, known: Iterable[str]) -> UnknownWord:
    """The error for a word that is not a name; its hint has the nearest name, and all names."""
    names = list(known)
    shown = word if word.isprintable() else ascii(word)[1:-1]
    if not names:
        return UnknownWord(f"there is no {kind} '{shown}'", "there are none")
    near = difflib.get_close_matches(word.casefold(), names, 1, 0.5)
    begin = [name for name in names if word and name.startswith(word.casefold())]
    meant = begin[0] if len(begin) == 1 else near[0] if near else ""
    hint = f"did you mean '{meant}'?\n" if meant else ""
    there = ", ".join(names if len(names) <= MOST_LISTED else [*names[:MOST_LISTED], f"... {len(names)} in all"])
    return UnknownWord(f"there is no {kind} '{shown}'", f"{hint}there are: {there}")
