# SPDX-License-Identifier: GPL-2.0-or-later
"""What a large domain costs before its first instruction: lists of its frames, and nothing by the frame."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pvhv.testing import boot

MOST_MEMORY = 64 << 20
MOST_TIME_S = 1.0

# Two processes that do the same but for the size; each says what the domain took of its memory, at the most, and of a
# processor: time the machine spends on others is in neither.
BUILD = """
import json, resource, sys, time
from pvhv.testing import Machine
with Machine(8192) as machine:
    machine.create("guest-pv", name="first", memory=16, paused=True)  # what is paid once
    memory, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    machine.create("guest-pv", name="second", memory=int(sys.argv[1]), paused=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    print(json.dumps([memory * 1024, time.process_time() - began]))
"""


def build(mebibytes: int) -> tuple[int, float]:
    """(bytes, seconds) of a domain of that size; the best of three."""
    command = [sys.executable, "-c", BUILD, str(mebibytes)]
    runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _attempt in range(3)]
    return min(run[0] for run in runs), min(run[1] for run in runs)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_four_gibibytes() -> None:
    small, large = build(256), build(4096)
    assert large[0] - small[0] < MOST_MEMORY, (small, large)
    assert large[1] - small[1] < MOST_TIME_S, (small, large)


@pytest.mark.parametrize("mebibytes", [4, 64, 4096])
def test_a_small_kernel_in_any_memory(mebibytes: int) -> None:
    done = boot("guest-pv", memory=mebibytes, stdin="free\nexit\n", timeout=120)
    assert done.exit_status == 0 and f"{mebibytes} MiB of memory" in done.output
