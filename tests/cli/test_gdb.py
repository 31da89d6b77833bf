# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv gdb` with a real GDB on our own kernel: what one types works, and a session's end is never the domain's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.cli.conftest import ROOT, Pvhv

KERNEL = ROOT / "pvhv/_built/kernels/guest-pv"
QUIET = ["-nx", "-q", "-batch", "-ex", "set confirm off", "-ex", "set pagination off", "-ex", "set remotetimeout 60"]


@pytest.fixture
def hello(pvhv: Pvhv) -> Iterator[Pvhv]:
    """A domain at its prompt."""
    if shutil.which("gdb") is None:
        pytest.skip("no gdb: apt-get install gdb")
    (pvhv.directory / "hello.cfg").write_text('kernel = "guest-pv"\nmemory = 32\n')
    pvhv.ok("create", "hello.cfg")
    pvhv.until(lambda: "$ " in console(pvhv, "\n"))
    yield pvhv


def console(pvhv: Pvhv, typed: str) -> str:
    """What the console shows after this was typed."""
    return pvhv.run("console", "hello", stdin=typed).stdout


def piped(pvhv: Pvhv) -> str:
    command = shlex.join([sys.executable, "-m", "pvhv", "gdb", "--stdio", "hello"])
    return f"target remote | {command}"


def gdb(pvhv: Pvhv, *commands: str, target: str | None = None) -> str:
    """What a GDB prints to which these commands are given, once it is connected."""
    typed = [word for each in (target or piped(pvhv), *commands) for word in ("-ex", each)]
    done = subprocess.run(
        ["gdb", *QUIET, *typed, str(KERNEL)], cwd=pvhv.directory, env=pvhv.environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def alive(pvhv: Pvhv) -> None:
    """It runs, hears and speaks, and nobody holds it."""
    pvhv.until(lambda: "p" not in pvhv.list()["hello"]["state"])
    mark = f"mark-{time.monotonic_ns()}"
    assert console(pvhv, f"echo {mark}\n").count(mark) == 2
    assert "goes on" in gdb_free(pvhv)


def gdb_free(pvhv: Pvhv) -> str:
    """Whether it can have a debugger: what a session says that ends at once."""
    done = pvhv.run("gdb", "--stdio", "hello")
    assert done.returncode == 0, done.stderr
    return done.stderr


class Typist:
    """Types at the console for as long as a test needs the kernel to be called."""

    def __init__(self, pvhv: Pvhv, line: str) -> None:
        self.process = pvhv.start("console", "hello", stdin=subprocess.PIPE)
        assert self.process.stdin is not None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._type, args=(self.process.stdin, line))
        self._thread.start()

    def _type(self, keyboard: IO[bytes], line: str) -> None:
        while not self._over.wait(0.2):
            try:
                keyboard.write(f"{line}\n".encode())
                keyboard.flush()
            except OSError:
                return

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def typist(hello: Pvhv) -> Iterator[None]:
    made = Typist(hello, "cat /etc/motd")
    yield
    made.end()


def test_a_session(hello: Pvhv, typist: None) -> None:
    said = gdb(
        hello,
        "info registers rip cs", "info threads", "break *sys_open", "continue", "backtrace", "print $rip",
        "set $before = $rip", "x/2i $rip", "stepi", "print $rip != $before", "set $sp = $rsp",
        "set var *(long*)($sp - 512) = 0x1122334455667788", "print/x *(int*)($sp - 508)",
        "set $kept = $r15", "set var $r15 = 0x55", "print/x $r15", "set var $r15 = $kept", "delete",
        "break *copy_string_from_user", "continue", "backtrace 2", "finish", "print $xmm0.uint128", "print $st0",
        "monitor vcpus", "monitor hypercalls", "delete", "detach",
    )  # fmt: skip
    assert re.search(r"rip +0x[0-9a-f]+ .*<", said) and re.search(r"cs +0xe033", said)
    assert "(vCPU 0, kernel mode" in said
    assert "Breakpoint 1, sys_open" in said
    frames = re.findall(r"^#\d+ .*?(\w+) \(", said, re.MULTILINE)
    assert frames[:3] == ["sys_open", "syscall", "trap"] or frames[:2] == ["sys_open", "syscall"], said
    assert "<sys_open>" in said and "= 1\n" in said
    assert "= 0x11223344\n" in said and "= 0x55\n" in said
    assert "Breakpoint 2, copy_string_from_user" in said and "Value returned is" in said, said
    assert "vCPU 0: stopped, kernel mode" in said and "Last hypercalls" in said
    assert "detached" in said
    assert "Cannot" not in said and "rror" not in said, said


def test_steps_are_of_one_instruction(hello: Pvhv, typist: None) -> None:
    """A hundred of them: each ends where the instruction before it leads, by GDB's own disassembly."""
    step = "python\nimport gdb\n" + "\n".join((
        "def length(): return gdb.selected_frame().architecture().disassemble(pc())[0]",
        "def pc(): return int(gdb.parse_and_eval('$rip')) & (1 << 64) - 1",
        "strange = 0",
        "for n in range(100):",
        "    at, what = pc(), length()",
        "    gdb.execute('stepi', to_string=True)",
        "    jumps = what['asm'].split()[0][0] == 'j' or what['asm'].split()[0] in ('call', 'ret', 'syscall')",
        "    if pc() != at + what['length'] and not jumps: strange += 1; print(what, hex(pc()))",
        "print('strange steps:', strange)",
    )) + "\nend\n"  # fmt: skip
    (hello.directory / "steps.gdb").write_text(step)
    said = gdb(hello, "break *sys_open", "continue", "delete", "source steps.gdb", "detach")
    if "Python scripting is not supported" in said:
        pytest.fail("this gdb has no Python; the package gdb-minimal does not do")
    assert "strange steps: 0" in said, said


@pytest.mark.parametrize("by", ["socket", "port"])
def test_the_command_that_is_printed_is_typed(hello: Pvhv, by: str) -> None:
    """As people do it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = hello.start("gdb", "hello", *(("--port", str(port)) if by == "port" else ()))
    assert serving.stdout is not None
    words = shlex.split(serving.stdout.readline().decode())
    assert words[0] == "gdb" and words[1] == "-ex" and Path(words[3]).name == "guest-pv"
    where = words[2].removeprefix("target remote ")
    if by == "port":
        assert where == f"localhost:{port}"
    else:
        assert Path(where).parent == hello.runtime and stat.S_IMODE(os.stat(where).st_mode) == 0o600
    assert "p" not in hello.list()["hello"]["state"]  # nobody is connected yet
    assert "detached" in gdb(hello, "print $rip", "detach", target=words[2])
    _, told = serving.communicate(timeout=60)
    assert serving.returncode == 0 and told == b"pvhv: gdb has left; hello goes on\n"
    assert not list(hello.runtime.glob("gdb-*"))
    alive(hello)


def test_gdb_is_killed(hello: Pvhv) -> None:
    """In the middle of a session, with a breakpoint that would be met at once."""
    for how in ("gdb", "pvhv gdb"):
        serving = hello.start("gdb", "hello")
        assert serving.stdout is not None
        target = shlex.split(serving.stdout.readline().decode())[2]
        debugger = subprocess.Popen(
            ["gdb", *QUIET, "-ex", target, "-ex", "break *schedule", "-ex", "echo there\\n", "-ex", "continue",
             "-ex", "continue", "-ex", "continue 100000", str(KERNEL)],
            cwd=hello.directory, env=hello.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert debugger.stdout is not None
        while b"there" not in debugger.stdout.readline():
            assert debugger.poll() is None
        try:
            (debugger if how == "gdb" else serving).send_signal(signal.SIGKILL)
            serving.communicate(timeout=60)
            alive(hello)
        finally:
            debugger.kill()
            debugger.communicate()


@pytest.mark.parametrize(
    ("how", "word", "ends"),
    [("destroy", "was destroyed", "SIGKILL"), ("shutdown", "has powered off", "exited normally")],
)
def test_the_domain_goes_while_gdb_waits(hello: Pvhv, how: str, word: str, ends: str) -> None:
    serving = hello.start("gdb", "hello")
    assert serving.stdout is not None
    target = shlex.split(serving.stdout.readline().decode())[2]
    debugger = subprocess.Popen(
        ["gdb", *QUIET, "-ex", target, "-ex", "echo there\\n", "-ex", "continue", str(KERNEL)], cwd=hello.directory,
        env=hello.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert debugger.stdout is not None
    while b"there" not in debugger.stdout.readline():
        assert debugger.poll() is None
    hello.until(lambda: hello.list()["hello"]["state"] in ("r-----", "-b----"))
    hello.ok(how, "hello")
    said, _ = debugger.communicate(timeout=60)
    _, told = serving.communicate(timeout=60)
    assert serving.returncode == 0 and word in told.decode()
    assert ends in said.decode()


def test_what_cannot_be_debugged_is_said(hello: Pvhv) -> None:
    assert "there is no domain nobody" in hello.fails("gdb", "nobody")
    assert "--stdio does not listen" in hello.fails("gdb", "--stdio", "--port", "5000", "hello", status=2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        assert f"cannot listen on port {port}: " in hello.fails("gdb", "hello", "--port", str(port))
    hello.environment["PVHV_LOOPBACK"] = "1"
    assert "this system has no Unix sockets" in hello.fails("gdb", "hello", status=2)
    del hello.environment["PVHV_LOOPBACK"]
    (hello.directory / "full.cfg").write_text('type = "hvm"\nkernel = "guest-native"\nmemory = 32\n')
    hello.ok("create", "full.cfg")
    assert "is fully virtualized" in hello.fails("gdb", "full")
    first = hello.start("gdb", "--stdio", "hello", stdin=subprocess.PIPE)
    try:
        hello.until(lambda: "p" in hello.list()["hello"]["state"])
        assert "has a debugger already" in hello.fails("gdb", "--stdio", "hello")
    finally:
        first.communicate(timeout=60)
    alive(hello)
