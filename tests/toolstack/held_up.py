# SPDX-License-Identifier: GPL-2.0-or-later
"""A pvhvd that measures how long a guest of its was held up.

The guest, `victim`, makes a hypercall every few microseconds. Between two of them everything else that the process does
stands in its way, be it work of the hypervisor's thread or another thread's that keeps the interpreter to itself. The
measure is the process's own processor time, which other load on the machine does not change; or time itself, where
that is less, because threads ran side by side. Where the host tells it (Linux), time in which the hypervisor's thread
waited for nothing but a processor is not counted: others had that.

    python -m tests.toolstack.held_up      PVHV_RUNTIME_DIR says where

A verb of its own, `held_up`, tells the longest of these times since it was asked last, in milliseconds.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pvhv.toolstack import daemon
from pvhv.toolstack.client import Client, connect
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.guest import prepare
from pvhv.toolstack.paths import Paths
from tests.toolstack.recipes import Recipe

ROOT = Path(__file__).parents[2]
#          mov $5000, %ecx       dec %ecx; jnz     mov $17, %eax; xor %edi, %edi  syscall  jmp
BUSY = b"\xb9\x88\x13\0\0" + b"\xff\xc9\x75\xfc" + b"\xb8\x11\0\0\0\x31\xff" + b"\x0f\x05" + b"\xeb\xec"
READY_WITHIN_S = 30.0


class Watch:
    """The longest time between two exits of one domain, in processor time of this process."""

    def __init__(self, made: daemon.Daemon) -> None:
        kernel = made.paths.directory / "victim.elf"
        kernel.write_bytes(Recipe(code=BUSY).build())
        config = DomainConfig("victim", kernel, memory=4, maxmem=4, on_crash="preserve")
        guest = made.host.create(prepare(config))
        pcpu = guest.domain.timeline.cpu.pcpu
        cpu, domain, original = guest.domain.timeline.cpu, guest.domain, pcpu.on_syscall
        self.worked, self.was = time.process_time(), time.monotonic()
        self.longest = 0.0
        self.exits = 0
        self.waited = 0.0
        self.schedstat: int | None = None  # of the hypervisor's thread

        def syscall() -> None:
            if self.schedstat is None and sys.platform == "linux":
                self.schedstat = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
                self.waited = self._time_waited()
            if cpu.current.domain is domain:
                worked, now = time.process_time(), time.monotonic()
                waited = self._time_waited()
                self.longest = max(self.longest, self._since(worked, now, waited))
                self.worked, self.was, self.waited = worked, now, waited
                self.exits += 1
            original()

        pcpu.on_syscall = syscall

    def _since(self, worked: float, now: float, waited: float) -> float:
        """What stood in its way since its last exit."""
        return min(now - self.was - (waited - self.waited), worked - self.worked)

    def _time_waited(self) -> float:
        """How long that thread has been ready to run and had no processor, in all."""
        if self.schedstat is None:
            return 0.0
        return int(os.pread(self.schedstat, 100, 0).split()[1]) / 1e9

    async def held_up(self, _call: object) -> dict[str, Any]:
        """Since the last time."""
        # It may be held up at this moment.
        longest = max(self.longest, self._since(time.process_time(), time.monotonic(), self._time_waited()))
        answer = {"ms": round(longest * 1000, 1), "exits": self.exits}
        self.longest, self.exits = 0.0, 0
        return answer


class Watched(daemon.Daemon):
    """The process, with its victim."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.service.handlers["held_up"] = Watch(self).held_up


@contextmanager
def watched(directory: Path) -> Iterator[Client]:
    """Such a process, and a client of its."""
    directory.mkdir(mode=0o700, exist_ok=True)
    environment = {**os.environ, "PVHV_RUNTIME_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    with open(directory / "pvhvd.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.toolstack.held_up"], env=environment, stdout=log, stderr=log
        )
    try:
        before, os.environ["PVHV_RUNTIME_DIR"] = os.environ.get("PVHV_RUNTIME_DIR"), str(directory)
        deadline = time.monotonic() + READY_WITHIN_S
        while not Paths().socket.exists():
            assert time.monotonic() < deadline and process.poll() is None, (directory / "pvhvd.log").read_text()
            time.sleep(0.02)
        client = connect(print, start=False)
        if before is None:
            del os.environ["PVHV_RUNTIME_DIR"]
        else:
            os.environ["PVHV_RUNTIME_DIR"] = before
        assert client is not None
        with client:
            client.call("held_up")
            yield client
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    daemon.Daemon = Watched  # type: ignore[misc]
    gc.collect()
    sys.exit(daemon.main())
