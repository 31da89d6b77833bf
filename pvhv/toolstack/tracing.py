# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces for clients: what a client wants is given in words, and records go through a queue of bounded length.

A guest can do in a millisecond what takes a second to print. On the wall clock a full queue does not make the guest
wait: records are dropped and counted, and the stream says in their place how many. On a virtual clock nothing is lost:
the guest's time stands still until the reader has caught up, which the guest cannot notice.

A summary needs no queue: it is kept where records are made.

A record's size is bounded (pvhv.observe.capture keeps a few items of a batch). But a multicall has a record for each of
its entries, so it counts as that many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pvhv.devices.block.disk import Disk
from pvhv.devices.block.names import name_of
from pvhv.hvm.platform.asked import Requests
from pvhv.observe import decode
from pvhv.observe.record import Record
from pvhv.observe.syscall_names import Table, table_of
from pvhv.observe.tally import Tally
from pvhv.observe.trace import Recorder
from pvhv.observe.wanted import (
    ANY,
    EVERYTHING,
    KINDS,
    OF_FULL,
    USUAL,
    UnknownWord,
    Wanted,
    kinds_named,
    names_named,
    words,
)
from pvhv.toolstack.errors import UsageError
from pvhv.toolstack.full_guest import pc_requests
from pvhv.toolstack.guest import Guest
from pvhv.toolstack.host import Host
from pvhv.toolstack.server import Call

QUEUE = 1 << 15  # records
LOW_WATER = QUEUE >> 3  # where a guest that waited goes on
BATCH = 256


def wanted_of(
    guest: Guest,
    kinds: Sequence[str],
    only: Sequence[str],
    vcpus: Sequence[str],
    syscalls: Sequence[str],
    copies: bool,
    everything: bool = False,
) -> Wanted:
    """What a client wants of a guest's trace, from the words of its options. `everything`: without such words, each
    kind of record. Raises UsageError."""
    table = table_of(guest.kernel.guest_os)
    try:
        chosen = kinds_named(kinds)
        calls, faults = names_named(only) if only else ({}, frozenset[int]())
        implied = {kind for kind, named in (("hypercall", calls), ("fault", faults)) if named}
        wanted = replace(EVERYTHING, copies=copies, kinds=frozenset(KINDS) if everything else USUAL)
        if implied:
            if chosen is not None and (left := implied - chosen):
                raise UsageError(f"--only names what --kind leaves out: {', '.join(sorted(left))}")
            wanted = replace(wanted, kinds=frozenset(implied), calls=calls or None, faults=faults or None)
        if chosen is not None:
            wanted = replace(wanted, kinds=chosen)
        if vcpus:
            wanted = replace(wanted, vcpus=_vcpus(guest, vcpus))
        besides = everything and not syscalls
        if besides and guest.domain.hvm is None and "syscall" in wanted.kinds:
            syscalls = [ANY]
        if syscalls:
            wanted = replace(wanted, syscalls=table.named(syscalls), besides=besides, endless=table.endless)
    except UnknownWord as wrong:
        raise UsageError(wrong.message, wrong.hint) from None
    if guest.domain.hvm is not None:
        if wanted.follows:
            raise UsageError(
                f"{guest.name} is fully virtualized: its system calls do not reach the hypervisor",
                "leave out --syscall",
            )
        if not wanted.kinds & {*OF_FULL, "device"}:
            raise UsageError(
                f"{guest.name} is fully virtualized: its trace has the kinds exit, callout and device only"
            )
    elif not wanted.kinds - OF_FULL and not wanted.follows:
        raise UsageError(f"{guest.name} is paravirtualized: its trace has no records of that kind")
    return wanted


def _vcpus(guest: Guest, lists: Sequence[str]) -> frozenset[int]:
    chosen = set()
    last = len(guest.domain.vcpus) - 1
    for word in words(lists):
        if not (word.isascii() and word.isdigit() and int(word) <= last):
            there = f"{guest.name} has vCPUs 0 to {last}" if last else f"{guest.name} has vCPU 0 alone"
            raise UsageError(f"--vcpu {word if word.isprintable() else ascii(word)}: there is no such vCPU", there)
        chosen.add(int(word))
    return frozenset(chosen)


def disks_of(guest: Guest) -> list[tuple[str, Disk | Requests]]:
    """The disks of a guest, by name: those that it finds by xenbus, and those of a PC."""
    split = [(name_of(each.number), each.data) for each in guest.backends if isinstance(each.data, Disk)]
    return [*split, *pc_requests(guest).items()]


def weight(record: Record) -> int:
    """How many records one counts as: one, and one more for each entry of a multicall."""
    return 1 + len(record.data[0].entries) if record.kind == "hypercall" else 1


class Tracing:
    """One client's trace of one guest. Made, and closed, on the hypervisor's thread."""

    def __init__(
        self,
        host: Host,
        recorder: Recorder,
        guest: Guest,
        loop: asyncio.AbstractEventLoop,
        wanted: Wanted = EVERYTHING,
        count: bool = False,
    ) -> None:
        self.host = host
        self.recorder = recorder
        self.guest = guest
        self.loop = loop
        self.symbols = guest.symbols
        self.syscalls: Table = table_of(guest.kernel.guest_os)
        self.timeline = guest.domain.timeline
        self.records: deque[Record] = deque()
        # What weighed all that came into the queue, and all that was taken out: one thread counts either.
        self._came = self._went = 0
        self.tally = Tally() if count else None
        self.dropped = 0
        self.holding = False  # we have the guest's time stand still
        self.ended = guest.ended is not None
        self.ready = asyncio.Event()
        self._woken = False
        self._sink = self._take if self.tally is None else self.tally.take
        recorder.start(guest.domain, self._sink, wanted, disks_of(guest))
        host.listeners.append(self._listen)

    @property
    def about(self) -> dict[str, Any]:
        """What the client is told before the records."""
        return {
            "tracing": self.guest.name,
            "domid": self.guest.domid,
            "vcpus": len(self.guest.domain.vcpus),
            "clock": self.guest.config.clock,
        }

    # -- the hypervisor's thread -----------------------------------------------------------------------------
    def _take(self, record: Record) -> None:
        if self._came - self._went >= QUEUE:
            if not self.timeline.virtual:
                self.dropped += 1
                return
            if not self.holding:
                self.holding = True
                self.timeline.held += 1
                self.timeline.cpu.pcpu.stop()
        self._came += weight(record)
        self.records.append(record)
        if not self._woken:
            self._wake()

    def _let_go(self) -> None:
        if self.holding:
            self.holding = False
            self.timeline.held -= 1

    def _listen(self, guest: Guest, what: str) -> None:
        if guest is self.guest and what in ("ended", "gone"):
            self._let_go()
            self.recorder.stop(guest.domain, self._sink)  # which says what was still under way
            self.ended = True
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        try:
            self.loop.call_soon_threadsafe(self.ready.set)
        except RuntimeError:
            pass  # the loop is closed: the process ends

    def close(self) -> None:
        """Stop tracing."""
        self._let_go()
        self.recorder.stop(self.guest.domain, self._sink)
        if self._listen in self.host.listeners:
            self.host.listeners.remove(self._listen)

    # -- the loop's ------------------------------------------------------------------------------------------
    async def deliver(self, call: Call) -> dict[str, Any]:
        """Send decoded records until the guest has ended. Of a summary only the end is sent."""
        total = 0
        while True:
            self._woken = False
            batch = self._batch()
            if batch:
                total += len(batch)
                await call.item(
                    {"records": [decode.plain(record, self.symbols, self.syscalls) for record in batch]}
                )
                if self.holding and self._came - self._went < LOW_WATER:
                    self.host.hypervisor.post(self._let_go)
            elif self.dropped:
                dropped, self.dropped = self.dropped, 0
                await call.item({"dropped": dropped})
            elif self.ended:
                return {"records": total, "summary": self.summary()}
            else:
                await self.ready.wait()
                self.ready.clear()

    def _batch(self) -> list[Record]:
        """Take the next records out of the queue: as many as count as `BATCH`."""
        batch: list[Record] = []
        weighs = 0
        while self.records and weighs < BATCH:
            batch.append(self.records.popleft())
            weighs += weight(batch[-1])
        self._went += weighs
        return batch

    def summary(self) -> dict[str, Any] | None:
        """The summary so far; None if there is no summary."""
        return None if self.tally is None else self.tally.plain(self.syscalls)
