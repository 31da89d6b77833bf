# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is not our client, or not a good one: strangers at the door, other users' sockets and links, clients that go."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pvhv.toolstack import config, rpc
from pvhv.toolstack.client import Lost
from pvhv.toolstack.server import MOST_STRANGERS
from tests.cli.conftest import ROOT, Pvhv
from tests.toolstack.recipes import SPIN

MUCH = 16 << 20
STRANGER = 54321  # a user of this machine without a name
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="another user's part takes root: run the tests as root")


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pvhv]:
    made = Pvhv(tmp_path_factory.mktemp("loopback"))
    made.environment["PVHV_LOOPBACK"] = "1"
    yield made
    made.end()


def knock(pvhv: Pvhv) -> socket.socket:
    port = int((pvhv.runtime / "endpoint").read_text().split()[0])
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.settimeout(20)
    return connection


def memory_of(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) << 10


# -- at the loopback port ------------------------------------------------------------------------------------
def test_strangers_cost_next_to_nothing(loopback: Pvhv) -> None:
    pid, log = loopback.pid, loopback.runtime / "pvhvd.log"
    before, said = memory_of(pid), log.read_text()
    connections = []
    for number in range(3 * MOST_STRANGERS):
        connections.append(connection := knock(loopback))
        with contextlib.suppress(OSError):
            connection.sendall(struct.pack(">I", MUCH) if number % 2 else b"")
            connection.sendall(bytes(1 << 20) if number % 2 else b"")
    assert memory_of(pid) - before < 20 << 20
    assert loopback.pid == pid  # whoever knows the token gets in all the while
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    assert descriptors < 2 * MOST_STRANGERS
    for connection in connections:
        connection.close()
    loopback.until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= descriptors - MOST_STRANGERS // 2)
    assert log.read_text() == said


def test_somebody_elses_port_is_not_believed(loopback: Pvhv) -> None:
    """A host process that was killed leaves its port to whoever wants it."""
    assert loopback.pid
    endpoint = loopback.runtime / "endpoint"
    before = endpoint.read_text()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(4)
        token = before.split()[1]
        endpoint.write_text(f"{listening.getsockname()[1]} {token}\n")
        heard: list[bytes] = []

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                heard.append(connection.recv(10000))
                hello = {"same_code": True, "domains": 0, "pid": 1, "proof": "x" * 64, "warning": ""}
                connection.sendall(rpc.pack({"id": 1, "ok": hello}))

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            assert "another program answers on the port" in loopback.fails("list")
        finally:
            thread.join()
            endpoint.write_text(before)
    assert token.encode() not in heard[0]
    assert loopback.list() == {}


# -- who has the token, or needs none ------------------------------------------------------------------------
def unix(pvhv: Pvhv) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(pvhv.runtime / "pvhvd.sock"))
    connection.settimeout(20)
    return connection


# -- other users ---------------------------------------------------------------------------------------------
@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory for everybody, like that for temporary files."""
    directory = tmp_path / "everybody's"
    directory.mkdir()
    directory.chmod(0o1777)
    for above in directory.parents:
        if above.stat().st_uid == os.getuid() and above.stat().st_mode & 0o011 != 0o011 and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)
    yield directory


class Stranger:
    """A process of another user, which does something with one end of a socket pair; `says` is what comes of it."""

    def __init__(self, does: Callable[[socket.socket], None]) -> None:
        self.says, theirs = socket.socketpair()
        self.says.settimeout(30)
        self.pid = os.fork()
        if not self.pid:
            try:
                self.says.close()
                os.setgroups([])
                os.setgid(STRANGER)
                os.setuid(STRANGER)
                os.umask(0)
                does(theirs)
            finally:
                os._exit(0)
        theirs.close()

    def done(self) -> bytes:
        """All it has to say."""
        said = b""
        while data := self.says.recv(1000):
            said += data
        os.waitpid(self.pid, 0)
        self.says.close()
        return said


@needs_root
@pytest.mark.parametrize("what", ["directory", "link"])
def test_what_a_stranger_put_in_our_directorys_place(pvhv: Pvhv, place: Path, what: str) -> None:
    """Be it a link to a directory that is ours: nothing of that is changed, either."""
    for name in ("PVHV_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        del pvhv.environment[name]
    pvhv.environment["TMPDIR"] = str(place)
    ours = place.parent / "ours"
    ours.mkdir(mode=0o755)
    there = place / f"pvhv-{os.getuid()}"
    Stranger(lambda _: os.mkdir(there) if what == "directory" else os.symlink(ours, there)).done()
    for command in (["list"], ["create", pvhv.domain("one", SPIN)], ["daemon", "stop"]):
        assert ("belongs to another user" if what == "directory" else "is a symbolic link") in pvhv.fails(*command)
    assert ours.stat().st_mode & 0o777 == 0o755 and not list(ours.iterdir())


@needs_root
def test_a_strangers_link_where_we_were_told_to_be(pvhv: Pvhv, place: Path) -> None:
    ours = place.parent / "ours"
    ours.mkdir(mode=0o700)
    Stranger(lambda _: os.symlink(ours, place / "link")).done()
    pvhv.environment["PVHV_RUNTIME_DIR"] = str(place / "link")
    assert "is a symbolic link" in pvhv.fails("list")
    (place / "ours").symlink_to(ours)  # one's own is another thing
    pvhv.environment["PVHV_RUNTIME_DIR"] = str(place / "ours")
    assert pvhv.list() == {}


@needs_root
def test_a_stranger_who_listens_in_our_place_hears_nothing(pvhv: Pvhv, place: Path) -> None:
    pvhv.runtime.mkdir(mode=0o700)
    elsewhere = place / "sock"

    def listen(says: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(elsewhere))
            listening.listen(5)
            says.sendall(b"there ")
            connection, _ = listening.accept()
            says.sendall(connection.recv(1000))

    stranger = Stranger(listen)
    assert stranger.says.recv(100) == b"there "
    (pvhv.runtime / "pvhvd.sock").symlink_to(elsewhere)
    words = pvhv.fails("create", pvhv.domain("one", SPIN))
    assert f"a process of another user (uid {STRANGER}) listens there" in words
    assert stranger.done() == b""


@needs_root
def test_a_stranger_who_gets_as_far_as_our_socket_is_not_served(pvhv: Pvhv, place: Path) -> None:
    pvhv.environment["PVHV_RUNTIME_DIR"] = str(place / "run")
    pvhv.runtime = place / "run"
    assert pvhv.pid
    for path in (pvhv.runtime, pvhv.runtime / "pvhvd.sock"):
        path.chmod(0o777)
    def ask(says: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(pvhv.runtime / "pvhvd.sock"))
            says.sendall(b"there ")
            connection.settimeout(20)
            with contextlib.suppress(ConnectionError):
                connection.sendall(rpc.pack({"id": 1, "call": "hello", "args": {}}))
                says.sendall(connection.recv(1000))

    assert Stranger(ask).done() == b"there "
    pvhv.runtime.chmod(0o700)


def test_a_long_path_is_nobody_elses_either(pvhv: Pvhv, place: Path) -> None:
    pvhv.environment |= {"PVHV_RUNTIME_DIR": str(place.parent / ("x" * 110)), "TMPDIR": "/tmp"}
    short = Path(f"/tmp/pvhv-{os.getuid()}")
    pvhv.runtime = place.parent / ("x" * 110)
    assert pvhv.pid
    assert short.stat().st_mode & 0o777 == 0o700 and short.owner() == Path(place).owner()
    pvhv.ok("daemon", "stop")


# -- clients that go -----------------------------------------------------------------------------------------
def test_a_client_that_goes_while_it_waits_for_an_end(pvhv: Pvhv) -> None:
    """The domain goes all the same, and the others who wait for that are told."""
    (pvhv.directory / "big.cfg").write_text('kernel = "guest-pv"\nmemory = 1500\nname = "big"\n')
    pvhv.ok("create", "big.cfg")
    with unix(pvhv) as gone, unix(pvhv) as waits:
        gone.sendall(rpc.pack({"id": 1, "call": "destroy", "args": {"domain": "big"}}) + rpc.pack({"cancel": 1}))
        waits.sendall(rpc.pack({"id": 1, "call": "destroy", "args": {"domain": "big"}}))
        (answer,) = rpc.Unpacker().feed(waits.recv(10000))
        assert answer.get("ok", "none") is None or "no domain" in answer["error"]["message"]
    assert pvhv.list() == {} and '"domains": []' in (pvhv.runtime / "domains.json").read_text()
    assert "BUG" not in pvhv.ok("dmesg") and "bugs_met     : 0" in pvhv.ok("info")


def test_a_client_that_goes_while_its_domain_is_built(pvhv: Pvhv) -> None:
    """It was not told of one, so there is none."""
    pvhv.domain("big", SPIN)
    pvhv.ok("create", "big.cfg", "name=other")
    disk = pvhv.directory / "ramdisk"
    with disk.open("wb") as file:
        file.truncate(400 << 20)
    text = (pvhv.directory / "big.cfg").read_text().replace("memory = 8", 'memory = 1000\nramdisk = "ramdisk"')
    (pvhv.directory / "big.cfg").write_text(text)
    creating = pvhv.start("create", "big.cfg")
    pvhv.until(lambda: "big" in pvhv.list())
    assert pvhv.list()["big"]["state"] == "--p---"
    creating.kill()
    creating.communicate()
    pvhv.until(lambda: list(pvhv.list()) == ["other"])
    assert "BUG" not in pvhv.ok("dmesg")


def test_clients_that_go_at_any_moment_of_a_creation(pvhv: Pvhv) -> None:
    """What they were told of is there, and nothing else."""
    wanted = config.load(str(pvhv.directory / pvhv.domain("it", SPIN)), []).to_wire()
    pvhv.ok("create", "-p", pvhv.domain("other", SPIN))
    rng = random.Random(1)
    told_of = 0
    for turn in range(40):
        client = pvhv.client()
        assert client is not None
        client.start("create", config=wanted, attach=turn % 2 == 0, one_run=turn % 4 == 0)
        time.sleep(rng.random() * 0.04)
        client.hang_up()
        told = False
        with contextlib.suppress(Lost):
            while message := client.receive():
                told |= "created" in message.get("item", ())
        if told:
            assert sorted(pvhv.list()) == ["it", "other"]
            pvhv.ask("destroy", domain="it")
        pvhv.until(lambda: list(pvhv.list()) == ["other"])
        told_of += told
    assert 0 < told_of < 40


# -- no descriptors ------------------------------------------------------------------------------------------
def limited(pvhv: Pvhv, limit: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", sys.executable, "-m", "pvhv", *arguments],
        cwd=pvhv.directory, env=pvhv.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_clients_beyond_what_there_are_descriptors_for_wait(pvhv: Pvhv) -> None:
    assert limited(pvhv, "-n 90", "info").returncode == 0
    pid, log = pvhv.pid, pvhv.runtime / "pvhvd.log"
    connections = []
    for _ in range(100):
        with contextlib.suppress(OSError):  # the backlog is full, too
            connections.append(connection := socket.socket(socket.AF_UNIX))
            connection.setblocking(False)
            connection.connect(str(pvhv.runtime / "pvhvd.sock"))
            connection.sendall(rpc.pack({"id": 1, "call": "hello", "args": {}}))  # no strangers
    pvhv.until(lambda: len(os.listdir(f"/proc/{pid}/fd")) > 50)
    worked = processor_time(pid)
    time.sleep(1)
    assert processor_time(pid) - worked < 0.5 and log.stat().st_size < 1000
    for connection in connections:
        connection.close()
    assert pvhv.pid == pid


def test_too_few_descriptors_are_said_in_words(pvhv: Pvhv) -> None:
    done = limited(pvhv, "-n 20", "info")
    assert done.returncode == 1 and "it may have 20 descriptors, and needs 64 (ulimit -n)" in done.stderr


def test_too_little_address_space_is_said_in_words(pvhv: Pvhv) -> None:
    done = limited(pvhv, "-v 500000", "info")
    assert done.returncode == 1 and "the host has no address space for a machine of 512 MiB" in done.stderr
    (pvhv.directory / "one.cfg").write_text('kernel = "guest-pv"\nmemory = 16\n')
    assert limited(pvhv, "-v 900000", "create", "one.cfg").returncode == 0
    done = limited(pvhv, "-v 900000", "create", "one.cfg", "name=two", 'clock="virtual"')
    assert done.returncode == 1 and "no address space for another engine" in done.stderr
    assert list(pvhv.list()) == ["one"]  # which lives


def processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- two versions --------------------------------------------------------------------------------------------
def test_two_versions_that_create_at_once_lose_nothing(pvhv: Pvhv) -> None:
    (pvhv.directory / "second").mkdir()
    (pvhv.directory / "second" / "pvhv").symlink_to(ROOT / "pvhv")
    other = {**pvhv.environment, "PYTHONPATH": str(pvhv.directory / "second")}
    pvhv.domain("one", SPIN)
    processes = {
        f"d{number}": subprocess.Popen(
            [sys.executable, "-m", "pvhv", "create", "one.cfg", f"name=d{number}"], cwd=pvhv.directory,
            env=other if number % 2 else pvhv.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for number in range(4)
    }  # fmt: skip
    created = set()
    for name, process in processes.items():
        said, complained = process.communicate(timeout=60)
        assert b"Traceback" not in complained
        assert (process.returncode == 0) == (b"is there" in said), complained
        if process.returncode == 0:
            created.add(name)
    assert created and set(pvhv.list()) == created


def test_a_host_process_is_not_ended_by_other_code_while_somebody_uses_it(pvhv: Pvhv) -> None:
    watching = pvhv.start("xenstore-watch", "/")
    pvhv.until(lambda: (pvhv.runtime / "pvhvd.sock").exists())
    pid = pvhv.pid
    (pvhv.directory / "second").mkdir()
    (pvhv.directory / "second" / "pvhv").symlink_to(ROOT / "pvhv")
    pvhv.environment["PYTHONPATH"] = str(pvhv.directory / "second")
    done = pvhv.run("list")
    assert done.returncode == 0 and "goes on as another command needs it" in done.stderr
    assert watching.poll() is None
    watching.kill()
    watching.communicate()
    pvhv.until(lambda: pvhv.pid != pid)


# -- pipes and the like where files should be ----------------------------------------------------------------
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
def test_what_is_no_file_keeps_nobody_waiting(pvhv: Pvhv, make: Callable[[Path], None]) -> None:
    pvhv.runtime.mkdir(mode=0o700)
    create = ("create", pvhv.domain("one", SPIN))
    for name in ("pvhvd.log", "pvhvd.lock"):
        make(pvhv.runtime / name)
        words = pvhv.fails(*create)
        assert "it is" in words or "Is a directory" in words
        pvhv.runtime.joinpath(name).rename(pvhv.directory / name)
    for name in ("domains.json", "older-code", "console-log.json"):
        make(pvhv.runtime / name)
    pvhv.ok(*create)
    assert list(pvhv.list()) == ["one"]
    if make is os.mkdir:
        (pvhv.runtime / "domains.json").rmdir()
