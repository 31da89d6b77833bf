# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv create -c`: make a domain, and attach to its console from the first byte on.

At a terminal the console is attached as `pvhv console` does it. With other standard input the command is a *run*: the
input is fed to the guest, the guest is not restarted, and the exit status says how it ended.
"""

from __future__ import annotations

import os
import select
import sys
import time
from signal import SIGINT
from typing import TYPE_CHECKING, Any

from pvhv.build.progress import Progress
from pvhv.cli import signals
from pvhv.cli.common import INTERRUPTED_STATUS, complain, connect, say, stopped_by
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import quoted

if TYPE_CHECKING:
    from pvhv.toolstack.client import Client
    from pvhv.toolstack.config import DomainConfig

GRACE_S = 5.0  # for pvhvd to end a guest that had its time
PREFETCH = 1 << 20
PREFETCH_WITHIN_S = 0.25

WORDS = {
    "reboot": "{name} rebooted",
    "crash": "{name} crashed",
    "watchdog": "{name} was stopped by its watchdog",
    "destroyed": "{name} was destroyed",
    "timeout": "{name} did not end within {allowed}, and was destroyed",
    "suspend": "{name} suspended itself, and there is nothing here to wake it with",
}


def with_console(
    client: Client,
    config: DomainConfig,
    paused: bool,
    escape: int,
    deadline: float | None,
    timeout: float | None,
) -> int:
    """Make a domain, and attach to its console. Returns the exit status."""
    from pvhv.cli.session import Detached, Session, TimedOut

    interactive = sys.stdin.isatty()
    typed, ended = (b"", False) if interactive or config.clock == "wall" else prefetch()
    made: dict[str, Any] = {}
    try:
        with signals.heard():
            number = client.start(
                "create",
                config=config.to_wire(),
                paused=paused,
                attach=True,
                one_run=not interactive,
                typed=typed,
                lifetime=None if deadline is None else max(deadline - time.monotonic(), 0.0),
            )
            _wait_until_made(client, made)
            if interactive:
                say(f"{made['name']} is domain {made['domid']}; {key_name(escape)} leaves its console")
            unanswered = None if deadline is None else deadline + GRACE_S
            ending = Session(client, number, escape if interactive else None, not ended, deadline=unanswered).run()
        if ending["ending"] == "timeout":
            destroy(ending)  # which waits until it is gone
        return report_end(ending, timeout)
    except Detached:
        say(f"{made['name']} goes on; `pvhv console {quoted(made['name'])}` comes back")
        return 0
    except TimedOut:
        destroy(made)
        say(WORDS["timeout"].format(name=made["name"], allowed=f"{timeout:g} s"))
        from pvhv.toolstack.lifecycle import TIMEOUT_STATUS

        return TIMEOUT_STATUS
    except KeyboardInterrupt:
        if not interactive:
            destroy(made)
            say(f"interrupted; {config.name} was destroyed")
        return INTERRUPTED_STATUS
    except signals.Terminated as signal:
        if not interactive:
            destroy(made)
        return signal.status
    except OSError as error:  # nobody reads our output, or it cannot be written
        if not interactive or isinstance(error, BrokenPipeError):
            destroy(made)
        return stopped_by(error)


def _wait_until_made(client: Client, made: dict[str, Any]) -> None:
    """Wait until the domain is made, and put what pvhvd says of it into `made`. Raises ToolstackError.

    If a signal asks us to end meanwhile, the connection is ended, but what has come is still read: the domain may be
    made already.
    """
    from pvhv.toolstack.client import Lost

    asked_to_go = signals.Deferred(client.hang_up)
    with signals.heard(asked_to_go, also=(SIGINT,)), Progress("pvhv:") as progress:
        try:
            while "stage" in (first := client.receive()).get("item", ()):
                progress.at(first["item"]["stage"])
        except Lost:
            asked_to_go.check()
            raise
        if "item" not in first:
            client.result(first)  # raises what went wrong
        made.update(first["item"]["created"])
        asked_to_go.check()


def report_end(ending: dict[str, Any], timeout: float | None = None) -> int:
    """Print how a guest ended, unless its own output says so. Returns the exit status."""
    if ending["report"]:
        complain(ending["report"])
    words = WORDS.get(ending["ending"], "" if ending["ending"] == "poweroff" else "{name} ended: {ending}")
    if words:
        kept = f"\nit is kept as it was; `pvhv destroy {quoted(ending['name'])}` removes it" if ending["kept"] else ""
        allowed = "its time" if timeout is None else f"{timeout:g} s"
        say(words.format(**ending, allowed=allowed) + kept)
    status: int = ending["status"]
    return status


def destroy(made: dict[str, Any]) -> None:
    """Destroy the domain of a run that was interrupted. This uses a new connection: the other may be read only in
    part."""
    if not made:
        return  # hanging up took it back
    try:
        with connect() as client:
            client.call("destroy", domain=str(made["domid"]))
    except ToolstackError:
        pass  # it is gone already, or pvhvd is


def prefetch() -> tuple[bytes, bool]:
    """Read what standard input has ready. Returns (bytes, whether that is all of it).

    On a virtual clock a run must not depend on the speed of its input. So all input that is ready is given to the guest
    before its first instruction.
    """
    data = b""
    descriptor = sys.stdin.fileno()
    deadline = time.monotonic() + PREFETCH_WITHIN_S
    while len(data) < PREFETCH:
        wait = max(deadline - time.monotonic(), 0)
        if sys.platform != "win32" and not select.select([descriptor], [], [], wait)[0]:
            return data, False
        try:
            piece = os.read(descriptor, 64 << 10)
        except OSError:  # a directory, a terminal that is gone: nothing will come
            piece = b""
        if not piece:
            return data, True
        data += piece
    return data, False


def key_name(escape: int) -> str:
    """The name of a key, for a message."""
    return f"Ctrl-{chr(escape + 64)}" if escape < 32 else f"'{chr(escape)}'"
