# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark measures what it says it does, and says it in a shape others can read. Figures are not judged here:
on a busy host they mean little, and in smoke mode nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.benchmark.guests import Sample
from tools.benchmark.rows import in_callbacks

BENCH = Path(__file__).parents[2] / "tools" / "bench.py"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def smoke() -> dict[str, Any]:
    done = bench("--smoke", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_row_of_the_issue_is_there(smoke: dict[str, Any]) -> None:
    rows = smoke["rows"]
    loops = ("compute", "xorshift", "branchy", "callret", "loads", "movsq")
    assert {f"{clock}_{loop}" for clock in ("wall", "virtual") for loop in loops} <= set(rows)
    assert {"callback", "null_hypercall", "multicall_entry", "mmu_update_entry"} <= set(rows)
    assert {"page_fault", "system_call", "event_send", "grant_map_unmap"} <= set(rows)
    assert {"grant_copy", "context_switch", "create_warm", "create_cold"} <= set(rows)
    assert {"list_20", "echo_20", "memory_20"} <= set(rows)


def test_targets_are_those_that_were_promised(smoke: dict[str, Any]) -> None:
    targets = {name: row["target"] for name, row in smoke["rows"].items() if row["target"] is not None}
    assert targets == {
        "wall_compute": 0.97,
        "virtual_compute": 0.5,
        "null_hypercall": 8,
        "multicall_entry": 6,
        "mmu_update_entry": 12,
        "page_fault": 30,
        "system_call": 35,
        "create_warm": 1500,
        "create_cold": 3000,
        "list_20": 200,
        "echo_20": 500,
    }


def test_a_row_says_what_it_found(smoke: dict[str, Any]) -> None:
    for name, row in smoke["rows"].items():
        assert set(row) == {"group", "title", "value", "unit", "ns", "target", "met"}, name
        assert row["value"] > 0 and math.isfinite(row["value"]), name
        assert (row["met"] is None) == (row["target"] is None), name


def test_a_figure_is_the_median_of_pairs() -> None:
    """Each sample is divided by the yardstick taken beside it, so that a slow moment of the host cancels out."""
    samples = [Sample(800.0, 100.0), Sample(16_000.0, 2_000.0), Sample(900.0, 100.0)]
    row = in_callbacks("exits", "row", "title", 8.5, samples)
    assert (row.value, row.ns, row.unit) == (8.0, 900.0, "callbacks")
    assert row.met is True
    assert in_callbacks("exits", "row", "title", 7.5, samples).met is False
    assert in_callbacks("exits", "row", "title", None, samples).met is None


def test_the_table_has_the_rows_that_were_asked_for() -> None:
    done = bench("--smoke", "--only", "null_hypercall")
    assert done.returncode == 0, done.stderr
    assert "null hypercall (xen_version)" in done.stdout
    assert "system call" not in done.stdout


def test_an_unknown_row_is_named() -> None:
    done = bench("--only", "nosuch")
    assert done.returncode == 2
    assert "there is no row nosuch" in done.stderr
