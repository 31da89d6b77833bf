# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a person waits: for `pvhv create` to the guest's prompt, and for a host process with twenty domains.

Each command is a process, as when people run it, with a `pvhvd` in a directory of its own. Times are those of the whole
command, Python's start included.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

from tools.benchmark.guests import Failed
from tools.benchmark.rows import Effort, Row

ROOT = Path(__file__).resolve().parents[2]
DOMAIN_FILE = ROOT / "examples" / "hello.cfg"
PROMPT = b"$ "
PATIENCE_S = 60.0
DOMAINS = 20
MEMORY = 32  # MiB of each domain


class Session:
    """A command that shows a console, which we read and type at."""

    def __init__(self, pvhv: Pvhv, *arguments: str, quiet: bool = False) -> None:
        self.began = time.perf_counter()
        self._process = pvhv.start(*arguments, quiet=quiet)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input: IO[bytes] = self._process.stdin
        self._heard = b""
        self._all: list[bytes] = []
        self._pieces: Queue[bytes] = Queue()
        output = self._process.stdout
        threading.Thread(target=self._listen, args=(output.fileno(),), daemon=True).start()

    def _listen(self, output: int) -> None:
        while piece := os.read(output, 65536):
            self._pieces.put(piece)
        self._pieces.put(b"")

    def until(self, words: bytes) -> float:
        """Wait for `words` in the output. Returns the time, in seconds of perf_counter. What follows them is kept."""
        while words not in self._heard:
            try:
                piece = self._pieces.get(timeout=PATIENCE_S)
            except Empty:
                piece = b""
            if not piece:
                raise Failed(f"{self._process.args!r} did not say {words!r} but {self._heard[-500:]!r}")
            self._heard += piece
            self._all.append(piece)
        now = time.perf_counter()
        self._heard = self._heard.partition(words)[2]
        return now

    def type(self, line: str) -> float:
        """Type a line. Returns the time, in seconds of perf_counter."""
        now = time.perf_counter()
        self._input.write(line.encode() + b"\n")
        self._input.flush()
        return now

    def all(self) -> bytes:
        """All output, to the end of the command, for which this waits."""
        self._process.wait(PATIENCE_S)
        while piece := self._pieces.get(timeout=PATIENCE_S):
            self._all.append(piece)
        return b"".join(self._all)

    def end(self) -> None:
        """No more input; wait for the command to end."""
        self._input.close()
        self._process.wait(PATIENCE_S)


class Pvhv:
    """The command line, with a runtime directory of its own."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.directory = tempfile.mkdtemp(prefix="pvhv-bench-")
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._environment = {
            **os.environ,
            "PVHV_RUNTIME_DIR": self.directory,
            "PYTHONPATH": os.pathsep.join(paths),
            **(environment or {}),
        }

    def start(self, *arguments: str, quiet: bool = False) -> subprocess.Popen[bytes]:
        """Start a command; `quiet`: what it says on standard error is thrown away."""
        return subprocess.Popen(
            [sys.executable, "-m", "pvhv", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            env=self._environment,
        )

    def run(self, *arguments: str, patience: float = PATIENCE_S) -> bytes:
        """Run a command. Returns its output. Raises Failed."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=patience)
        if process.returncode:
            raise Failed(f"pvhv {' '.join(arguments)}: exit status {process.returncode}")
        return output

    def timed(self, *arguments: str) -> float:
        """How many ns a command takes."""
        began = time.perf_counter()
        self.run(*arguments)
        return (time.perf_counter() - began) * 1e9

    def stop(self) -> None:
        """End pvhvd."""
        self.run("daemon", "stop")

    def close(self) -> None:
        """End pvhvd, and leave nothing behind."""
        with contextlib.suppress(Failed):  # it is not up where the measurement itself failed
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def to_prompt(pvhv: Pvhv) -> float:
    """How many ns pass from `pvhv create -c` to the guest's prompt."""
    session = Session(pvhv, "create", "-c", str(DOMAIN_FILE))
    took = session.until(PROMPT) - session.began
    session.type("exit")
    session.end()
    return took * 1e9


def resident(pid: int) -> int | None:
    """KiB of memory a process holds; None where there is no `ps` to ask (Windows)."""
    if shutil.which("ps") is None:
        return None
    return int(subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True).stdout)


def rows(group: str, effort: Effort) -> list[Row]:
    """The rows of "create" or "domains"."""
    pvhv = Pvhv()
    try:
        return create_rows(pvhv, effort) if group == "create" else domains_rows(pvhv, effort)
    finally:
        pvhv.close()


def create_rows(pvhv: Pvhv, effort: Effort) -> list[Row]:
    """`pvhv create` to the prompt, with and without pvhvd up."""
    cold, warm = [], []
    for _ in range(effort.samples):
        cold.append(to_prompt(pvhv))
        warm.append(to_prompt(pvhv))
        pvhv.stop()
    return [
        wait("create", "create_warm", "pvhv create to the guest's prompt, pvhvd up", warm, 1500.0),
        wait("create", "create_cold", "... pvhvd not up", cold, 3000.0),
    ]


def domains_rows(pvhv: Pvhv, effort: Effort) -> list[Row]:
    """Twenty domains at once (fewer where it is only to be seen that it works)."""
    domains = DOMAINS if effort.samples > 1 else 3
    pvhv.run("list")
    pid = int(json.loads(pvhv.run("info", "--json"))["pvhvd_pid"])
    before = resident(pid)
    names = [f"bench-{number}" for number in range(domains)]
    for name in names:
        pvhv.run("create", str(DOMAIN_FILE), f"name={name}", f"memory={MEMORY}")
    listed = [pvhv.timed("list") for _ in range(effort.samples)]
    check_listed(json.loads(pvhv.run("list", "--json")), names)
    echoes = []
    for name in names[: max(effort.samples, 1)]:
        session = Session(pvhv, "console", name)
        session.until(PROMPT)
        typed = session.type(f"echo {name}")
        echoes.append((session.until(f"\n{name}".encode()) - typed) * 1e9)  # not the line we typed, shown
        session.end()
    after = resident(pid)
    rows = [
        wait("domains", "list_20", f"list, with {domains} domains", listed, 200.0),
        wait("domains", "echo_20", "echo on the console of one of them", echoes, 500.0),
    ]
    if before is not None and after is not None:
        each = (after - before) / domains / 1024
        rows.append(Row("domains", "memory_20", f"memory of the host for a domain of {MEMORY} MiB", each, "MiB"))
    return rows


def check_listed(listed: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Raises Failed unless all of them run."""
    if missing := set(names) - {domain["name"] for domain in listed if domain["ended"] is None}:
        raise Failed(f"not running: {', '.join(sorted(missing))}")


def wait(group: str, name: str, title: str, times: Sequence[float], target_ms: float) -> Row:
    """A waiting time as a row."""
    took = statistics.median(times)
    return Row(group, name, title, took / 1e6, "ms", target_ms, ns=took)
