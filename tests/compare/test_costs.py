# SPDX-License-Identifier: GPL-2.0-or-later
"""Cost tables price primitives, say whose word it is, and complain clearly; an estimate is counts times prices."""

import re
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pvhv.compare import costs, published
from pvhv.compare.costs import BY_REASON, CostTableError, Price
from pvhv.compare.errors import UnknownName
from pvhv.compare.names import BENCHES, TECHNIQUES
from pvhv.compare.pricing import callout_primitive, estimate, exit_primitive
from pvhv.compare.records import Counts
from tests.compare.samples import counts, table

SHIPPED = ("nehalem", "p4-2006", "skylake-kvm", "template", "xeon-2003")


def template() -> dict[str, Any]:
    return tomllib.loads((costs.DIRECTORY / "template.toml").read_text(), parse_float=Decimal)


def complaint(data: dict[str, Any]) -> CostTableError:
    with pytest.raises(CostTableError) as caught:
        costs.parse(data, "mine", "mine.toml")
    assert caught.value.message.startswith("mine.toml: ")
    return caught.value


# -- the tables that come with pvhv ------------------------------------------------------------------------------------
def test_the_tables() -> None:
    assert costs.names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_derived_price_is_what_its_arithmetic_gives(name: str) -> None:
    """`derived: 4 * 28 + 200; ...`, or the name of another entry: both are worked out again."""
    prices = costs.load(name).prices
    for primitive, price in prices.items():
        if not price.derived:
            continue
        said = price.source.removeprefix("derived:").split(";")[0].strip()
        if said in prices:
            assert price.cycles == prices[said].cycles, primitive
            continue
        assert re.fullmatch(r"[-\d\s()+*/.]+", said), f"{name}, {primitive}: {said}"
        assert price.cycles == Fraction(eval(said)), primitive


@pytest.mark.parametrize("name", SHIPPED)
def test_a_table_prices_every_technique_or_says_why_not(name: str) -> None:
    shipped = costs.load(name)
    for technique in TECHNIQUES:
        made = estimate(counts(technique, "syscall", kernel=1), shipped)
        assert (made.cycles is None) == (technique in shipped.lacks)


def test_no_published_result_is_a_price() -> None:
    """Not even by chance: no number of a paper's rows stands in the table that it is compared with."""
    for name in published.names():
        paper = published.load(name)
        rows = {value * paper.cycles_per_unit for row in paper.rows for value in row.values.values() if value > 50}
        assert not rows & {price.cycles for price in costs.load(paper.costs).prices.values()}


def test_the_published_rows() -> None:
    """Transcribed: some of them, looked up again."""
    paper = published.load("adams-agesen-2006")
    ptemod = next(row for row in paper.rows if row.bench == "ptemod")
    assert [paper.value(ptemod, technique) for technique in paper.techniques] == [1, 391, 12733]
    xen = published.load("xen-2003")
    fork = next(row for row in xen.rows if row.bench == "fork")
    assert xen.value(fork, "pv") * xen.cycles_per_unit == 198 * 2400
    assert {row.bench for row in (*paper.rows, *xen.rows)} <= set(BENCHES)


# -- what a table may not say ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["syscall", "in", "pgfault", "null_call", "Page-Fault", "ctx_2p_0k"])
def test_an_entry_named_after_a_benchmark_is_refused(name: str) -> None:
    entry = {"cycles": 1, "source": "the answer"}
    assert f"'{name}' is named after the benchmark" in complaint({**template(), name: entry}).message
    data = template()
    data["callout"][name] = entry
    assert f"'callout.{name}' is named after the benchmark" in complaint(data).message
    data = template()
    data["exit"]["hardware_by_reason"] = {name: entry}
    assert "is named after the benchmark" in complaint(data).message


def test_a_missing_entry_is_named_with_what_needs_it() -> None:
    data = template()
    del data["nested_fill"]
    error = complaint(data)
    assert "'nested_fill' is missing" in error.message
    assert error.hint == "needed for hw-nested"
    data["lacks"] = {"hw-nested": "no nested paging"}
    assert "nested_fill" not in costs.parse(data, "mine", "mine.toml").prices


def test_a_missing_entry_of_a_group_is_named() -> None:
    data = template()
    del data["exit"]["fault"]
    assert "'exit.fault' is missing" in complaint(data).message


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"cycles": -5, "source": "x"}, "'tlb_flush': cycles is -5, which is negative"),
        ({"cycles": Decimal("-0.5"), "source": "x"}, "which is negative"),
        ({"cycles": Decimal("nan"), "source": "x"}, "which is not a number"),
        ({"cycles": Decimal("1e999999999"), "source": "x"}, "'tlb_flush': cycles is too large or too precise"),
        ({"cycles": Decimal("1e-999999999"), "source": "x"}, "cycles is too large or too precise"),
        ({"cycles": 10**400, "source": "x"}, "cycles is too large or too precise"),
        ({"cycles": "12", "source": "x"}, "'tlb_flush': cycles is '12', which is not a number"),
        ({"cycles": True, "source": "x"}, "which is not a number"),
        ({"source": "x"}, "'tlb_flush' has no cycles"),
        ({"cycles": 1}, "'tlb_flush' has no source"),
        ({"cycles": 1, "source": "derived: "}, "'tlb_flush' has no source"),
        ({"cycles": 1, "source": "x", "verified": "yes"}, "verified is 'yes', neither true nor false"),
        (12, "'tlb_flush' is not a table"),
    ],
)
def test_an_entry_that_is_wrong(entry: Any, says: str) -> None:
    assert says in complaint({**template(), "tlb_flush": entry}).message


@pytest.mark.parametrize(
    ("place", "key", "says", "hint"),
    [
        ((), "tlb_flushes", "unknown key 'tlb_flushes'", "did you mean 'tlb_flush'?"),
        (("exit",), "hardwear", "unknown key 'exit.hardwear'", "did you mean 'exit.hardware'?"),
        (("exit", "hardware_by_reason"), "CR3_WRIT", "unknown key 'exit.hardware_by_reason.CR3_WRIT'",
         "did you mean 'exit.hardware_by_reason.CR3_WRITE'?"),
        (("callout",), "in-line", "unknown key 'callout.in-line'", "did you mean 'callout.inline'?"),
        (("pte_write",), "cycle", "unknown key 'pte_write.cycle'", "did you mean 'pte_write.cycles'?"),
        (("lacks",), "hw-nest", "unknown key 'lacks.hw-nest'", "did you mean 'lacks.hw-nested'?"),
    ],
)
def test_an_unknown_key_is_told_the_nearest(place: tuple[str, ...], key: str, says: str, hint: str) -> None:
    data = template()
    inner = data
    for each in place:
        inner = inner.setdefault(each, {})
    inner[key] = {"cycles": 1, "source": "x"}
    error = complaint(data)
    assert says in error.message
    assert error.hint == hint


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="there is no cost table 'p4-2007'") as unknown:
        costs.load("p4-2007")
    assert "did you mean 'p4-2006'?" in unknown.value.hint
    with pytest.raises(CostTableError, match="No such file"):
        costs.load(str(tmp_path / "none.toml"))
    for content in (b"cycles =", b"\xff\xfe"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(CostTableError, match=r"bad\.toml: "):
            costs.load(str(tmp_path / "bad.toml"))
    with pytest.raises(CostTableError):
        costs.load(str(tmp_path))


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    text = (costs.DIRECTORY / "template.toml").read_text()
    (tmp_path / "mine.toml").write_text(text + f'\n[{BY_REASON}.NPF]\ncycles = 0.1\nsource = "me"\n')
    mine = costs.load(str(tmp_path / "mine.toml"))
    assert mine.name == "mine"
    assert mine.price("exit.hardware", "NPF") == Price(Fraction(1, 10), "me")
    assert mine.price("exit.hardware", "HLT").cycles == 1


# -- counts times prices -----------------------------------------------------------------------------------------------
def test_an_estimate_worked_out_by_hand() -> None:
    made = estimate(
        counts("hw-shadow", "fork", operations=4, user=8, kernel=40, exits={"CR3_WRITE": 4, "EXCP_PF": 10},
               shadow_fills=6, engine_assists={"syscall": 1000}),
        table(guest_instruction=0.5, exit_hardware=1000, shadow_fill=20),
    )  # fmt: skip
    # (8 + 40) / 4 * 0.5 = 6;  4 / 4 * 1000;  10 / 4 * 1000;  6 / 4 * 20 = 30.  The assists cost nothing.
    assert made.by_label() == {"EXCP_PF": 2500, "CR3_WRITE": 1000, "shadow fills": 30, "guest": 6}
    assert made.cycles == 3536
    assert "emulated_instructions" in made.uncounted
    assert not {"shadow_fills", "nested_fills"} & set(made.uncounted)  # counted; and no matter under shadow paging


def test_a_processor_that_cannot_run_a_technique_gives_no_estimate() -> None:
    made = estimate(counts("hw-nested", "in", exits={"IOIO": 1}), table({"hw-nested": "no nested paging"}))
    assert made.cycles is None
    assert made.unavailable == "no nested paging"


@pytest.mark.parametrize(
    ("technique", "reason", "primitive"),
    [
        ("hw-nested", "syscall", "exit.hardware"),
        ("pv", "syscall", "exit.system_call"),
        ("pv", "hypercall:multicall", "exit.system_call"),
        ("pv", "page-fault", "exit.fault"),
        ("trap-emulate", "cli", "exit.fault"),
        ("trap-emulate", "interrupt", "exit.interrupt"),
        ("binary-translation", "syscall", "exit.system_call"),
    ],
)
def test_what_an_exit_is_priced_as(technique: str, reason: str, primitive: str) -> None:
    assert exit_primitive(technique, reason) == primitive


def test_bare_hardware_has_no_exits() -> None:
    with pytest.raises(ValueError, match="bare hardware has no exits"):
        estimate(counts("bare", "in", exits={"IOIO": 1}), table())


def test_who_delivers_a_fault_is_who_is_paid() -> None:
    prices = table(fault_delivery=100, software_delivery=7, interrupt_delivery=1000, pte_write=10**6)

    def cycles(technique: str, **what: int) -> Fraction | None:
        return estimate(counts(technique, "fork", **what), prices).cycles

    assert [cycles(technique, faults_delivered=1) for technique in TECHNIQUES] == [100, 7, 7, 100, 100, 7]
    assert [cycles(technique, interrupts_delivered=1) for technique in TECHNIQUES] == [1000, 7, 7, 1000, 1000, 7]
    # A store of the guest's own is one of its instructions; elsewhere the monitor changes the entry.
    stores = [cycles(technique, page_table_updates=1) for technique in TECHNIQUES]
    assert stores == [0, 10**6, 10**6, 10**6, 0, 10**6]


def test_callouts_are_priced_by_what_they_need() -> None:
    prices = table(callout_inline=1, callout_runtime=100)
    made = estimate(Counts("binary-translation", "in", 1, callouts={"popf": 3, "in": 2}), prices)
    assert made.by_label() == {"[callout] in": 200, "[callout] popf": 3}


def test_what_a_translator_does_in_place() -> None:
    """By the names under which it counts: reading CR2 is a load from the virtual CPU, loading CR3 is not."""
    assert callout_primitive("mov-from-cr2") == callout_primitive("cli") == "callout.inline"
    assert callout_primitive("mov-to-cr3") == callout_primitive("in") == "callout.runtime"
