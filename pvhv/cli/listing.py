# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv list`, without its place in the command line (see pvhv.cli)."""

from __future__ import annotations

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


def show(domain: str | None, as_json: bool) -> None:
    """The table of domains."""
    rows = rows_of("list", None) if domain is None else [ask(domain, "domain")]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("Name", "ID", "Mem", "VCPUs", "State", "Time(s)"),
        [
            (row["name"], row["domid"], row["memory"], row["vcpus"], row["state"], f"{row['time']:.1f}")
            for row in rows
        ],
        right=(1, 2, 3, 5),
    )
