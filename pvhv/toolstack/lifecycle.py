# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's life, as tables: in which state what may happen, and what follows a shutdown.

    building -> running <-> paused        and from either, by the guest's own doing or by `destroy`,
    running  -> shut down                 the domain stopped, and is kept to be looked at (preserve)
    any      -> dying -> gone             taken apart; `gone` may be followed by another life (restart)

A shutdown has a code (SHUTDOWN_*). The code has a name, an exit status and a key of the domain file, which says what
follows. (A domain whose core is to be dumped is kept until that is done.) A guest that restarts again and again after a
short life is kept instead: else it would keep the machine busy with building it.

Read beside it: handle_domain_death in tools/xl/xl_vmcontrol.c, docs/man/xl.cfg.5 (EVENT ACTIONS).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from pvhv.abi.sched import (
    SHUTDOWN_crash,
    SHUTDOWN_poweroff,
    SHUTDOWN_reboot,
    SHUTDOWN_soft_reset,
    SHUTDOWN_suspend,
    SHUTDOWN_watchdog,
)
from pvhv.toolstack.config import EVENTS, DomainConfig
from pvhv.toolstack.errors import ToolstackError

REBOOT_STATUS, CRASH_STATUS, WATCHDOG_STATUS, TIMEOUT_STATUS = 10, 20, 21, 124


class State(Enum):
    BUILDING = "building"
    RUNNING = "running"
    PAUSED = "paused"
    SHUT_DOWN = "shut down"
    DYING = "dying"
    GONE = "gone"


# (state, what happens) -> state. What has no row cannot be done then.
TRANSITIONS: dict[tuple[State, str], State] = {
    (State.BUILDING, "built"): State.PAUSED,
    (State.BUILDING, "destroy"): State.DYING,
    (State.PAUSED, "unpause"): State.RUNNING,
    (State.PAUSED, "shutdown"): State.SHUT_DOWN,
    (State.PAUSED, "destroy"): State.DYING,
    (State.RUNNING, "pause"): State.PAUSED,
    (State.RUNNING, "shutdown"): State.SHUT_DOWN,
    (State.RUNNING, "destroy"): State.DYING,
    (State.SHUT_DOWN, "destroy"): State.DYING,
    (State.DYING, "destroyed"): State.GONE,
}

# Why something cannot be done, for people: (state, what) -> words; by state alone otherwise.
REFUSALS: dict[tuple[State, str], str] = {
    (State.RUNNING, "unpause"): "is not paused",
    (State.PAUSED, "pause"): "is paused already",
}


def after(state: State, what: str, name: str) -> State:
    """The state that follows. Raises ToolstackError when the table has no such row."""
    following = TRANSITIONS.get((state, what))
    if following is None:
        words = REFUSALS.get((state, what), f"is {state.value}: it cannot be {_done(what)}")
        raise ToolstackError(f"domain {name} {words}")
    return following


def _done(what: str) -> str:
    return {"pause": "paused", "unpause": "unpaused", "destroy": "destroyed"}.get(what, what)


class Ending(NamedTuple):
    """A way a domain stops: its name, the exit status of a command, and the key of the domain file that says what
    follows."""

    name: str
    status: int
    key: str


ENDINGS: dict[int, Ending] = {
    SHUTDOWN_poweroff: Ending("poweroff", 0, "on_poweroff"),
    SHUTDOWN_reboot: Ending("reboot", REBOOT_STATUS, "on_reboot"),
    SHUTDOWN_suspend: Ending("suspend", 1, "on_crash"),  # there is nothing here to resume it from
    SHUTDOWN_crash: Ending("crash", CRASH_STATUS, "on_crash"),
    SHUTDOWN_watchdog: Ending("watchdog", WATCHDOG_STATUS, "on_watchdog"),
    SHUTDOWN_soft_reset: Ending("soft_reset", 1, "on_soft_reset"),
}
DESTROYED = Ending("destroyed", 1, "")
OUTLIVED = Ending("timeout", TIMEOUT_STATUS, "")


def ending(code: int) -> Ending:
    """The ending for a shutdown code; an unknown code is a crash with that code."""
    return ENDINGS.get(code, Ending(f"shutdown code {code}", 1, "on_crash"))


class Action(NamedTuple):
    """What follows a shutdown."""

    destroy: bool  # the domain is taken apart
    restart: bool  # and built anew, or beside what is kept
    rename: bool  # what is kept gives up its name
    dump: bool = False  # its core is dumped before that


# A soft reset is asked of Xen, which refuses it for paravirtual domains: xl destroys them then.
ACTIONS: dict[str, Action] = {
    "destroy": Action(destroy=True, restart=False, rename=False),
    "restart": Action(destroy=True, restart=True, rename=False),
    "rename-restart": Action(destroy=False, restart=True, rename=True),
    "preserve": Action(destroy=False, restart=False, rename=False),
    "coredump-destroy": Action(destroy=True, restart=False, rename=False, dump=True),
    "coredump-restart": Action(destroy=True, restart=True, rename=False, dump=True),
    "soft-reset": Action(destroy=True, restart=False, rename=False),
}
DUMPING = ("coredump-destroy", "coredump-restart")

QUICK_LIFE_S = 1.0
QUICK_RESTARTS = 5


def why_not_again(quick_lives: int, engine_died: bool) -> str | None:
    """Why pvhv does not restart a domain whose file says restart; None if it does."""
    if engine_died:
        return "the engine died while it ran, which costs pvhvd memory each time"
    if quick_lives >= QUICK_RESTARTS:
        return "it restarts too quickly"
    return None


def action(config: DomainConfig, end: Ending, not_again: str | None = None) -> Action:
    """What the domain file says follows; with `not_again`, the domain is not to be restarted."""
    chosen = ACTIONS[getattr(config, end.key)]
    if chosen.restart and not_again is not None:
        return ACTIONS["preserve"]
    return chosen


def for_one_run(config: DomainConfig) -> DomainConfig:
    """The configuration for a run whose caller waits for the end: no restart, and nothing is kept unless the file says
    so."""
    changed = {
        key: "coredump-destroy" if getattr(config, key) in DUMPING else "destroy"
        for key in EVENTS
        if getattr(config, key) != "preserve" or key not in config.given
    }
    return DomainConfig(**{**vars(config), **changed})
