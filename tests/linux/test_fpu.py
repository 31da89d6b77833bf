# SPDX-License-Identifier: GPL-2.0-or-later
"""FPU and SSE state across processes, vCPUs, signals, fork and exec: programs/fpu.c looks at it from inside. And what
exceptions a program sees: programs/float.c."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pvhv.testing import boot
from tests.linux.conftest import Linux
from tests.linux.test_boot import CMDLINE, QUIET, marked, script, section
from tools.linux import initramfs, programs

pytestmark = pytest.mark.linux

PROGRAMS = Path(__file__).parent / "programs"
SOURCE = PROGRAMS / "fpu.c"
ROUNDS = 40


@pytest.mark.parametrize("vcpus", [1, 4])
def test_what_a_process_left_there(linux: Linux, tmp_path: Path, vcpus: int) -> None:
    ramdisk = tmp_path / "initramfs"
    ramdisk.write_bytes(initramfs.build(linux.busybox(), {"fpu": programs.build(SOURCE)}))
    done = boot(
        linux.kernel, ramdisk=ramdisk, cmdline=CMDLINE, clock="wall", memory=256, vcpus=vcpus, timeout=180,
        stdin=script(QUIET, marked("said", f"fpu {ROUNDS}"), "poweroff -f"),
    )  # fmt: skip
    assert done.exit_status == 0, done.output[-3000:]
    said = section(done.output, "said")
    assert said.endswith("fpu: PASS"), said
    switches = re.search(r"switches (\d+)", said)
    assert switches and int(switches[1]) > 10 * ROUNDS, said


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_floating_point_exceptions(linux: Linux, tmp_path: Path, clock: str) -> None:
    ramdisk = tmp_path / "initramfs"
    ramdisk.write_bytes(initramfs.build(linux.busybox(), {"float": programs.build(PROGRAMS / "float.c")}))
    done = boot(
        linux.kernel, ramdisk=ramdisk, cmdline=CMDLINE, clock=clock, memory=256, timeout=180,
        stdin=script(QUIET, marked("said", "float"), "poweroff -f"),
    )  # fmt: skip
    assert done.exit_status == 0, done.output[-3000:]
    assert section(done.output, "said") == "float: PASS"
