# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that act on a domain."""

from __future__ import annotations

from typing import Annotated

import typer

from pvhv.cli.commands import DomainArgument, OneOrAll, command
from pvhv.cli.common import ask, connect_if_up, say
from pvhv.toolstack.errors import ToolstackError, UsageError
from pvhv.toolstack.names import DOMAIN_0

WaitOption = Annotated[bool, typer.Option("-w", "--wait", help="Wait until it has done so.")]
AllOption = Annotated[bool, typer.Option("-a", "--all", help="Ask all domains.")]
# Of xl's: press the machine's button where a guest has no drivers. There is none here to press.
FallbackOption = Annotated[bool, typer.Option("-F", hidden=True)]


@command("destroy")
def destroy(domain: DomainArgument, _force: Annotated[bool, typer.Option("-f", hidden=True)] = False) -> None:
    """Destroy a domain at once, without asking its kernel."""
    if domain in ("0", DOMAIN_0):
        raise UsageError("domain 0 is pvhvd itself", "`pvhv daemon stop` ends it, and all domains with it")
    ask(domain, "destroy")


@command("shutdown")
def shutdown(
    domain: OneOrAll = None, all_domains: AllOption = False, wait: WaitOption = False, _fallback: FallbackOption = False
) -> None:
    """Ask a domain, or all of them, to power off."""
    ask_to("poweroff", domain, all_domains, wait)


@command("reboot")
def reboot(
    domain: OneOrAll = None, all_domains: AllOption = False, wait: WaitOption = False, _fallback: FallbackOption = False
) -> None:
    """Ask a domain, or all of them, to reboot."""
    ask_to("reboot", domain, all_domains, wait)


def ask_to(word: str, domain: str | None, all_domains: bool, wait: bool) -> None:
    """Ask one domain, or all of them together; with `wait`, wait until all have done what they were asked."""
    if (domain is None) != all_domains:
        raise UsageError("name one domain, or give -a for all of them", "pvhv list shows the domains")
    if domain is not None:
        ask(domain, "shutdown", word=word, wait=wait)
        return
    client = connect_if_up()
    if client is None:
        return
    with client:
        living = [row for row in client.call("list") if row["ended"] is None]
        asked = {client.start("shutdown", domain=str(row["domid"]), word=word, wait=wait) for row in living}
        failed = None
        while asked:
            message = client.receive()
            if message.get("id") in asked:
                asked.discard(message["id"])
                try:
                    client.result(message)
                except ToolstackError as error:
                    say(str(error))
                    failed = error
    if failed is not None:
        raise typer.Exit(failed.status)


@command("sysrq")
def sysrq(
    domain: DomainArgument,
    key: Annotated[str, typer.Argument(help="One letter; on h Linux lists them all.", metavar="KEY")],
) -> None:
    """Send a key of the magic SysRq to a domain's kernel."""
    if len(key) != 1 or not key.isascii() or not key.isprintable() or key == " ":
        raise UsageError(f"{key!a} is not a key of the magic SysRq", "it is one letter, for example h")
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
    str, typer.Argument(help="A size in MiB, or with a letter b, k, m, g, t (256, 1g).", metavar="MEMORY")
]


@command("vcpu-set")
def vcpu_set(
    domain: DomainArgument,
    vcpus: Annotated[int, typer.Argument(help="How many vCPUs, counted from the first.", metavar="VCPUS")],
    _ignore_host: Annotated[bool, typer.Option("-i", "--ignore-host", hidden=True)] = False,
) -> None:
    """Set how many of its vCPUs a domain uses: its kernel takes the others down, or brings them up."""
    ask(domain, "vcpu_set", count=vcpus)


@command("mem-set")
def mem_set(domain: DomainArgument, memory: SizeArgument) -> None:
    """Set how much memory a domain uses: its kernel's balloon driver gives memory back, or takes more."""
    ask(domain, "mem_set", kib=kib_of(memory))


@command("mem-max")
def mem_max(domain: DomainArgument, memory: SizeArgument) -> None:
    """Set how much memory a domain may be given."""
    ask(domain, "mem_max", kib=kib_of(memory))


def kib_of(size: str) -> int:
    """The KiB of a size as xl takes it: MiB, or with a letter. Raises UsageError."""
    number, letter = (size[:-1], size[-1].lower()) if size[-1:].lower() in SIZES else (size, "m")
    if not number.isascii() or not number.isdecimal() or len(number) > 15:
        raise UsageError(f"{size!a} is not a size of memory", "it is a number of MiB, or a number and b, k, m, g or t")
    shift = SIZES[letter]
    kib = int(number) << shift if shift >= 0 else int(number) >> -shift
    if not 1 <= kib < 1 << 50:
        raise UsageError(f"{size!a} is too little or too much memory for a domain")
    return kib


@command("rename")
def rename(
    domain: DomainArgument, name: Annotated[str, typer.Argument(help="Its new name.", metavar="NAME")]
) -> None:
    """Give a domain another name."""
    from pvhv.toolstack import names

    names.check(name)
    ask(domain, "rename", name=name)
