# SPDX-License-Identifier: GPL-2.0-or-later
"""The teaching kernel, its shell and its programs, as a person or a script at the console sees them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from pvhv.testing import Machine, Result, boot

PROMPT = "$ "


def shell(*commands: str, clock: str = "virtual", memory: int = 64, timeout: float = 60) -> Result:
    """Boot, run the commands one after the other, and power off by `exit`."""
    script = "".join(f"{command}\n" for command in (*commands, "exit"))
    return boot("guest-pv", stdin=script, clock=clock, memory=memory, timeout=timeout)


def answers(result: Result) -> dict[str, list[str]]:
    """What stands under each command's echo."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in result.lines:
        if line.startswith(PROMPT):
            lines = found.setdefault(line.removeprefix(PROMPT), [])
        else:
            lines.append(line)
    return found


def answer(command: str, *before: str) -> list[str]:
    """What one command answers."""
    result = shell(*before, command)
    assert result.exit_status == 0, result.output + result.report
    return answers(result)[command]


def test_boots_to_a_prompt_and_exit_powers_off() -> None:
    result = shell()
    assert result.ending == "poweroff"
    assert result.last_line == "$ exit"
    assert any(line.startswith("On Xen 4.") for line in result.lines)


@pytest.mark.parametrize("command", ["usertest", "forktest"])
@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_kernel_keeps_its_promises(command: str, clock: str) -> None:
    result = shell(command, clock=clock)
    assert answers(result)[command][-1] == f"{command}: ok", result.output + result.report


def test_bench_measures_and_checks_everything() -> None:
    values = {line.partition("=")[0]: line.partition("=")[2] for line in answer("bench")}
    assert len(values) >= 14
    assert all(value.isdigit() and int(value) > 0 for value in values.values()), values


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("echo one   'two  three' \"four\"", ["one two  three four"]),
        ("echo a | cat | wc", ["1 1 2"]),
        ("seq 100 | grep 9 | wc", ["19 19 56"]),
        ("echo x > /tmp/f; echo y >> /tmp/f; cat < /tmp/f", ["x", "y"]),
        ("false; echo $?", ["1"]),
        ("true && echo yes || echo no", ["yes"]),
        ("false && echo yes || echo no", ["no"]),
        ("nosuch; echo $?", ["sh: nosuch: not found", "127"]),
        ("cat /no/such; echo $?", ["cat: /no/such: no such file", "1"]),
        ("cd /etc; pwd", ["/etc"]),
        ("mkdir /tmp/d; cd /tmp/d; pwd; cd ..; rm d; ls", []),
        ("echo a |", ["sh: a command is missing after |"]),
        ("echo 'a", ["sh: a quote is not closed"]),
        ("sh -c 'exit 7'; echo $?", ["7"]),
        ("# nothing", []),
        ("crash divide; echo $?", ["139"]),
        ("hello", ["Hello, world!"]),
    ],
)
def test_shell(command: str, lines: list[str]) -> None:
    got = [line for line in answer(command) if not line.startswith("[")]
    if "mkdir" in command:
        got = got[1:]
    assert got == lines


def test_ps_has_a_header_and_itself() -> None:
    header, *rows = answer("ps")
    assert header.split()[0] == "PID"
    assert [row.split()[-1] for row in rows] == ["init", "sh", "ps"]


def test_help_names_every_program() -> None:
    text = " ".join(answer("help"))
    programs = [entry.rstrip("/") for entry in answer("ls /bin")]
    assert len(programs) > 25
    assert all(re.search(rf"\b{program}\b", text) for program in programs)


def test_background_job_and_kill() -> None:
    result = shell("spin &", "ps | grep spin", "kill 3", "sleep 0.1", "echo end")
    said = answers(result)
    assert said["spin &"] == ["[3]"]
    assert said["ps | grep spin"][0].split()[-1] == "spin"
    assert "[3] done, 137" in result.lines


def test_time_passes_as_it_should() -> None:
    result = shell("date", "uptime", "sleep 2.5", "uptime", "date")
    before, after = (
        float(match.group(1)) for match in re.finditer(r"^up (\S+) s$", "\n".join(result.lines), re.MULTILINE)
    )
    assert 2.5 <= after - before < 3.5
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", answers(result)["date"][0])


def test_xenstore() -> None:
    result = shell("xs test", "xs write data/greeting hello", "xs read data/greeting", "xs ls", "xs read no/such")
    said = answers(result)
    assert said["xs test"] == ["xs test: ok"]
    assert said["xs read data/greeting"] == ["hello"]
    assert 'name = "guest"' in said["xs ls"]
    assert said["xs read no/such"] == ["xs: no/such: ENOENT"]


@pytest.mark.parametrize(("command", "ending"), [("poweroff", "poweroff"), ("reboot", "reboot"), ("crash", "crash")])
def test_ways_to_end(command: str, ending: str) -> None:
    result = shell(command)
    assert result.ending == ending
    if ending == "crash":
        assert "Oops: general protection fault in the kernel" in result.output
        assert "trap+0x" in result.report  # the stack is symbolised


@pytest.mark.parametrize("memory", [8, 64, 700])
def test_memory_sizes(memory: int) -> None:
    result = shell("free", "usertest heap maps", memory=memory)
    total = int(answers(result)["free"][1].split()[0])
    assert total == memory * 1024
    assert "usertest: ok" in result.lines


class Terminal:
    """A person at the console: types, waits until something is to be seen, types again."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.guest = self.machine.create("guest-pv", clock="wall")

    def screen(self) -> str:
        return self.guest.console.output().decode("utf-8", "replace").replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        self.guest.console.typed += keys.encode()
        self.guest.console.pump()

    def wait(self, until: Callable[[str], bool], timeout: float = 20) -> None:
        assert self.machine.hypervisor.run_until(lambda: until(self.screen()), timeout), self.screen()

    def see(self, text: str) -> None:
        self.wait(lambda screen: screen.endswith(text))


@pytest.fixture
def terminal() -> Terminal:
    made = Terminal()
    made.see(PROMPT)
    return made


def test_control_c_ends_the_program_and_not_the_shell(terminal: Terminal) -> None:
    with terminal.machine:
        terminal.type("spin\r")
        terminal.see("spin\n")
        terminal.type("\x03")
        terminal.see("Killed\n" + PROMPT)
        terminal.type("cat | cat\r")
        terminal.see("cat | cat\n")
        terminal.type("abc\r")
        terminal.see("abc\nabc\n")
        terminal.type("\x03")
        terminal.see("Killed\n" + PROMPT)
        terminal.type("echo half a line\x03")
        terminal.see("^C\n" + PROMPT)


@pytest.mark.parametrize("command", ["spin", "cat | spin", "spin | cat | spin", "cat | cat"])
def test_control_c_that_is_typed_while_the_program_is_being_started(terminal: Terminal, command: str) -> None:
    """It comes with the line that starts it: the shell has nobody yet whom it could end, and then all of them."""
    with terminal.machine:
        for _ in range(3):
            terminal.type(f"{command}\r\x03")
            terminal.see(f"{command}\nKilled\n{PROMPT}")


def test_control_d_ends_input(terminal: Terminal) -> None:
    with terminal.machine:
        terminal.type("wc\r")
        terminal.see("wc\n")
        terminal.type("two words\r\x04")
        terminal.see("1 2 10\n" + PROMPT)
        terminal.type("\x04")
        assert terminal.machine.run(terminal.guest)
        assert terminal.machine.result(terminal.guest).ending == "poweroff"


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("echo xyz\x7f\x7fab\r", "xab"),
        ("echo b\x1b[Da\x05c\r", "abc"),
        ("wrong\x15echo right\r", "right"),
        ("echo one two\x17three\r", "one three"),
        ("xecho start\x01\x1b[3~\r", "start"),
        ("echo tail\x1b[H\x06\x06\x06\x06\x0b cut\r", "cut"),
        ("echo first\recho second\r\x1b[A\x1b[A\r", "first"),
        ("echo first\recho second\r\x1b[A\x1b[A\x1b[B\r", "second"),
    ],
)
def test_line_editing(terminal: Terminal, keys: str, shown: str) -> None:
    with terminal.machine:
        terminal.type(keys)
        expected = keys.count("\r")
        terminal.wait(lambda screen: screen.count("\n" + PROMPT) == expected + 1 and screen.endswith(PROMPT))
        assert terminal.screen().removesuffix(PROMPT).splitlines()[-1] == shown


@pytest.mark.parametrize(("word", "ending"), [("poweroff", "poweroff"), ("reboot", "reboot")])
def test_goes_when_the_toolstack_asks(terminal: Terminal, word: str, ending: str) -> None:
    with terminal.machine:
        terminal.machine.host.ask(terminal.guest, word)
        assert terminal.machine.run(terminal.guest)
        assert terminal.machine.result(terminal.guest).ending == ending


def test_an_idle_guest_makes_no_exits(terminal: Terminal) -> None:
    with terminal.machine:
        before = terminal.machine.result(terminal.guest).counters
        terminal.machine.hypervisor.run_until(lambda: False, 0.5)
        after = terminal.machine.result(terminal.guest).counters
        calls = sum(after.hypercalls.values()) - sum(before.hypercalls.values())
        assert calls <= 3  # the last of the prompt, and going to sleep


def test_a_busy_process_alone_is_not_interrupted() -> None:
    quiet, busy = shell("spin 0"), shell("spin 1")
    assert busy.counters.hypercalls["set_timer_op"] - quiet.counters.hypercalls["set_timer_op"] <= 1


def test_console_flood_and_big_input() -> None:
    text = " ".join(str(number) for number in range(40))
    result = shell("seq 3000", *(f"echo {text}" for _ in range(30)))
    assert result.lines.count(text) == 30
    assert all(str(number) in result.lines for number in range(1, 3001))
