# SPDX-License-Identifier: GPL-2.0-or-later
"""At a terminal: every key is the guest's but one, and the terminal is afterwards what it was."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from pvhv.cli.terminal import escape_byte
from tests.cli.conftest import Pvhv
from tests.toolstack.recipes import UD2


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

    def all(self) -> bytes:
        """All that it says to its end."""
        while self.process.poll() is None or select.select([self.master], [], [], 0)[0]:
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)
        self.end(0)
        return self.seen

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
    terminal.wait_for(b"spin\r")
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


def test_what_is_being_done_is_shown_until_it_is_done(shared: Pvhv) -> None:
    terminal = Terminal(shared, "create", "-p", "guest.cfg")
    terminal.wait_for(b"pvhv: guest: reading guest-pv")
    terminal.wait_for(b"pvhv: guest: building 16 MiB")
    terminal.wait_for(b"\r")  # the line is taken back
    assert terminal.all().strip(b"\r\n ").startswith(b"domain guest is there")


def test_a_restart_is_lived_through(shared: Pvhv) -> None:
    terminal = Terminal(shared, "create", "-c", "guest.cfg")
    terminal.wait_for(b"$ ")
    terminal.type(b"reboot\r")
    terminal.wait_for(b"guest was restarted; it is domain")
    terminal.wait_for(b"Welcome")
    terminal.wait_for(b"$ ")
    terminal.type(b"exit\r")
    terminal.end(0)


def test_a_timeout_finds_the_life_it_is_by_then(shared: Pvhv) -> None:
    terminal = Terminal(shared, "create", "-c", "--timeout", "3", "guest.cfg")
    terminal.wait_for(b"$ ")
    terminal.type(b"reboot\r")
    terminal.wait_for(b"guest was restarted; it is domain")
    terminal.wait_for(b"$ ")
    terminal.wait_for(b"\r\npvhv: guest did not end within 3 s, and was destroyed")  # not behind the prompt
    terminal.end(124)
    assert shared.list() == {}


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
    (pvhv.directory / "guest.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    terminal = Terminal(pvhv, "create", "-c", "guest.cfg")
    terminal.wait_for(b"leaves its console")
    terminal.wait_for(b"$ ")
    os.kill(pvhv.pid, signal.SIGKILL)
    terminal.wait_for(b"\r\npvhv: pvhvd went away")  # on a line of its own
    assert b"$ " not in terminal.seen
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


@pytest.mark.parametrize("columns", [48, 60, 80, 200])
def test_tables_keep_to_the_terminals_width_and_lose_nothing(
    shared: Pvhv, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a-name-of-quite-some-length." * 2
    shared.ok("create", "guest.cfg", f"name={name}")
    monkeypatch.setitem(shared.environment, "COLUMNS", str(columns))
    for command in ("list", "vcpu-list", "hypercalls"):
        if (command, columns) == ("hypercalls", 48):
            continue  # what has no room runs on
        said = Terminal(shared, command).all().decode().replace("\r\n", "\n")
        lines = re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()
        assert max(map(len, lines)) <= columns, said
        assert "…" not in said
        if command == "hypercalls":
            assert lines[1].split() == ["0", "set_trap_table", "implemented", "cpu.set_trap_table"]
        else:
            assert "".join(line.split(" ")[0] for line in lines[1:]) == name


def test_elsewhere_a_row_is_a_line_whatever_columns_says(
    shared: Pvhv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(shared.environment, "COLUMNS", "20")
    rows = shared.ok("hypercalls").splitlines()
    assert len(rows) == len(json.loads(shared.ok("hypercalls", "--json"))) + 1
    (row,) = [row for row in rows if "GNTTABOP_setup_table" in row]
    assert re.split(" {2,}", row) == [
        "20", "GNTTABOP_setup_table", "implemented", "pvhv.core.calls.grant_table.setup_table"
    ]  # fmt: skip


def test_top_keeps_to_the_screen(shared: Pvhv, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        shared.ok("create", "-p", "guest.cfg", f"name=guest{number}")
    monkeypatch.setitem(shared.environment, "COLUMNS", "40")
    monkeypatch.setitem(shared.environment, "LINES", "5")
    monkeypatch.setitem(shared.environment, "TERM", "xterm")
    said = Terminal(shared, "top", "-i", "1", "-d", "0.1").all().decode()
    assert said.startswith("\x1b[H") and said.endswith("\x1b[J")
    lines = re.sub(r"\x1b\[[0-9;]*[A-Z]", "", said).splitlines()
    assert [line.split()[0] for line in lines] == ["Name", "guest0", "guest1", "..."]
    assert lines[0].split() == ["Name", "ID", "State", "Time(s)", "CPU(%)"]
    assert lines[-1] == "... 2 more"
    monkeypatch.setitem(shared.environment, "TERM", "dumb")
    assert "\x1b" not in Terminal(shared, "top", "-i", "1", "-d", "0.1").all().decode()


def test_escape_keys() -> None:
    assert [escape_byte(text) for text in ("^]", "^a", "^A", "~", "^")] == [0x1D, 1, 1, ord("~"), ord("^")]
    for wrong in ("", "^!", "abc", "é"):
        with pytest.raises(ValueError, match="single character"):
            escape_byte(wrong)
