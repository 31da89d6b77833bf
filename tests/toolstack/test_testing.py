# SPDX-License-Identifier: GPL-2.0-or-later
"""pvhv.testing: what people's own tests stand on."""

from pathlib import Path

import pytest

from pvhv.testing import HypervisorBug, Machine, Result, boot
from pvhv.toolstack.errors import ToolstackError
from tests.toolstack.recipes import SPIN, UD2, Recipe, shutdown


def kernel_of(tmp_path: Path, code: bytes) -> Path:
    path = tmp_path / "kernel.elf"
    path.write_bytes(Recipe(code=code).build())
    return path


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_a_kernel_that_passes(clock: str) -> None:
    result = boot("test-hello", clock=clock, timeout=20)
    assert result.passed
    assert (result.verdict, result.last_line, result.exit_status) == ("PASS", "PASS hello", 0)
    assert result.counters.hypercalls["event_channel_op"] > 0


def test_other_endings(tmp_path: Path) -> None:
    assert boot(kernel_of(tmp_path, shutdown(1))).exit_status == 10
    crashed = boot(kernel_of(tmp_path, UD2))
    assert (crashed.exit_status, crashed.ending, crashed.passed) == (20, "crash", False)
    assert "rip ffffffff80100000 <start>" in crashed.report
    assert "crashed" in crashed.dmesg
    late = boot(kernel_of(tmp_path, SPIN), timeout=0.2)
    assert (late.exit_status, late.ending) == (124, "timeout")


def test_stdin_reaches_the_guest() -> None:
    result = boot("guest-pv", stdin="echo one two | wc\nexit\n", timeout=30)
    assert result.exit_status == 0
    assert any(line.split() == ["1", "2", "8"] for line in result.lines), result.output


def test_the_same_run_every_time() -> None:
    first, second = (boot("guest-pv", stdin="ps\nsleep 2\nexit\n", timeout=30) for _time in range(2))
    assert first.raw == second.raw
    assert first.counters == second.counters


def test_what_a_result_reads_out_of_the_output() -> None:
    result = Result(
        "a = 1\nnot this = x\nb=two=2\n\nFAIL later: a=3\n\n", 0, "poweroff", boot("test-hello").counters
    )
    assert result.values == {"a": "1", "b": "two=2"}
    assert (result.verdict, result.passed) == ("FAIL", False)
    assert result.last_line == "FAIL later: a=3"


def test_a_kernel_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ToolstackError, match="no kernel"):
        boot(tmp_path / "nothing")
    with pytest.raises(ToolstackError, match="no kernel 'nothing'"):
        boot("nothing")


def test_a_bug_of_the_hypervisor_is_raised() -> None:
    with Machine() as machine:
        guest = machine.create("test-hello")
        machine.hypervisor.bug(guest.domain, ZeroDivisionError("for a test"))
        with pytest.raises(HypervisorBug, match="for a test"):
            machine.result(guest)
        machine.hypervisor.bugs.clear()
