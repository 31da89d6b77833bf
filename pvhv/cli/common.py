# SPDX-License-Identifier: GPL-2.0-or-later
"""What all commands share: how they print messages, find pvhvd, and end.

An error is one sentence on standard error, with what to do about it below, and an exit status: 1, or 2 for a
wrong command line. There is never a traceback but for our own mistakes. Nothing here imports typer, which is
most of what a quick command would wait for.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pvhv.toolstack.errors import ToolstackError, no_domain
from pvhv.toolstack.names import clean

if TYPE_CHECKING:
    from pvhv.toolstack.client import Client

BROKEN_PIPE_STATUS = 141
INTERRUPTED_STATUS = 130
CANNOT_WRITE = {errno.EPIPE, errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF, errno.EINVAL, errno.EAGAIN}


def say(text: str) -> None:
    """Print a message of pvhv's own on standard error. Standard output is for guests and for answers."""
    head, *rest = text.splitlines() or [""]
    complain("\n".join([f"pvhv: {head}", *(f"      {line}" for line in rest)]))


def complain(text: str) -> None:
    """Print lines on standard error; on a terminal they begin on a new line, not behind the guest's prompt."""
    from pvhv.cli.terminal import leave_line

    leave_line()
    print(clean(text), file=sys.stderr, flush=True)


def status_of(function: Callable[..., None], *arguments: Any, **options: Any) -> int:
    """Run a command, and print its error if there is one. Returns the exit status."""
    try:
        function(*arguments, **options)
        sys.stdout.flush()
    except ToolstackError as error:
        say(str(error))
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    except OSError as error:
        return stopped_by(error)
    return 0


def stopped_by(error: OSError) -> int:
    """Print an error of the system that no function below handled. Returns the exit status.

    That is a standard output that takes no more (no message if its reader is gone; a message if the disk is full), or a
    host without resources.
    """
    if error.filename is not None or error.errno not in CANNOT_WRITE:
        say(f"cannot go on: {error.strerror}" + (f": {error.filename}" if error.filename else ""))
        return 1
    quiet_stdout()
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE_STATUS
    say(f"cannot write to standard output: {error.strerror}")
    return 1


def quiet_stdout() -> None:
    """The reader of our output is gone: keep the interpreter from complaining at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def connect() -> Client:
    """A connection to pvhvd, which is started if it is not up. Raises ToolstackError."""
    from pvhv.toolstack.client import connect as find

    client = find(say)
    assert client is not None
    return client


def connect_if_up() -> Client | None:
    """A connection to pvhvd, or None if it is not up: for commands that have nothing to ask a new one."""
    from pvhv.toolstack.client import connect as find

    return find(say, start=False)


def ask(who: str, call: str, **arguments: Any) -> Any:
    """Call a verb about domain `who`. Raises ToolstackError; without a pvhvd there is no domain."""
    client = connect_if_up()
    if client is None:
        raise no_domain(who)
    with client:
        return client.call(call, domain=who, **arguments)
