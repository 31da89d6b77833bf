# SPDX-License-Identifier: GPL-2.0-or-later
"""Our backends by front ends that nobody here wrote: a stock Linux's."""

from __future__ import annotations

import pytest

from pvhv.devices.console.console import Console
from pvhv.testing import Machine
from tests.linux.conftest import Linux

pytestmark = pytest.mark.linux

TALK = "cat /sys/bus/xen/devices/console-1/state; read line </dev/hvc1; echo it said $line >/dev/hvc1"


def test_a_second_console(linux: Linux) -> None:
    """Linux's hvc_xen finds it by xenbus: what is typed at one is heard, and what is said there comes out."""
    with Machine() as machine:
        guest = machine.create(
            str(linux.kernel), ramdisk=str(linux.ramdisk), cmdline="console=hvc0 quiet", memory=128, clock="wall",
            stdin=f"{TALK}\npoweroff\n", paused=True,
        )  # fmt: skip
        second = Console()
        guest.plug("console", 1, second)
        second.type_ahead(b"over there\n")
        guest.start()
        assert machine.run(guest, timeout=120)
        assert "it said over there" in second.output().decode()
        assert "Connected" in machine.result(guest).output
