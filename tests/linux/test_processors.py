# SPDX-License-Identifier: GPL-2.0-or-later
"""Eight vCPUs and 4 GiB; and what vCPUs that share one processor say of it: time stolen, in /proc/stat."""

from __future__ import annotations

import re

import pytest

from tests.linux.conftest import Linux
from tests.linux.test_boot import QUIET, UNWELL, marked, section, start

pytestmark = pytest.mark.linux

STAT = "head -n 1 /proc/stat"
FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def test_eight_of_them_and_4_gib(linux: Linux) -> None:
    each = "for n in 0 1 2 3 4 5 6 7; do taskset $((1 << n)) sh -c 'seq 500 | md5sum' & done; wait"
    done = start(
        linux, QUIET, marked("count", "nproc"), marked("memory", "head -n 1 /proc/meminfo"), marked("sums", each),
        marked("copied", "dd if=/dev/zero bs=1M count=16 2>/dev/null | tee /tmp/zeros | md5sum; md5sum </tmp/zeros"),
        marked("log", "dmesg"), "poweroff -f", memory=4096, vcpus=8,
    )  # fmt: skip
    assert done.exit_status == 0, done.output[-3000:]
    assert section(done.output, "count") == "8"
    assert 3900 << 10 < int(section(done.output, "memory").split()[1]) < 4096 << 10
    sums = re.findall(r"^([0-9a-f]{32})  -", section(done.output, "sums"), re.MULTILINE)
    assert len(sums) == 8 and len(set(sums)) == 1
    copied = [line for line in section(done.output, "copied").splitlines() if not line.startswith("[")]
    assert copied == ["2c7ab85a893283e98c931e9511add182  -"] * 2
    assert not UNWELL.findall(section(done.output, "log"))


@pytest.mark.parametrize(("vcpus", "least", "most"), [(1, 0.0, 0.25), (4, 0.5, 0.9)])
def test_steal(linux: Linux, vcpus: int, least: float, most: float) -> None:
    """All vCPUs busy: each has its share of the one processor there is, and knows that the rest was not idle."""
    busy = "n=0; while [ $n -lt $(nproc) ]; do n=$((n+1)); (while :; do :; done) & done"
    done = start(
        linux, QUIET, busy, "sleep 1", marked("before", STAT), "sleep 2", marked("after", STAT), "poweroff -f",
        vcpus=vcpus,
    )  # fmt: skip
    assert done.exit_status == 0, done.output[-3000:]
    before, after = ([int(ticks) for ticks in section(done.output, name).split()[1:9]] for name in ("before", "after"))
    spent = dict(zip(FIELDS, (late - early for early, late in zip(before, after, strict=True)), strict=True))
    used = spent["user"] + spent["system"]
    assert used > 50 and spent["idle"] < used / 4, spent
    assert least <= spent["steal"] / (used + spent["steal"]) <= most, spent
