# SPDX-License-Identifier: GPL-2.0-or-later
"""What the classic papers explain, checked against our own counts: where we agree with them, where not, and why.

Each finding is computed: its sentence states our numbers, and from them follows whether it agrees with the paper. If
the counts are missing, the finding says so, and neither agrees nor disagrees.

Read beside it: Adams and Agesen 2006, section 6.3; Barham et al. 2003, sections 4.1 and 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pvhv.compare.names import BARE, PV, SHADOW, TRANSLATION
from pvhv.compare.pricing import GUEST, Estimate
from pvhv.compare.ranks import versus
from pvhv.compare.records import Comparison, Counts
from pvhv.compare.report import number, parts

WITHIN: Final = Fraction(5, 2)  # Xen's fork and exec cost no more than so many times native
SEVERAL: Final = 2  # a full virtualizer's cost so many times Xen's, at least
RETURNS: Final = frozenset({"ret", "call", "jmp"})  # callouts that a translator of returns would have


@dataclass(frozen=True)
class Finding:
    """One sentence about our counts. `agrees` says whether they agree with the paper; None if that is not known."""

    about: str
    agrees: bool | None
    text: str


class Missing(Exception):
    """Counts or an estimate that a finding needs are not there."""


@dataclass(frozen=True)
class Material:
    """What findings are made of."""

    comparison: Comparison
    estimates: Mapping[tuple[str, str], Estimate]

    def counts(self, technique: str, bench: str) -> Counts:
        counts = self.comparison.get(technique, bench)
        if counts is None:
            why = self.comparison.absent.get((technique, bench), "it was not run")
            raise Missing(f"no counts of {bench} under {technique}: {why}")
        return counts

    def cycles(self, technique: str, bench: str) -> Fraction:
        self.counts(technique, bench)
        estimate = self.estimates[technique, bench]
        if estimate.cycles is None:
            raise Missing(f"no estimate of {technique} under {estimate.table}: {estimate.unavailable}")
        return estimate.cycles

    def exits(self, technique: str, bench: str) -> str:
        """`hw-shadow takes 2 exits (IOIO 1, HLT 1)`."""
        counts = self.counts(technique, bench)
        if not counts.exits:
            return f"{technique} takes no exit"
        made_of = parts({reason: Fraction(total, counts.operations) for reason, total in counts.exits.items()}, None)
        return f"{technique} takes {_exits(counts.exits_per_operation)} ({made_of})"


def findings(paper: str, material: Material) -> Iterator[Finding]:
    """All findings about a paper."""
    for about, tell in _PAPERS.get(paper, {}).items():
        try:
            yield tell(material)
        except Missing as missing:
            yield Finding(about, None, f"cannot be told: {missing}")


def software_ahead(bench: str) -> Callable[[Material], Finding]:
    """The binary translator is ahead of hardware of the first generation, says the paper."""

    def tell(material: Material) -> Finding:
        software, hardware = material.cycles(TRANSLATION, bench), material.cycles(SHADOW, bench)
        agrees = versus(software, hardware) < 0
        callouts = material.counts(TRANSLATION, bench).per_operation("callouts")
        return Finding(
            bench,
            agrees,
            f"first-generation hardware {'loses' if agrees else 'does not lose'} to the software VMM: "
            f"{_against(hardware, software)}. {material.exits(SHADOW, bench)}; {material.exits(TRANSLATION, bench)} "
            f"and {number(callouts)} callout{'' if callouts == 1 else 's'}",
        )

    return tell


def hardware_ahead(bench: str) -> Callable[[Material], Finding]:
    """Hardware of the first generation is ahead of the binary translator, says the paper."""

    def tell(material: Material) -> Finding:
        software, hardware = material.cycles(TRANSLATION, bench), material.cycles(SHADOW, bench)
        agrees = versus(hardware, software) < 0
        return Finding(
            bench,
            agrees,
            f"first-generation hardware {'wins' if agrees else 'does not win'} against the software VMM: "
            f"{_against(hardware, software)}. {material.exits(SHADOW, bench)}; {material.exits(TRANSLATION, bench)}",
        )

    return tell


def callret(material: Material) -> Finding:
    """The paper's translator translates returns, and pays for it; hardware does not."""
    counts = material.counts(TRANSLATION, "callret")
    native, software = material.cycles(BARE, "callret"), material.cycles(TRANSLATION, "callret")
    returns = Fraction(sum(counts.callouts.get(name, 0) for name in RETURNS), counts.operations)
    if versus(software, native):
        reason = (
            f"our translator rewrites calls and returns: {number(returns)} callouts"
            if returns
            else f"though our translator leaves calls and returns alone: {material.exits(TRANSLATION, 'callret')}"
        )
        said = f"does not tie with native: {_against(software, native)}; {reason}"
    else:
        said = (
            f"ties with native: {_against(software, native)}; {number(returns)} callouts for calls and returns. "
            "The paper's does not tie because its translator moves code: a return address is the guest's, and each "
            "return looks up where its translation is. Ours leaves code in its place, and returns alone"
        )
    return Finding("callret", versus(software, native) > 0, f"the software VMM {said}")


def within(bench: str) -> Callable[[Material], Finding]:
    """Xen's fork and exec cost within 2.5 times native, a full virtualizer's several times Xen's."""

    def tell(material: Material) -> Finding:
        native, xen = material.cycles(BARE, bench), material.cycles(PV, bench)
        full = material.cycles(TRANSLATION, bench)
        near, several = xen <= WITHIN * native, full >= SEVERAL * xen
        return Finding(
            bench,
            near and several,
            f"pv costs {number(xen / native)} times native, {'within' if near else 'more than'} {number(WITHIN)}; the "
            f"full virtualizer costs {number(full / native)} times native, "
            f"{'' if several else 'not '}several times as much as pv ({number(full / xen)}x). "
            f"{material.exits(PV, bench)}; {material.exits(TRANSLATION, bench)}"
            f"{'' if several else _small_process(material, bench)}",
        )

    return tell


def _small_process(material: Material, bench: str) -> str:
    """Why a monitor that traces page tables does not lose by more."""
    updates = material.counts(PV, bench).per_operation("page_table_updates")
    estimate = material.estimates[TRANSLATION, bench]
    own, whole = estimate.by_label().get(GUEST, Fraction()), material.cycles(TRANSLATION, bench)
    return (
        f". Our process is a small one: {number(updates)} page-table updates an operation are all that there is to "
        f"trace or to batch, where Linux has hundreds; and {number(100 * own / whole)} % of the full virtualizer's "
        "estimate are the guest's own instructions"
    )


def context_switch(material: Material) -> Finding:
    """A context switch is one entry into Xen. The system calls and events around it are counted apart."""
    counts = material.counts(PV, "ctx-2p-0k")
    around = ("hypercall:iret", "hypercall:event_channel_op", "hypercall:sched_op", "hypercall:set_timer_op")
    entries = {
        reason: Fraction(total, counts.operations)
        for reason, total in counts.exits.items()
        if reason.startswith("hypercall:") and reason not in around and total
    }
    agrees = entries == {"hypercall:multicall": 1}
    return Finding(
        "ctx-2p-0k",
        agrees,
        f"a context switch costs {_entries(sum(entries.values(), Fraction()))} under pv ({parts(entries, None)}), "
        f"{'one multicall' if agrees else 'not one multicall'}; with the system calls around it, "
        f"{material.exits(PV, 'ctx-2p-0k')}",
    )


def page_fault(material: Material) -> Finding:
    """A page fault is two entries in the paper: the fault is bounced, the entry is set. IRET may be one more."""
    counts = material.counts(PV, "page-fault")
    entries = counts.exits_per_operation
    returns = counts.per_operation("exits", "hypercall:iret") or Fraction()
    if returns == 0 and counts.exits.get("hypercall:multicall"):
        reason = "page-table entry and IRET share a multicall"
    elif returns == 0:
        reason = "the guest returns from its handler without Xen"
    else:
        reason = f"IRET, which on 64-bit PV is a hypercall of its own, is {number(returns)} of them"
    return Finding(
        "page-fault",
        entries == 2,
        f"a page fault costs {_entries(entries)} under pv, in the paper two (bounce, entry): {reason}. "
        f"{material.exits(PV, 'page-fault')}",
    )


def system_call(material: Material) -> Finding:
    """A system call of an i386 guest never enters Xen; that of a 64-bit guest always does."""
    counts = material.counts(PV, "null-call")
    calls = counts.per_operation("exits", "syscall") or Fraction()
    if calls >= 1:
        said = f"every system call of this 64-bit guest enters the hypervisor ({number(calls)} a call)"
    elif calls:
        said = f"some system calls enter the hypervisor ({number(calls)} a call)"
    else:
        said = "a system call does not enter the hypervisor"
    return Finding(
        "null-call",
        calls == 0,
        f"{said}; the paper's i386 guest takes them by a gate of its own, without Xen. "
        f"{material.exits(PV, 'null-call')}",
    )


_PAPERS: Final[dict[str, dict[str, Callable[[Material], Finding]]]] = {
    "adams-agesen-2006": {
        "ptemod": software_ahead("ptemod"),
        "pgfault": software_ahead("pgfault"),
        "in": software_ahead("in"),
        "syscall": hardware_ahead("syscall"),
        "callret": callret,
    },
    "xen-2003": {
        "fork": within("fork"),
        "exec": within("exec"),
        "ctx-2p-0k": context_switch,
        "page-fault": page_fault,
        "null-call": system_call,
    },
}


def _against(one: Fraction, other: Fraction) -> str:
    return f"{number(one)} against {number(other)} estimated cycles"


def _exits(count: Fraction) -> str:
    return f"{number(count)} exit{'' if count == 1 else 's'}"


def _entries(count: Fraction) -> str:
    return f"{number(count)} entr{'y' if count == 1 else 'ies'}"
