# SPDX-License-Identifier: GPL-2.0-or-later
"""Verbs that do something to a domain that is there."""

from __future__ import annotations

from typing import Annotated

import typer

from pvhv.cli.commands import DomainArgument, command
from pvhv.cli.common import ask


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
