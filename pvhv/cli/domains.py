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


SIZES = {"b": -10, "k": 0, "m": 10, "g": 20, "t": 30}
SizeArgument = Annotated[
    str, typer.Argument(help="In MiB, or with a letter: b, k, m, g, t (256, 1g).", metavar="MEMORY")
]


@command("vcpu-set")
def vcpu_set(
    domain: DomainArgument, vcpus: Annotated[int, typer.Argument(help="How many, from the first on.", metavar="VCPUS")]
) -> None:
    """Have a domain use so many of its vCPUs: its kernel takes others down, or brings them up."""
    ask(domain, "vcpu_set", count=vcpus)


@command("mem-set")
def mem_set(domain: DomainArgument, memory: SizeArgument) -> None:
    """Have a domain make do with so much memory, or take so much: its kernel's balloon does it."""
    ask(domain, "mem_set", kib=kib_of(memory))


@command("mem-max")
def mem_max(domain: DomainArgument, memory: SizeArgument) -> None:
    """Set how much memory a domain may be given."""
    ask(domain, "mem_max", kib=kib_of(memory))


def kib_of(size: str) -> int:
    """A size as xl takes it: MiB, or with a letter."""
    number, letter = (size[:-1], size[-1].lower()) if size[-1:].lower() in SIZES else (size, "m")
    if not number.isascii() or not number.isdecimal() or len(number) > 15:
        raise UsageError(f"{size!a} is no size of memory", "a number of MiB, or with one of the letters b, k, m, g, t")
    shift = SIZES[letter]
    kib = int(number) << shift if shift >= 0 else int(number) >> -shift
    if not 1 <= kib < 1 << 50:
        raise UsageError(f"{size!a} is no size a domain could have")
    return kib


@command("rename")
def rename(
    domain: DomainArgument, name: Annotated[str, typer.Argument(help="Its new name.", metavar="NAME")]
) -> None:
    """Give a domain another name."""
    from pvhv.toolstack.config import check_name

    check_name(name)
    ask(domain, "rename", name=name)
