# SPDX-License-Identifier: GPL-2.0-or-later
"""The teaching kernel, its shell and its programs, as a person or a script at the console sees them: in a
paravirtual domain, on bare hardware, and in a fully virtualized domain by each of the techniques.

What is here holds everywhere.  What only one of the kernel's two builds has is in test_pv.py and test_native.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from pvhv.hvm.techniques.registry import TECHNIQUES
from tests.guest.machines import PROMPT, FullMachine, PlatformUnderTest, PvhvMachine, QemuMachine, Terminal

FULL = [FullMachine(technique) for technique in TECHNIQUES]
MACHINES: list[PlatformUnderTest] = [PvhvMachine(), QemuMachine(), *FULL]
WALL = [PvhvMachine("wall"), *(FullMachine(technique, "wall") for technique in TECHNIQUES)]


@pytest.fixture(params=MACHINES, ids=lambda machine: machine.name)
def machine(request: pytest.FixtureRequest) -> PlatformUnderTest:
    chosen: PlatformUnderTest = request.param
    return chosen


@pytest.fixture
def terminal(machine: PlatformUnderTest) -> Iterator[Terminal]:
    with machine.terminal() as made:
        yield made


def test_boots_to_a_prompt_and_exit_powers_off(machine: PlatformUnderTest) -> None:
    outcome = machine.shell()
    assert outcome.ending == "poweroff"
    assert outcome.last_line == "$ exit"


@pytest.mark.parametrize(
    "machine", [*MACHINES, *WALL, QemuMachine("q35")], ids=lambda machine: machine.name
)
def test_kernel_keeps_its_promises(machine: PlatformUnderTest) -> None:
    commands = ["usertest"] if machine in FULL else ["usertest", "forktest"]  # which is dear there: once, of two clocks
    outcome = machine.shell(*commands)
    for command in commands:
        assert outcome.answers[command][-1] == f"{command}: ok", outcome.output


@pytest.mark.parametrize(
    "machine", [PvhvMachine(), QemuMachine(), FULL[0]], ids=lambda machine: machine.name, indirect=True
)  # under each technique: tests/compare/test_all.py
def test_bench_measures_and_checks_everything(machine: PlatformUnderTest) -> None:
    values = {line.partition("=")[0]: line.partition("=")[2] for line in machine.answer("bench")}
    if isinstance(machine, QemuMachine | FullMachine):
        assert [values.pop(name) for name in ("grant_copy", "grant_map_unmap")] == ["none", "none"]
    assert len(values) >= 12
    assert all(value.isdigit() and int(value) > 0 for value in values.values()), values


SHELL = {
    "mkdir /tmp/d; cd /tmp/d; pwd; cd ..; rm d; ls": ["/tmp/d"],
    "echo one   'two  three' \"four\"": ["one two  three four"],
    "echo a | cat | wc": ["1 1 2"],
    "seq 100 | grep 9 | wc": ["19 19 56"],
    "echo x > /tmp/f; echo y >> /tmp/f; cat < /tmp/f": ["x", "y"],
    "false; echo $?": ["1"],
    "true && echo yes || echo no": ["yes"],
    "false && echo yes || echo no": ["no"],
    "nosuch; echo $?": ["sh: nosuch: not found", "127"],
    "cat /no/such; echo $?": ["cat: /no/such: no such file", "1"],
    "cd /etc; pwd": ["/etc"],
    "echo a |": ["sh: a command is missing after |"],
    "echo 'a": ["sh: a quote is not closed"],
    "sh -c 'exit 7'; echo $?": ["7"],
    "# nothing": [],
    "crash divide; echo $?": ["139"],
    "hello": ["Hello, world!"],
}


def test_shell(machine: PlatformUnderTest) -> None:
    """One command after the other, in one boot."""
    outcome = machine.shell(*SHELL)
    assert outcome.ending == "poweroff", outcome.output
    said = {
        command: [line for line in outcome.answers[command] if not line.startswith("[")] for command in SHELL
    }
    assert said == SHELL


def test_ps_has_a_header_and_itself(machine: PlatformUnderTest) -> None:
    header, *rows = machine.answer("ps")
    assert header.split()[0] == "PID"
    assert [row.split()[-1] for row in rows] == ["init", "sh", "ps"]


def test_help_names_every_program(machine: PlatformUnderTest) -> None:
    text = " ".join(machine.answer("help"))
    programs = [entry.rstrip("/") for entry in machine.answer("ls /bin")]
    assert len(programs) > 25
    assert all(re.search(rf"\b{program}\b", text) for program in programs)


def test_background_job_and_kill(machine: PlatformUnderTest) -> None:
    # The first sleep lets the shell's child become `spin`.
    outcome = machine.shell("spin &", "sleep 0.3", "ps | grep spin", "kill 3", "sleep 0.1", "echo end")
    said = outcome.answers
    assert said["spin &"] == ["[3]"]
    assert said["ps | grep spin"][0].split()[-1] == "spin"
    assert "[3] done, 137" in outcome.lines


def test_time_passes_as_it_should(machine: PlatformUnderTest) -> None:
    outcome = machine.shell("date", "uptime", "sleep 2.5", "uptime", "date")
    before, after = (
        float(match.group(1)) for match in re.finditer(r"^up (\S+) s$", outcome.output, re.MULTILINE)
    )
    assert 2.5 <= after - before < 4.5
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", outcome.answers["date"][0])


@pytest.mark.parametrize(("command", "ending"), [("poweroff", "poweroff"), ("reboot", "reboot"), ("crash", "crash")])
def test_ways_to_end(machine: PlatformUnderTest, command: str, ending: str) -> None:
    outcome = machine.shell(command)
    assert outcome.ending == ending
    if ending == "crash":
        assert "Oops: general protection fault in the kernel" in outcome.output


@pytest.mark.parametrize("memory", [8, 700])  # 64 is what all others have
def test_memory_sizes(machine: PlatformUnderTest, memory: int) -> None:
    outcome = machine.shell("free", "usertest heap maps", memory=memory)
    total = int(outcome.answers["free"][1].split()[0])
    assert memory * 1024 - machine.firmware <= total <= memory * 1024
    assert "usertest: ok" in outcome.lines


def test_control_c_ends_the_program_and_not_the_shell(terminal: Terminal) -> None:
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


def test_control_c_that_is_typed_while_the_program_is_being_started(terminal: Terminal) -> None:
    """It comes with the line that starts it: the shell has nobody yet whom it could end, and then all of them."""
    for command in ("spin", "cat | spin", "spin | cat | spin", "cat | cat") * 3:
        terminal.type(f"{command}\r\x03")
        terminal.see(f"{command}\nKilled\n{PROMPT}")


def test_control_d_ends_input(terminal: Terminal) -> None:
    terminal.type("wc\r")
    terminal.see("wc\n")
    terminal.type("two words\r\x04")
    terminal.see("1 2 10\n" + PROMPT)
    terminal.type("\x04")
    assert terminal.end().ending == "poweroff"


EDITED = {
    "echo xyz\x7f\x7fab\r": "xab",
    "echo b\x1b[Da\x05c\r": "abc",
    "wrong\x15echo right\r": "right",
    "echo one two\x17three\r": "one three",
    "xecho start\x01\x1b[3~\r": "start",
    "echo tail\x1b[H\x06\x06\x06\x06\x0b cut\r": "cut",
    "echo first\recho second\r\x1b[A\x1b[A\r": "first",
    "echo first\recho second\r\x1b[A\x1b[A\x1b[B\r": "second",
}


def test_line_editing(terminal: Terminal) -> None:
    prompts = terminal.screen().count("\n" + PROMPT)
    for keys, shown in EDITED.items():
        terminal.type(keys)
        prompts += keys.count("\r")
        terminal.wait(lambda screen, many=prompts: screen.count("\n" + PROMPT) == many and screen.endswith(PROMPT))
        assert terminal.screen().removesuffix(PROMPT).splitlines()[-1] == shown


def test_console_flood_and_big_input(machine: PlatformUnderTest) -> None:
    text = " ".join(str(number) for number in range(40))
    outcome = machine.shell("seq 3000", *(f"echo {text}" for _ in range(30)))
    assert outcome.lines.count(text) == 30
    assert all(str(number) in outcome.lines for number in range(1, 3001))
