# SPDX-License-Identifier: GPL-2.0-or-later
"""At a terminal: every key is the guest's but one, and the terminal is afterwards what it was."""

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from pvhv.cli.terminal import escape_byte
from tests.cli.conftest import Pvhv
from tests.toolstack.recipes import SPIN, UD2


class Terminal:
    """A person at a terminal, with one command under way."""

    def __init__(self, pvhv: Pvhv, *arguments: str) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        ours = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave}
        self.process: subprocess.Popen[bytes] = pvhv.start(*arguments, **ours)
        self.seen = b""

    def wait_for(self, text: bytes, timeout: float = 30) -> None:
        """Until `text` shows up after what was seen before; all up to it counts as seen."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)
        self.seen = self.seen.partition(text)[2]

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self, status: int) -> None:
        """The command ends by itself, and leaves the terminal as it found it."""
        deadline = time.monotonic() + 30
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)
        assert self.process.returncode == status, self.seen
        assert termios.tcgetattr(self.slave) == self.before
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(autouse=True)
def guest(shared: Pvhv) -> Iterator[None]:
    (shared.directory / "guest.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    yield
    for name in shared.list():
        shared.ok("destroy", name)


def test_a_session(shared: Pvhv) -> None:
    terminal = Terminal(shared, "create", "-c", "guest.cfg")
    terminal.wait_for(b"Ctrl-] leaves its console")
    terminal.wait_for(b"$ ")
    terminal.type(b"ps\r")
    terminal.wait_for(b"PID")
    terminal.wait_for(b"$ ")
    terminal.type(b"spin\r")
    time.sleep(0.3)
    terminal.type(b"\x03")  # the guest's own Ctrl-C
    terminal.wait_for(b"$ ")
    terminal.type(b"\x1d")
    terminal.wait_for(b"guest goes on; `pvhv console guest` comes back")
    terminal.end(0)

    terminal = Terminal(shared, "console", "-e", "^a", "guest")
    terminal.wait_for(b"Ctrl-A leaves it")
    terminal.wait_for(b"Welcome")  # from the first byte
    terminal.wait_for(b"spin")
    terminal.wait_for(b"$ ")
    terminal.type(b"echo st\x1dill\r")  # Ctrl-] is the guest's now
    terminal.type(b"\x01")
    terminal.wait_for(b"goes on without you")
    terminal.end(0)

    terminal = Terminal(shared, "console", "guest")
    terminal.wait_for(b"ill")
    terminal.type(b"\x15exit\r")
    terminal.end(0)


def test_a_restart_is_lived_through(shared: Pvhv) -> None:
    terminal = Terminal(shared, "create", "-c", "guest.cfg")
    terminal.wait_for(b"$ ")
    terminal.type(b"reboot\r")
    terminal.wait_for(b"guest was restarted; it is domain")
    terminal.wait_for(b"Welcome")
    terminal.wait_for(b"$ ")
    terminal.type(b"exit\r")
    terminal.end(0)


def test_a_crash_puts_the_terminal_back_first(shared: Pvhv) -> None:
    terminal = Terminal(shared, "create", "-c", shared.domain("crasher", UD2))
    terminal.wait_for(b"Last hypercalls")
    terminal.wait_for(b"it is kept as it was")
    terminal.end(20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_puts_the_terminal_back_and_leaves_the_domain(shared: Pvhv, number: int) -> None:
    terminal = Terminal(shared, "create", "-c", "guest.cfg")
    terminal.wait_for(b"$ ")
    terminal.process.send_signal(number)
    terminal.end(128 + number)
    assert "guest" in shared.list()


def test_a_host_process_that_dies_puts_the_terminal_back(pvhv: Pvhv) -> None:
    terminal = Terminal(pvhv, "create", "-c", pvhv.domain("spinner", SPIN))
    terminal.wait_for(b"leaves its console")
    pvhv.until(lambda: "spinner" in pvhv.list())
    os.kill(pvhv.pid, signal.SIGKILL)
    terminal.wait_for(b"pvhvd went away")
    terminal.end(1)


def test_tables_at_a_terminal(shared: Pvhv) -> None:
    shared.ok("create", "guest.cfg")
    terminal = Terminal(shared, "list")
    terminal.wait_for(b"Name")
    terminal.wait_for(b"guest")
    terminal.end(0)
    terminal = Terminal(shared, "top", "-d", "0.1")
    terminal.wait_for(b"Hypercalls/s")
    terminal.wait_for(b"Hypercalls/s")
    terminal.process.send_signal(signal.SIGINT)  # what Ctrl-C would be, were it our session's terminal
    terminal.end(130)


def test_escape_keys() -> None:
    assert [escape_byte(text) for text in ("^]", "^a", "^A", "~", "^")] == [0x1D, 1, 1, ord("~"), ord("^")]
    for wrong in ("", "^!", "abc", "é"):
        with pytest.raises(ValueError, match="single character"):
            escape_byte(wrong)
