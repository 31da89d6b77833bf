# SPDX-License-Identifier: GPL-2.0-or-later
"""Verbs that look: domains, their vCPUs, the hypervisor, its log."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pvhv.cli.commands import AsJson, DomainArgument, OneOrAll, command
from pvhv.cli.common import ask, connect, connect_if_up
from pvhv.cli.listing import rows_of, show
from pvhv.cli.output import print_json, print_table

ROOM_OF_HANDLERS = "pvhv.core.calls"


@command("list")
def list_domains(
    domain: OneOrAll = None,
    as_json: AsJson = False,
    long: Annotated[bool, typer.Option("-l", "--long", help="The same as --json, as xl has it.")] = False,
) -> None:
    """List domains: state letters are running, blocked, paused, shut down, crashed, dying."""
    show(domain, as_json or long)


@command("domid")
def domid(domain: DomainArgument) -> None:
    """Say a domain's id."""
    print(ask(domain, "domain")["domid"])


@command("domname")
def domname(domain: DomainArgument) -> None:
    """Say a domain's name."""
    print(ask(domain, "domain")["name"])


@command("vcpu-list")
def vcpu_list(domain: OneOrAll = None, as_json: AsJson = False) -> None:
    """List virtual processors."""
    rows = rows_of("vcpus", domain)
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
def info(as_json: AsJson = False) -> None:
    """Tell about the machine and the hypervisor."""
    with connect() as client:
        facts = client.call("info")
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}} : {value}")


@command("dmesg")
def dmesg(
    clear: Annotated[bool, typer.Option("-c", "--clear", help="Clear it after it was shown.")] = False,
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
