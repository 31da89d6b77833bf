# SPDX-License-Identifier: GPL-2.0-or-later
"""A program: put each event of a trace file into Perfetto's own messages, as its importer of JSON does.

    python perfetto_protos.py FILE     prints, as JSON, how many events of each type came out

The definitions are those of the Python package that Perfetto publishes. A field they do not have, a value that does
not fit (a negative id, a name that is no text, a pid beyond 31 bits) is refused by protobuf and ends the program. It
imports nothing of pvhv, and is run in a process of its own: the package's licence is another one.

The importer itself (trace_processor) is no part of the package; what it makes of each phase is written down here.
Read beside it: src/trace_processor/importers/json/json_trace_parser_impl.cc in Perfetto.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from decimal import Decimal
from typing import Any

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos
from perfetto.trace_builder.proto_builder import TraceProtoBuilder

TYPES = protos.TrackEvent.Type
NS = 1000  # a file's times are microseconds


class Importer:
    """A trace of Perfetto's, from events of ours."""

    def __init__(self) -> None:
        self.builder = TraceProtoBuilder()
        self.tracks: dict[Any, int] = {}

    def packet(self, event: dict[str, Any]) -> Any:
        made = self.builder.add_packet()
        made.trusted_packet_sequence_id = 1
        made.timestamp = int(Decimal(event["ts"]) * NS)
        return made

    def track(self, *key: Any) -> int:
        return self.tracks.setdefault(key, len(self.tracks) + 1)

    def event(self, event: dict[str, Any], kind: int, *track: Any) -> Any:
        """A track event with the names, categories and arguments there are."""
        made = self.packet(event).track_event
        made.type = kind
        made.track_uuid = self.track(*track)
        if "name" in event:
            made.name = event["name"]
        if "cat" in event:
            made.categories.append(event["cat"])
        for name, value in event.get("args", {}).items():
            annotate(made.debug_annotations.add(), name, value)
        return made

    def add(self, event: dict[str, Any]) -> None:
        """One event, by its phase."""
        pid, phase = event["pid"], event["ph"]
        thread = ("thread", pid, event.get("tid"))
        if phase == "M":
            self.describe(event)
        elif phase in "BE":
            self.event(event, TYPES.TYPE_SLICE_BEGIN if phase == "B" else TYPES.TYPE_SLICE_END, *thread)
        elif phase == "X":
            made = self.event(event, TYPES.TYPE_UNSPECIFIED, *thread)
            made.legacy_event.phase = ord(phase)
            made.legacy_event.duration_us = int(Decimal(event["dur"]))
        elif phase in "be":
            made = self.event(event, TYPES.TYPE_UNSPECIFIED, "row", pid, event["cat"], event["id"])
            made.legacy_event.phase = ord(phase)
            made.legacy_event.unscoped_id = event["id"]
        elif phase in "sf":
            made = self.event(event, TYPES.TYPE_INSTANT, *thread)
            (made.flow_ids if phase == "s" else made.terminating_flow_ids).append(event["id"])
            if phase == "f":
                assert event["bp"] == "e"
                made.legacy_event.bind_to_enclosing = True
        elif phase == "C":
            for name, value in event["args"].items():
                series = {**event, "args": {}}
                self.event(series, TYPES.TYPE_COUNTER, "counter", pid, event["name"], name).counter_value = value
        else:
            raise ValueError(f"the importer makes nothing of phase {phase!r}")

    def describe(self, event: dict[str, Any]) -> None:
        made = self.packet(event).track_descriptor
        arguments = event["args"]
        if event["name"] == "process_name":
            made.uuid = self.track("process", event["pid"])
            made.process.pid, made.process.process_name = event["pid"], arguments["name"]
            return
        made.uuid = self.track("thread", event["pid"], event["tid"])
        made.parent_uuid = self.tracks["process", event["pid"]]  # it was named before
        made.thread.pid, made.thread.tid = event["pid"], event["tid"]
        if event["name"] == "thread_name":
            made.thread.thread_name = arguments["name"]
        elif event["name"] == "thread_sort_index":
            made.sibling_order_rank = arguments["sort_index"]
        else:
            raise ValueError(f"the importer makes nothing of {event['name']!r}")


def annotate(made: Any, name: str, value: Any) -> None:
    """An argument, with all that is in it."""
    made.name = name
    if isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, int):
        made.int_value = value
    elif isinstance(value, str):
        made.string_value = value
    elif isinstance(value, dict):
        for key, each in value.items():
            annotate(made.dict_entries.add(), key, each)
    elif isinstance(value, list):
        for each in value:
            annotate(made.array_values.add(), "", each)
    elif value is not None:
        raise TypeError(f"{name} is {value!r}")


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        events = json.load(file, parse_float=Decimal)
    importer = Importer()
    for event in events:
        importer.add(event)
    read = protos.Trace.FromString(importer.builder.serialize())
    counts = Counter(
        TYPES.Name(packet.track_event.type) if packet.HasField("track_event") else "track_descriptor"
        for packet in read.packet
    )
    tracks = {packet.track_descriptor.uuid for packet in read.packet if packet.HasField("track_descriptor")}
    used = {packet.track_event.track_uuid for packet in read.packet if packet.HasField("track_event")}
    own = {uuid for key, uuid in importer.tracks.items() if key[0] in ("row", "counter")}
    print(json.dumps({"events": len(events), "types": counts, "undescribed": len(used - own - tracks)}))


if __name__ == "__main__":
    main(sys.argv[1])
