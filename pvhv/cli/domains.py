# SPDX-License-Identifier: GPL-2.0-or-later
"""Verbs that do something to a domain that is there."""

from __future__ import annotations

from typing import Annotated

import typer

from pvhv.cli.commands import DomainArgument, command
from pvhv.cli.common import ask
from pvhv.toolstack.errors import UsageError


@command("destroy")
def destroy(domain: DomainArgument) -> None:
    """End a domain at once, whatever it does."""
    ask(domain, "destroy")


@command("shutdown")
def shutdown(
    domain: DomainArgument,
    wait: Annotated[bool, typer.Option("-w", "--wait", help="Wait until it is down.")] = False,
) -> None:
    """Ask a domain to power itself off."""
    ask(domain, "shutdown", word="poweroff", wait=wait)


@command("reboot")
def reboot(domain: DomainArgument) -> None:
    """Ask a domain to reboot."""
    ask(domain, "shutdown", word="reboot")


@command("sysrq")
def sysrq(
    domain: DomainArgument,
    key: Annotated[str, typer.Argument(help="One letter; h has a Linux list them all.", metavar="KEY")],
) -> None:
    """Send a key of the magic SysRq to a domain's kernel."""
    if len(key) != 1 or not key.isascii() or not key.isprintable() or key == " ":
        raise UsageError(f"{key!a} is no key of the magic SysRq", "it is one letter, for example h")
    ask(domain, "sysrq", key=key)


@command("pause")
def pause(domain: DomainArgument) -> None:
    """Stop a domain's vCPUs until `unpause`."""
    ask(domain, "pause")


@command("unpause")
def unpause(domain: DomainArgument) -> None:
    """Let a paused domain go on."""
    ask(domain, "unpause")


@command("rename")
def rename(
    domain: DomainArgument, name: Annotated[str, typer.Argument(help="Its new name.", metavar="NAME")]
) -> None:
    """Give a domain another name."""
    from pvhv.toolstack.config import check_name

    check_name(name)
    ask(domain, "rename", name=name)
