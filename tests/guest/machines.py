# SPDX-License-Identifier: GPL-2.0-or-later
"""The machines the teaching kernel runs on, each with its own build of it, behind one interface for tests.

    PvhvMachine    guest-pv as a domain of our hypervisor, in the test's own process
    FullMachine    guest-native as a fully virtualized domain, by one of the techniques
    QemuMachine    guest-native on QEMU's emulated PC: hardware that none of us wrote

What holds of the kernel on both is said once (test_guest.py), with the machine as a parameter.  Both builds
share kernel/, user/ and lib/; so where one passes and the other fails, the column is to blame.

QEMU is run without acceleration (TCG), the same everywhere.  Its clock is the wall's; for who counts interrupts
there is one that counts instructions and skips what is slept through (-icount), which is slower, but a busy host
is no matter.  How a guest ended is what it writes to the debug exit port (guest_kernel/native/power.c); that the
true ways to end work, too, is for test_native.py.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pvhv.testing import Machine, Result, boot
from pvhv.toolstack.full_guest import FullGuest
from pvhv.toolstack.kernel_files import find_kernel

PROMPT = "$ "
QEMU = "qemu-system-x86_64"
# What native/power.c writes is one of api/syscalls.h; the debug exit port makes twice that and one of it. QEMU's exit
# status is 0 where the guest switched the machine off in earnest.
ENDINGS = {1: "poweroff", 3: "reboot", 5: "crash"}


@dataclass(frozen=True)
class Outcome:
    """How a session ended, and all that was to be seen."""

    output: str
    ending: str

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.output.splitlines()]

    @property
    def last_line(self) -> str:
        return next((line for line in reversed(self.lines) if line), "")

    @property
    def answers(self) -> dict[str, list[str]]:
        """What stands under each command's echo."""
        found: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in self.lines:
            if line.startswith(PROMPT):
                lines = found.setdefault(line.removeprefix(PROMPT), [])
            else:
                lines.append(line)
        return found


class Terminal(ABC):
    """A person at the console: types, waits until something is to be seen, types again. Use as a context."""

    @abstractmethod
    def screen(self) -> str: ...

    @abstractmethod
    def type(self, keys: str) -> None: ...

    @abstractmethod
    def wait(self, until: Callable[[str], bool], timeout: float = 30) -> None: ...

    @abstractmethod
    def end(self, timeout: float = 60) -> Outcome:
        """Wait until the guest is gone."""

    @abstractmethod
    def close(self) -> None: ...

    def see(self, text: str) -> None:
        self.wait(lambda screen: screen.endswith(text))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PlatformUnderTest(ABC):
    """A kind of machine."""

    name: str
    firmware = 0  # KiB of the memory that may be missing

    @abstractmethod
    def terminal(self, memory: int = 64) -> Terminal:
        """Boot; the first prompt is on the screen."""

    @abstractmethod
    def shell(self, *commands: str, memory: int = 64, timeout: float = 60) -> Outcome:
        """Boot, run the commands one after the other, and power off by `exit`."""

    def answer(self, command: str, *before: str) -> list[str]:
        """What one command answers."""
        outcome = self.shell(*before, command)
        assert outcome.ending == "poweroff", outcome.output
        return outcome.answers[command]


def script(commands: Sequence[str]) -> str:
    return "".join(f"{command}\n" for command in (*commands, "exit"))


# -- our own hypervisor ----------------------------------------------------------------------------------------


class PvhvTerminal(Terminal):
    def __init__(self, memory: int = 64, kernel: str = "guest-pv", technique: str | None = None) -> None:
        self.machine = Machine(max(memory, 512))
        self.guest = self.machine.create(kernel, clock="wall", memory=memory, technique=technique)

    def screen(self) -> str:
        return self.guest.console.output().decode("utf-8", "replace").replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        self.guest.console.typed += keys.encode()
        self.guest.console.pump()

    def wait(self, until: Callable[[str], bool], timeout: float = 30) -> None:
        assert self.machine.hypervisor.run_until(lambda: until(self.screen()), timeout), self.screen()

    def end(self, timeout: float = 60) -> Outcome:
        self.machine.run(self.guest, timeout=timeout)
        return Outcome(self.screen(), self.result().ending)

    def result(self) -> Result:
        return self.machine.result(self.guest)

    def close(self) -> None:
        self.machine.close()


class PvhvMachine(PlatformUnderTest):
    kernel = "guest-pv"
    technique: str | None = None

    def __init__(self, clock: str = "virtual") -> None:
        self.clock = clock
        self.name = "pv" if clock == "virtual" else f"pv-{clock}"

    def terminal(self, memory: int = 64) -> PvhvTerminal:
        terminal = PvhvTerminal(memory, self.kernel, self.technique)
        terminal.see(PROMPT)
        return terminal

    def shell(self, *commands: str, memory: int = 64, timeout: float = 60) -> Outcome:
        result = boot(self.kernel, stdin=script(commands), clock=self.clock, memory=memory, timeout=timeout)
        return Outcome(result.output, result.ending)


class FullMachine(PvhvMachine):
    """The native kernel under a technique. How a script ended is what it tells the debug exit port, as on QEMU."""

    kernel = "guest-native"
    firmware = 1024  # the legacy hole below 1 MiB, and where the image is

    def __init__(self, technique: str, clock: str = "virtual") -> None:
        super().__init__(clock)
        self.technique = technique
        self.name = technique if clock == "virtual" else f"{technique}-{clock}"

    def shell(self, *commands: str, memory: int = 64, timeout: float = 60) -> Outcome:
        with Machine(memory) as machine:
            guest = machine.create(
                self.kernel,
                stdin=script(commands),
                clock=self.clock,
                memory=memory,
                technique=self.technique,
                cmdline="debug-exit",
            )
            machine.run(guest, timeout=timeout)
            result = machine.result(guest)
            assert isinstance(guest, FullGuest)
            code = guest.hvm.exit_code
        return Outcome(result.output, result.ending if code is None else ENDINGS[code])


# -- QEMU ------------------------------------------------------------------------------------------------------


class QemuTerminal(Terminal):
    """One process, its serial port on our pipes and its monitor on a socket; killed when the context ends."""

    def __init__(self, machine: str, memory: int, cmdline: str, options: Sequence[str]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="pvhv-qemu-")
        self._monitor = Path(self._directory.name, "qmp")
        self._complaints = Path(self._directory.name, "stderr").open("w+")
        self._seen = b""
        self.process = subprocess.Popen(
            [
                QEMU, "-M", machine, "-accel", "tcg", "-m", str(memory), "-nodefaults", "-display", "none",
                "-serial", "stdio", "-qmp", f"unix:{self._monitor},server=on,wait=off",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *options,
                "-kernel", str(find_kernel("guest-native", Path.cwd(), "a test")), "-append", cmdline,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints, bufsize=0,
        )  # fmt: skip

    def screen(self) -> str:
        return self._seen.decode("utf-8", "replace").replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(keys.encode())

    def wait(self, until: Callable[[str], bool], timeout: float = 30) -> None:
        assert self._read(lambda: until(self.screen()), timeout), self.screen()

    def end(self, timeout: float = 60) -> Outcome:
        assert not self._read(lambda: False, timeout)
        try:
            status = self.process.wait(1)
        except subprocess.TimeoutExpired:
            return Outcome(self.screen(), "timeout")
        self._complaints.seek(0)
        assert status in (0, *ENDINGS), self._complaints.read()
        return Outcome(self.screen(), ENDINGS.get(status, "power button"))

    def monitor(self, command: str) -> str:
        """What QEMU's own (human) monitor answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._monitor))
            with connection.makefile("rw") as stream:

                def call(name: str, **arguments: str) -> Any:
                    stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
                    stream.flush()
                    while "return" not in (said := json.loads(stream.readline())):
                        assert "error" not in said, said
                    return said["return"]

                stream.readline()  # a greeting
                call("qmp_capabilities")
                return str(call("human-monitor-command", **{"command-line": command}))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self._complaints):
            assert file is not None
            file.close()
        self._directory.cleanup()

    def _read(self, until: Callable[[], bool], timeout: float) -> bool:
        """Read what the guest says until something is so; False at the end of it all, or when time is up."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout
        while not until():
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not piece:
                return until()
            self._seen += piece
        return True


class QemuMachine(PlatformUnderTest):
    firmware = 1024  # the legacy hole below 1 MiB, and tables at the end

    CLOCKS = {"virtual": ("-icount", "shift=2,sleep=off"), "wall": ()}  # 4 ns an instruction

    def __init__(self, machine: str = "pc", clock: str = "wall") -> None:
        self.machine = machine
        self.options = self.CLOCKS[clock]
        self.name = "native" if machine == "pc" else f"native-{machine}"

    def start(
        self, *options: str, memory: int = 64, cmdline: str = "debug-exit", prompt: bool = True
    ) -> QemuTerminal:
        """Skips the test where there is no QEMU."""
        if shutil.which(QEMU) is None:
            pytest.skip(f"{QEMU} is not here; on Debian and Ubuntu: apt-get install qemu-system-x86")
        terminal = QemuTerminal(self.machine, memory, cmdline, (*self.options, *options))
        if prompt:
            try:
                terminal.see(PROMPT)
            except BaseException:
                terminal.close()
                raise
        return terminal

    def terminal(self, memory: int = 64) -> QemuTerminal:
        return self.start(memory=memory)

    def shell(self, *commands: str, memory: int = 64, timeout: float = 60) -> Outcome:
        with self.start(memory=memory) as terminal:
            terminal.type(script(commands))  # it is a wire: what is typed before anybody listens is lost
            return terminal.end(timeout)
