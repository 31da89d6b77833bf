# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv create -c` with its input from elsewhere: a run, with an exit status that tells how it went."""

import signal
import subprocess
import time

import pytest

from tests.cli.conftest import Pvhv
from tests.toolstack.recipes import SPIN, UD2, shutdown


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (shutdown(0), 0, ""),
        (shutdown(1), 10, "pvhv: it rebooted\n"),
        (shutdown(3), 20, "pvhv: it crashed\n"),
        (shutdown(4), 21, "pvhv: it was stopped by its watchdog\n"),
    ],
)
def test_exit_statuses(shared: Pvhv, code: bytes, status: int, words: str) -> None:
    done = shared.run("create", "-c", shared.domain("it", code))
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.endswith(words)
    shared.until(lambda: not shared.list())


def test_a_crash_tells_everything_on_standard_error(shared: Pvhv) -> None:
    done = shared.run("create", "-c", shared.domain("crasher", b"\x90" + UD2))
    assert done.returncode == 20
    assert done.stdout == ""
    for words in (
        "crashed: unhandled exception: vector 6",
        "rip ffffffff80100001 <start+0x1>",
        "rsp ffffffff80",
        "Stack:",
        "Last hypercalls",
        "pvhv: crasher crashed",
    ):
        assert words in done.stderr


def test_the_guests_words_are_on_standard_output_and_no_others(shared: Pvhv) -> None:
    (shared.directory / "hello.cfg").write_text('kernel = "test-hello"')
    done = shared.run("create", "-c", "hello.cfg", "name=greeter", "clock=virtual")
    assert done.stdout.splitlines() == ["# hello on xen-3.0-x86_64", "Hello from domain U", "PASS hello"]
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_crashed_domain_is_kept_if_the_file_says_so(shared: Pvhv) -> None:
    done = shared.run("create", "-c", shared.domain("kept", UD2, 'on_crash = "preserve"'))
    assert done.returncode == 20
    assert "it is kept as it was; `pvhv destroy kept` removes it" in done.stderr
    assert shared.list()["kept"]["state"] == "---sc-"
    again = shared.run("console", "kept")
    assert again.returncode == 0
    assert "rip ffffffff80100000 <start>" in again.stderr
    shared.ok("destroy", "kept")


def test_timeout(shared: Pvhv) -> None:
    began = time.monotonic()
    done = shared.run("create", "-c", "--timeout", "0.5", shared.domain("spinner", SPIN))
    assert done.stdout == ""
    assert done.returncode == 124
    assert done.stderr == "pvhv: spinner did not end within 0.5 s, and was destroyed\n"
    assert time.monotonic() - began < 10
    assert shared.list() == {}


def test_timeout_without_a_console(shared: Pvhv) -> None:
    began = time.monotonic()
    shared.ok("create", "--timeout", "1", shared.domain("mortal", SPIN))
    listed = shared.list()
    assert "mortal" in listed or time.monotonic() - began > 1  # on a busy host it may be over
    shared.until(lambda: not shared.list())


def test_a_timeout_ends_every_life_of_it(shared: Pvhv) -> None:
    def none_is_left() -> bool:
        if not shared.list():
            time.sleep(0.5)
        return not shared.list()

    for action in ("restart", "rename-restart"):
        # A guest that reboots once its console's page says so could not be simpler than one that always does:
        # each life but the last is too short to be seen, and the last is kept.
        name, began = f"phoenix-{action}", time.monotonic()
        shared.ok("create", "--timeout", "1", shared.domain(name, shutdown(1), f'on_reboot = "{action}"'))
        # Between two lives there is none in the list; and on a busy host it may be over.
        shared.until(lambda began=began: shared.list() or time.monotonic() - began > 1)
        # For the same reason it is over only if there is none for longer than between two lives.
        shared.until(none_is_left, timeout=20)


def test_a_timeout_counts_for_a_guest_that_never_stops_talking(shared: Pvhv) -> None:
    (shared.directory / "flood.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    began = time.monotonic()
    done = shared.run("create", "-c", "--timeout", "2", "flood.cfg", stdin="seq 1 100000000\n")
    assert done.returncode == 124
    assert done.stderr == "pvhv: flood did not end within 2 s, and was destroyed\n"
    assert time.monotonic() - began < 20
    assert shared.list() == {}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_interrupted_takes_its_domain_with_it(shared: Pvhv, number: int, status: int) -> None:
    process = shared.start("create", "-c", shared.domain("spinner", SPIN))
    shared.until(lambda: "spinner" in shared.list())
    process.send_signal(number)
    _out, error = process.communicate(timeout=20)
    assert process.returncode == status
    assert b"Traceback" not in error
    assert shared.list() == {}


def test_a_client_that_is_killed_harms_nobody(shared: Pvhv) -> None:
    process = shared.start("create", "-c", shared.domain("spinner", SPIN))
    shared.until(lambda: shared.list().get("spinner", {"time": 0})["time"] > 0.2)  # by now the client knows of it
    process.kill()
    process.wait()
    assert shared.list()["spinner"]["state"] == "r-----"
    shared.ok("destroy", "spinner")


def test_a_reader_that_has_enough_ends_the_run(shared: Pvhv) -> None:
    (shared.directory / "flood.cfg").write_text('kernel = "guest-pv"\nname = "flood"')
    process = shared.start("create", "-c", "flood.cfg", stdin=subprocess.PIPE)
    assert process.stdin and process.stdout
    process.stdin.write(b"seq 1 1000000\n")
    process.stdin.flush()
    assert process.stdout.read(3000)
    process.stdout.close()
    assert process.wait(30) == 141
    shared.until(lambda: not shared.list())


def test_words_are_not_written_behind_the_guests_where_both_go_to_one_place(shared: Pvhv) -> None:
    (shared.directory / "idle.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    process = shared.start(
        "create", "-c", "--timeout", "1", "idle.cfg", stdin=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout
    said = process.stdout.read()
    process.wait(20)
    assert said.endswith(b"$ \npvhv: idle did not end within 1 s, and was destroyed\n")


def test_a_session_through_pipes(shared: Pvhv) -> None:
    (shared.directory / "session.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    done = shared.run("create", "-c", "session.cfg", stdin="echo one two | wc\nexit\n")
    assert done.returncode == 0, done.stderr
    assert ["1", "2", "8"] in [line.split() for line in done.stdout.splitlines()]


def test_a_lot_of_output_comes_whole(shared: Pvhv) -> None:
    (shared.directory / "lots.cfg").write_text('kernel = "guest-pv"\nmemory = 16')
    done = shared.run("create", "-c", "lots.cfg", stdin="seq 1 30000\nexit\n", timeout=120)
    numbers = [int(line) for line in done.stdout.splitlines() if line.isdigit()]
    assert numbers == list(range(1, 30001))


def test_on_a_virtual_clock_every_run_is_the_same(shared: Pvhv) -> None:
    (shared.directory / "same.cfg").write_text('kernel = "guest-pv"\nclock = "virtual"')
    runs = [
        shared.run("create", "-c", "same.cfg", stdin="uptime\nsleep 3\nuptime\nps\nexit\n")
        for _time in range(2)
    ]
    assert runs[0].returncode == 0
    assert runs[0].stdout == runs[1].stdout
    assert "up 3.0" in runs[0].stdout
