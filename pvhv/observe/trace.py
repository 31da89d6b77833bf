# SPDX-License-Identifier: GPL-2.0-or-later
"""Recording what a domain does to its hypervisor: hypercalls, faults, events and the other exits, as they happen.

While nobody traces, the pCPU's handlers are the core's own. A trace puts probes (pvhv.observe.probes) around the
handlers that it wants to hear of, and the last trace to end removes them. So without a trace there is no cost, and with
one no cost for kinds that nobody wants.

A fully virtualized domain makes no hypercalls. Its trace has a record for every exit, with the name that its
technique's hardware has for it, for every callout of a binary translator, and for requests of its disks.

Recording changes nothing that a guest can see, except its speed on the wall clock. On a virtual clock the same run
gives the same records whether it is traced or not.

Read beside it: xen/include/public/trace.h, for what Xen's own trace buffers hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pvhv.observe.device_probes import DeviceProbes, Disks
from pvhv.observe.following import Following
from pvhv.observe.probes import Probes
from pvhv.observe.record import Record, Sink
from pvhv.observe.wanted import EVERYTHING, KINDS, OF_FULL, Wanted

if TYPE_CHECKING:
    from pvhv.core.domain import Domain, FullVirtualization
    from pvhv.core.hypervisor import Hypervisor

__all__ = ["Record", "Recorder", "Sink", "Watch"]


class Watch:
    """One trace of one domain: what it wants, and where the records go."""

    def __init__(self, domain: Domain, sink: Sink, wanted: Wanted) -> None:
        self.domain = domain
        self.sink = sink
        self.wanted = wanted
        self.following = Following(wanted, self._keep) if wanted.follows else None
        self.devices: DeviceProbes | None = None
        self.take = self._keep if self.following is None else self.following.take

    def _keep(self, record: Record) -> None:
        kept = self.wanted.of(record)
        if kept is not None:
            self.sink(kept)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds that have to be recorded for it. To follow system calls, all kinds that may belong to one."""
        if self.following is None:
            return self.wanted.kinds
        return self.wanted.kinds | frozenset(KINDS) - {"device", "running"}

    def finish(self) -> None:
        """The trace ends: send what is left."""
        if self.devices is not None:
            self.devices.remove()
        if self.following is not None:
            self.following.finish(self.domain.timeline.now(), self.domain.domid)


class Recorder:
    """The traces of one hypervisor. The hypervisor's thread only, between slices."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self.hypervisor = hypervisor
        self.watches: dict[Domain, list[Watch]] = {}
        self._probes: list[Probes] = []

    def start(self, domain: Domain, sink: Sink, wanted: Wanted = EVERYTHING, disks: Disks = ()) -> None:
        """Give `sink` a Record of everything wanted that `domain` does from now on; `disks` are those it has."""
        watches = self.watches.setdefault(domain, [])
        watches.append(watch := Watch(domain, sink, wanted))
        if "device" in watch.kinds:
            watch.devices = DeviceProbes(domain, disks, watch.take)
        self._listen(domain)

    def stop(self, domain: Domain, sink: Sink) -> None:
        """End the trace that `start` began. May be called again."""
        watches = self.watches.get(domain, [])
        for watch in [each for each in watches if each.sink == sink]:
            watches.remove(watch)
            watch.finish()
        if not watches:
            self.watches.pop(domain, None)
        self._listen(domain)

    def _listen(self, domain: Domain) -> None:
        """Hear of a domain's exits as its present watches need it."""
        if domain.hvm is None:
            self._probe()
        else:
            heard = any(watch.kinds & OF_FULL for watch in self.watches.get(domain, ()))
            domain.hvm.listen(self._exit_of(domain, domain.hvm) if heard else None)

    def _probe(self) -> None:
        """Put on each pCPU the probes that the present watches need, and no others."""
        while self._probes:
            self._probes.pop().remove()  # the last one that was put there first
        clocks = dict.fromkeys(domain.timeline.virtual for domain in self.watches if domain.hvm is None)
        for virtual in clocks:
            cpu = self.hypervisor.cpu(virtual)
            of_it = {
                domain: watches
                for domain, watches in self.watches.items()
                if domain.timeline.cpu is cpu and domain.hvm is None
            }
            wanted = [watch for watches in of_it.values() for watch in watches]
            kinds: frozenset[str] = frozenset().union(*(watch.kinds for watch in wanted))
            copies = any(watch.wanted.copies for watch in wanted)
            watched: dict[Domain, list[Sink]] = {
                domain: [watch.take for watch in watches] for domain, watches in of_it.items()
            }
            self._probes.append(Probes(self.hypervisor, cpu, watched, kinds, copies))

    def _exit_of(self, domain: Domain, full: FullVirtualization) -> Callable[[str, str, str], None]:
        watches = self.watches[domain]

        def happened(kind: str, reason: str, detail: str) -> None:
            if kind != "assist":  # of which no real hypervisor would know
                rip, kernel = full.where()
                data: tuple[Any, ...] = (reason, detail)
                record = Record(domain.timeline.now(), domain.domid, 0, kind, rip, kernel, data)
                for watch in watches:
                    watch.take(record)

        return happened
