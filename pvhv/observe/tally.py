# SPDX-License-Identifier: GPL-2.0-or-later
"""A trace summed up: how often, how long, and how many errors, as `strace -c` does for system calls.

The summary is kept where records are made, on the hypervisor's thread, so no record is lost because a reader is slow.
Times are those the hypervisor took, by the domain's clock. A virtual clock stands still meanwhile, so they are zero.
Those of a disk's requests are round trips.

The entries of a multicall are counted apart, and have no time of their own: the multicall has it.

A guest chooses many of the names (the number of a port, of a system call), so the number of rows is bounded. What has
no row of its own is counted as `OTHERS` of its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pvhv.abi.io.blkif import BLKIF_RSP_OKAY
from pvhv.observe.naming import call_name, name_of
from pvhv.observe.record import OTHERS, Record, SystemCall
from pvhv.observe.syscall_names import Table, error_name

IN_MULTICALL = "in multicall"
UNTIMED = frozenset({"event", "upcall"})
LARGEST_ERRNO = 4095
MOST_ROWS = 4096  # of either table
OTHER_CALLS = -1


@dataclass
class Row:
    """One kind of thing, under one name."""

    count: int = 0
    errors: int = 0
    ns: int = 0
    away: int = 0  # of system calls: ns in which other tasks ran
    exits: int = 0  # of system calls


class Tally:
    """Rows by (kind, name); of system calls that are followed, by convention and number."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.calls: dict[tuple[str, int], Row] = {}

    def take(self, record: Record) -> None:
        """Count a record."""
        if record.kind == "return":
            self._system_call(record.data[0], record.time)
            return
        if record.kind in ("switch", "running"):
            return
        row = self._row(record.kind, name_of(record))
        row.count += 1
        row.ns += record.spent
        if record.kind == "device":
            row.errors += record.data[3] != BLKIF_RSP_OKAY
        if record.kind == "hypercall":
            call = record.data[0]
            row.errors += _failed(call.result)
            for entry in call.entries:
                inner = self._row(IN_MULTICALL, call_name(entry))
                inner.count += 1
                inner.errors += _failed(entry.result)

    def _system_call(self, call: SystemCall, now: int) -> None:
        key = (call.abi, call.number)
        if key not in self.calls and len(self.calls) >= MOST_ROWS:
            key = (call.abi, OTHER_CALLS)
        row = self.calls.setdefault(key, Row())
        row.count += 1
        row.errors += call.result is not None and error_name(call.result) is not None
        row.ns += now - call.began
        row.away += call.away
        row.exits += sum(count for kind, _name, count in call.exits if kind not in UNTIMED)

    def _row(self, kind: str, name: str) -> Row:
        if (kind, name) not in self.rows and len(self.rows) >= MOST_ROWS:
            name = OTHERS
        return self.rows.setdefault((kind, name), Row())

    def plain(self, table: Table) -> dict[str, Any]:
        """The rows as plain values, those that took most time first."""
        return {
            "rows": [
                {"kind": kind, "name": name, "count": row.count, "errors": row.errors, "ns": row.ns}
                for (kind, name), row in sorted(self.rows.items(), key=_dearest)
            ],
            "calls": [
                {
                    "name": OTHERS if number == OTHER_CALLS else table.name(abi, number),
                    "count": row.count, "errors": row.errors, "ns": row.ns,
                    "away": row.away, "exits": row.exits,
                }
                for (abi, number), row in sorted(self.calls.items(), key=_dearest)
            ],
        }  # fmt: skip


def _failed(result: int | None) -> bool:
    return result is not None and -LARGEST_ERRNO <= result < 0


def _dearest(item: tuple[Any, Row]) -> tuple[int, int, Any]:
    key, row = item
    return -row.ns, -row.count, key
