# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv console`: attach to a guest's console, from its first byte on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pvhv.cli.commands import DomainArgument, EscapeOption, command, parse_escape
from pvhv.cli.common import connect_if_up, say
from pvhv.cli.run import key_name, report_end
from pvhv.cli.signals import Terminated
from pvhv.cli.terminal import DEFAULT_ESCAPE
from pvhv.toolstack.errors import ToolstackError, UsageError, no_domain
from pvhv.toolstack.names import log_name

if TYPE_CHECKING:
    from pvhv.toolstack.client import Client


@command("console")
def console(
    domain: DomainArgument,
    escape: EscapeOption = DEFAULT_ESCAPE,
    kind: Annotated[
        str | None, typer.Option("-t", "--type", help="Its type: pv, or serial (of hvm domains).", metavar="KIND")
    ] = None,
    which: Annotated[int, typer.Option("-n", "--num", help="Its number, which has to be 0.", metavar="NUMBER")] = 0,
) -> None:
    """Attach to a domain's console. What it said before is shown first."""
    from pvhv.cli.session import Detached, Session

    key = parse_escape(escape)
    if kind not in (None, "pv", "serial", "vuart"):
        raise UsageError(f"{kind!a} is not a type of console", "there are pv and serial (and vuart, on Arm)")
    client = connect_if_up()
    if client is None:
        raise no_domain(domain)
    interactive = sys.stdin.isatty()
    with client:
        name = name_of(client, domain, kind, which)
        number = client.start("attach", domain=domain)
        if interactive:
            say(f"this is the console of {name}; {key_name(key)} leaves it")
        session = Session(client, number, key if interactive else None, ends_with_input=not interactive)
        try:
            report_end(session.run())
        except Detached:
            if interactive:
                say(f"{name} goes on without you")
        except Terminated as signal:
            raise typer.Exit(signal.status) from None


def name_of(client: Client, domain: str, kind: str | None, which: int) -> str:
    """A domain's name. Raises ToolstackError if the domain does not have that console, or is gone; the hint then names
    its log."""
    try:
        row = client.call("domain", domain=domain)
    except ToolstackError as missing:
        log = Path(client.call("console_log")["directory"], log_name(domain))
        if not log.is_file():
            raise
        raise ToolstackError(missing.message, f"what the last one of that name said is in {log}") from None
    has = "serial" if row["type"] == "hvm" else "pv"
    if kind not in (None, has) or which != 0:
        wanted = f"{kind or has} console {which}"
        raise ToolstackError(f"domain {row['name']} has no {wanted}", f"it has one console, {has} console 0")
    return str(row["name"])
