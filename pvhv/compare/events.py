# SPDX-License-Identifier: GPL-2.0-or-later
"""Which exits of different techniques are the same event in the guest.

Each technique has its own names for exits: AMD's exit codes (CR3_WRITE), the instruction that trapped or was
called out (mov-to-cr3), Xen's hypercalls. A reader who compares bars wants to see that the guest did the same thing.
An exit in no row of the table is an event of its own.

Read beside it: pvhv/hvm/emulator/sensitive.py; AMD's manual volume 2, appendix C (exit codes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final

from pvhv.compare.pricing import CALLOUT

EVENTS: Final[dict[str, str]] = {
    "port I/O": "IOIO in out ins outs",
    "page fault": "PF page-fault",
    "page-table entry": "trace hypercall:mmu_update hypercall:update_va_mapping",
    "load of CR3": "CR3_WRITE mov-to-cr3",
    "store of CR8": "CR8_WRITE mov-to-cr8",
    "read of CR2": "CR2_READ mov-from-cr2",
    "flush of a page": "INVLPG invlpg",
    "return from the kernel": "iret sysret hypercall:iret",
    "halt": "HLT hlt hypercall:sched_op",
    "CPUID": "CPUID cpuid",
    "MSR": "MSR rdmsr wrmsr",
    "interrupt": "INTR VINTR interrupt event timer",
}
_OF: Final = {reason: event for event, reasons in EVENTS.items() for reason in reasons.split()}


def event_of(label: str) -> str:
    """The event that a part of a bar stands for. (A callout's label has a prefix, which is left out.)"""
    reason = label.removeprefix(CALLOUT)
    return _OF.get(reason, reason)


def labels(found: Iterable[str]) -> dict[str, str]:
    """The name of each part in a legend. Parts that are the same event have the event's name and their own; others only
    their own."""
    families: dict[tuple[bool, str], list[str]] = {}
    for label in sorted(set(found)):
        families.setdefault((label.startswith(CALLOUT), event_of(label)), []).append(label)
    called = {}
    for (is_callout, event), members in families.items():
        names = ", ".join(member.removeprefix(CALLOUT) for member in members)
        together = f"{CALLOUT if is_callout else ''}{event}: {names}"
        called.update({member: members[0] if len(members) == 1 else together for member in members})
    return called


def merged(parts: Mapping[str, Fraction], called: Mapping[str, str]) -> dict[str, Fraction]:
    """A bar's parts by the names that `labels` gave."""
    found: dict[str, Fraction] = {}
    for label, value in parts.items():
        name = called[label]
        found[name] = found.get(name, Fraction()) + value
    return found
