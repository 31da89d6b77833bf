# SPDX-License-Identifier: GPL-2.0-or-later
"""A trace as a picture: decoded records as trace events, which https://ui.perfetto.dev opens.

A domain is a process, whatever its id, and each of its vCPUs a thread; below these are

    running                      when the vCPU had a pCPU
    hypercalls, faults, exits    as long as the hypervisor took; entries of a multicall below it, its time shared out
    upcalls                      moments
    event channels               a thread of its own: when ports became pending, with arrows to the upcall
    system calls                 one row each, from SYSCALL to the return, with the times in which it was switched out
    exits per second             by kind, every 10 ms

The format is the JSON array of Chrome's trace events ("Trace Event Format"): it needs no library to write, and a file
that was broken off is still read, for the closing bracket may be missing. Times are microseconds by the domain's clock;
on a virtual one the same run makes the same bytes. Perfetto multiplies them by 1000 as floating-point numbers and cuts
off the fraction. So a fifth of a nanosecond is added to each: else a time could lose a nanosecond, and a slice that
ends a nanosecond after the slice it is in is not drawn.

Read beside it: src/trace_processor/importers/json in Perfetto, for what it makes of each event.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

PERIOD_NS = 10_000_000  # of the counter of exits
PROCESS = 1
EVENT_CHANNELS = 1000  # a thread of no vCPU
COUNTED = ("hypercall", "syscall", "fault", "int", "cpuid", "io", "exit", "callout")
LEFT_OUT = frozenset(
    {"time", "domid", "vcpu", "kind", "name", "spent", "call", "depth", "entries", "exits", "began", "away", "abi"}
)
TIMES = ("ts", "dur")
LARGEST_NUMBER = 4095  # that is shown in decimal digits

Event = dict[str, Any]


class Picture:
    """The trace events of one domain, as its records come. `end` closes what is open."""

    def __init__(self, name: str, vcpus: int) -> None:
        self._running: set[int] = set()
        self._calls: dict[int, list[str]] = {}  # open rows of system calls, and what is open in them
        self._signals: dict[int, list[int]] = {}  # of a vCPU: arrows on their way to its next upcall
        self._arrows = 0
        self._requests = 0  # of disks
        self._period = -1
        self._counts: Counter[str] = Counter()
        self._last = 0
        self._head = [
            self._meta("process_name", name=name),
            self._meta("thread_name", EVENT_CHANNELS, name="event channels"),
            self._meta("thread_sort_index", EVENT_CHANNELS, sort_index=EVENT_CHANNELS),
        ]
        for vcpu in range(vcpus):
            self._head.append(self._meta("thread_name", vcpu, name=f"vCPU {vcpu}"))
            self._head.append(self._meta("thread_sort_index", vcpu, sort_index=vcpu))

    def begin(self) -> list[Event]:
        """The events at the beginning: the names of the domain and its vCPUs."""
        return self._head

    def add(self, record: dict[str, Any]) -> Iterator[Event]:
        """The events of one more record."""
        kind, time = record["kind"], record["time"]
        self._last = max(self._last, time)
        yield from self._count(kind, time)
        if kind == "running":
            yield from self._run(record)
        elif kind == "event":
            yield from self._signal(record)
        elif kind == "upcall":
            yield from self._upcall(record)
        elif kind == "switch":
            yield from self._switch(record)
        elif kind == "device":
            yield from self._request(record)
        elif kind == "return":
            yield from self._close(record["call"], time, _arguments(record))
        else:
            yield from self._exit(record)

    def end(self) -> Iterator[Event]:
        """The events that close what is open when the trace ends."""
        for call in list(self._calls):
            yield from self._close(call, self._last, {"how": "unfinished"})
        for vcpu in sorted(self._running):
            yield self._event("E", self._last, vcpu)
        self._running.clear()
        if self._period >= 0:
            yield from self._count("", (self._period + 1) * PERIOD_NS)

    # -- the kinds -------------------------------------------------------------------------------------------
    def _run(self, record: dict[str, Any]) -> Iterator[Event]:
        vcpu = record["vcpu"]
        if record["then"] == "running":
            self._running.add(vcpu)
            yield self._event("B", record["time"], vcpu, name="running", cat="running")
        elif vcpu in self._running:
            self._running.discard(vcpu)
            yield self._event("E", record["time"], vcpu, args={"then": record["then"]})

    def _exit(self, record: dict[str, Any]) -> Iterator[Event]:
        spent = record.get("spent", 0)
        begin = record["time"] - spent
        yield self._slice(begin, spent, record["vcpu"], _name(record), record["kind"], _arguments(record))
        entries = record.get("entries", ())
        for index, entry in enumerate(entries):
            first, last = (spent * at // len(entries) for at in (index, index + 1))
            name, arguments = _name({"kind": "hypercall", **entry}), _arguments(entry)
            yield self._slice(begin + first, last - first, record["vcpu"], name, "in multicall", arguments)
        if record["kind"] == "syscall" and "call" in record:
            self._calls[record["call"]] = [_name(record)]
            yield self._row("b", begin, record["call"], _name(record), _arguments(record))

    def _request(self, record: dict[str, Any]) -> Iterator[Event]:
        """A request of a disk: a row from its ring back into it."""
        self._requests += 1
        name, row = f"{record['disk']} {record['name']}", {"id": f"request {self._requests}", "cat": "device"}
        yield self._event("b", record["time"] - record.get("spent", 0), None, name=name, args=_arguments(record), **row)
        yield self._event("e", record["time"], None, name=name, **row)

    def _signal(self, record: dict[str, Any]) -> Iterator[Event]:
        self._arrows += 1
        self._signals.setdefault(record["vcpu"], []).append(self._arrows)
        name = f"port {record['port']} {record['type']}"
        yield self._slice(record["time"], 0, EVENT_CHANNELS, name, "event", _arguments(record))
        yield self._event("s", record["time"], EVENT_CHANNELS, name="event", cat="event", id=self._arrows)

    def _upcall(self, record: dict[str, Any]) -> Iterator[Event]:
        vcpu = record["vcpu"]
        yield self._slice(record["time"], 0, vcpu, "upcall", "upcall", _arguments(record))
        for arrow in self._signals.pop(vcpu, ()):
            yield self._event("f", record["time"], vcpu, name="event", cat="event", id=arrow, bp="e")

    def _switch(self, record: dict[str, Any]) -> Iterator[Event]:
        call, opened = record["call"], self._calls.get(record["call"])
        if opened is None:
            return
        if record["what"] == "out":
            opened.append("switched out")
            yield self._row("b", record["time"], call, opened[-1], {})
        elif len(opened) > 1:
            yield self._row("e", record["time"], call, opened.pop(), {})

    def _close(self, call: int, time: int, arguments: dict[str, Any]) -> Iterator[Event]:
        opened = self._calls.pop(call, [])
        while opened:
            name = opened.pop()
            yield self._row("e", time, call, name, {} if opened else arguments)

    def _count(self, kind: str, time: int) -> Iterator[Event]:
        """Count an exit. A period's exits per second are an event when the period is over; a period without exits is
        0."""
        period = time // PERIOD_NS
        if period > self._period:
            if self._counts:
                rates = {name: self._counts[name] * 10**9 // PERIOD_NS for name in COUNTED if name in self._counts}
                yield self._event("C", self._period * PERIOD_NS, None, name="exits/s", args=rates)
                zero = dict.fromkeys(rates, 0)
                yield self._event("C", (self._period + 1) * PERIOD_NS, None, name="exits/s", args=zero)
                self._counts.clear()
            self._period = period
        if kind in COUNTED:
            self._counts[kind] += 1

    # -- events ----------------------------------------------------------------------------------------------
    def _event(self, phase: str, time: int, thread: int | None, **more: Any) -> Event:
        event: Event = {"ph": phase, "ts": time, "pid": PROCESS}
        if thread is not None:
            event["tid"] = PROCESS + thread
        return event | more

    def _slice(self, time: int, spent: int, thread: int, name: str, category: str, arguments: Event) -> Event:
        return self._event("X", time, thread, dur=spent, name=name, cat=category, args=arguments)

    def _row(self, phase: str, time: int, call: int, name: str, arguments: Event) -> Event:
        return self._event(phase, time, None, id=call, name=name, cat="system call", args=arguments)

    def _meta(self, what: str, thread: int | None = None, **arguments: Any) -> Event:
        return self._event("M", 0, thread, name=what, args=arguments)


def _name(record: dict[str, Any]) -> str:
    kind, name = record["kind"], record.get("name", "")
    match kind:
        case "hypercall":
            return f"{name}.{record['command']}" if "command" in record else str(name)
        case "exit" | "callout":
            return str(record["reason"])
        case "cpuid":
            return f"cpuid {record['leaf']:#x}"
        case "io":
            return f"{record['direction']} port {record['port']:#x}"
        case "int":
            return f"int {record['vector']:#x}"
    return str(name) or f"{kind}_{record.get('number', '')}"


def _arguments(record: dict[str, Any]) -> dict[str, Any]:
    return {key: _shown(value) for key, value in record.items() if key not in LEFT_OUT and value not in (None, {})}


def _shown(value: Any) -> Any:
    """A value for people, and for JSON readers that do not know 64-bit numbers."""
    if isinstance(value, dict):
        return {key: _shown(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    if isinstance(value, int) and not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
        return f"{value:#x}"
    return value


def microseconds(ns: int) -> str:
    """A time in microseconds, as it is written."""
    return f"{ns // 1000}.{ns % 1000:03d}2"


def lines(events: Iterable[Event]) -> Iterator[str]:
    """Events as lines of the file, one on each. The times of the events are in ns."""
    for event in events:
        timed = {key: event[key] for key in event if key not in TIMES}
        times = (f', "{key}": {microseconds(event[key])}' for key in TIMES if key in event)
        yield f"{json.dumps(timed)[:-1]}{''.join(times)}}}"
