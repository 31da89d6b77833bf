# SPDX-License-Identifier: GPL-2.0-or-later
"""The `pvhv` command as people run it: processes, with a pvhvd of the test's own."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pvhv import cli
from pvhv.cli.app import app
from pvhv.toolstack.client import Client, connect
from tests.toolstack.recipes import Recipe

ROOT = Path(__file__).parents[2]
FORK = multiprocessing.get_context("fork")


def heed_signals() -> None:
    """In a process that is about to be a command: Ctrl-C and a hang-up are for it, though they be not for us (a job in
    the background, nohup; and what is ignored stays so in who is started)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Pvhv:
    """Runs commands with a runtime directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime = directory / "run"
        # An empty HOME, and nothing else of the person's who runs the tests.
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": "",
            "XDG_RUNTIME_DIR": str(directory),
            "PVHV_RUNTIME_DIR": str(self.runtime),
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """A command under way."""
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "preexec_fn": heed_signals,
            **options,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "pvhv", *arguments], cwd=self.directory, env=self.environment, **options
        )

    def run(self, *arguments: str, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A command, to its end: in a process of its own, which needs not import everything once more."""
        if self.environment["PYTHONPATH"] != str(ROOT):  # but other code than ours
            return subprocess.run(
                [sys.executable, "-m", "pvhv", *arguments], cwd=self.directory, env=self.environment, input=stdin,
                capture_output=True, text=True, timeout=timeout,
            )  # fmt: skip
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin.encode())
            given.seek(0)
            process = FORK.Process(target=self._command, args=(arguments, given.fileno(), out.fileno(), err.fileno()))
            process.start()
            # (Not `join`, which waits for a pipe that _command closes, and then for ever.)
            deadline = time.monotonic() + timeout
            while process.is_alive() and time.monotonic() < deadline:
                time.sleep(0.005)
            if process.is_alive():
                process.kill()
                process.join()
                raise subprocess.TimeoutExpired(arguments, timeout)
            for file in (out, err):
                file.seek(0)
            told, complained = (file.read().decode().replace("\r\n", "\n") for file in (out, err))
            return subprocess.CompletedProcess(arguments, process.exitcode or 0, told, complained)

    def _command(self, arguments: tuple[str, ...], *streams: int) -> None:
        """Become a command, as a shell would have it."""
        heed_signals()
        for descriptor, stream in enumerate(streams):
            os.dup2(stream, descriptor)
        os.closerange(3, 1024)
        os.chdir(self.directory)
        os.environ.clear()
        os.environ.update(self.environment)
        tempfile.tempdir = None
        sys.argv = ["pvhv", *arguments]
        sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
        sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        cli.main()

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """A command that has to succeed; what it printed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def fails(self, *arguments: str, status: int = 1) -> str:
        """A command that has to fail, in words; those. Without a process, for sentences are many."""
        out, err, code = io.StringIO(), io.StringIO(), None
        with (
            mock.patch.dict(os.environ, self.environment, clear=True), mock.patch("tempfile.tempdir", None),
            contextlib.chdir(self.directory),
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        ):  # fmt: skip
            try:
                app(list(arguments), prog_name="pvhv")
            except SystemExit as end:
                code = end.code
        assert (code, out.getvalue()) == (status, ""), f"{arguments}: {code}\n{out.getvalue()}\n{err.getvalue()}"
        return err.getvalue()

    def client(self) -> Client | None:
        """A connection to pvhvd, if it is up."""
        ours = {name: value for name, value in self.environment.items() if name.startswith("PVHV")}
        with mock.patch.dict(os.environ, ours):
            return connect(lambda _text: None, start=False)

    def ask(self, call: str, **arguments: Any) -> Any:
        """Ask pvhvd as a command does, without its process: for what is asked over and over. None where none is up."""
        client = self.client()
        if client is None:
            return None
        with client:
            return client.call(call, **arguments)

    def list(self) -> dict[str, dict[str, Any]]:
        """Domains by name."""
        return {row["name"]: row for row in self.ask("list") or ()}

    def log(self, name: str) -> str:
        """What a guest has said, in all its lives, by the log of its console: for what is looked at over and over."""
        path = self.runtime / "console" / f"guest-{name}.log"
        return path.read_bytes().decode(errors="replace").replace("\r\n", "\n") if path.exists() else ""

    def until(self, said: Callable[[], Any], timeout: float = 30) -> Any:
        """Wait until something is so."""
        deadline = time.monotonic() + timeout
        while not (value := said()):
            assert time.monotonic() < deadline, "it did not come to be"
            time.sleep(0.02)
        return value

    @property
    def pid(self) -> int:
        """The host process's."""
        return int(json.loads(self.ok("info", "--json"))["pvhvd_pid"])

    def domain(self, name: str, code: bytes, text: str = "") -> str:
        """A domain file for a kernel of that code; its name."""
        (self.directory / f"{name}.elf").write_bytes(Recipe(code=code).build())
        (self.directory / f"{name}.cfg").write_text(f'kernel = "{name}.elf"\nmemory = 8\n{text}\n')
        return f"{name}.cfg"

    def end(self) -> None:
        """End the host process, if there is one."""
        with contextlib.suppress(Exception):
            self.ask("stop")
        state = self.runtime / "domains.json"
        if state.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(json.loads(state.read_text())["pid"], signal.SIGKILL)


@pytest.fixture
def pvhv(tmp_path: Path) -> Iterator[Pvhv]:
    made = Pvhv(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pvhv]:
    """One host process for a module whose tests clean up after themselves."""
    made = Pvhv(tmp_path_factory.mktemp("pvhv"))
    yield made
    made.end()
