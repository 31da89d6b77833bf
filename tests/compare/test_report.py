# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables and sequences for the terminal, from counts made by hand."""

from fractions import Fraction

import pytest

from pvhv.compare import Comparison, Step, report
from pvhv.compare.errors import CompareError
from pvhv.compare.explain import explain, side_by_side
from tests.compare.samples import counts, table

COMPARISON = Comparison.of(
    [
        counts("bare", "in", operations=100, kernel=500),
        counts("hw-nested", "in", operations=100, kernel=500, exits={"IOIO": 100, "HLT": 1}, nested_fills=50,
               engine_assists={"rdtsc": 300}),
        counts("binary-translation", "in", operations=3, kernel=15, exits={"interrupt": 1}, callouts={"in": 3}),
    ],
    absent={("pv", "in"): "no ports"},
    measured={("bare", "in"): 0.0000012},
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (Fraction(0), "0"),
        (Fraction(1, 1000), "<0.01"),
        (Fraction(1, 3), "0.33"),
        (Fraction(399, 4), "99.75"),
        (Fraction(12345, 100), "123.4"),
        (Fraction(12345, 10), "1234"),
    ],
)
def test_numbers_for_eyes(value: Fraction | None, text: str) -> None:
    assert report.number(value) == text


def test_the_picture_has_a_row_a_benchmark() -> None:
    grid = report.picture(COMPARISON)
    assert grid.columns == ("Benchmark", "bare", "binary-translation", "hw-nested", "pv")
    assert grid.rows == (("in", "0", "0.33", "1.01", "-"),)
    assert grid.notes == ("no in under pv: no ports",)


def test_cycles_stand_beside_bare_hardware_under_the_tables_name() -> None:
    prices = table({"binary-translation": "nobody wrote one"}, guest_instruction=2, exit_hardware=100)
    grid = report.cycles(COMPARISON, prices)
    assert "Estimated cycles" in grid.title
    assert "under toy" in grid.title
    assert grid.rows == (("in", "10", "-", "111 (11.1x)", "-"),)  # 5 * 2;  10 + 1.01 * 100
    assert grid.notes == ("binary-translation: nobody wrote one",)


def test_what_one_technique_does_not_count_is_told() -> None:
    comparison = Comparison.of(
        [counts("bare", "fork", kernel=1), counts("pv", "fork", kernel=1, tlb_flushes=2), counts("hw-shadow", "fork")]
    )
    notes = report.cycles(comparison, table(tlb_flush=5)).notes
    # Shadow fills are counted by nobody here: no comparison suffers.
    assert notes == tuple(f"{name}: without tlb flushes, which it does not count" for name in ("bare", "hw-shadow"))


def test_details_name_reasons_largest_first() -> None:
    rows = {row[1]: row for row in report.details(COMPARISON).rows}
    assert rows["hw-nested"] == ("in", "hw-nested", "1.01", "IOIO 1, HLT 0.01", "-", "0", "5")
    assert rows["binary-translation"][4] == "in 1"


def test_only_the_largest_reasons_are_named() -> None:
    assert report.parts({"a": Fraction(1), "b": Fraction(5), "c": Fraction(2), "d": Fraction(1)}) == (
        "b 5, c 2, a 1, 1 more"
    )


def test_assists_are_shown_only_to_who_asks() -> None:
    assert [row[2] for row in report.work(COMPARISON).rows] == ["nested fills"]
    verbose = report.work(COMPARISON, verbose=True).rows
    assert ("in", "hw-nested", "engine assists: rdtsc", "3") in verbose


def test_a_breakdown_is_counts_times_prices() -> None:
    grid = report.breakdown(COMPARISON, table(exit_hardware=100, nested_fill=10))
    rows = [row for row in grid.rows if row[1] == "hw-nested"]
    assert rows[0] == ("in", "hw-nested", "guest", "guest_instruction", "5", "0", "0")
    assert ("in", "hw-nested", "IOIO", "exit.hardware", "1", "100", "100") in rows
    assert ("in", "hw-nested", "nested fills", "nested_fill", "0.5", "10", "5") in rows


def test_measured_time_is_apart_and_says_so() -> None:
    grid = report.measured(COMPARISON)
    assert grid.rows[0][:2] == ("in", "1.2")
    assert "no measure of the techniques" in grid.notes[0]


def exits(*reasons: str) -> tuple[Step, ...]:
    return tuple(Step("exit", reason) for reason in reasons)


def test_what_two_sequences_share_stands_side_by_side() -> None:
    grid = side_by_side("x", ("a", exits("CR3", "PF", "IOIO")), ("b", exits("PF", "HLT", "IOIO", "MSR")))
    assert grid.columns == ("a: 3 exits", "b: 4 exits")
    assert grid.rows == (("CR3", ""), ("PF", "PF"), ("", "HLT"), ("IOIO", "IOIO"), ("", "MSR"))


def test_the_same_event_over_and_over_is_one_line() -> None:
    steps = (*exits("PF", "PF"), Step("callout", "popf", "flags"), Step("assist", "rdtsc"), *exits("PF"))
    grid = side_by_side("x", ("a", steps), ("b", ()))
    assert grid.columns == ("a: 3 exits", "b: no exits")
    assert [row[0] for row in grid.rows] == ["PF  x2", "[callout] popf  flags", "PF"]
    verbose = side_by_side("x", ("a", steps), ("b", ()), verbose=True)
    assert [row[0] for row in verbose.rows][2] == "[assist] rdtsc"


def test_a_sequence_that_was_not_recorded() -> None:
    comparison = Comparison({}, absent={("pv", "in"): "no ports"}, sequences={("bare", "in"): ()})
    with pytest.raises(CompareError, match="nothing to show of in under pv: no ports"):
        explain(comparison, "in", "bare", "pv")
    with pytest.raises(CompareError, match="its events were not recorded"):
        explain(comparison, "in", "bare", "hw-shadow")
