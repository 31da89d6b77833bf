# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv daemon`: the host process itself. Commands start it; only an update needs it stopped."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import typer

from pvhv.cli.commands import AsJson, command, daemon_app
from pvhv.cli.common import connect, connect_if_up
from pvhv.cli.output import print_json, print_table
from pvhv.toolstack.errors import UsageError

Whose = Literal["none", "guest"] | None


@command("status", daemon_app)
def status() -> None:
    """Show whether pvhvd is up. The exit status is 1 if it is not."""
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


@command("limits", daemon_app)
def limits(as_json: AsJson = False) -> None:
    """Show the bounds of everything that can grow, in pvhvd and on its disk, and what happens beyond."""
    client = connect_if_up()
    if client is None:
        from pvhv.toolstack.limits import plain

        rows = plain()
    else:
        with client:
            rows = client.call("limits")
    if as_json:
        print_json(rows)
        return
    print_table(
        ("Limit", "Of each", "What", "Most", "Unit", "Beyond"),
        [(row["name"], row["of"], row["what"], *_shown(row["most"], row["unit"]), row["beyond"]) for row in rows],
        right=(3,),
        foldable=(2, 5),
    )


def _shown(most: int, unit: str) -> tuple[int, str]:
    """A number and its unit; bytes are in the largest unit that gives a whole number."""
    if unit == "bytes":
        for shift, name in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
            if most % (1 << shift) == 0:
                return most >> shift, name
    return most, unit


@command("console-log", daemon_app)
def console_log(
    log: Annotated[Whose, typer.Argument(help="Whether consoles are logged.", metavar="none|guest")] = None,
    timestamp: Annotated[
        Whose, typer.Option("-t", "--timestamp", help="Whether each line begins with the time.", metavar="none|guest")
    ] = None,
    directory: Annotated[
        str | None, typer.Option("--log-dir", help="The directory of the files; '' for the default.", metavar="DIR")
    ] = None,
) -> None:
    """Show how guests' consoles are logged (in files guest-NAME.log), or change it for good."""
    changes: dict[str, Any] = {}
    if log is not None:
        changes["log"] = log
    if timestamp is not None:
        changes["timestamp"] = timestamp == "guest"
    if directory is not None:
        if directory and not os.path.isdir(directory):
            raise UsageError(f"there is no directory {directory}", "make it, or name another")
        changes["directory"] = os.path.abspath(directory) if directory else ""
    with connect() as client:
        now = client.call("console_log", **changes)
    if now["log"] == "none":
        print("guests' consoles are not logged")
    else:
        stamped = ", with the time of each line" if now["timestamp"] else ""
        print(f"guests' consoles are logged in {now['directory']}{stamped}")
