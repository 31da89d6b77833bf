# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv console`: be at a guest's console, from its first byte on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pvhv.cli.commands import DomainArgument, EscapeOption, command, parse_escape
from pvhv.cli.common import connect_if_up, say
from pvhv.cli.create import report_end, shown
from pvhv.cli.terminal import DEFAULT_ESCAPE
from pvhv.toolstack.errors import ToolstackError, no_domain

if TYPE_CHECKING:
    from pvhv.toolstack.client import Client


@command("console")
def console(
    domain: DomainArgument,
    escape: EscapeOption = DEFAULT_ESCAPE,
) -> None:
    """Attach to a domain's console. What it said before is shown first."""
    from pvhv.cli.session import Detached, Session, Terminated

    key = parse_escape(escape)
    client = connect_if_up()
    if client is None:
        raise no_domain(domain)
    interactive = sys.stdin.isatty()
    with client:
        name = name_of(client, domain)
        number = client.start("attach", domain=domain)
        if interactive:
            say(f"this is the console of {name}; {shown(key)} leaves it")
        session = Session(client, number, key if interactive else None, ends_with_input=not interactive)
        try:
            report_end(session.run())
        except Detached:
            if interactive:
                say(f"{name} goes on without you")
        except Terminated as signal:
            raise typer.Exit(signal.status) from None


def name_of(client: Client, domain: str) -> str:
    """A domain's name. Raises ToolstackError; of one that is gone, its log may still tell."""
    try:
        return str(client.call("domain", domain=domain)["name"])
    except ToolstackError as missing:
        log = Path(client.call("console_log")["directory"], f"guest-{domain}.log")
        if os.sep in domain or not log.is_file():
            raise
        raise ToolstackError(missing.message, f"what the last one of that name said is in {log}") from None
