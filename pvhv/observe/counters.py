# SPDX-License-Identifier: GPL-2.0-or-later
"""What a domain cost, counted: hypercalls by name, exits by kind, and time by state.

The counts are kept by the core whether anybody asks or not; on a virtual clock they are the same in every run
and on every machine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.core.sched.runstate import NAMES

if TYPE_CHECKING:
    from pvhv.core.domain import Domain


@dataclass(frozen=True)
class Counters:
    """Counts of one domain so far. Times are ns of its own clock, summed over its vCPUs."""

    hypercalls: dict[str, int] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    runstate_ns: dict[str, int] = field(default_factory=dict)
    ran_ns: int = 0

    @property
    def total(self) -> int:
        """The number of all exits, hypercalls, and calls within multicalls."""
        return sum(self.hypercalls.values()) + sum(self.exits.values())

    def plain(self) -> dict[str, Any]:
        """As plain values, for a message or JSON."""
        return asdict(self)


def read(domain: Domain) -> Counters:
    """The counters of a domain, now; kinds that never happened are left out."""
    now = domain.timeline.now()
    runstate = dict.fromkeys(NAMES, 0)
    for vcpu in domain.vcpus:
        for name, spent in zip(NAMES, vcpu.runstate.times(now), strict=True):
            runstate[name] += spent
    return Counters(
        hypercalls={
            HYPERCALLS[number].name if number in HYPERCALLS else f"hypercall {number}": count
            for number, count in enumerate(domain.hypercall_counts)
            if count
        },
        exits={kind: count for kind, count in domain.exit_counts.items() if count}
        if domain.hvm is None
        else domain.hvm.exit_counts(),
        runstate_ns=runstate,
        ran_ns=sum(vcpu.ran for vcpu in domain.vcpus),
    )
