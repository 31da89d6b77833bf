# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of the trace event format, as far as our files use it; for tests to hold a file against.

From "Trace Event Format" (the document that chrome://tracing and Perfetto implement): which fields a phase needs, that
B and E nest within a thread and X within each other, that b and e of one id and category nest, that an arrow (s, f)
begins before it ends and each of its ends lies in a slice.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

NEEDED = {
    "M": {"name", "args"}, "X": {"name", "cat", "dur", "tid", "args"}, "B": {"name", "cat", "tid"}, "E": {"tid"},
    "b": {"name", "cat", "id"}, "e": {"name", "cat", "id"}, "s": {"name", "cat", "id", "tid"},
    "f": {"name", "cat", "id", "tid", "bp"}, "C": {"name", "args"},
}  # fmt: skip
Event = dict[str, Any]


def read(text: str) -> list[Event]:
    """The events of a file, whole or broken off behind a line."""
    if not text.rstrip().endswith("]"):
        text = text.rstrip().removesuffix(",") + "]"
    events: list[Event] = json.loads(text, parse_float=nanoseconds)
    return events


def nanoseconds(digits: str) -> int:
    """What Perfetto makes of a time: CoerceToTs in its src/trace_processor/importers/json."""
    return int(float(digits) * 1000.0)


def check(events: list[Event]) -> None:
    """Raises AssertionError where a rule is broken."""
    names, threads = set(), set()
    for event in events:
        assert {"ph", "ts", "pid"} | NEEDED[event["ph"]] <= set(event), event
        assert type(event["ts"]) is int and event["ts"] >= 0 and event.get("dur", 0) >= 0, event
        if event["ph"] == "M" and event["name"] == "process_name":
            names.add(event["pid"])
        if event["ph"] == "M" and event["name"] == "thread_name":
            threads.add((event["pid"], event["tid"]))
    assert {event["pid"] for event in events} <= names
    assert {(event["pid"], event["tid"]) for event in events if "tid" in event} <= threads
    _check_threads(events)
    _check_rows(events)
    _check_arrows(events)


def _check_threads(events: list[Event]) -> None:
    """Slices of a thread nest: one that begins inside another ends inside it."""
    open_slices: dict[int, list[int | None]] = defaultdict(list)  # where each ends; None: at its E
    for event in sorted((each for each in events if each["ph"] in "XBE"), key=lambda each: each["ts"]):
        stack, time = open_slices[event["tid"]], event["ts"]
        while stack and stack[-1] is not None and stack[-1] <= time:
            stack.pop()
        if event["ph"] == "E":
            assert stack and stack.pop() is None, event
        elif event["ph"] == "B":
            assert not stack, event
            stack.append(None)
        else:
            end = time + event["dur"]
            assert not stack or stack[-1] is None or end <= stack[-1], event
            stack.append(end)
    assert not any(None in stack for stack in open_slices.values())


def _check_rows(events: list[Event]) -> None:
    rows: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in sorted((each for each in events if each["ph"] in "be"), key=lambda each: each["ts"]):
        stack = rows[event["cat"], event["id"]]
        if event["ph"] == "b":
            stack.append(event)
        else:
            assert stack and stack.pop()["name"] == event["name"], event
    assert not any(rows.values())


def _check_arrows(events: list[Event]) -> None:
    starts = {event["id"]: event for event in events if event["ph"] == "s"}
    slices = {(event["tid"], event["ts"]) for event in events if event["ph"] == "X"}
    assert len(starts) == sum(event["ph"] == "s" for event in events)
    for event in events:
        if event["ph"] in "sf":
            assert (event["tid"], event["ts"]) in slices, event
        if event["ph"] == "f":
            assert event["bp"] == "e" and starts[event["id"]]["ts"] <= event["ts"], event
