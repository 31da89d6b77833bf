# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands for the disks of running domains.

xl takes every medium that is put into a drive as a raw one. Here a format can be said, as it can for any disk.

Read beside it: tools/xl/xl_block.c, xl_cdrom.c.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pvhv.cli.commands import AsJson, DomainArgument, command
from pvhv.cli.common import ask, say
from pvhv.cli.output import print_json
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import shown

DeviceArgument = Annotated[str, typer.Argument(help="A disk's name (xvdb) or number.", metavar="DEVID")]


@command("block-attach")
def block_attach(
    domain: DomainArgument,
    disk: Annotated[
        list[str], typer.Argument(help="As in a domain file: FILE,raw,xvdb,rw; also as several words.", metavar="DISK…")
    ],
) -> None:
    """Give a running domain a disk."""
    from pvhv.toolstack.disk_spec import parse_parts

    ask(domain, "block_attach", disk=list(parse_parts(disk, Path.cwd())))


@command("block-detach")
def block_detach(
    domain: DomainArgument,
    disk: DeviceArgument,
    force: Annotated[
        bool,
        typer.Option("-f", "--force", help="Give it half a second to release it, no more; programs get I/O errors."),
    ] = False,
) -> None:
    """Take a disk from a running domain: its kernel is asked to release it, and has ten seconds. Unmount it there
    first: Linux 6.1, for one, releases a disk that is mounted."""
    ask(domain, "block_detach", disk=disk, force=force)


@command("block-list")
def block_list(
    domains: Annotated[list[str], typer.Argument(help="Names or ids.", metavar="DOMAIN…")], as_json: AsJson = False
) -> None:
    """List the disks of domains. The last column says as what a guest finds one: vbd is by xenbus; an ide or a virtio
    disk is a device of a PC, and has nothing in xenstore."""
    rows, failed = [], 0
    for domain in domains:
        try:
            rows += ask(domain, "block_list")
        except ToolstackError as error:  # the others are listed
            say(str(error))
            failed = error.status
    if as_json:
        print_json(rows)
    else:
        print(f"{'Vdev':5} {'BE':3} {'handle':6} {'state':5} {'evt-ch':6} {'ring-ref':8} {'BE-path':30} Model")
        for row in rows:
            print(_line(row))
    if failed:
        raise typer.Exit(failed)


def _line(row: dict[str, Any]) -> str:
    if row["backend"]:
        number, cells = row["devid"], [row[name] for name in ("state", "evtch", "rref", "backend")]
    else:  # a virtio disk has no number
        number, cells = row["devid"] if row["devid"] >= 0 else row["vdev"], ["-"] * 4
    state, port, ring, path = cells
    begin = f"{number:<5} {row['backend_id']:<3} {row['handle']:<6}"
    return f"{begin} {state:<5} {port:<6} {ring:<8} {path:30} {row['model']}"


DriveArgument = Annotated[str, typer.Argument(help="A CD-ROM drive's name (hdc) or number.", metavar="DRIVE")]


@command("cd-insert")
def cd_insert(
    domain: DomainArgument,
    drive: DriveArgument,
    medium: Annotated[str, typer.Argument(help="A raw image (.iso), or FILE,qcow2.", metavar="MEDIUM")],
) -> None:
    """Put a medium into a CD-ROM drive of a running domain."""
    _change_medium(domain, drive, medium)


@command("cd-eject")
def cd_eject(domain: DomainArgument, drive: DriveArgument) -> None:
    """Take the medium out of a CD-ROM drive of a running domain."""
    _change_medium(domain, drive, "")


def _change_medium(domain: str, drive: str, medium: str) -> None:
    from pvhv.toolstack.disk_spec import parse_medium

    if "," in drive:
        raise ToolstackError(f"'{shown(drive)}' is not the name of a disk", "pvhv block-list shows which there are")
    ask(domain, "cd_change", disk=list(parse_medium(medium, drive, Path.cwd())))
