# SPDX-License-Identifier: GPL-2.0-or-later
"""The interface as a list: what `pvhv hypercalls` prints. All of it comes from the specs and the table of handlers."""

from __future__ import annotations

from typing import Any

from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.spec import Command, Hypercall


def rows() -> list[dict[str, Any]]:
    """Every hypercall by number, each with its commands after it."""
    from pvhv.core import calls  # noqa: F401  # importing it registers the handlers

    table = []
    for number, call in sorted(HYPERCALLS.items()):
        table.append(_row(number, call.name, call, None))
        table += [_row(number, command.full_name, command, call.name) for command in call.commands or ()]
    return table


def _row(number: int, name: str, spec: Hypercall | Command, parent: str | None) -> dict[str, Any]:
    from pvhv.core.traps.dispatch import HANDLERS

    handler = HANDLERS.get(spec)
    status = spec.status if spec.refusal is None else f"refused: {spec.refusal.name}"
    return {
        "number": number,
        "name": name,
        "command_of": parent,
        "status": status,
        "handler": f"{handler.__module__}.{handler.__qualname__}" if handler else None,
    }
