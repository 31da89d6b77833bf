# SPDX-License-Identifier: GPL-2.0-or-later
"""The recorded verdicts of a real Xen: complete, as new as the kernels, and compared in earnest.

That pvhv agrees with them is said where the kernels are run (tests/guest); how they are got, in tools/xen_reference.py.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tools.reference import cases, jobs, ours, verdicts
from tools.reference.machine import Outcome, lines_of

NAMES = cases.names()
RECORDED = verdicts.load()
OF_A_JOB = {job.name: name for name in NAMES for job in cases.jobs([name])}


def test_each_kernel_was_asked_about_as_it_is_now() -> None:
    assert set(RECORDED) <= set(OF_A_JOB)
    missing = {name for job, name in OF_A_JOB.items() if job not in RECORDED}
    changed = {OF_A_JOB[job] for job, verdict in RECORDED.items() if verdict.source != verdicts.digest(OF_A_JOB[job])}
    assert not missing | changed, f"{verdicts.ASK_AGAIN} {' '.join(sorted(missing | changed))}"


def test_what_each_was_said_on_is_known() -> None:
    for verdict in RECORDED.values():
        assert "xen-hypervisor-4.17" in verdict.on
        assert "qemu-system-x86" in verdict.on
        assert "linux-image-6.1" in verdict.on


@pytest.mark.parametrize("row", verdicts.excuses(), ids=lambda row: row.kernel)
def test_each_excuse_is_needed(row: verdicts.Excuse) -> None:
    assert row.whose in ("pvhv", "the reference machine")
    found = False
    for job in cases.jobs([row.kernel]):
        if job.beside:
            with ours.Machine(ours.SCENE_MIB) as machine:
                result = ours.Scene(machine).release(job)
        else:
            result = ours.alone(job)
        lines = verdicts.compared(row.kernel, RECORDED[job.name], result.ending, lines_of(result.raw))
        found = found or any(row.covers(*pair) for pair in lines)
    assert found


HELLO = RECORDED["hello"]


def test_the_same_is_the_same() -> None:
    assert not verdicts.unexplained("hello", "hello", HELLO.ending, HELLO.lines)


@pytest.mark.parametrize(
    ("ending", "lines"),
    [
        ("crash", HELLO.lines),
        ("poweroff", HELLO.lines[:-1]),
        ("poweroff", (*HELLO.lines, "more")),
        ("poweroff", (*HELLO.lines[:-1], "FAIL hello")),
        ("poweroff", ()),
    ],
)
def test_anything_else_is_a_difference(ending: str, lines: tuple[str, ...]) -> None:
    assert verdicts.unexplained("hello", "hello", ending, lines)


def test_only_the_numbers_of_a_line_may_vary_and_only_where_the_kernel_says_so() -> None:
    verdict = RECORDED["time"]
    line = next(line for line in verdict.lines if line.startswith("booted at"))
    other = tuple("booted at 1" if entry == line else entry for entry in verdict.lines)
    assert not verdicts.unexplained("time", "time", verdict.ending, other)
    other = tuple("booted at dawn" if entry == line else entry for entry in verdict.lines)
    assert verdicts.unexplained("time", "time", verdict.ending, other)


def test_a_kernel_nobody_asked_about_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "load", dict)
    assert "xen_reference.py record hello" in verdicts.unexplained("hello", "hello", "poweroff", [])[0]
    changed = dataclasses.replace(HELLO, source="0")
    monkeypatch.setattr(verdicts, "load", lambda: {"hello": changed})
    assert "xen_reference.py record hello" in verdicts.unexplained("hello", "hello", "poweroff", HELLO.lines)[0]


def test_what_is_no_answer_is_not_recorded() -> None:
    for outcome in (Outcome("hello"), Outcome("hello", ending="failed"), Outcome("hello", ["x"], "poweroff", "hurt")):
        with pytest.raises(ValueError, match="hello"):
            verdicts.recorded("hello", outcome, {})


def test_a_console_may_say_anything() -> None:
    assert lines_of(b"one\r\ntwo\0\xff\n") == ["one", "two\\x00\\xff"]
    assert lines_of(b"") == []
    assert lines_of(b"no end") == ["no end"]


def test_a_job_that_cannot_be_handed_to_xl_is_refused(tmp_path: Path) -> None:
    for name, cmdline in (("a b", ""), ("victim", ""), ("a", "it's"), ("../a", "")):
        with pytest.raises(ValueError, match=r"name for a job|command line"):
            jobs.Job(name, tmp_path, cmdline=cmdline)
