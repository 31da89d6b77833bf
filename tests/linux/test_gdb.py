# SPDX-License-Identifier: GPL-2.0-or-later
"""A real GDB on Debian's kernel, as packaged: names, breakpoints, stacks, user memory; and Linux goes on as it was."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.linux.conftest import Linux

pytestmark = pytest.mark.linux

ROOT = Path(__file__).parents[2]
READY = b"the shell is ready"
# What it does over and over while it is debugged, until there is /over.
WORK = "while [ ! -e /over ]; do cat /etc/passwd >/dev/null; sleep 0.1; done"


class Session:
    """A Linux that works, at whose console we are, and commands beside it."""

    def __init__(self, linux: Linux, directory: Path, vcpus: int) -> None:
        self.environment = {**os.environ, "PVHV_RUNTIME_DIR": str(directory)}
        directory.mkdir(mode=0o700, exist_ok=True)
        config = directory / "linux.cfg"
        config.write_text(
            f'name = "linux"\nkernel = "{linux.kernel}"\nramdisk = "{linux.ramdisk}"\ncmdline = "console=hvc0 quiet"\n'
            f"memory = 256\nvcpus = {vcpus}\n"
        )
        self.console = subprocess.Popen(
            [*self.command("create"), "-c", str(config)], env=self.environment, cwd=ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.output = bytearray()
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.type("stty -echo; PS1=; echo the shell 'is ready'")
        self.wait_for(READY)
        self.type(f"({WORK}) & ")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "pvhv", *words]

    def _read(self) -> None:
        assert self.console.stdout is not None
        while data := os.read(self.console.stdout.fileno(), 4096):
            with self._more:
                self.output += data
                self._more.notify_all()

    def type(self, line: str) -> None:
        assert self.console.stdin is not None
        self.console.stdin.write(line.encode() + b"\n")
        self.console.stdin.flush()

    def wait_for(self, text: bytes) -> None:
        with self._more:
            found = self._more.wait_for(lambda: text in self.output, 120)
        assert found, self.output.decode(errors="replace")

    def gdb(self, *commands: str) -> str:
        """What GDB prints that is started as `pvhv gdb` says."""
        serving = subprocess.Popen(
            self.command("gdb", "linux"), env=self.environment, cwd=ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert serving.stdout is not None
        words = serving.stdout.readline().split()
        symbols, target = words[-1], f"target remote {words[-2].rstrip(chr(39))}"
        typed = ["set confirm off", "set pagination off", "set remotetimeout 120", target, *commands]
        done = subprocess.run(
            ["gdb", "-nx", "-q", "-batch", *(word for each in typed for word in ("-ex", each)), symbols],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, cwd=ROOT, env=self.environment,
        )  # fmt: skip
        _, told = serving.communicate(timeout=60)
        # On a slow machine it says before that it reads the symbols.
        assert told.endswith("pvhv: gdb has left; linux goes on\n"), told + done.stdout + done.stderr
        said = done.stdout + done.stderr
        assert "Cannot" not in said and "rror" not in said, said
        return said

    def power_off(self) -> str:
        """It does, as if nothing had been; all that it said."""
        self.type("touch /over; wait; dmesg | grep -c 'BUG:\\|Oops\\|WARNING:'; echo errors above; poweroff -f")
        assert self.console.wait(120) == 0, self.output.decode(errors="replace")
        self._reader.join(60)
        return self.output.decode(errors="replace").replace("\r\n", "\n")

    def end(self) -> None:
        self.console.kill()
        self.console.communicate()
        subprocess.run(self.command("daemon", "stop"), env=self.environment, cwd=ROOT, timeout=120, check=False)


@pytest.fixture
def session(linux: Linux, tmp_path: Path) -> Iterator[Session]:
    if shutil.which("gdb") is None:
        pytest.skip("no gdb: apt-get install gdb")
    made = Session(linux, tmp_path / "run", vcpus=4)
    yield made
    made.end()


def test_a_system_call_is_met(session: Session) -> None:
    said = session.gdb(
        "info threads", "x/i schedule", "info symbol $rip", "break do_sys_openat2",
        # Other programs open files as well; ours is met within a few.
        "python\nimport gdb\nfor n in range(200):\n"
        "    gdb.execute('continue')\n"
        "    name = gdb.execute('x/s $rsi', to_string=True)\n"
        "    if '/etc/passwd' in name: print('it opens', name); break",
        "backtrace", "set $before = $rip", "stepi", "print $rip > $before", "print $gs_base != 0",
        "x/s &linux_banner", "delete",
        "break *schedule", "continue", "backtrace", "finish", "delete", "monitor vcpus", "detach",
    )  # fmt: skip
    assert "<schedule>:" in said and re.search(r"^\w+.* in section \.\w", said, re.MULTILINE), said
    assert re.search(r'it opens 0x[0-9a-f]+:\s+"/etc/passwd"', said), said
    # Down to where the process entered the kernel (GDB has one word for whatever interrupts), or the thread began.
    frames = re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\w+ \(\)|<signal handler called>)", said, re.MULTILINE)
    assert frames[:3] == ["do_sys_openat2 ()", "__x64_sys_openat ()", "do_syscall_64 ()"], said
    assert frames[3] == "<signal handler called>", said
    assert "= 1\n" in said and '"Linux version ' in said
    below = frames[frames.index("schedule ()") :]
    assert len(below) > 2 and below[-1] in ("ret_from_fork ()", "<signal handler called>"), said
    assert re.search(r"^vCPU 0: (stopped|blocked), kernel mode", said, re.MULTILINE), said
    # The clock's tick writes it. Watched as GDB does by default, by the processor.
    said = session.gdb("watch *(long *)&jiffies", "continue", "continue", "delete", "detach")
    values = [int(value) for value in re.findall(r"^(?:Old|New) value = (\d+)", said, re.MULTILINE)]
    assert "Hardware watchpoint" in said and values[0] < values[1] == values[2] < values[3], said
    output = session.power_off()
    assert "\n0\nerrors above" in output, output
