# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv classify` as a process: what it prints, what it refuses, how long it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pvhv(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pvhv", "classify", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=dict(os.environ))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_table() -> None:
    done = pvhv()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert cells(lines[0]) == ["Instruction", "Listed", "Ring 0", "Ring 1", "Ring 3", "Verdict", "Kind", "Manuals"]
    rows = {cells(line)[0]: cells(line) for line in lines[1 : lines.index("")]}
    assert rows["MOV"][1:7] == [
        "yes", "executes: CS 0x8", "executes: CS 0x9", "executes: CS 0xb", "sensitive, does not trap", "mode",
    ]  # fmt: skip
    assert rows["CLI"][1:7] == ["-", "executes: done", "#GP(0)", "#GP(0)", "traps", "control"]
    assert all("APM" in row[-1] and "SDM" in row[-1] for row in rows.values())
    # INT n is the one of the eighteen that a monitor can close.
    assert "17 of the 18 listed do not trap where they must; the others: INT n." in lines
    assert "UMIP" in done.stdout[done.stdout.index("Where the engine is not the manuals' CPU") :]


def test_json_is_for_scripts_and_always_the_same() -> None:
    first, second = pvhv("--json"), pvhv("--json")
    assert first.returncode == 0 and first.stdout == second.stdout
    records = {record["name"]: record for record in json.loads(first.stdout)}
    sgdt = records["SGDT"]
    assert (sgdt["verdict"], sgdt["kind"], sgdt["listed"]) == ("sensitive, does not trap", "location", True)
    assert sgdt["rings"]["0"]["registers"].items() >= sgdt["wants"].items()
    assert records["RET"]["rings"]["1"]["verdict"] == "sensitive, does not trap"
    assert records["RET"]["rings"]["3"] == {
        "exception": "#GP(0x20)", "enters_monitor": None, "registers": {}, "saw": None, "verdict": "traps",
    }  # fmt: skip
    assert records["PUSH CS (32-bit)"]["mode"] == 32


def test_one_ring_and_one_instruction() -> None:
    done = pvhv("--ring", "3", "--instruction", "popf")
    assert done.returncode == 0
    heading, row, *rest = done.stdout.splitlines()
    assert cells(heading)[2:4] == ["Ring 3", "Verdict"]
    assert cells(row)[0] == "POPF" and "0x200 after loading 0x3000" in row
    assert any("popfq" in line and line.lstrip().startswith("*") for line in rest)


def test_ring_0_alone_has_no_verdict() -> None:
    heading, row, *_ = pvhv("--ring", "0", "-i", "STR").stdout.splitlines()
    assert "Verdict" not in heading and "TR 0x50" in row


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--instruction", "popff"), ["'popff'", "did you mean 'POPF'?"]),
        (("--instruction", "\x1b[2J"), ["'\\x1b[2J'"]),
        (("--instruction", ""), ["''"]),
        (("--ring", "4"), ["there is no ring 4"]),
        (("--ring", "-1"), ["there is no ring -1"]),
        (("--ring", "one"), ["--ring", "integer"]),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], words: list[str]) -> None:
    done = pvhv(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
