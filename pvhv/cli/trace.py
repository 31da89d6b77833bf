# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv trace`: what a domain does to its hypervisor, as it happens, or summed up.

Ctrl-C ends a trace as the guest's end does: the summary is shown, and a file is complete.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvhv.cli.commands import DomainArgument, command
from pvhv.cli.common import connect_if_up, say
from pvhv.cli.output import print_json
from pvhv.cli.signals import Patient, Terminated, heard, terminate
from pvhv.cli.trace_file import TraceFile
from pvhv.cli.trace_lines import line
from pvhv.cli.trace_summary import show_summary
from pvhv.toolstack.errors import UsageError, no_domain
from pvhv.toolstack.names import clean

if TYPE_CHECKING:
    from pvhv.toolstack.client import Client

Words = list[str] | None


@command("trace")
def trace(
    domain: DomainArgument,
    kind: Annotated[
        Words, typer.Option("-k", "--kind", help="Only hypercall,fault,… or all but '!cpuid,io'.", metavar="KINDS")
    ] = None,
    only: Annotated[
        Words, typer.Option("--only", help="Only these: mmu_update,sched_op.block,page_fault,…", metavar="NAMES")
    ] = None,
    vcpu: Annotated[Words, typer.Option("--vcpu", help="Only these vCPUs.", metavar="NUMBERS")] = None,
    syscall: Annotated[
        Words,
        typer.Option(
            "-s", "--syscall", help="Only what belongs to these system calls, or to any.", metavar="NAMES"
        ),
    ] = None,
    count: Annotated[bool, typer.Option("-c", "--count", help="Show a summary at the end, or on Ctrl-C.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("-n", "--limit", help="Stop after so many records (system calls).", metavar="N", min=1),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object on each line.")] = False,
    perfetto: Annotated[
        str | None, typer.Option("--perfetto", help="Write a file that ui.perfetto.dev opens.", metavar="FILE")
    ] = None,
) -> None:
    """Show a domain's hypercalls, faults, events and exits until it ends."""
    if count and limit is not None:
        raise UsageError("--limit ends a list of records, and --count makes none", "end it by Ctrl-C")
    if perfetto is not None and (count or as_json):
        raise UsageError("--perfetto writes a file of its own kind", "leave out --count and --json")
    client = connect_if_up()
    if client is None:
        raise no_domain(domain)
    with client:
        number = client.start(
            "trace", domain=domain, kinds=kind or [], only=only or [], vcpus=vcpu or [], syscalls=syscall or [],
            count=count, everything=perfetto is not None,
        )  # fmt: skip
        out = Printed(as_json) if perfetto is None else TraceFile(perfetto)
        told = Patient()
        try:
            with heard(told if isinstance(out, TraceFile) else terminate), interruptible(client, number) as pressed:
                try:
                    summary = _follow(client, number, out, "return" if syscall else None, limit, pressed, told)
                finally:
                    out.end()
        except Terminated as signal_:
            raise typer.Exit(signal_.status) from None
        if isinstance(out, TraceFile):
            say(f"{out.path}: {out.events} events; https://ui.perfetto.dev opens it")
        if summary is not None:
            print_json(summary) if as_json else show_summary(summary)
        if pressed():
            raise KeyboardInterrupt


class Printed:
    """Records on standard output, one a line (but for the entries of a multicall)."""

    def __init__(self, as_json: bool) -> None:
        self.text = json.dumps if as_json else _clean_line

    def begin(self, about: dict[str, Any]) -> None:
        """Nothing is printed before the records."""

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        """Print records."""
        for record in records:
            print(self.text(record))
        sys.stdout.flush()

    def end(self) -> None:
        """Nothing is printed after the records."""


def _clean_line(record: dict[str, Any]) -> str:
    """A record's line, made safe for a terminal: a kernel's symbols may have any characters."""
    return clean(line(record))


def _follow(
    client: Client,
    number: int,
    out: Printed | TraceFile,
    counted: str | None,
    limit: int | None,
    pressed: Callable[[], bool],
    told: Patient,
) -> dict[str, Any] | None:
    """Show records until there are no more, or enough. Returns the summary, if one was asked for."""
    shown = 0
    while True:
        with told.waiting():
            message = client.receive()
        if "item" not in message:
            answer = client.result(message)
            summary: dict[str, Any] | None = answer["summary"] if message["id"] == number else answer
            return summary
        if pressed():
            continue  # what is under way is not waited for
        item = message["item"]
        if "tracing" in item:
            out.begin(item)
            say(f"tracing {item['tracing']}")  # from here on nothing is missed
        if "dropped" in item:
            say(f"{item['dropped']} records were dropped: the guest is faster than this trace is read")
        records = item.get("records", [])
        for index, record in enumerate(records):
            shown += counted is None or record["kind"] == counted
            if shown == limit:
                out.add(records[: index + 1])
                client.send({"cancel": number})
                return None
        out.add(records)


@contextmanager
def interruptible(client: Client, number: int) -> Iterator[Callable[[], bool]]:
    """Have Ctrl-C ask for the summary, instead of stopping in the middle of a message; a second Ctrl-C stops at
    once."""
    came = False

    def ask(_signal: int, _frame: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        client.start("summary", trace=number)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # a job in the background: Ctrl-C is not for us
        yield lambda: False
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)


