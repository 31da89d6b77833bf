# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof by machine: the engine against the processor, suite by suite, and the list of what is known to differ.

A difference that no row of differences.toml excuses fails, and so does a row that excuses nothing any more. This is the
gate's part of each suite; `python tools/differences.py --all` runs the whole of them, and says more.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine import judge, processor, suites

_ran: set[str] = set()


@pytest.fixture(scope="module")
def known() -> Iterator[list[judge.Row]]:
    yield judge.rows()


@pytest.mark.parametrize("name", suites.GATE)
def test_nothing_differs_but_what_is_listed(name: str, known: list[judge.Row]) -> None:
    unknown = judge.judge(suites.GATE[name](), known, "virtual" if name in suites.ON_VIRTUAL_CLOCK else "wall")
    _ran.add(name)
    shown = "\n".join(str(finding) for finding in unknown[:20])
    assert not unknown, f"{len(unknown)} differences are not in the list:\n{shown}"


def test_every_row_of_the_list_still_differs(known: list[judge.Row]) -> None:
    """Runs behind the others, which count; where one of them was left out (-k), it cannot say."""
    if not processor.is_right():
        return
    if _ran != set(suites.GATE):
        pytest.skip("a suite was left out")
    stale = [row.name for row in known if not (row.found or row.rare or row.host)]
    assert not stale, f"these no longer differ; take them out of differences.toml: {stale}"
