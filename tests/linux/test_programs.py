# SPDX-License-Identifier: GPL-2.0-or-later
"""What programs of a stock Linux find of their processor, each of which says itself whether that is right.

    fpu      FPU and SSE state across processes, vCPUs, signals, fork and exec
    float    the exceptions of floating-point instructions
    traps    traps, faults and breakpoints, compared with what a processor says

Several in one boot: a boot takes longer than they do.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pvhv.machine import seam
from pvhv.testing import boot
from tests.linux.conftest import Linux
from tests.linux.test_boot import CMDLINE, QUIET, UNWELL, marked, script, section
from tools.linux import initramfs, programs

pytestmark = pytest.mark.linux

PROGRAMS = Path(__file__).parent / "programs"
ROUNDS = 20
COMMANDS = {"fpu": f"fpu {ROUNDS}", "float": "float", "traps": "traps"}


@pytest.mark.parametrize(
    ("clock", "vcpus", "names"),
    [("wall", 1, ["fpu", "float"]), ("wall", 4, ["traps", "fpu"]), ("virtual", 2, ["traps", "float"])],
)
def test_what_programs_find(linux: Linux, tmp_path: Path, clock: str, vcpus: int, names: list[str]) -> None:
    if not seam.corrected:  # the published engine is known to be wrong there
        names = [name for name in names if name != "traps"]
    ramdisk = tmp_path / "initramfs"
    files = {name: programs.build(PROGRAMS / f"{name}.c") for name in names}
    ramdisk.write_bytes(initramfs.build(linux.busybox(), files))
    done = boot(
        linux.kernel, ramdisk=ramdisk, cmdline=CMDLINE, clock=clock, memory=256, vcpus=vcpus, timeout=180,
        stdin=script(QUIET, *(marked(name, COMMANDS[name]) for name in names), "poweroff -f"),
    )  # fmt: skip
    assert done.exit_status == 0, done.output[-3000:]
    for name in names:
        said = section(done.output, name)
        assert said.endswith(f"{name}: PASS"), said
        if name == "fpu":
            switches = re.search(r"switches (\d+)", said)
            assert switches and int(switches[1]) > 10 * ROUNDS, said
        else:
            assert said == f"{name}: PASS"
    assert not UNWELL.search(done.output)
