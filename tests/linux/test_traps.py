# SPDX-License-Identifier: GPL-2.0-or-later
"""Traps, faults and breakpoints as a process of a stock Linux sees them: programs/traps.c compares with a processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvhv.machine import seam
from pvhv.testing import boot
from tests.linux.conftest import Linux
from tests.linux.test_boot import CMDLINE, QUIET, UNWELL, marked, script, section
from tools.linux import initramfs, programs

pytestmark = [
    pytest.mark.linux,
    pytest.mark.skipif(not seam.corrected, reason="the stock engine is known to be wrong here"),
]

SOURCE = Path(__file__).parent / "programs" / "traps.c"


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_a_process_is_told_what_a_processor_would_tell_it(linux: Linux, tmp_path: Path, clock: str) -> None:
    ramdisk = tmp_path / "initramfs"
    ramdisk.write_bytes(initramfs.build(linux.busybox(), {"traps": programs.build(SOURCE)}))
    done = boot(
        linux.kernel, ramdisk=ramdisk, cmdline=CMDLINE, clock=clock, memory=256, vcpus=2, timeout=180,
        stdin=script(QUIET, marked("said", "traps"), "poweroff -f"),
    )  # fmt: skip
    assert done.exit_status == 0, done.output[-3000:]
    assert section(done.output, "said") == "traps: PASS"
    assert not UNWELL.search(done.output)
