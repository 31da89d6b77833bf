# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumping the core of a domain whose file says coredump-destroy or coredump-restart.

The core goes to the directory `dump` beside the consoles' logs, into a file with the domain's name, which replaces an
older one. A thread asks the hypervisor for one step after another; no guest waits for it. (dump_access.py dumps for
clients.)

Read beside it: handle_domain_death in tools/xl/xl_vmcontrol.c.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pvhv.toolstack.core_dump import CoreDump
from pvhv.toolstack.core_writer import write_core
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import file_name

if TYPE_CHECKING:
    from pvhv.core.hypervisor import Hypervisor
    from pvhv.toolstack.guest import Guest

T = TypeVar("T")
LOOK_EVERY_S = 0.5
FILES = threading.Semaphore(2)  # that are written at once: one disk has them all


class Asker:
    """Runs steps on the hypervisor's thread, and waits for each, until it is told to stop."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self.hypervisor = hypervisor
        self.stopped = threading.Event()

    def __call__(self, step: Callable[[], T]) -> T:
        future: Future[T] = self.hypervisor.post(step)
        return self.wait(future)

    def wait(self, future: Future[T]) -> T:
        """The result of `future`. Raises ToolstackError if the dump is to stop."""
        while not self.stopped.is_set():
            with suppress(TimeoutError):
                return future.result(LOOK_EVERY_S)
        raise ToolstackError("the dump was stopped before its end")


def dump_to_file(guest: Guest, directory: Path, done: Callable[[], None]) -> None:
    """Dump a domain that has stopped. Then `done()` is called on the hypervisor's thread, even if the dump failed."""
    hypervisor = guest.hypervisor
    path = directory / file_name(guest.name)

    def run() -> None:
        try:
            with FILES:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                written = write_core(path, dump.pieces(Asker(hypervisor)))
            told = f"{dump.name}: its core is in {path}, {written >> 20} MiB"
        except (ToolstackError, OSError) as failure:
            told = f"{dump.name}: its core could not be dumped: {failure}"
        hypervisor.post(lambda: hypervisor.console.log(told))
        hypervisor.post(done)

    try:
        dump = CoreDump(guest)
    except ToolstackError as failure:
        hypervisor.console.log(str(failure))
        hypervisor.post(done)
        return
    threading.Thread(target=run, name="core dump", daemon=True).start()
