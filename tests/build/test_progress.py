# SPDX-License-Identifier: GPL-2.0-or-later
"""The line of progress: one that lives on a terminal, few on a log, and never in the way of what is said."""

from __future__ import annotations

import io
import time

import pytest

from pvhv.build.progress import Progress


class Terminal(io.StringIO):
    """A stream that remembers, and shows what a person would see."""

    def isatty(self) -> bool:
        return True

    def seen(self) -> list[str]:
        screen = []
        for line in self.getvalue().split("\n"):
            cells = ""
            for part in line.split("\r"):
                cells = part + cells[len(part) :]
            screen.append(cells.rstrip())
        return screen


def test_on_a_terminal_the_line_gives_way_to_what_is_said() -> None:
    terminal = Terminal()
    with Progress("work:", terminal) as progress:
        progress.expect(2)
        progress.advance("a rather long label")
        assert terminal.seen() == ["work: [1/2] a rather long label"]
        progress.say("a warning\n")
        assert terminal.seen() == ["a warning", ""]
        time.sleep(0.06)
        progress.advance("b")
        assert terminal.seen() == ["a warning", "work: [2/2] b"]
    assert terminal.seen() == ["a warning", ""]


def test_work_that_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    with Progress("pvhv:", terminal) as progress:
        progress.at("reading a long name")
        progress.at("building")  # at once: nothing may come for a while
        assert terminal.seen() == ["pvhv: building"]
    assert terminal.seen() == [""]
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Progress("pvhv:", log := io.StringIO()) as progress:
        progress.at("reading")
        clock[0] += 3
        progress.at("building")
    assert log.getvalue() == "pvhv: building\n"  # what takes long only


def test_on_a_log_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    log = io.StringIO()
    progress = Progress("work:", log)
    progress.expect(50)
    for job in range(50):
        clock[0] += 0.125  # a number that adds up
        progress.advance(str(job))
    progress.end("done")
    assert log.getvalue().splitlines() == [
        "work: [16/50] 15", "work: [32/50] 31", "work: [48/50] 47", "work: done (6.2 s)",
    ]  # fmt: skip
