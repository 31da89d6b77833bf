# SPDX-License-Identifier: GPL-2.0-or-later
"""What all commands share: how one speaks, how it finds pvhvd, and how it ends.

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
    """A word of pvhv's own: standard error is ours, standard output is the guest's and the answers'."""
    head, *rest = text.splitlines() or [""]
    complain("\n".join([f"pvhv: {head}", *(f"      {line}" for line in rest)]))


def complain(text: str) -> None:
    """Lines on standard error, where a terminal shows both: not behind the guest's prompt."""
    from pvhv.cli.terminal import leave_line

    leave_line()
    print(clean(text), file=sys.stderr, flush=True)


def status_of(function: Callable[..., None], *arguments: Any, **options: Any) -> int:
    """Run a command; its exit status, whatever stood in its way."""
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
    """The system refuses something nobody below had words for: the exit status.

    That is a standard output that takes no more (that its reader has enough is no news, a full disk is), or a host
    in a bad way.
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
    """Whoever read our output has enough; keep the interpreter from complaining at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def connect() -> Client:
    """A connection to pvhvd, which is started where it is not up."""
    from pvhv.toolstack.client import connect as find

    client = find(say)
    assert client is not None
    return client


def connect_if_up() -> Client | None:
    """A connection to pvhvd if there is one: for commands that have nothing to ask a new one."""
    from pvhv.toolstack.client import connect as find

    return find(say, start=False)


def ask(who: str, call: str, **arguments: Any) -> Any:
    """Ask something about a domain; without a pvhvd there is none."""
    client = connect_if_up()
    if client is None:
        raise no_domain(who)
    with client:
        return client.call(call, domain=who, **arguments)
