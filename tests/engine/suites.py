# SPDX-License-Identifier: GPL-2.0-or-later
"""The suites by name, and how much of each the gate runs: all of it, or a part that has every kind in it.

`at_ring_1` repeats some tasks at CPL 1, where a monitor has the kernel of a whole machine (and the stock engine a PV
guest's); the processor is asked at CPL 3 all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from tests.engine import (
    descriptors,
    opcode_map,
    suite_faults,
    suite_integer,
    suite_repeats,
    suite_runs,
    suite_sse,
    suite_traps,
    suite_x87,
)
from tests.engine.records import Task

Make = Callable[[], Iterator[Task]]


def at_ring_1(tasks: Iterable[Task], every: int) -> Iterator[Task]:
    """Each task, and one in `every` at CPL 1 as well."""
    for n, task in enumerate(tasks):
        yield task
        if n % every == 0 and task.cpl == 3 and "supervisor" not in task.name:
            yield task.at(1)


def part_of_map(mode32: bool) -> Iterator[Task]:
    """Every opcode in every form with no prefix and with two (32-bit code: one) of the others, in turn."""
    prefixes = (opcode_map.PREFIXES32 if mode32 else opcode_map.PREFIXES64)[1:]
    for n, (table, opcode, modrm) in enumerate(opcode_map.opcodes(mode32)):
        others = prefixes[n * 7 % len(prefixes)], prefixes[(n * 5 + 3) % len(prefixes)]
        for prefix in (b"", *others)[: 2 if mode32 else 3]:
            yield opcode_map.task(prefix, table, opcode, modrm, mode32)


def _selectors() -> Iterator[Task]:
    return chain.from_iterable(
        descriptors.enumerate_descriptors(mode32, cpl) for mode32 in (False, True) for cpl in (1, 3)
    )


# In the gate these run on the virtual clock, whose pCPUs have a hook at every block.
ON_VIRTUAL_CLOCK = ("runs", "faults", "traps")

GATE: dict[str, Make] = {
    "map64": lambda: at_ring_1(part_of_map(False), 2),
    "map32": lambda: at_ring_1(part_of_map(True), 2),
    "selectors": _selectors,
    "integer": lambda: at_ring_1(suite_integer.generate(8000), 8),
    "sse": lambda: at_ring_1(suite_sse.generate(8000), 8),
    "x87": lambda: at_ring_1(suite_x87.generate(8000), 8),
    "runs": lambda: at_ring_1(suite_runs.generate(4000), 8),
    "faults": lambda: at_ring_1(suite_faults.generate(7), 4),
    "traps": lambda: at_ring_1(suite_traps.generate(), 1),
    "repeats": lambda: at_ring_1(suite_repeats.generate(400), 8),
}
ALL: dict[str, Make] = {
    "map64": lambda: at_ring_1(opcode_map.enumerate_map(False), 1),
    "map32": lambda: at_ring_1(opcode_map.enumerate_map(True), 1),
    "selectors": _selectors,
    "integer": lambda: at_ring_1(suite_integer.generate(200_000), 8),
    "sse": lambda: at_ring_1(suite_sse.generate(200_000), 8),
    "x87": lambda: at_ring_1(suite_x87.generate(200_000), 8),
    "runs": lambda: at_ring_1(suite_runs.generate(100_000), 8),
    "faults": lambda: at_ring_1(suite_faults.generate(), 2),
    "traps": lambda: at_ring_1(suite_traps.generate(), 1),
    "repeats": lambda: at_ring_1(suite_repeats.generate(20_000), 8),
}
