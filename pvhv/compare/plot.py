# SPDX-License-Identifier: GPL-2.0-or-later
"""The comparison as a picture: a panel for each benchmark, a bar for each technique, a part for each exit reason.

Without a cost table a bar is exits per operation, and above them, in pale colours, callouts, which are no exits. With a
cost table it is estimated cycles, and the title names the table. What is the same event in the guest under different
techniques has one colour, and one place in the legend (events.py). A callout has its event's colour, paler. If the
bars of a panel differ by a factor of more than a hundred, its axis is logarithmic: the top of a bar is its value, and
its parts have the share of its height that they have of the value.

The same comparison gives the same bytes of SVG: no date, no random names. Colour-blind readers can tell the
colours apart (they are Okabe and Ito's). When the colours are used up, they come again with hatches.

The plotting library is an extra; nothing else needs it. No display is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pvhv.compare import events
from pvhv.compare.costs import CostTable
from pvhv.compare.errors import OutputError, PlottingMissing, shown
from pvhv.compare.pricing import CALLOUT, GUEST, estimates
from pvhv.compare.records import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES: Final = (".png", ".svg")
SPREAD: Final = 100  # bars that differ more than so many times are drawn on a logarithmic axis
ACROSS: Final = 4
MANY: Final = 8  # bars in a panel: with more of them, panels are wider, and two stand side by side
KINDS: Final = 23  # so many parts, and so many callouts, have a place in the legend; the rest is "other"
OTHER: Final = "other"
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#999999")
HATCHES: Final = ("", "//", "\\\\")  # lines: dots make large files
GUEST_COLOUR: Final = "#DDDDDD"
INCHES_A_LETTER: Final = 0.068  # of a legend, at its size of letters
INCHES_A_PATCH: Final = 0.6  # ... with what is around it
INCHES_A_LINE: Final = 0.2
PALE: Final = Fraction(7, 10)  # so much of a callout's colour is white

Parts = Mapping[str, Fraction]


def check(path: str) -> Path:
    """Check early what would fail late: the library, the name's suffix, a place where a file can be written. Raises
    PlottingMissing, OutputError."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise OutputError(f"cannot plot to '{shown(path)}'", f"its name has to end in {' or '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise PlottingMissing("plots need matplotlib, which is not installed", "pip install 'pvhv[plot]'") from None
    there = target.exists()
    try:
        with target.open("ab"):
            pass
        if not there:
            target.unlink()
    except OSError as error:
        raise OutputError(f"cannot write '{shown(path)}': {error.strerror}") from None
    return target


def plot(comparison: Comparison, path: str, table: CostTable | None = None) -> None:
    """Draw a comparison into a PNG or SVG file. Raises OutputError, PlottingMissing."""
    target = check(path)
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "pvhv", "svg.fonttype": "none", "font.family": "DejaVu Sans"}):
        figure = draw(comparison, table)
        metadata: dict[str, Any] = {"Date": None, "Creator": "pvhv"} if target.suffix.lower() == ".svg" else {}
        try:
            figure.savefig(target, dpi=120, metadata=metadata or {"Software": "pvhv"})
        except OSError as error:
            raise OutputError(f"cannot write '{shown(path)}': {error.strerror}") from None


def draw(comparison: Comparison, table: CostTable | None = None) -> Figure:
    """The figure."""
    from matplotlib.figure import Figure

    bars = by_event(bars_of(comparison, table))
    kinds = _kinds(bars)
    benches, techniques = comparison.benches, comparison.techniques
    many = len(techniques) > MANY
    across = min(2 if many else ACROSS, max(1, len(benches)))
    down = max(1, ceil(len(benches) / across))
    width = (6.4 if many else 3.6) * max(2, across)
    columns = _columns([len(kind) for kind in kinds], width)
    height = 2.9 * down + 0.5 + INCHES_A_LINE * ceil(len(kinds) / columns)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    for at, panel in enumerate(panels.flat):
        if at < len(benches):
            _panel(panel, benches[at], techniques, bars, kinds)
        else:
            panel.set_axis_off()
    if table is None:
        figure.suptitle("Exits per operation, by reason (pale: callouts, which are no exits)")
        figure.supylabel("per operation", fontsize=9)
    else:
        figure.suptitle(f"Estimated cycles per operation under {table.name}, by what they go into")
        figure.supylabel("estimated cycles", fontsize=9)
    _legend(figure, kinds, columns)
    return figure


def bars_of(comparison: Comparison, table: CostTable | None) -> dict[tuple[str, str], Parts]:
    """The parts of each bar, by (technique, bench)."""
    if table is not None:
        priced = estimates(comparison, table)
        return {place: each.by_label() for place, each in priced.items() if not each.unavailable}
    return {
        (counts.technique, counts.bench): {
            prefix + reason: Fraction(total, counts.operations)
            for prefix, family in (("", counts.exits), (CALLOUT, counts.callouts))
            for reason, total in sorted(family.items())
            if total
        }
        for counts in comparison
    }


def by_event(bars: Mapping[tuple[str, str], Parts]) -> dict[tuple[str, str], Parts]:
    """The bars again, with parts that are the same event put together."""
    called = events.labels(label for parts in bars.values() for label, value in parts.items() if value)
    return {
        place: events.merged({label: value for label, value in parts.items() if value}, called)
        for place, parts in bars.items()
    }


def logarithmic(totals: Sequence[Fraction]) -> bool:
    """Whether bars of these heights need a logarithmic axis."""
    positive = [total for total in totals if total > 0]
    return bool(positive) and max(positive) > SPREAD * min(positive)


def _kinds(bars: Mapping[tuple[str, str], Parts]) -> dict[str, tuple[str, str]]:
    """Each kind of part, with (colour, hatch): the guest's own instructions first, callouts last, the others by the
    largest share they have of a bar."""
    share: dict[str, Fraction] = {}
    for parts in bars.values():
        total = sum(parts.values(), Fraction())
        for kind, value in parts.items():
            if value:
                share[kind] = max(share.get(kind, Fraction()), value / total)
    guest = share.pop(GUEST, None)
    ordered = sorted(share, key=lambda kind: (-share[kind], kind))
    styles = {GUEST: (GUEST_COLOUR, "")} if guest else {}
    callouts = [kind for kind in ordered if kind.startswith(CALLOUT)]
    others = [kind for kind in ordered if kind not in callouts]
    plain = [(colour, hatch) for hatch in HATCHES for colour in COLOURS][:KINDS]
    of_event: dict[str, tuple[str, str]] = {}
    for kind, style in zip(others, plain, strict=False):
        styles[kind] = of_event[_event(kind)] = style
    unused = [style for style in plain if style not in of_event.values()]
    for kind in callouts[:KINDS]:
        colour, hatch = of_event.get(_event(kind)) or (unused.pop(0) if unused else plain[-1])
        styles[kind] = _pale(colour), hatch
    if max(len(others), len(callouts)) > KINDS:
        styles[OTHER] = "#FFFFFF", "xx"
    return styles


def _event(kind: str) -> str:
    """The event of a legend's entry, which may name the reasons behind it."""
    return events.event_of(kind).partition(": ")[0]


def _pale(colour: str) -> str:
    """A paler colour: mixed with white."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * PALE):02X}" for part in parts)


def _panel(
    axes: Axes,
    bench: str,
    techniques: Sequence[str],
    bars: Mapping[tuple[str, str], Parts],
    kinds: Mapping[str, tuple[str, str]],
) -> None:
    columns = [bars.get((technique, bench)) for technique in techniques]
    totals = [sum(parts.values(), Fraction()) if parts else Fraction() for parts in columns]
    by_log = logarithmic(totals)
    floor = Fraction()
    if by_log:
        lowest = min(total for total in totals if total > 0)
        floor = Fraction(10) ** (ceil(log10(lowest)) - 2)
        axes.set_yscale("log")
    for at, (parts, total) in enumerate(zip(columns, totals, strict=True)):
        if parts is None:
            place: Any = ("data", "axes fraction")
            axes.annotate("none", (at, 0.02), xycoords=place, ha="center", fontsize=7, color="#666666")
            continue
        bottom = float(floor)
        drawn = Fraction()
        for kind, (colour, hatch) in kinds.items():
            value = _part(parts, kind, kinds)
            if not value:
                continue
            drawn += value
            top = float(floor * _power(total / floor, drawn / total)) if by_log else float(drawn)
            axes.bar(at, top - bottom, 0.7, bottom, color=colour, hatch=hatch, edgecolor="#333333", linewidth=0.4)
            bottom = top
    if by_log:
        axes.set_ylim(bottom=float(floor))
    axes.set_title(bench + (" (log)" if by_log else ""), fontsize=10)
    axes.set_xticks(range(len(techniques)), techniques, rotation=35, ha="right", fontsize=7)
    axes.set_xlim(-0.6, len(techniques) - 0.4)
    axes.tick_params(axis="y", labelsize=7)


def _part(parts: Parts, kind: str, kinds: Mapping[str, Any]) -> Fraction:
    if kind != OTHER:
        return parts.get(kind, Fraction())
    return sum((value for name, value in parts.items() if name not in kinds), Fraction())


def _power(ratio: Fraction, share: Fraction) -> Fraction:
    """`ratio` to the power of `share`: how high a share of a bar reaches on a logarithmic axis."""
    return Fraction(10.0 ** (log10(ratio) * float(share))) if share != 1 else ratio


def _legend(figure: Figure, kinds: Mapping[str, tuple[str, str]], columns: int) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="#333333", linewidth=0.4, label=kind)
        for kind, (colour, hatch) in kinds.items()
    ]
    if patches:
        figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=8)


def _columns(lengths: Sequence[int], inches: float) -> int:
    """How many columns of labels fit side by side; `lengths` are the labels' lengths, and columns are filled one after
    another."""
    for columns in range(min(5, len(lengths)), 1, -1):
        rows = ceil(len(lengths) / columns)
        longest = [max(lengths[at : at + rows]) for at in range(0, len(lengths), rows)]
        if sum(longest) * INCHES_A_LETTER + len(longest) * INCHES_A_PATCH <= inches:
            return columns
    return 1
