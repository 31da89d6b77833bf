# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that look into a domain or the hypervisor from outside: a core in a file, Xen's debug keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvhv.cli.commands import DomainArgument, command
from pvhv.cli.common import connect, connect_if_up, say
from pvhv.cli.signals import Terminated, heard
from pvhv.toolstack.errors import UsageError, no_domain

if TYPE_CHECKING:
    from pvhv.toolstack.client import Client


@command("dump-core")
def dump_core(
    domain: DomainArgument, file: Annotated[str, typer.Argument(help="The file to write, or a pipe.", metavar="FILE")]
) -> None:
    """Write a domain's core: an ELF file as Xen writes it, which `crash` reads.

    The domain runs on meanwhile. For a core of one moment, `pvhv pause` it before.
    """
    from pvhv.toolstack.core_writer import write_core
    from pvhv.toolstack.dump_access import received

    client = connect_if_up()
    if client is None:
        raise no_domain(domain)
    with client:
        client.start("dump_core", domain=domain)
        items = _items(client)
        name = next(items)["dumping"]
        try:
            with heard():
                written = write_core(file, received(items))
        except Terminated as signal:
            raise typer.Exit(signal.status) from None
    say(f"{name}'s core is in {file}: {written >> 20} MiB")


def _items(client: Client) -> Iterator[dict[str, Any]]:
    """The items of the answer. Raises ToolstackError if the answer is an error."""
    while "item" in (message := client.receive()):
        yield message["item"]
    client.result(message)


@command("debug-keys")
def debug_keys(
    keys: Annotated[str, typer.Argument(help="Letters, one for each key; h lists the keys.", metavar="KEYS")],
) -> None:
    """Press debug keys of the hypervisor; `pvhv dmesg` shows what they print."""
    if not keys.isascii() or not keys.isprintable():
        raise UsageError(f"{keys!a} are not keys", "they are letters and signs; pvhv debug-keys h lists them")
    with connect() as client:
        client.call("debug_keys", keys=keys)
