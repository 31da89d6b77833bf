# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv xenstore-*`: read and change the store, with the names, options and output of Xen's own tools.

A path that does not begin with / is one of domain 0's, below /local/domain/0. A command with several paths
is one transaction: all or nothing.

Read beside it: tools/xenstore/xenstore_client.c, docs/man/xenstore-*.1.pod.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvhv.abi.io.xs_wire import XS_CONTROL, XS_READ, XS_WRITE
from pvhv.cli.commands import AsJson, command
from pvhv.cli.output import print_json
from pvhv.cli.xenstore_access import answered, at_once, below, printable, store, trying
from pvhv.cli.xenstore_text import lines, sanitise, unsanitise
from pvhv.toolstack.errors import UsageError, no_domain

if TYPE_CHECKING:
    from pvhv.toolstack.xenstore_client import Store

Paths = Annotated[list[str], typer.Argument(help="A node's path.", metavar="PATH")]
Socket = Annotated[bool, typer.Option("-s", hidden=True)]  # Xen's tools take it, and do nothing about it
Raw = Annotated[bool, typer.Option("-R", "--raw", help="Values as raw bytes, without backslashes.")]
PERMISSION = re.compile(r"[nrwb]\d{1,5}", re.ASCII)
LONGEST = 1 << 31
WHICH_DOMAINS = "`pvhv list` shows which there are"


@command("xenstore-ls")
def xenstore_ls(
    paths: Annotated[list[str] | None, typer.Argument(help="The node to list; / by default.", metavar="PATH")] = None,
    flat: Annotated[bool, typer.Option("-f", "--flat", help="Show the whole path and value on each line.")] = False,
    permissions: Annotated[bool, typer.Option("-p", "--prefix", help="Show permissions as well.")] = False,
    as_json: AsJson = False,
    _socket: Socket = False,
) -> None:
    """Show nodes of the store with all below them, as a tree."""
    width = None
    if not flat:
        width = os.get_terminal_size(1).columns - 2 if sys.stdout.isatty() else 80
    rows: list[dict[str, Any]] = []
    with store() as held:
        for path in paths or ["/"]:
            with trying(f"list {printable(path)}"):
                nodes = below(held, os.fsencode(path), permissions or as_json)
            if as_json:
                rows += [
                    {"path": _text(node.path), "value": _text(node.value), "permissions": node.permissions}
                    for node in nodes
                ]
            else:
                for line in lines(nodes, width):
                    print(line)
    if as_json:
        print_json(rows)


@command("xenstore-read")
def xenstore_read(
    paths: Paths,
    prefix: Annotated[bool, typer.Option("-p", "--prefix", help="Print each value behind its path.")] = False,
    raw: Raw = False,
    as_json: AsJson = False,
    _socket: Socket = False,
) -> None:
    """Print the values of nodes."""
    from pvhv.toolstack.xenstore_client import StoreFault

    values: list[bytes] = []

    def work() -> None:
        values.clear()
        answers = held.ask_all([(XS_READ, os.fsencode(path) + b"\0") for path in paths])
        for path, answer in zip(paths, answers, strict=True):
            values.append(answered(answer, f"read {printable(path)}"))

    with store() as held:
        fault = None
        try:
            at_once(held, paths, work)
        except StoreFault as met:  # what was read before it is shown
            fault = met
        if as_json:
            print_json({path: _text(value) for path, value in zip(paths, values, strict=False)})
        else:
            for path, value in zip(paths, values, strict=False):
                sys.stdout.buffer.write(os.fsencode(f"{path}: ") if prefix else b"")
                sys.stdout.buffer.write(value if raw else sanitise(value).encode() + b"\n")
        if fault is not None:
            sys.stdout.flush()
            raise fault


@command("xenstore-write")
def xenstore_write(
    pairs: Annotated[list[str], typer.Argument(help="Paths, each with its value.", metavar="PATH VALUE")],
    raw: Raw = False,
    _socket: Socket = False,
) -> None:
    """Set the values of nodes; missing nodes are made."""
    if len(pairs) % 2:
        raise UsageError(f"{printable(pairs[-1])} has no value", "type pvhv xenstore-write PATH VALUE [PATH VALUE ...]")
    settings = [
        (path, os.fsencode(text) if raw else unsanitise(os.fsencode(text)))
        for path, text in zip(pairs[::2], pairs[1::2], strict=True)
    ]

    def work() -> None:
        answers = held.ask_all([(XS_WRITE, os.fsencode(path) + b"\0" + value) for path, value in settings])
        for (path, _value), answer in zip(settings, answers, strict=True):
            answered(answer, f"write {printable(path)}")

    with store() as held:
        at_once(held, settings, work)


@command("xenstore-list")
def xenstore_list(
    paths: Paths,
    prefix: Annotated[bool, typer.Option("-p", "--prefix", help="Print each name behind its node's path.")] = False,
    as_json: AsJson = False,
    _socket: Socket = False,
) -> None:
    """Print the names right below nodes."""
    found: dict[str, list[bytes]] = {}

    def work() -> None:
        found.clear()
        for path in paths:
            with trying(f"list {printable(path)}"):
                found[path] = held.directory(os.fsencode(path))

    with store() as held:
        held.together(work)
    if as_json:
        print_json({path: [_text(name) for name in names] for path, names in found.items()})
        return
    for path, names in found.items():
        for name in names:
            print((f"{path}/" if prefix else "") + name.decode())


@command("xenstore-exists")
def xenstore_exists(paths: Paths, _socket: Socket = False) -> None:
    """Check whether all nodes exist: the exit status is 0 if they do, 1 if not."""
    from pvhv.toolstack.xenstore_client import StoreFault

    def work() -> None:
        for path in paths:
            held.read(os.fsencode(path))

    with store() as held:
        try:
            held.together(work)
        except StoreFault:
            raise typer.Exit(1) from None


@command("xenstore-rm")
def xenstore_rm(
    paths: Paths,
    tidy: Annotated[
        bool, typer.Option("-t", "--tidy", help="Remove directories that become empty as well.")
    ] = False,
    _socket: Socket = False,
) -> None:
    """Remove nodes with all below them."""

    def work() -> None:
        for path in paths:
            with trying(f"remove {printable(path)}"):
                _remove(held, os.fsencode(path), tidy)

    with store() as held:
        held.together(work)


def _remove(held: Store, path: bytes, tidy: bool) -> None:
    from pvhv.toolstack.xenstore_client import StoreFault

    held.remove(path)
    above = path.rpartition(b"/")[0]
    try:
        empty = tidy and above and not held.read(above) and not held.directory(above)
    except StoreFault:
        return
    if empty:
        _remove(held, above, tidy)


@command("xenstore-chmod")
def xenstore_chmod(
    path: Annotated[str, typer.Argument(help="A node's path.", metavar="PATH")],
    permissions: Annotated[
        list[str],
        typer.Argument(help="The owner and what others may do, then what single domains may do: n0 r5", metavar="PERM"),
    ],
    upto: Annotated[bool, typer.Option("-u", "--upto", help="Change all nodes above it, too.")] = False,
    recurse: Annotated[bool, typer.Option("-r", "--recurse", help="Change all nodes below it, too.")] = False,
    _socket: Socket = False,
) -> None:
    """Set who may do what with a node: n (nothing), r (read), w (write) or b (both), and a domain's id."""
    for each in permissions:
        if not PERMISSION.fullmatch(each):
            raise UsageError(
                f"{printable(each)} is not a permission", "it is n, r, w or b and a domain's id: n0, or r5"
            )
    if upto and "/" not in path:
        raise UsageError(f"{printable(path)} has nothing above it to change", "give the absolute path, from /")

    from pvhv.toolstack.xenstore_client import StoreFault

    def work() -> None:
        with trying(f"set the permissions of {printable(path)}"):
            concerned = [*_concerned(held, os.fsencode(path), upto, recurse)]
            held.read(concerned[0])
            try:
                for each in concerned:
                    held.set_permissions(each, permissions)
            except StoreFault as fault:
                if fault.name != "ENOENT":
                    raise
                # The nodes are there: it is the owner that is missing.
                raise no_domain(permissions[0][1:], WHICH_DOMAINS) from None

    with store() as held:
        held.together(work)


def _concerned(held: Store, path: bytes, upto: bool, recurse: bool) -> Iterator[bytes]:
    yield path
    above = path.rpartition(b"/")[0]
    while upto and above:
        yield above
        above = above.rpartition(b"/")[0]
    if recurse:
        yield from (node.path for node in below(held, path, permissions=False))


@command("xenstore-watch")
def xenstore_watch(
    paths: Paths,
    count: Annotated[
        int | None, typer.Option("-n", "--number", help="End after so many events.", metavar="N", min=0, max=LONGEST)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object on each line.")] = False,
) -> None:
    """Print the path of each change at or below nodes, until Ctrl-C. Each watched path is printed once at the
    beginning."""
    with store() as held:
        for path in paths:
            with trying(f"watch {printable(path)}"):
                held.watch(os.fsencode(path), os.fsencode(path))
        told = 0
        while count is None or told < count:
            event = held.next_event()
            if as_json:
                print(json.dumps({"path": _text(event.path), "watch": _text(event.token)}), flush=True)
            else:
                print(event.path.decode("ascii", "backslashreplace"), flush=True)
            told += 1


@command("xenstore-control")
def xenstore_control(
    words: Annotated[list[str], typer.Argument(help="What to do; help lists it.", metavar="WORD")],
) -> None:
    """Control the store itself: its quotas, what a domain has used of them, a check, a log of requests."""
    from pvhv.toolstack.xenstore_client import StoreFault

    with store() as held:
        try:
            answer = held.ask(XS_CONTROL, *map(os.fsencode, words))
        except StoreFault as fault:
            if fault.name == "ENOENT":  # all that can be missing is a domain
                raise no_domain(words[-1], WHICH_DOMAINS) from None
            if fault.name != "EINVAL":
                raise StoreFault(fault.name, f"could not do {printable(' '.join(words))}") from None
            known = held.ask(XS_CONTROL, b"help").rstrip(b"\0").decode().replace("\t", " ")
            raise UsageError(f"the store does not know {printable(' '.join(words))}", f"it knows:\n{known}") from None
    print(answer.rstrip(b"\0").decode())


def _text(value: bytes | None) -> str | None:
    """A value in JSON: UTF-8, where another byte is a lone surrogate (Python's surrogateescape)."""
    return None if value is None else value.decode("utf-8", "surrogateescape")
