# SPDX-License-Identifier: GPL-2.0-or-later
"""Several people at one console, clients that die or stop, and what is left of it all in a log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvhv.devices.console.record import HEAD, TAIL
from tests.cli.conftest import Pvhv
from tests.toolstack.flood import ASKS, flood, said
from tests.toolstack.recipes import SPIN, UD2

WORDS = 700_000  # of four bytes: more than is kept for who comes later
ALL = ASKS + said(WORDS)


@pytest.fixture(autouse=True)
def nothing_left(shared: Pvhv) -> Iterator[None]:
    yield
    for name in shared.list():
        shared.ok("destroy", name)


class Client:
    """Somebody at a console, who reads all there is and types when asked to."""

    def __init__(self, pvhv: Pvhv, name: str) -> None:
        self.process = pvhv.start("console", name, stdin=subprocess.PIPE)
        self.heard = bytearray()
        self.began = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)

    def read(self) -> Client:
        self.thread.start()
        return self

    def wait_for_the_question(self) -> None:
        assert self.process.stdout
        assert os.read(self.process.stdout.fileno(), len(ASKS)) == ASKS
        self.heard += ASKS

    def type(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout
        while data := os.read(self.process.stdout.fileno(), 1 << 16):
            self.heard += data

    def all_it_heard(self) -> bytes:
        self.thread.join(120)
        assert not self.thread.is_alive()
        self.process.wait(60)
        return bytes(self.heard)


def attached(shared: Pvhv, name: str, count: int) -> list[Client]:
    """That many clients of a flood that waits to be let go."""
    shared.ok("create", shared.domain(name, flood(WORDS)))
    clients = [Client(shared, name) for _client in range(count)]
    for client in clients:
        client.wait_for_the_question()
    return clients


def log_of(shared: Pvhv, name: str) -> Path:
    return shared.runtime / "console" / f"guest-{name}.log"


def test_two_clients_and_the_log_miss_no_byte(shared: Pvhv) -> None:
    first, second = (client.read() for client in attached(shared, "flood", 2))
    second.type(b"x")
    assert first.all_it_heard() == ALL and second.all_it_heard() == ALL
    assert (first.process.returncode, second.process.returncode) == (0, 0)
    shared.until(lambda: not shared.list())
    shared.until(lambda: log_of(shared, "flood").read_bytes() == ALL)


def test_a_pipe_gets_every_byte_however_slow_it_is(shared: Pvhv) -> None:
    process = shared.start("create", "-c", shared.domain("piped", flood(WORDS, waits=False)))
    assert process.stdout
    heard = b""
    while data := process.stdout.read(50_000):
        heard += data
    assert process.wait(60) == 0
    assert heard == said(WORDS)


def test_a_client_that_is_killed_stops_nobody(shared: Pvhv) -> None:
    killed, other = attached(shared, "killed", 2)
    other.read().type(b"x")
    assert killed.process.stdout and killed.process.stdout.read(100_000)
    killed.process.kill()
    assert other.all_it_heard() == ALL


def test_a_client_that_reads_nothing_is_waited_for_but_not_for_ever(shared: Pvhv) -> None:
    stopped, other = attached(shared, "stopped", 2)
    os.kill(stopped.process.pid, signal.SIGSTOP)
    try:
        other.read().type(b"x")
        assert other.all_it_heard() == ALL
    finally:
        os.kill(stopped.process.pid, signal.SIGCONT)
    heard = stopped.read().all_it_heard()  # it has what it had on its way, and what is kept
    assert b"bytes of console output left out" in heard and heard.endswith(ALL[-TAIL:])


def test_a_guest_that_is_gone_before_anybody_came(shared: Pvhv) -> None:
    words = (HEAD + TAIL) // 4
    shared.ok("create", shared.domain("early", flood(words, waits=False), 'on_poweroff = "preserve"'))
    shared.until(lambda: shared.list()["early"]["state"][3] == "s")
    done = subprocess.run(
        [sys.executable, "-m", "pvhv", "console", "early"], cwd=shared.directory, env=shared.environment,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == said(words)
    shared.ok("destroy", "early")
    shared.until(lambda: log_of(shared, "early").read_bytes() == said(words))
    assert f"said is in {log_of(shared, 'early')}" in shared.fails("console", "early")
    shared.ok("create", shared.domain("silent", UD2, 'on_crash = "destroy"'))
    shared.until(lambda: "silent" not in shared.list())
    assert shared.fails("console", "silent").startswith("pvhv: there is no domain silent\n")


def test_how_consoles_are_logged_can_be_changed(pvhv: Pvhv) -> None:
    """For the next pvhvd, too."""
    assert pvhv.ok("daemon", "console-log") == f"guests' consoles are logged in {pvhv.runtime}/console\n"
    assert "there is no directory none" in pvhv.fails("daemon", "console-log", "--log-dir", "none", status=2)
    assert pvhv.ok("daemon", "console-log", "none") == "guests' consoles are not logged\n"
    pvhv.ok("create", pvhv.domain("quiet", flood(10, waits=False)))
    pvhv.until(lambda: not pvhv.list())
    pvhv.ok("daemon", "stop")
    assert not (pvhv.runtime / "console").exists()
    assert "are not logged" in pvhv.ok("daemon", "console-log")
    said_so = pvhv.ok("daemon", "console-log", "guest", "-t", "guest", "--log-dir", ".")
    assert said_so == f"guests' consoles are logged in {pvhv.directory}, with the time of each line\n"
    pvhv.ok("create", pvhv.domain("loud", flood(10, waits=False)))
    pvhv.until(lambda: not pvhv.list())
    log = pvhv.directory / "guest-loud.log"
    pvhv.until(log.exists)
    assert log.read_bytes()[:1] == b"[" and log.read_bytes()[22:] == said(10)


def test_a_log_that_cannot_be_written_is_said_once_and_hides_nothing(pvhv: Pvhv) -> None:
    pvhv.ok("info")
    (pvhv.runtime / "console").write_text("in the way")
    pvhv.ok("create", pvhv.domain("seen", flood(600_000, waits=False), 'on_poweroff = "preserve"'))
    pvhv.until(lambda: pvhv.list()["seen"]["state"][3] == "s")
    assert pvhv.until(lambda: pvhv.ok("dmesg").count("cannot write the console log")) == 1
    pvhv.ok("create", pvhv.domain("spin", SPIN))
    pvhv.ok("destroy", "spin")
    process = pvhv.start("console", "seen")
    assert process.stdout and process.stdout.read(HEAD) == said(600_000)[:HEAD]
    process.kill()
    process.communicate()
