# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv list`, without the parser of command lines (see pvhv.cli)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pvhv.cli.common import ask, connect_if_up
from pvhv.cli.output import print_json, print_table


def rows_of(call: str, domain: str | None) -> list[dict[str, Any]]:
    """Rows about one domain or all; none while there is no pvhvd."""
    if domain is not None:
        return list(ask(domain, call))
    client = connect_if_up()
    if client is None:
        return []
    with client:
        return list(client.call(call))


def show(
    domain: str | None,
    as_json: bool,
    *,
    verbose: bool = False,
    context: bool = False,
    pool: bool = False,
    numa: bool = False,
) -> None:
    """The table of domains, with more columns where they are asked for."""
    rows = rows_of("list", None) if domain is None else [ask(domain, "domain")]
    if as_json:
        print_json(rows)
        return
    more: dict[str, Callable[[dict[str, Any]], object]] = {}
    if verbose:
        more["UUID"] = lambda row: row["uuid"]
        more["Reason-Code"] = lambda row: "-" if row["shutdown_code"] is None else f"{row['shutdown_code']:x}"
    if verbose or context:
        more["Security Label"] = lambda row: "-"
    if pool:
        more["Cpupool"] = lambda row: "Pool-0"
    if numa:
        more["NODE Affinity"] = lambda row: "all"
    print_table(
        ("Name", "ID", "Mem", "VCPUs", "State", "Time(s)", *more),
        [
            (
                row["name"], row["domid"], row["memory"], row["vcpus"], row["state"], f"{row['time']:.1f}",
                *(cell(row) for cell in more.values()),
            )
            for row in rows
        ],
        right=(1, 2, 3, 5),
    )  # fmt: skip
