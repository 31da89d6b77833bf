# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts stay exact, in one order, and the same bytes every time."""

import csv
import io
import json
from fractions import Fraction

import pytest

from pvhv import compare
from pvhv.compare import Comparison, Counts, Step, export
from pvhv.compare.records import RECORD_KEYS, decimal
from tests.compare.samples import counts, table

FORK = counts(
    "pv",
    "fork",
    operations=3,
    user=30,
    kernel=100,
    exits={"syscall": 3, "hypercall:multicall": 1, "never": 0},
    batch_sizes={16: 2},
    engine_assists={"rdtsc": 7},
    tlb_flushes=0,
    shadow_fills=None,
)


def test_averages_are_fractions() -> None:
    assert FORK.exits_per_operation == Fraction(4, 3)
    assert FORK.instructions_per_operation == Fraction(130, 3)
    assert FORK.per_operation("exits", "hypercall:multicall") == Fraction(1, 3)
    assert FORK.per_operation("instructions.kernel") == Fraction(100, 3)
    assert FORK.per_operation("tlb_flushes") == 0


def test_what_is_not_counted_is_not_zero() -> None:
    assert FORK.per_operation("shadow_fills") is None
    assert FORK.per_operation("nested_fills") is None
    assert not {"shadow_fills", "nested_fills"} & {record["metric"] for record in FORK.records()}


def test_records_are_one_number_a_row() -> None:
    expected = [
        ("instructions.user", "", 30),
        ("instructions.kernel", "", 100),
        ("tlb_flushes", "", 0),
        ("exits", "hypercall:multicall", 1),
        ("exits", "syscall", 3),
        ("batch_sizes", "16", 2),
    ]
    assert FORK.records() == [
        dict(zip(RECORD_KEYS, ("pv", "fork", "micro", *row, 3), strict=True)) for row in expected
    ]


def test_engine_assists_are_shown_to_who_asks() -> None:
    aside = [record for record in FORK.records(verbose=True) if record not in FORK.records()]
    assert [(record["metric"], record["reason"], record["count"]) for record in aside] == [
        ("engine_assists", "rdtsc", 7)
    ]


def test_records_stand_in_one_order_whatever_order_they_came_in() -> None:
    one = [counts(technique, bench) for technique in ("pv", "bare") for bench in ("fork", "syscall")]
    records = Comparison.of(one).records()
    assert records == Comparison.of(reversed(one)).records()
    assert [(record["bench"], record["technique"]) for record in records][::2] == [
        ("syscall", "bare"), ("syscall", "pv"), ("fork", "bare"), ("fork", "pv"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(7), "7"),
        (Fraction(1, 2), "0.5"),
        (Fraction(1, 3), "0.333333"),
        (Fraction(2, 3), "0.666667"),
        (Fraction(5, 10**7), "0"),  # half to even: 0.0000005
        (Fraction(15, 10**7), "0.000002"),
        (Fraction(10**20), "100000000000000000000"),
    ],
)
def test_decimals_follow_one_rule(value: Fraction, text: str) -> None:
    assert decimal(value) == text


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="0 operations"):
        counts("pv", "fork", operations=0)
    with pytest.raises(ValueError, match="nothing is counted as 'exit'"):
        Counts("pv", "fork", 1, {"exit": 1})
    with pytest.raises(ValueError, match="-1 is no count"):
        counts("pv", "fork", exits={"syscall": -1})
    with pytest.raises(ValueError, match=r"1\.5 is no count"):
        counts("pv", "fork", user=1.5)  # type: ignore[arg-type]


def test_json_is_the_same_bytes_for_equal_counts() -> None:
    other = counts(
        "pv", "fork", operations=3, tlb_flushes=0, shadow_fills=None, engine_assists={"rdtsc": 7}, kernel=100,
        batch_sizes={16: 2}, exits={"hypercall:multicall": 1, "syscall": 3}, user=30,
    )  # fmt: skip
    assert export.to_json(Comparison.of([FORK]), [table()]) == export.to_json(Comparison.of([other]), [table()])


def test_json_has_no_binary_fractions() -> None:
    def no_floats(text: str) -> float:
        raise AssertionError(f"{text} is a float")

    text = export.to_json(Comparison.of([FORK]), [table(guest_instruction=0.1)])
    document = json.loads(text, parse_float=no_floats)
    cycles = [record for record in document["records"] if record["metric"] == "estimated_cycles:toy"]
    # 130 instructions in 3 operations at a price that is the nearest binary fraction of 0.1: exact all the same.
    assert Fraction(cycles[0]["count"], cycles[0]["operations"]) == Fraction(130, 3) * Fraction(0.1)
    assert cycles[0]["per_operation"] == "4.333333"


def test_json_says_what_is_absent_and_what_was_measured_apart() -> None:
    comparison = Comparison.of(
        [FORK],
        absent={("pv", "in"): "no ports"},
        sequences={("pv", "fork"): (Step("exit", "syscall"),)},
        measured={("pv", "fork"): 0.25},
    )
    document = json.loads(export.to_json(comparison))
    assert document["absent"] == [{"bench": "in", "technique": "pv", "why": "no ports"}]
    assert document["sequences"][0]["steps"] == [{"kind": "exit", "reason": "syscall", "detail": ""}]
    assert document["measured_seconds"] == [{"bench": "fork", "technique": "pv", "seconds": 0.25}]
    assert "measured_seconds" not in json.loads(export.to_json(Comparison.of([FORK])))


def test_csv_holds_the_same_records() -> None:
    rows = list(csv.DictReader(io.StringIO(export.to_csv(Comparison.of([FORK])))))
    assert [row["per_operation"] for row in rows] == ["10", "33.333333", "0", "0.333333", "1", "0.666667"]
    assert [row["metric"] for row in rows] == [record["metric"] for record in FORK.records()]


@pytest.mark.parametrize(
    ("kind", "techniques", "benches", "near"),
    [
        ("technique", ["hw-shadw"], ["fork"], "did you mean 'hw-shadow'"),
        ("benchmark", ["pv"], ["pgfaults"], "did you mean 'pgfault'"),
        ("technique", [""], ["fork"], "known: bare"),
    ],
)
def test_unknown_names_are_told_the_nearest(kind: str, techniques: list[str], benches: list[str], near: str) -> None:
    with pytest.raises(compare.CompareError, match=f"there is no {kind} ") as caught:
        compare.run(techniques, benches)
    assert near in caught.value.hint
