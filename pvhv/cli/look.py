# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that show domains, their vCPUs, the hypervisor, and its log."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from pvhv.cli.commands import AsJson, DomainArgument, OneOrAll, command
from pvhv.cli.common import ask, connect, connect_if_up
from pvhv.cli.listing import rows_of, show
from pvhv.cli.output import print_json, print_table
from pvhv.toolstack.errors import UsageError
from pvhv.toolstack.names import shown

ROOM_OF_HANDLERS = "pvhv.core.calls"


@command("list")
def list_domains(
    domain: OneOrAll = None,
    as_json: AsJson = False,
    long: Annotated[bool, typer.Option("-l", "--long", help="Print the domains' configurations, as xl does.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show UUIDs as well, and why one stopped.")] = False,
    context: Annotated[bool, typer.Option("-Z", "--context", help="Show security labels as well.")] = False,
    pool: Annotated[bool, typer.Option("-c", "--cpupool", help="Show the pool of processors as well.")] = False,
    numa: Annotated[bool, typer.Option("-n", "--numa", help="Show the nodes of memory as well.")] = False,
) -> None:
    """List domains.

    Letters of the state: running, blocked, paused, shut down, crashed (or another reason: rebooted, suspended,
    watchdog), dying.
    """
    if long:
        print_json(rows_of("configs", domain))
    else:
        show(domain, as_json, verbose=verbose, context=context, pool=pool, numa=numa)


@command("vm-list")
def vm_list(as_json: AsJson = False) -> None:
    """List domains by their UUIDs."""
    rows = rows_of("list", None)
    if as_json:
        print_json([{key: row[key] for key in ("uuid", "domid", "name")} for row in rows])
        return
    print_table(("UUID", "ID", "name"), [(row["uuid"], row["domid"], row["name"]) for row in rows], right=(1,))


@command("uptime")
def uptime(
    domain: Annotated[list[str] | None, typer.Argument(help="Names or ids; all domains by default.")] = None,
    short: Annotated[bool, typer.Option("-s", help="One line for each domain, without seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how long ago domains were made."""
    rows = [ask(each, "domain") for each in domain] if domain else rows_of("list", None)
    if as_json:
        print_json([{key: row[key] for key in ("name", "domid", "uptime")} for row in rows])
    elif short:
        now = time.strftime("%H:%M:%S")
        for row in rows:
            print(f" {now} up {duration(row['uptime'], short=True)}, {shown(row['name'])} ({row['domid']})")
    else:
        print_table(
            ("Name", "ID", "Uptime"), [(row["name"], row["domid"], duration(row["uptime"])) for row in rows], right=(1,)
        )


def duration(seconds: float, short: bool = False) -> str:
    """A time in seconds as text, in the form of xl's uptime."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{hour:2}:{minute:02}" + ("" if short else f":{second:02}")
    return f"{days} day{'s' * (days > 1)}, {text}" if days else text


@command("domid")
def domid(domain: DomainArgument) -> None:
    """Print a domain's id."""
    print(ask(domain, "domain")["domid"])


@command("domname")
def domname(domain: DomainArgument) -> None:
    """Print a domain's name."""
    name = ask(domain, "domain")["name"]
    print(shown(name) if sys.stdout.isatty() else name)  # to a script as it is


@command("vcpu-list")
def vcpu_list(
    domain: Annotated[list[str] | None, typer.Argument(help="Names or ids; all domains by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """List virtual processors."""
    rows = [row for each in domain for row in rows_of("vcpus", each)] if domain else rows_of("vcpus", None)
    if as_json:
        print_json(rows)
        return
    letters = {"running": "r--", "runnable": "r--", "blocked": "-b-", "offline": "--p"}
    print_table(
        ("Name", "ID", "VCPU", "CPU", "State", "Time(s)"),
        [
            (
                row["name"],
                row["domid"],
                row["vcpu"],
                "-" if row["cpu"] is None else row["cpu"],
                letters[row["state"]],
                f"{row['time']:.1f}",
            )
            for row in rows
        ],
        right=(1, 2, 3, 5),
    )


@command("info")
def info(
    name: Annotated[str | None, typer.Argument(help="One of the facts; all by default.", metavar="NAME")] = None,
    as_json: AsJson = False,
    _numa: Annotated[bool, typer.Option("-n", "--numa", hidden=True)] = False,
) -> None:
    """Show facts about the machine and the hypervisor."""
    with connect() as client:
        facts = client.call("info")
    if name is not None:
        if name not in facts:
            raise UsageError(f"{name!a} is not one of the facts", f"they are: {', '.join(facts)}")
        facts = {name: facts[name]}
    if as_json:
        print_json(facts)
        return
    if name is not None:
        print(facts[name])
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}} : {value}")


@command("dmesg")
def dmesg(
    clear: Annotated[bool, typer.Option("-c", "--clear", help="Clear the log after showing it.")] = False,
) -> None:
    """Show the hypervisor's own log."""
    client = connect_if_up()
    if client is None:
        return
    with client:
        sys.stdout.write(client.call("dmesg", clear=clear))
        sys.stdout.flush()


@command("hypercalls")
def hypercalls(as_json: AsJson = False) -> None:
    """List every hypercall of the interface: number, name, status, and the handler behind it."""
    from pvhv.toolstack.hypercall_table import rows

    table = rows()
    if as_json:
        print_json(table)
        return
    # A terminal has no room for what all handlers begin with; a script gets them as they can be looked up.
    said_once = f"{ROOM_OF_HANDLERS}." if sys.stdout.isatty() else ""
    print_table(
        ("Nr", "Name", "Status", f"In {ROOM_OF_HANDLERS}" if said_once else "Handler"),
        [
            (row["number"], row["name"], row["status"], (row["handler"] or "-").removeprefix(said_once))
            for row in table
        ],
        right=(0,),
        foldable=(2, 3),
    )
