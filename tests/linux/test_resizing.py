# SPDX-License-Identifier: GPL-2.0-or-later
"""More and fewer vCPUs, more and less memory, for a stock Linux as it runs: inside of it, and in `pvhv list`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Pvhv
from tests.linux.conftest import Linux

pytestmark = pytest.mark.linux

PATIENCE_S = 120


@pytest.fixture
def home(tmp_path: Path, linux: Linux) -> Iterator[Pvhv]:
    made = Pvhv(tmp_path)
    (tmp_path / "elastic.cfg").write_text(
        f'kernel = "{linux.kernel}"\nramdisk = "{linux.ramdisk}"\ncmdline = "console=hvc0"\n'
        "memory = 192\nmaxmem = 288\nvcpus = 2\nmaxvcpus = 4\n"
    )
    yield made
    made.end()


class Shell:
    """The shell of a guest: commands typed, and what they print."""

    def __init__(self, home: Pvhv) -> None:
        self.home = home
        self.asked = 0

    def says(self, command: str) -> str:
        self.asked += 1
        mark = f"answer-{self.asked}"
        typed = f"echo '<'{mark}'>'; {command}; echo '</'{mark}'>'\n"
        self.home.run("console", "elastic", stdin=typed, timeout=PATIENCE_S)

        def answer() -> str | None:
            said = self.home.log("elastic")
            found = re.search(rf"^<{mark}>$(.*?)^</{mark}>$", said, re.MULTILINE | re.DOTALL)
            return found[1].strip() if found else None

        return str(self.home.until(answer, PATIENCE_S))

    def comes_to(self, command: str, wanted: str) -> None:
        self.home.until(lambda: self.says(command) == wanted, PATIENCE_S)


def test_vcpus_and_memory_while_it_runs(home: Pvhv) -> None:
    home.ok("create", "elastic.cfg")
    shell = Shell(home)
    assert shell.says("stty -echo; PS1=; nproc") == "2"

    def row() -> tuple[int, int]:
        found = home.list()["elastic"]
        return found["vcpus"], found["memory"]

    assert row() == (2, 192)
    for count in (4, 3):
        home.ok("vcpu-set", "elastic", str(count))
        shell.comes_to("nproc", str(count))
        home.until(lambda count=count: row()[0] == count, PATIENCE_S)
    for count in ("0", "5", "1000"):
        assert "it can use 1 to 4 of them" in home.fails("vcpu-set", "elastic", count)

    said = shell.says("cat /sys/devices/system/xen_memory/xen_memory0/info/current_kb")
    assert int(said) == 192 << 10
    for size in (240, 160):  # the first is more than it began with
        home.ok("mem-set", "elastic", str(size))
        home.until(lambda size=size: row()[1] == size, PATIENCE_S)
        shell.comes_to("cat /sys/devices/system/xen_memory/xen_memory0/info/current_kb", str(size << 10))
    assert shell.says("dd if=/dev/zero of=/tmp/zeros bs=1M count=30 2>/dev/null; wc -c </tmp/zeros") == "31457280"
    assert "may have 288 MiB at most" in home.fails("mem-set", "elastic", "1g")
    assert "cannot be the most" in home.fails("mem-max", "elastic", "100")
    home.ok("mem-max", "elastic", "200m")
    assert home.list()["elastic"]["maxmem"] == 200
    assert "may have 200 MiB at most" in home.fails("mem-set", "elastic", "204801k")

    # What it was given last it has after a reboot.
    home.run("console", "elastic", stdin="reboot -f\n", timeout=PATIENCE_S)
    home.until(lambda: home.list().get("elastic", {}).get("domid", 1) > 1, PATIENCE_S)
    shell = Shell(home)
    shell.asked = 100
    assert shell.says("stty -echo; PS1=; nproc") == "3"
    assert row() == (3, 160)
    assert not re.findall(r"WARNING:|BUG:|Oops|Call Trace", shell.says("dmesg"))
