# SPDX-License-Identifier: GPL-2.0-or-later
"""pvhvd, the host process: one hypervisor, its domains, and a socket.

The hypervisor has a thread of its own, on which everything of domains and devices happens; the main thread
serves clients (asyncio) and signals. It holds a lock as long as it lives; a second
process cannot get the lock, and ends quietly. The list of domains is written to a small file, which an orderly end
removes. If the file is left behind, pvhvd was killed, and the next command says which domains were lost. If the
runtime directory is removed (temporary files are, now and then), pvhvd makes it again, and clients find it again.

    python -m pvhv.toolstack.daemon pvhvd

Started by the first command that needs it (pvhv.toolstack.client), never by hand. It goes to the background
by being started in a session of its own; its standard output is the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from pvhv.toolstack import disks
from pvhv.toolstack.client import listens
from pvhv.toolstack.daemon_log import log
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.fingerprint import fingerprint
from pvhv.toolstack.lock import acquire, is_same
from pvhv.toolstack.paths import Paths, runtime_directory
from pvhv.toolstack.plainfile import write_text
from pvhv.toolstack.server import LEAST_DESCRIPTORS

if TYPE_CHECKING:
    from pvhv.core.hypervisor import Hypervisor
    from pvhv.toolstack.guest import Guest
    from pvhv.toolstack.server import Call

# Its memory, committed as guests touch it; less where the host allows no more, and no room for engines beside it.
MACHINES_MIB = (8 << 10, 4 << 10, 2 << 10, 1 << 10, 512)
ROOM_BESIDES = 768 << 20
SWITCH_INTERVAL_S = 0.001  # clients are answered while guests keep the hypervisor's thread busy
CLOSE_WITHIN_S = 20.0  # images; their tables are written then, to a host's disk that may be slow
ENDED_BADLY = 70
MOST_DESCRIPTORS = 4096  # that we ask for
LOOK_EVERY_S = 5.0


class Logged(logging.Handler):
    """Messages of libraries, which go to the host process's log."""

    def emit(self, record: logging.LogRecord) -> None:
        log(self.format(record))


class Daemon:
    """The host process: a hypervisor's thread, a server, and their beginning and end."""

    def __init__(self, paths: Paths, lock: IO[bytes]) -> None:
        from pvhv.core.hypervisor import Hypervisor
        from pvhv.toolstack.console_log import ConsoleLogs
        from pvhv.toolstack.garbage import Garbage
        from pvhv.toolstack.host import Host
        from pvhv.toolstack.server import Server
        from pvhv.toolstack.service import Service

        self.paths = paths
        self.lock = lock
        self.hypervisor = self._machine(Hypervisor)
        self.host = Host(self.hypervisor, cores=paths.directory / "dump")
        self.host.listeners.append(lambda _guest, _what: self._note_domains())
        self.garbage = Garbage()
        self.host.listeners.append(self._look_for_garbage)
        self.logs = ConsoleLogs(self.host, paths.directory, self._warn)
        self.service = Service(self.hypervisor, self.host, fingerprint(), self._stop)
        self.service.handlers["console_log"] = self._console_log
        self.server = Server(paths, self.service.handlers, log)
        self.ending: asyncio.Future[int]
        self.orderly = False
        self.replaced = False  # the files of the runtime directory are another process's
        self.notes_domains = True  # whether the last try to did

    @staticmethod
    def _machine(hypervisor: type[Hypervisor]) -> Hypervisor:
        from pvhv.machine.engine import require_room

        for mebibytes in MACHINES_MIB:
            try:
                require_room((mebibytes << 20) + ROOM_BESIDES * (mebibytes != MACHINES_MIB[-1]), "it")
                return hypervisor(memory_frames=mebibytes << 8)
            except (OSError, MemoryError) as failure:
                log(f"no machine of {mebibytes} MiB: {failure}")
        raise MemoryError(
            f"the host has no address space for a machine of {MACHINES_MIB[-1]} MiB (ulimit -v?)"
        )

    def _note_domains(self) -> None:
        """Write the list of domains to a file, for the next host process, if this one is killed."""
        names = [[guest.domid, guest.name] for guest in self.host.guests.values() if guest.ended is None]
        whole = self.paths.domains.with_suffix(".new")
        try:
            write_text(whole, json.dumps({"pid": os.getpid(), "domains": names}))
            os.replace(whole, self.paths.domains)
        except OSError as error:  # domains live without it; an older note would tell of others
            if self.notes_domains:
                log(f"cannot note down what runs: {error}")
            self.notes_domains = False
            with contextlib.suppress(OSError):
                self.paths.domains.unlink(missing_ok=True)
                whole.unlink(missing_ok=True)
        else:
            self.notes_domains = True

    def _look_for_garbage(self, _guest: Guest, what: str) -> None:
        if what == "gone":
            self.garbage.domain_gone(others=bool(self.host.guests))

    def _warn(self, text: str) -> None:
        """Write a warning to our log and to the hypervisor's log. Any thread may."""
        log(text)
        self.hypervisor.post(lambda: self.hypervisor.console.log(text))

    async def _console_log(self, call: Call, **changes: object) -> dict[str, object]:
        """Change how consoles are logged, if settings are given. Returns how they are logged now."""
        from pvhv.toolstack.console_log import Settings

        if changes:
            settings = Settings.of({**asdict(self.logs.settings), **changes})
            await self.service.post(lambda: self.logs.change(settings))
        return {**asdict(self.logs.settings), "directory": str(self.logs.directory)}

    def _stop(self) -> None:
        self.orderly = True
        self._end(0)

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error in the event loop that no caller gets."""
        failure = context.get("exception")
        log(f"{context.get('message')}" + ("".join(traceback.format_exception(failure)) if failure else ""))

    def _end(self, status: int) -> None:
        if not self.ending.done():
            self.ending.set_result(status)

    def _run_hypervisor(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self.hypervisor.run()
        except BaseException:
            log(f"the hypervisor's thread died:\n{traceback.format_exc()}")
            loop.call_soon_threadsafe(self._end, ENDED_BADLY)

    async def _stay_reachable(self) -> None:
        """Listen anew when the runtime directory was removed; end when another host process has taken our place."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if self.server.is_there() and is_same(self.lock, self.paths.lock):
                    continue
                runtime_directory()
                if not is_same(self.lock, self.paths.lock):
                    lock = acquire(self.paths.lock)
                    if lock is None:
                        log("another pvhvd has taken this one's place")
                        self.replaced = True
                        self._end(0)
                        return
                    self.lock = lock
                await self.server.start()
                self._note_domains()
                log(f"pvhvd {os.getpid()} listens again: its socket was removed")
            except (OSError, ToolstackError) as error:
                log(f"pvhvd {os.getpid()} cannot be reached: {error}")

    async def serve(self) -> int:
        """Serve until stopped. Returns the exit status."""
        from pvhv.machine.engine import uncorrected

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._complain)
        self.ending = loop.create_future()
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            # What is ignored stays so: who started the first command wanted it (nohup, a job in the background).
            if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
                with contextlib.suppress(NotImplementedError):  # Windows' loop has no signals
                    loop.add_signal_handler(getattr(signal, name), self._end, 0)
        thread = threading.Thread(target=self._run_hypervisor, args=(loop,), name="hypervisor", daemon=True)
        thread.start()
        await self.server.start()
        log(f"pvhvd {os.getpid()} is up")
        if warning := uncorrected():
            log(warning)
        reachable = asyncio.create_task(self._stay_reachable())
        status = await self.ending
        reachable.cancel()
        self.server.close(ours=not self.replaced)
        await asyncio.sleep(0.05)  # let the last answers out
        self.hypervisor.stop()
        thread.join(5)
        disks.finish([file for guest in self.host.guests.values() for file in guest.files], CLOSE_WITHIN_S)
        self.logs.stop()
        if not self.replaced and (self.orderly or not self.host.guests):
            with contextlib.suppress(OSError):
                self.paths.domains.unlink(missing_ok=True)
        log("pvhvd ends")
        return status


def wait_for_lock(paths: Paths) -> IO[bytes] | None:
    """The lock; None when another process serves already, or holds it for longer than a client needs for a look."""
    for _attempt in range(50):
        lock = acquire(paths.lock)
        if lock is not None:
            return lock
        if listens(paths):
            return None
        time.sleep(0.01)
    return None


def name_process() -> None:
    """Set the process's name to pvhvd in lists of processes, where the host can do that."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(15, b"pvhvd", 0, 0, 0)  # PR_SET_NAME


def have_last_words() -> None:
    """If a signal kills the process, have the log say which signal, which domain ran last, and what each thread did."""
    from pvhv.machine import seam

    faulthandler.enable(1)
    seam.tell_last_words(1)


def want_descriptors() -> None:
    """Raise the limit of file descriptors as far as the host allows. Raises OSError if that is too few."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft != resource.RLIM_INFINITY and soft < LEAST_DESCRIPTORS:
        raise OSError(errno.EMFILE, f"it may have {soft} descriptors, and needs {LEAST_DESCRIPTORS} (ulimit -n)")


def main() -> int:
    """Run the host process. Returns its exit status."""
    try:
        paths = Paths()
        lock = wait_for_lock(paths)
        if lock is None:
            return 0  # another one is up, or coming up: our client will find it
        log.path = paths.log
        log.turn_over()
        want_descriptors()
    except (ToolstackError, OSError) as error:
        log(f"pvhvd cannot be here: {error.strerror if isinstance(error, OSError) else error.message}")
        return ENDED_BADLY
    logging.basicConfig(handlers=[Logged()], level=logging.WARNING)
    name_process()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        have_last_words()
        with contextlib.suppress(OSError):
            paths.domains.unlink(missing_ok=True)
        daemon = Daemon(paths, lock)
        daemon.garbage.begin()
        return asyncio.run(daemon.serve())
    except (MemoryError, ToolstackError) as error:
        log(f"pvhvd cannot be here: {error}")
        return ENDED_BADLY
    except Exception:
        log(traceback.format_exc())
        return ENDED_BADLY


if __name__ == "__main__":
    sys.exit(main())
