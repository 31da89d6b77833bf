# SPDX-License-Identifier: GPL-2.0-or-later
"""Each guest's console in a file, as `xenconsoled --log=guest` writes it: guest-NAME.log, byte for byte.

If a domain's name cannot be a file's name, pvhv.toolstack.names makes one of it (`a/b` is a%2Fb).

A thread of its own writes. So a slow disk stops only a guest that says more than the disk takes. A file does not grow
beyond `LARGEST`: it is renamed to guest-NAME.log.1, replacing an older one, and a new file is begun. A disk that is
full, or a directory that cannot be written, is warned of once. What could not be written is left out, with a note in
its place; the consoles themselves lose nothing.

With time stamps each line begins with the time of its first byte. All lives of one guest, and guests that have one name
one after another, share a file.

Not modelled: a log of the hypervisor (`pvhv dmesg` shows that), other places for single guests.

Read beside it: create_console_log, buffer_append and write_with_timestamp in tools/console/daemon/io.c.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pvhv.devices.console.console import PATIENCE_S, Console
from pvhv.devices.console.record import left_out
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import Guest
from pvhv.toolstack.host import Host
from pvhv.toolstack.names import log_name
from pvhv.toolstack.plainfile import open_to_append, read_text, write_text

LARGEST = 4 << 20
PIECES = 16  # read of one console at a time
GATHER_S = 0.05  # a guest says much in little pieces
STOP_WITHIN_S = 2.0
SETTINGS = '`pvhv daemon console-log none|guest`, with -t none|guest and --log-dir DIR, says how'


@dataclass
class Settings:
    """What is logged, and how; kept in the runtime directory for the next host process."""

    log: str = "guest"  # or "none"
    timestamp: bool = False
    directory: str = ""  # the runtime directory's `console` where it says nothing

    @classmethod
    def of(cls, plain: Any) -> Settings:
        """Settings from a message or a file, which may hold anything. Raises ToolstackError."""
        if not isinstance(plain, dict) or not set(plain) <= set(cls.__dataclass_fields__):
            raise ToolstackError("these are not settings of console logs", SETTINGS)
        made = cls(**plain)
        if made.log not in ("guest", "none") or not isinstance(made.timestamp, bool):
            raise ToolstackError(f"consoles cannot be logged as {made.log!r}, timestamp {made.timestamp!r}", SETTINGS)
        where = made.directory
        if not isinstance(where, str) or "\0" in where or (where and not os.path.isabs(where)):
            raise ToolstackError(f"consoles cannot be logged in {where!r}", "name a directory by its absolute path")
        return made


class Log:
    """One console's file."""

    def __init__(self, path: Path, timestamp: bool, warn: Callable[[str], None], largest: int = LARGEST) -> None:
        self.path = path
        self.timestamp = timestamp
        self.warn = warn
        self.largest = largest
        self.lost = 0  # bytes that could not be written since the last that could
        self._descriptor: int | None = None
        self._size = 0
        self._at_line_start = True

    def write(self, data: bytes) -> None:
        """Write; count the bytes that cannot be written."""
        text = self._stamped(data) if self.timestamp else data
        written = 0
        try:
            if self.lost:
                self._write(left_out(self.lost))
                self.warn(f"the console log {self.path} can be written again; it lacks {self.lost} bytes")
                self.lost = 0
            while written < len(text):
                written += self._write(text[written:])
            if self._size >= self.largest:
                self._turn_over()
        except OSError as error:
            if not self.lost:
                self.warn(f"cannot write the console log {self.path}: {error.strerror}; the console goes on without it")
            self.lost += len(text) - written

    def _write(self, data: bytes) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = open_to_append(self.path)
            self._size = os.fstat(self._descriptor).st_size
        count = os.write(self._descriptor, data)
        self._size += count
        return count

    def _turn_over(self) -> None:
        self.close()
        try:
            os.replace(self.path, f"{self.path}.1")
        except OSError:  # a directory where nothing can be renamed: at least it does not grow
            os.truncate(self.path, 0)

    def _stamped(self, data: bytes) -> bytes:
        stamp = time.strftime("[%Y-%m-%d %H:%M:%S] ").encode()
        text = b""
        for line in data.replace(b"\n\r", b"\n").splitlines(keepends=True):
            text += stamp + line if self._at_line_start else line
            self._at_line_start = line.endswith(b"\n")
        return text

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Following:
    """One console being logged. The thread that writes owns all but `reader` and `name`."""

    def __init__(self, name: str, console: Console, wake: Callable[[], None]) -> None:
        self.name = name
        self.reader = console.follow(wake, lossless=True, patience=PATIENCE_S)
        self.settings: Settings | None = None
        self.log: Log | None = None

    def move(self, log: Log | None, settings: Settings) -> None:
        """From now on write to another log, or (None) to none."""
        if self.log is not None:
            self.log.close()
        self.log, self.settings = log, settings
        self.reader.lossless = log is not None

    def write_some(self) -> bool:
        """Write what the guest has said. Returns whether there may be more."""
        for _piece in range(PIECES):
            data = self.reader.take()
            if not data:
                return False
            if self.log is not None:
                self.log.write(data)
        return True

    def close(self) -> None:
        """Stop following the console, and close its log."""
        self.reader.close()
        if self.log is not None:
            self.log.close()


class ConsoleLogs:
    """The files of all guests. `warn` is called on the thread that writes."""

    def __init__(self, host: Host, directory: Path, warn: Callable[[str], None]) -> None:
        self.host = host
        self.file = directory / "console-log.json"
        self.default = directory / "console"
        self.warn = warn
        self.settings = self._remembered()
        self._followed: dict[Console, Following] = {}  # the hypervisor's thread adds, the one that writes removes
        self._more = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console-log", daemon=True)
        self._thread.start()
        host.listeners.append(self._listen)

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return Path(self.settings.directory) if self.settings.directory else self.default

    # -- the hypervisor's thread -----------------------------------------------------------------------------
    def _listen(self, guest: Guest, what: str) -> None:
        if what in ("created", "restarted") and guest.console not in self._followed and self.settings.log != "none":
            self._followed[guest.console] = Following(guest.name, guest.console, self._more.set)

    def change(self, settings: Settings) -> None:
        """Log by these settings from now on, and in the next host process too."""
        self.settings = settings
        try:
            write_text(self.file, json.dumps(asdict(settings)))
        except OSError as error:
            self.warn(f"cannot note down how consoles are logged: {error}")
        for guest in self.host.guests.values():
            if guest.ended is None:
                self._listen(guest, "created")
        self._more.set()

    def _remembered(self) -> Settings:
        try:
            return Settings.of(json.loads(read_text(self.file)))
        except FileNotFoundError:
            return Settings()
        except (OSError, ValueError, RecursionError, ToolstackError) as error:
            self.warn(f"{self.file} is of no use ({error}): consoles are logged as they are by default")
            return Settings()

    # -- the thread that writes ------------------------------------------------------------------------------
    def _run(self) -> None:
        while not self._stopping.is_set():
            self._more.wait()
            self._stopping.wait(GATHER_S)
            self._more.clear()
            self._write_some()
        self._write_some()

    def _write_some(self) -> None:
        for console, following in list(self._followed.items()):
            settings = self.settings
            if following.settings is not settings:
                following.move(self._log(following.name, settings), settings)
            if following.write_some():
                self._more.set()
            elif following.reader.finished:
                following.close()
                del self._followed[console]

    def _log(self, name: str, settings: Settings) -> Log | None:
        if settings.log == "none":
            return None
        return Log(self.directory / log_name(name), settings.timestamp, self.warn)

    def stop(self) -> None:
        """Write what is left, and end the thread."""
        self._stopping.set()
        self._more.set()
        self._thread.join(STOP_WITHIN_S)
