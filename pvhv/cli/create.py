# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv create`: make domains from their files, and wait for their end if asked to.

All files are read before anything is made of one. With -c the console is attached (pvhv.cli.run); with -F the command
ends when the domains do.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from pvhv.build.progress import Progress
from pvhv.cli.commands import command, parse_escape
from pvhv.cli.common import connect, say
from pvhv.cli.run import report_end, with_console
from pvhv.cli.terminal import DEFAULT_ESCAPE
from pvhv.toolstack.errors import ToolstackError, UsageError
from pvhv.toolstack.names import shown

if TYPE_CHECKING:
    from pvhv.toolstack.client import Client
    from pvhv.toolstack.config import DomainConfig

LONGEST_TIMEOUT = 10**9


@command("create")
def create(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Domain files, and settings for them.", metavar="FILE... [KEY=VALUE...]")
    ] = None,
    file: Annotated[str | None, typer.Option("-f", "--defconfig", help="A domain file.", metavar="FILE")] = None,
    console: Annotated[bool, typer.Option("-c", "--console", help="Attach to its console.")] = False,
    paused: Annotated[bool, typer.Option("-p", "--paused", help="Leave the domain paused.")] = False,
    foreground: Annotated[bool, typer.Option("-F", "--foreground", help="Wait until it has ended for good.")] = False,
    dry_run: Annotated[bool, typer.Option("-n", "--dryrun", help="Make no domain; print what was read.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
    debug: Annotated[bool, typer.Option("-d", "--debug", help="Print on standard error what was read.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(help="Destroy the domain after so many seconds.", metavar="S", min=0, max=LONGEST_TIMEOUT),
    ] = None,
    ephemeral: Annotated[
        bool,
        typer.Option(
            "--ephemeral", help="What it writes to its disks goes with it: into a file without a name in $TMPDIR, or "
            "/var/tmp.",
        ),
    ] = False,
    escape: Annotated[
        str, typer.Option("--escape", help="The key that leaves the console.", metavar="KEY")
    ] = DEFAULT_ESCAPE,  # without the -e it has elsewhere, which xl has for something else here
    _unattended: Annotated[bool, typer.Option("-e", hidden=True)] = False,  # nobody waits here anyway
    _masks: Annotated[bool, typer.Option("-i", "--ignore-global-affinity-masks", hidden=True)] = False,
    viewer: Annotated[bool, typer.Option("-V", "--vncviewer", hidden=True)] = False,
    autopass: Annotated[bool, typer.Option("-A", "--vncviewer-autopass", hidden=True)] = False,
) -> None:
    """Make a domain from a domain file, or several from several.

    With -c, and standard input not a terminal: the input goes to the console, and the exit status says how
    the domain ended: 0 poweroff, 10 reboot, 20 crash, 21 watchdog, 124 timeout. With -F the same, without the console.
    """
    from pvhv.toolstack import bzimage

    escape_key = parse_escape(escape)
    files, settings = parted(arguments or [], file)
    if console and len(files) > 1:
        raise UsageError("-c attaches one console, and there are several files", "create them one by one")
    dry_run = dry_run or context.obj["dry_run"]
    configs = read(files, settings, quiet)
    for config in configs if ephemeral else ():
        config.make_ephemeral()
    if dry_run or debug:
        show(configs, sys.stdout if dry_run else sys.stderr)
    if dry_run:
        return
    if (viewer or autopass) and not quiet:
        say("there are no screens here, so no viewer is started; `pvhv console` is the way to a domain")
    with Progress("pvhv:") as progress:
        for config in configs:
            bzimage.unpack_ahead(config.kernel, progress.at)
    deadline = None if timeout is None else time.monotonic() + timeout
    with connect() as client:
        if console:
            status = with_console(client, configs[0], paused, escape_key, deadline, timeout)
        else:
            status = without_console(client, configs, paused, foreground, quiet, timeout)
    raise typer.Exit(status)


def parted(arguments: list[str], file: str | None) -> tuple[list[str], list[str]]:
    """The arguments as (files, settings): one with a = in it is a setting, as in xl. Raises UsageError."""
    files = [] if file is None else [file]
    files += [each for each in arguments if "=" not in each]
    if not files:
        raise UsageError("no domain file is named", "examples/hello.cfg is one to start from")
    return files, [each for each in arguments if "=" in each]


def read(files: list[str], settings: list[str], quiet: bool) -> list[DomainConfig]:
    """The domains of all files. Raises ToolstackError if there is an error in any of them."""
    from pvhv.toolstack import config as domain_file

    configs, wrong = [], []
    for file in files:
        try:
            configs.append(domain_file.load(file, settings))
        except ToolstackError as error:
            wrong.append(error)
    for each in wrong[:-1]:
        say(str(each))
    if wrong:
        raise wrong[-1]
    for config in configs if not quiet else ():
        for warning in config.warnings:
            say(warning)
    return configs


def show(configs: list[DomainConfig], out: TextIO) -> None:
    """What was read, as xl prints it."""
    from pvhv.toolstack.xl_json import as_xl_has_it

    for config in configs:
        print(json.dumps(as_xl_has_it(config), indent=4), file=out, flush=True)


def without_console(
    client: Client, configs: list[DomainConfig], paused: bool, foreground: bool, quiet: bool, timeout: float | None
) -> int:
    """Make the domains one by one; an error of one does not stop the others. With `foreground`, wait until all have
    ended. Returns the exit status."""
    status = 0
    waiting: list[tuple[Client, int]] = []
    for config in configs:
        try:
            made = _make(client, config, paused or foreground, timeout)
        except ToolstackError as error:
            if len(configs) == 1:
                raise
            say(str(error))
            status = max(status, error.status)
            continue
        if not quiet:
            print(f"domain {shown(made['name'])} is there, with id {made['domid']}", flush=True)
        if foreground:
            # Waited for before it runs, for it may be over in no time; each on a connection of its own.
            waiter = connect()
            waiting.append((waiter, waiter.start("wait_end", domain=str(made["domid"]))))
            if not paused:
                waiter.start("unpause", domain=str(made["domid"]))
    for waiter, number in waiting:
        with waiter:
            while (message := waiter.receive()).get("id") != number:
                pass
            status = max(status, report_end(waiter.result(message), timeout))
    return status


def _make(client: Client, config: DomainConfig, paused: bool, timeout: float | None) -> dict[str, Any]:
    with Progress("pvhv:") as progress:
        made: dict[str, Any] = client.call(
            "create", lambda item: progress.at(item["stage"]) if "stage" in item else None,
            config=config.to_wire(), paused=paused, lifetime=timeout,
        )  # fmt: skip
    return made
