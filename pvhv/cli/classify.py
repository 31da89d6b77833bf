# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv classify`: which sensitive instructions trap, shown on the engine. No pvhvd is needed."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pvhv.cli.commands import AsJson, command
from pvhv.cli.output import print_json, print_table
from pvhv.toolstack.errors import UsageError

if TYPE_CHECKING:
    from pvhv.hvm.classify.verdict import Judgement

ROOM_FOR_MANUALS = 150


@command("classify")
def classify(
    ring: Annotated[
        list[int] | None, typer.Option("--ring", help="Only this ring of 0 to 3; may be repeated.", metavar="N")
    ] = None,
    instruction: Annotated[
        str | None, typer.Option("-i", "--instruction", help="Only this instruction, in detail.", metavar="NAME")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run Robin and Irvine's instructions outside ring 0, and show which trap and which silently misbehave."""
    from pvhv.hvm.classify.bench import RINGS
    from pvhv.hvm.classify.instructions import ROWS, UnknownInstruction, rows_of
    from pvhv.hvm.classify.verdict import classify as run
    from pvhv.machine import ctrl_c

    rings = sorted(set(ring)) if ring else list(RINGS)
    for number in rings:
        if number not in range(4):
            raise UsageError(f"there is no ring {number}", "rings are 0 to 3")
    try:
        rows = ROWS if instruction is None else rows_of(instruction)
    except UnknownInstruction as unknown:
        hint = f"did you mean {unknown.nearest!r}?" if unknown.nearest else "`pvhv classify` lists all there are"
        raise UsageError(f"there is no instruction {unknown.name!a} here", hint) from None
    with ctrl_c.put_off():
        judgements = run(rows, rings)
    if as_json:
        print_json([judgement.record() for judgement in judgements])
        return
    _table(judgements, rings)
    if instruction is not None:
        for judgement in judgements:
            _details(judgement)
    elif any(rings):
        _summary(judgements)


def _table(judgements: list[Judgement], rings: list[int]) -> None:
    outer = any(rings)
    # A narrow terminal has no room for everything; --instruction tells the rest.
    manuals = not sys.stdout.isatty() or shutil.get_terminal_size().columns >= ROOM_FOR_MANUALS
    columns = ["Instruction", "Listed", *(f"Ring {ring}" for ring in rings)]
    columns += ["Verdict"] * outer + ["Kind"] + ["Manuals"] * manuals
    rows = []
    for judgement in judgements:
        row = judgement.row
        cells = [row.name, "yes" if row.listed else "-", *map(judgement.did, rings)]
        rows.append([*cells, *[judgement.verdict] * outer, row.kind or "-", *[row.manual] * manuals])
    print_table(columns, rows, foldable=range(2, len(columns)))


def _details(judgement: Judgement) -> None:
    row = judgement.row
    print(f"\n{row.name}")
    for title, text in (("Why", row.why), ("Manuals", row.manual), ("Engine", row.engine)):
        if text:
            print(f"  {title}: {text}")
    for title, code in (("Before", row.before), ("Body", row.body)):
        if code.strip():
            print(f"  {title}:")
            for line in filter(None, map(str.strip, code.splitlines())):
                print(f"    {line if line.startswith('*') or line.endswith(':') else '  ' + line}")


def _summary(judgements: list[Judgement]) -> None:
    from pvhv.hvm.classify.verdict import VIOLATES

    listed = {judgement.row.about for judgement in judgements if judgement.row.listed}
    wrong = {judgement.row.about for judgement in judgements if judgement.verdict == VIOLATES}
    others = ", ".join(sorted(listed - wrong)) or "none"
    print(f"\n{len(listed & wrong)} of the {len(listed)} listed do not trap where they must; the others: {others}.")
    if wrong - listed:
        print(f"Not listed, and do not trap either: {', '.join(sorted(wrong - listed))}.")
    notes: dict[str, list[str]] = {}
    for judgement in judgements:
        if judgement.row.engine:
            notes.setdefault(judgement.row.engine, []).append(judgement.row.name)
    print("\nWhere the engine is not the manuals' CPU:")
    for note, names in notes.items():
        print(f"  {', '.join(names)}: {note}.")
