# SPDX-License-Identifier: GPL-2.0-or-later
"""Every row of `classify` as a micro guest under both monitors: what traps is right under either, and what is sensitive
and does not trap is wrong where instructions trap and are emulated, and right where they are translated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.hvm.classify.bench import Bench
from pvhv.hvm.classify.instructions import ROWS, Row
from pvhv.hvm.classify.verdict import marked
from pvhv.hvm.techniques.binary_translation import BinaryTranslation
from pvhv.hvm.techniques.trap_emulate import TrapEmulate
from tests.hvm.monitor_lab import MicroGuests

MICRO = [row for row in ROWS if row.micro]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture(scope="module")
def trapping() -> MicroGuests:
    return MicroGuests(TrapEmulate)


@pytest.fixture(scope="module")
def translating() -> MicroGuests:
    return MicroGuests(BinaryTranslation)


def right(guests: MicroGuests, row: Row) -> bool:
    seen, wants = guests.observe(row)
    return seen is not None and all(seen[name] == value for name, value in wants.items())


@pytest.mark.parametrize("row", MICRO, ids=lambda row: row.name)
def test_wrong_exactly_where_it_is_marked(
    row: Row, bench: Bench, trapping: MicroGuests, translating: MicroGuests
) -> None:
    assert right(trapping, row) is not marked(row, bench=bench)
    assert right(translating, row)


def test_there_are_rows_of_both_kinds(bench: Bench) -> None:
    kinds = [marked(row, bench=bench) for row in MICRO]
    assert kinds.count(True) >= 17 and kinds.count(False) >= 17
