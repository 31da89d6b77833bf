# SPDX-License-Identifier: GPL-2.0-or-later
"""A stock Linux under load for a while: processes, pipes, files, signals, memory that runs out, timers.

Not among the tests that run without being asked for: `pytest -m soak`, for a minute on one vCPU and one on four, or for
PVHV_SOAK seconds each.
"""

from __future__ import annotations

import os
import re

import pytest

from pvhv.testing import boot
from tests.linux.conftest import Linux
from tests.linux.test_boot import CMDLINE, QUIET, marked, script, section

pytestmark = pytest.mark.soak

SECONDS = int(os.environ.get("PVHV_SOAK", "60"))
SLOW_HOST = 6  # how much longer it may take all in all

NOW = "$(cut -d. -f1 /proc/uptime)"
LOAD = (
    f"load() {{ n=0; while [ {NOW} -lt $end ]; do n=$((n+1)); "
    "dd if=/dev/zero of=/tmp/f$1 bs=64k count=40 2>/dev/null; md5sum /tmp/f$1 >/dev/null; "
    "seq 500 | sort -r | tail -n 1 >/dev/null; sh -c 'kill -USR1 $$'; (sleep 1000 & kill $!; wait $! 2>/dev/null); "
    "usleep 20000; ls -R /proc/self >/dev/null 2>&1; "
    "rm /tmp/f$1; done; echo load $1 did $n; }"
)
EXHAUST = f"exhaust() {{ while [ {NOW} -lt $end ]; do sleep 9; tail /dev/zero; echo exhausted $?; done; }}"
# An OOM kill says where it happened; any other trace is somebody's mistake.
UNWELL = re.compile(r"WARNING:|BUG:|Oops|soft lockup|rcu.*stall|hung task|unchecked MSR|general protection|segfault")


@pytest.mark.parametrize("vcpus", [1, 4])
def test_under_load(linux: Linux, vcpus: int) -> None:
    done = boot(
        linux.kernel, ramdisk=linux.ramdisk, cmdline=CMDLINE, clock="wall", memory=256, vcpus=vcpus,
        timeout=SECONDS * SLOW_HOST + 120,
        stdin=script(
            QUIET, LOAD, EXHAUST, f"end=$(({NOW} + {SECONDS}))", "load 1 & load 2 & load 3 & exhaust & wait",
            marked("clock", "cut -d' ' -f1 /proc/uptime; date +%s; sleep 2; cut -d' ' -f1 /proc/uptime; date +%s"),
            marked("log", "dmesg"), "poweroff -f",
        ),
    )  # fmt: skip
    assert done.exit_status == 0, done.output[-4000:]
    rounds = [int(count) for count in re.findall(r"^load \d did (\d+)$", done.output, re.MULTILINE)]
    assert len(rounds) == 3 and min(rounds) >= SECONDS // 10
    assert re.findall(r"^exhausted (\d+)$", done.output, re.MULTILINE).count("137") >= 1  # the OOM killer's SIGKILL
    log = section(done.output, "log")
    assert not UNWELL.findall(log)
    assert len(re.findall("Call Trace", log)) == len(re.findall("invoked oom-killer", log))
    before, date_before, after, date_after = section(done.output, "clock").split()
    assert 1.98 < float(after) - float(before) < 5
    assert abs((float(after) - float(before)) - (int(date_after) - int(date_before))) <= 1.1
