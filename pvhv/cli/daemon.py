# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv daemon`: the host process itself. Nobody has to start it; stopping it is for updates and tidy people."""

from __future__ import annotations

import typer

from pvhv.cli.commands import command, daemon_app
from pvhv.cli.common import connect_if_up


@command("status", daemon_app)
def status() -> None:
    """Say whether pvhvd is up. Exit status 1 when it is not."""
    client = connect_if_up()
    if client is None:
        print("pvhvd is not up; the first command that needs it starts it")
        raise typer.Exit(1)
    with client:
        facts = client.call("info")
    print(f"pvhvd is up: process {facts['pvhvd_pid']}, {facts['domains']} domains, log {client.paths.log}")
    if not client.same_code:
        print("it runs older code than this command; `pvhv daemon stop` ends it and its domains")


@command("stop", daemon_app)
def stop() -> None:
    """Destroy all domains and end pvhvd."""
    client = connect_if_up()
    if client is not None:
        with client:
            client.call("stop")
