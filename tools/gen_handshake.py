# SPDX-License-Identifier: GPL-2.0-or-later
"""Draw the handshake of split devices from its tables in pvhv/devices/xenbus.py: docs/handshake.svg.

    python tools/gen_handshake.py            write the picture
    python tools/gen_handshake.py --check    exit 1 when the picture is not what would be drawn

Each end's states stand in a row. An arrow is a row of the table: above it the state of the other end that causes it,
and what is done. Rows that lead to the same state in the same way are one arrow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pvhv.abi.io.xenbus import STATE_NAMES, XenbusStateUnknown  # noqa: E402
from pvhv.devices.xenbus import BACKEND, FRONTEND, Deed, Step  # noqa: E402

TARGET = ROOT / "docs" / "handshake.svg"
Table = dict[tuple[int, int], Step]
ENDS: tuple[tuple[str, Table], ...] = (
    ("The backend, by the front end's state", BACKEND),
    ("The front end, by the backend's state", FRONTEND),
)
WIDTH, LEFT, APART = 1000, 110, 260  # of the picture; the first state; from one state to the next
BOX, HIGH = 120, 34
RISE = 82  # of an arrow to the next state; of a longer one, so many times that
GONE = 62  # from the states down to what is left of the device
STYLE = (
    "text{font:12px sans-serif;text-anchor:middle;fill:#222;paint-order:stroke;stroke:#fff;stroke-width:3px}"
    ".t{font-weight:bold;font-size:14px}.c{font-weight:bold}.b{fill:#eef3fa;stroke:#446}.g{fill:#f6f0e6;stroke:#876}"
    ".a{fill:none;stroke:#446;marker-end:url(#h)}"
)


def draw() -> str:
    """The picture as SVG."""
    parts: list[str] = []
    top = 0
    for title, table in ENDS:
        lines, top = end(title, table, top)
        parts += lines
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}">\n'
        f"<style>{STYLE}</style>\n"
        '<defs><marker id="h" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#446"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>\n'
    )
    parts.sort(key=lambda part: not part.startswith("<path"))  # words stand over arrows
    return head + "\n".join(parts) + "\n</svg>\n"


def end(title: str, table: Table, top: int) -> tuple[list[str], int]:
    """One end's states and arrows, below `top`; and where its part of the picture ends."""
    states = sorted({state for state, _other in table} | {step.then for step in table.values()})
    places = {state: LEFT + APART * at for at, state in enumerate(states)}
    stay = {key: step for key, step in table.items() if step.deed is not Deed.LEAVE}
    longest = max(abs(states.index(step.then) - states.index(state)) for (state, _other), step in stay.items())
    row = top + 64 + RISE * longest
    lines = [text(WIDTH // 2, top + 24, title, "t")]
    for (state, then, deed), others in grouped(stay):
        span = states.index(then) - states.index(state)
        lines += arrow(places[state], places[then], row, span, names(others), deed)
    for state in states:
        lines.append(box(places[state], row, STATE_NAMES[state], "b", BOX))
    bottom = row + HIGH
    if any(step.then < state for (state, _other), step in stay.items()):
        bottom += RISE
    leaving = [state for (state, _other), step in table.items() if step.deed is Deed.LEAVE]
    if leaving:
        middle = sum(places[state] for state in leaving) // len(leaving)
        wide = max(places.values()) - min(places.values()) + BOX
        for state in leaving:
            lines.append(f'<path class="a" d="M{places[state] - 40} {row + HIGH}V{bottom + GONE - HIGH}"/>')
        words = f"{STATE_NAMES[XenbusStateUnknown]}, or its directory is gone: {Deed.LEAVE.value}"
        lines.append(box(middle, bottom + GONE - HIGH, words, "g", wide))
        bottom += GONE
    return lines, bottom + 16


def grouped(table: Table) -> Iterable[tuple[tuple[int, int, Deed | None], list[int]]]:
    """The rows of a table by (state, next state, deed), with the other end's states that lead there."""
    found: dict[tuple[int, int, Deed | None], list[int]] = {}
    for (state, other), step in table.items():
        found.setdefault((state, step.then, step.deed), []).append(other)
    return found.items()


def names(states: Iterable[int]) -> str:
    return " or ".join(STATE_NAMES[state] for state in sorted(states))


def arrow(begin: int, stop: int, row: int, span: int, cause: str, deed: Deed | None) -> Iterator[str]:
    """An arc from state to state: forward above them, back below them."""
    up = span > 0
    edge, away = (row, -1) if up else (row + HIGH, 1)
    first, last = (begin + 10 + 12 * abs(span), stop - 10 - 12 * abs(span)) if up else (begin, stop)
    rise = RISE * abs(span) * away if up else RISE * away
    far = edge + rise * 4 // 3
    yield f'<path class="a" d="M{first} {edge}C{first} {far} {last} {far} {last} {edge}"/>'
    at = edge + rise - 18 if up else edge + rise + 16
    yield text((first + last) // 2, at, cause, "c")
    if deed is not None:
        yield text((first + last) // 2, at + 14, deed.value)


def box(x: int, y: int, words: str, kind: str, wide: int) -> str:
    return (
        f'<rect class="{kind}" x="{x - wide // 2}" y="{y}" width="{wide}" height="{HIGH}" rx="5"/>\n'
        + text(x, y + HIGH // 2 + 4, words)
    )


def text(x: int, y: int, words: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}"{f" class={kind!a}" if kind else ""}>{escape(words)}</text>'.replace("'", '"')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the picture is up to date")
    check = parser.parse_args().check
    drawn = draw()
    current = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
    if check:
        if drawn != current:
            print(f"{TARGET.relative_to(ROOT)} is stale: run python tools/gen_handshake.py", file=sys.stderr)
        return int(drawn != current)
    TARGET.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
