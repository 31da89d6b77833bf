# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures: complete, the same bytes for the same counts, and refused early where they cannot be drawn."""

import builtins
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pvhv.compare import Comparison, plot
from pvhv.compare.errors import OutputError, PlottingMissing
from tests.compare.samples import counts, table

pytest.importorskip("matplotlib", reason="pip install 'pvhv[plot]'")

COMPARISON = Comparison.of(
    [
        counts("bare", "in", kernel=5),
        counts("hw-shadow", "in", kernel=5, exits={"IOIO": 1}),
        counts("hw-shadow", "fork", kernel=900, exits={"EXCP_PF": 400, "CR3_WRITE": 100}),
        counts("pv", "fork", kernel=900, operations=2, exits={"hypercall:multicall": 2}),
    ],
    absent={("pv", "in"): "no ports"},
)
PRICES = table(guest_instruction=1, exit_hardware=1000, exit_system_call=100)


def heights(axes: Any) -> dict[int, list[float]]:
    """The parts of each bar of a panel, by its place."""
    found: dict[int, list[float]] = {}
    for bar in axes.patches:
        found.setdefault(round(bar.get_x() + bar.get_width() / 2), []).append(bar.get_height())
    return found


def test_bars_are_exits_by_reason() -> None:
    bars = plot.bars_of(COMPARISON, None)
    assert bars["hw-shadow", "fork"] == {"EXCP_PF": 400, "CR3_WRITE": 100}
    assert bars["pv", "fork"] == {"hypercall:multicall": 1}
    assert bars["bare", "in"] == {}


def test_callouts_are_told_from_exits_of_the_same_name() -> None:
    made = counts("binary-translation", "fork", exits={"trace": 2}, callouts={"trace": 8, "iret": 1})
    bars = plot.bars_of(Comparison.of([made]), None)
    assert bars["binary-translation", "fork"] == {"trace": 2, "[callout] trace": 8, "[callout] iret": 1}
    figure = plot.draw(Comparison.of([made]))
    assert heights(next(axes for axes in figure.axes if axes.get_title())) == {0: [2.0, 8.0, 1.0]}  # exits below
    faces = [patch.get_facecolor() for patch in figure.legends[0].get_patches()]
    assert len(set(faces)) == 3


def test_priced_bars_leave_out_what_the_processor_lacks() -> None:
    bars = plot.bars_of(COMPARISON, table({"hw-shadow": "too old"}, guest_instruction=1))
    assert set(bars) == {("bare", "in"), ("pv", "fork")}


def test_bars_that_differ_much_need_a_logarithmic_axis() -> None:
    assert not plot.logarithmic([])
    assert not plot.logarithmic([Fraction(0), Fraction(5)])
    assert not plot.logarithmic([Fraction(1), Fraction(100)])
    assert plot.logarithmic([Fraction(0), Fraction(1), Fraction(101)])


def test_a_panel_a_benchmark_with_titles_and_a_legend() -> None:
    figure = plot.draw(COMPARISON)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["in", "fork (log)"]
    assert figure.get_suptitle() == "Exits per operation, by reason (pale: callouts, which are no exits)"
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"IOIO", "EXCP_PF", "CR3_WRITE", "hypercall:multicall"}
    # hw-shadow is second of bare, hw-shadow, pv: one IOIO exit of height 1.
    assert heights(panels[0]) == {1: [1.0]}


def test_a_logarithmic_bar_ends_at_its_value_and_is_shared_by_share() -> None:
    fork = next(axes for axes in plot.draw(COMPARISON).axes if axes.get_title() == "fork (log)")
    floor = fork.get_ylim()[0]
    shadow = heights(fork)[1]
    assert floor + sum(shadow) == pytest.approx(500)
    # EXCP_PF is four fifths of it, and so of the bar's logarithmic height; CR3_WRITE stands above.
    assert floor + shadow[0] == pytest.approx(floor * (500 / floor) ** (4 / 5))


def test_what_is_most_of_some_bar_has_the_first_styles() -> None:
    reasons = {f"reason-{number:02}": 1 for number in range(plot.KINDS)}
    rare = counts("hw-nested", "in", exits={"IOIO": 1})
    figure = plot.draw(Comparison.of([counts("hw-shadow", "in", exits=reasons), rare]))
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["IOIO", "reason-00"]


def test_an_estimate_bears_its_tables_name() -> None:
    assert "Estimated cycles per operation under toy" in plot.draw(COMPARISON, PRICES).get_suptitle()


def test_many_kinds_share_one_place_in_the_legend() -> None:
    many = {f"reason-{number:02}": number + 1 for number in range(plot.KINDS + 3)}
    figure = plot.draw(Comparison.of([counts("hw-shadow", "in", exits=many)]))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == plot.KINDS + 1
    assert labels[-1] == "other"
    (axes,) = (axes for axes in figure.axes if axes.get_title())
    assert sum(heights(axes)[0]) == sum(many.values())


def test_styles_are_all_different() -> None:
    styles = [(colour, hatch) for hatch in plot.HATCHES for colour in plot.COLOURS][: plot.KINDS]
    assert len(set(styles)) == plot.KINDS


def test_the_same_counts_give_the_same_svg(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plot.plot(COMPARISON, str(tmp_path / name), PRICES)
    svg = (tmp_path / "a.svg").read_bytes()
    assert svg == (tmp_path / "b.svg").read_bytes()
    assert b"fork (log)" in svg
    assert b"IOIO" in svg
    assert not re.search(rb"<dc:date>", svg)


def test_a_png_is_one(tmp_path: Path) -> None:
    plot.plot(COMPARISON, str(tmp_path / "a.PNG"))
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["a.pdf", "a", "svg"])
def test_only_png_and_svg(name: str) -> None:
    with pytest.raises(OutputError, match="cannot plot to"):
        plot.check(name)


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        plot.check(str(tmp_path / "none" / "a.svg"))
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        plot.check(str(tmp_path / "a.svg"))


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    plot.check(str(tmp_path / "a.svg"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "b.svg").write_text("kept")
    plot.check(str(tmp_path / "b.svg"))
    assert (tmp_path / "b.svg").read_text() == "kept"


def test_without_the_library_there_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(PlottingMissing, match="matplotlib, which is not installed") as caught:
        plot.check(str(tmp_path / "a.svg"))
    assert caught.value.hint == "pip install 'pvhv[plot]'"


def test_the_same_event_has_one_colour_and_one_place() -> None:
    """What a guest did is told by one colour, whatever a technique calls the exit; a callout's is paler."""
    comparison = Comparison.of(
        [
            counts("trap-emulate", "in", exits={"in": 1, "mov-to-cr3": 1}),
            counts("binary-translation", "in", callouts={"in": 1}),
            counts("hw-shadow", "in", exits={"IOIO": 1, "CR3_WRITE": 1, "NPF": 1}),
        ]
    )
    (legend,) = plot.draw(comparison).legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert sorted(labels) == ["NPF", "[callout] in", "load of CR3: CR3_WRITE, mov-to-cr3", "port I/O: IOIO, in"]
    colour = {label: patch.get_facecolor()[:3] for label, patch in zip(labels, legend.get_patches(), strict=True)}
    assert len(set(colour.values())) == 4
    of_exit, of_callout = colour["port I/O: IOIO, in"], colour["[callout] in"]
    assert all(pale >= full for pale, full in zip(of_callout, of_exit, strict=True))
