# SPDX-License-Identifier: GPL-2.0-or-later
"""The host process: there when it is needed, one a user, and no trouble when it is gone."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pvhv.toolstack import rpc
from pvhv.toolstack.paths import LONGEST_SOCKET_PATH, Paths
from tests.cli.conftest import ROOT, Pvhv
from tests.toolstack.recipes import SPIN


def test_commands_that_only_look_start_nothing(pvhv: Pvhv) -> None:
    assert pvhv.ok("list", "--json") == "[]\n"
    assert pvhv.ok("dmesg") == ""
    assert "there is no domain x" in pvhv.fails("destroy", "x")
    assert "not up" in pvhv.run("daemon", "status").stdout
    assert not (pvhv.runtime / "pvhvd.log").exists()
    pvhv.ok("daemon", "stop")


def test_it_is_private(pvhv: Pvhv) -> None:
    pvhv.ok("info")
    assert stat.S_IMODE(pvhv.runtime.stat().st_mode) == 0o700
    sockets = [path for path in pvhv.runtime.iterdir() if path.is_socket()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in sockets] == [0o600]


def test_it_is_called_pvhvd_and_has_no_terminal(pvhv: Pvhv) -> None:
    pid = pvhv.pid
    assert Path(f"/proc/{pid}/comm").read_text() == "pvhvd\n"
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_it_is_killed_its_domains_are_reported_lost_once(pvhv: Pvhv, number: int) -> None:
    (pvhv.directory / "lost.cfg").write_text(f'kernel = "{ROOT}/pvhv/_built/kernels/guest-pv"\n')
    pvhv.ok("create", "lost.cfg")
    pvhv.ok("create", "lost.cfg", "name=too")
    console = pvhv.start("console", "lost", stdin=subprocess.PIPE)
    run = pvhv.start("create", "-c", "lost.cfg", "name=run", stdin=subprocess.PIPE)
    for attached in (console, run):
        assert attached.stdout and attached.stdout.read(1)  # it is there, and hears its guest
    pid = pvhv.pid
    os.kill(pid, number)
    for attached in (console, run):  # with their input still open: nothing but the loss ends them
        assert attached.wait(20) == 1
        assert attached.stderr and b"pvhvd went away, and its domains with it" in attached.stderr.read()
    done = pvhv.run("list")
    assert done.returncode == 0
    assert f"pvhvd (process {pid}) was killed; its domains are lost: lost, too, run" in done.stderr
    assert pvhv.run("list").stderr == ""
    pvhv.ok("create", "lost.cfg")
    assert list(pvhv.list()) == ["lost"]


def test_killed_without_domains_is_no_loss(pvhv: Pvhv) -> None:
    os.kill(pvhv.pid, signal.SIGKILL)
    done = pvhv.run("info")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_socket_is_replaced(pvhv: Pvhv) -> None:
    pvhv.runtime.mkdir(mode=0o700)
    path = pvhv.runtime / "pvhvd.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()
    assert "pvhvd is up" not in pvhv.run("daemon", "status").stdout
    pvhv.ok("info")


def test_two_first_commands_at_once_share_one(pvhv: Pvhv) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(pvhv.pid)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1
    # The others have seen that they are not needed: none of them takes its place when it goes.
    pvhv.ok("daemon", "stop")
    pvhv.until(lambda: not Path(f"/proc/{found[0]}").exists())
    time.sleep(0.6)
    assert "not up" in pvhv.run("daemon", "status").stdout


def test_stop_ends_everything(pvhv: Pvhv) -> None:
    pvhv.ok("create", pvhv.domain("one", SPIN))
    pid = pvhv.pid
    pvhv.ok("daemon", "stop")
    pvhv.until(lambda: not Path(f"/proc/{pid}").exists())
    done = pvhv.run("list")
    assert (done.stderr, len(done.stdout.splitlines())) == ("", 1)


def test_a_host_process_that_cannot_start_is_said_in_words(pvhv: Pvhv) -> None:
    pvhv.runtime.mkdir(mode=0o700)
    (pvhv.runtime / "pvhvd.sock").mkdir()  # nothing can listen there
    words = pvhv.fails("info")
    assert "pvhvd ended at once (status 70)" in words
    assert "its log says:" in words and "pvhvd.log" in words


def test_a_directory_of_somebody_else_is_refused(pvhv: Pvhv) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can make a directory that belongs to somebody else: run the tests as root")
    pvhv.runtime.mkdir()
    os.chown(pvhv.runtime, 12345, 12345)
    assert "belongs to another user" in pvhv.fails("list")


def test_a_directory_that_cannot_be_made(pvhv: Pvhv) -> None:
    pvhv.environment["PVHV_RUNTIME_DIR"] = "/dev/null/run"
    assert "set PVHV_RUNTIME_DIR to a directory of yours" in pvhv.fails("list")


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    paths = Paths(tmp_path / ("x" * 120))
    assert len(os.fsencode(paths.socket)) <= LONGEST_SOCKET_PATH
    assert paths.socket != Paths(tmp_path / ("y" * 120)).socket


def test_without_unix_sockets_it_is_a_loopback_port_and_a_token(pvhv: Pvhv) -> None:
    pvhv.environment["PVHV_LOOPBACK"] = "1"
    pvhv.ok("create", pvhv.domain("one", SPIN))
    assert list(pvhv.list()) == ["one"]
    endpoint = pvhv.runtime / "endpoint"
    assert stat.S_IMODE(endpoint.stat().st_mode) == 0o600
    port, token = endpoint.read_text().split()
    for guess in ("", "x", token[:-1]):
        with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as connection:
            connection.sendall(rpc.pack({"id": 1, "call": "hello", "args": {"token": guess}}))
            connection.sendall(rpc.pack({"id": 2, "call": "list", "args": {}}))
            assert _hung_up(connection)
    os.kill(pvhv.pid, signal.SIGKILL)
    assert "its domain one is lost" in pvhv.run("list").stderr
    pvhv.ok("info")
    assert endpoint.read_text() != f"{port} {token}\n"


def test_a_disk_that_is_full_stops_nobody(pvhv: Pvhv) -> None:
    pvhv.domain("one", SPIN)

    def limited(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-m", "pvhv", *arguments],
            cwd=pvhv.directory, env=pvhv.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    for arguments in (("create", "one.cfg"), ("create", "one.cfg", "name=two"), ("rename", "one", "first"),
                      ("destroy", "two")):  # fmt: skip
        done = limited(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
    assert [*pvhv.list()] == ["first"]
    assert limited("create", "-c", "--timeout", "0.3", "one.cfg").returncode == 124
    assert (pvhv.runtime / "pvhvd.log").stat().st_size == 0
    os.kill(pvhv.pid, signal.SIGKILL)
    assert pvhv.run("list").stderr == ""  # nothing is known of what was lost, and nothing wrong is told


def test_a_working_directory_that_is_gone(pvhv: Pvhv) -> None:
    gone = pvhv.directory / "gone"
    gone.mkdir()
    command = [sys.executable, "-P", "-m", "pvhv", "list"]
    for runtime, status, words in ((str(pvhv.runtime), 0, ""), ("run", 1, "relative to a working directory")):
        line = f'cd "{gone}" && rmdir "{gone}" && exec "$@"'
        gone.mkdir(exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", line, "sh", *command], env={**pvhv.environment, "PVHV_RUNTIME_DIR": runtime},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == status
        assert words in done.stderr and "Traceback" not in done.stderr


def test_a_directory_that_is_cleared_away_is_made_again(pvhv: Pvhv) -> None:
    pvhv.ok("create", pvhv.domain("one", SPIN))
    pid = pvhv.pid
    shutil.rmtree(pvhv.runtime)
    pvhv.until(lambda: (pvhv.runtime / "pvhvd.sock").exists())
    assert [*pvhv.list()] == ["one"] and pvhv.pid == pid
    os.kill(pid, signal.SIGKILL)
    assert "its domain one is lost" in pvhv.run("list").stderr


def test_whose_place_was_taken_ends(pvhv: Pvhv) -> None:
    pvhv.ok("create", pvhv.domain("one", SPIN))
    pid = pvhv.pid
    shutil.rmtree(pvhv.runtime)
    pvhv.ok("create", "one.cfg", "name=two")  # nobody was there, so another was started
    second = pvhv.pid
    assert second != pid
    files = {path.name: path.stat().st_ino for path in pvhv.runtime.iterdir()}
    pvhv.until(lambda: not Path(f"/proc/{pid}").exists())
    assert {path.name: path.stat().st_ino for path in pvhv.runtime.iterdir()} == files
    assert pvhv.pid == second and [*pvhv.list()] == ["two"]


def test_older_code_is_replaced_while_it_has_no_domains(pvhv: Pvhv) -> None:
    first = pvhv.pid
    # Another tree with the same package: its code is not the code the host process runs.
    for name in ("second", "third"):
        (pvhv.directory / name).mkdir()
        (pvhv.directory / name / "pvhv").symlink_to(ROOT / "pvhv")
    pvhv.environment["PYTHONPATH"] = str(pvhv.directory / "second")
    second = pvhv.pid
    assert second != first
    pvhv.ok("create", pvhv.domain("one", SPIN))
    pvhv.environment["PYTHONPATH"] = str(pvhv.directory / "third")
    done = pvhv.run("list")
    assert done.stderr == (
        f"pvhv: pvhvd (process {second}) runs older code than this command, and goes on as long as it has domains (1)\n"
        "      `pvhv daemon stop` ends it and them; the next command starts a new one\n"
    )
    assert "one" in done.stdout
    assert pvhv.run("list").stderr == ""  # that was said once
    assert "it runs older code" in pvhv.ok("daemon", "status")  # and to who asks
    pvhv.ok("daemon", "stop")
    pvhv.ok("create", "one.cfg")
    assert "runs older" not in pvhv.ok("daemon", "status")
    pvhv.environment["PYTHONPATH"] = str(pvhv.directory / "second")
    assert "runs older code" in pvhv.run("list").stderr  # another host process, another word


def _hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:  # it had not even read all we said
        return True


def _connect(pvhv: Pvhv) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(pvhv.runtime / "pvhvd.sock"))
    connection.settimeout(20)
    return connection


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\x03abc",
        b"\0\0\0\x01\xc1",
        rpc.pack({"id": "x", "call": "list"}),
        rpc.pack({"call": "list"}),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_who_speaks_no_sense_is_hung_up_on(shared: Pvhv, garbage: bytes) -> None:
    pid = shared.pid
    with _connect(shared) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        assert _hung_up(connection)
    assert shared.pid == pid


def test_wrong_calls_are_answered(shared: Pvhv) -> None:
    shared.ok("info")
    unpacker = rpc.Unpacker()
    with _connect(shared) as connection:
        connection.sendall(rpc.pack({"id": 1, "call": "fly", "args": {}}))
        connection.sendall(rpc.pack({"id": 2, "call": "destroy", "args": {"who": "x"}}))
        answers: list[rpc.Message] = []
        while len(answers) < 2:
            answers += unpacker.feed(connection.recv(10000))
    errors = {answer["id"]: answer["error"] for answer in answers}
    assert "does not know 'fly'" in errors[1]["message"]
    assert "'destroy' takes no 'who'" in errors[2]["message"]
    shared.ok("info")


def test_a_client_that_reads_nothing_stops_nobody(shared: Pvhv) -> None:
    (shared.directory / "loud.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    shared.ok("create", "loud.cfg")
    with _connect(shared) as idle:
        idle.sendall(rpc.pack({"id": 1, "call": "attach", "args": {"domain": "loud"}}))
        idle.sendall(rpc.pack({"id": 2, "call": "trace", "args": {"domain": "loud"}}))
        shared.until(lambda: "$" in shared.ok("console", "loud"))
        shared.ok("console", "loud", stdin="seq 1 20000\n")
        shared.until(lambda: "\n20000" in shared.ok("console", "loud").replace("\r", ""))
        shared.ok("console", "loud", stdin="exit\n")
        shared.until(lambda: not shared.list())


def test_input_right_behind_its_attach_is_not_lost(shared: Pvhv) -> None:
    (shared.directory / "quick.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    for _time in range(5):
        shared.ok("create", "quick.cfg")
        with _connect(shared) as connection:
            attach = rpc.pack({"id": 1, "call": "attach", "args": {"domain": "quick"}})
            typed = rpc.pack({"id": 2, "call": "input", "args": {"attached": 1, "data": b"exit 0\n"}})
            connection.sendall(attach + typed)
            shared.until(lambda: not shared.list())


def test_messages_in_pieces() -> None:
    unpacker = rpc.Unpacker()
    whole = rpc.pack({"a": 1}) + rpc.pack({"b": b"\0\xff"})
    found = [message for byte in whole for message in unpacker.feed(bytes([byte]))]
    assert found == [{"a": 1}, {"b": b"\0\xff"}]
    assert json.dumps(found[0]) == '{"a": 1}'


def test_a_chosen_directory_keeps_its_mode(pvhv: Pvhv) -> None:
    pvhv.runtime.mkdir()
    pvhv.runtime.chmod(0o755)  # other things may live in it
    pvhv.ok("list")
    assert pvhv.runtime.stat().st_mode & 0o777 == 0o755
    pvhv.runtime.chmod(0o777)
    assert "others may write to" in pvhv.fails("list")
    pvhv.runtime.chmod(0o700)


def test_standard_streams_that_cannot_be_used(pvhv: Pvhv) -> None:
    (pvhv.directory / "guest.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    create = "create -c --timeout 1 guest.cfg"
    for command, streams, status in (
        (create, "<&-", 124),
        (create, ">&-", 124),
        (create.replace("1", "60"), ">/dev/full", 1),  # when the guest says something, which may take it a while
        ("--help", ">/dev/full", 1),
        ("--version", ">/dev/full", 1),
        ("list --help", ">/dev/full", 1),
        ("hypercalls", ">/dev/full", 1),
    ):
        line = f"{sys.executable} -m pvhv.cli {command} {streams}"
        done = subprocess.run(
            line, shell=True, cwd=pvhv.directory, env=pvhv.environment, capture_output=True, timeout=60
        )
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr
        assert "guest" not in pvhv.ok("list")
