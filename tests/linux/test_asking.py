# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stock Linux is asked by xenstore from outside, it does: keys of its SysRq, a reboot, a shutdown."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Pvhv
from tests.linux.conftest import Linux

pytestmark = pytest.mark.linux

READY = "asking-is-fine"
SAID = f"\n{READY}\n"  # by the shell; the terminal has repeated what was typed already


@pytest.fixture
def home(tmp_path: Path, linux: Linux) -> Iterator[Pvhv]:
    made = Pvhv(tmp_path)
    (tmp_path / "asked.cfg").write_text(
        f'kernel = "{linux.kernel}"\nramdisk = "{linux.ramdisk}"\ncmdline = "console=hvc0"\nmemory = 128\n'
    )
    yield made
    made.end()


def until(said: Callable[[], bool], timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not said():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.2)


def test_sysrq_reboot_and_shutdown(home: Pvhv) -> None:
    home.ok("create", "-p", "asked.cfg")
    first = home.list()["asked"]["domid"]
    node = f"/local/domain/{first}/control/sysrq"
    home.ok("xenstore-write", node, "h")  # nobody is there yet to take it
    home.ok("unpause", "asked")

    def console() -> str:
        return home.log("asked")

    until(lambda: console().count("sysrq: HELP") == 1)  # when its driver starts
    until(lambda: home.ok("xenstore-read", node) == "\n")
    home.ok("sysrq", "asked", "~")  # no key of its: it lists those it has
    until(lambda: console().count("sysrq: HELP") == 2)
    home.ok("sysrq", "asked", "s")
    until(lambda: "Emergency Sync" in console())
    assert home.ok("xenstore-read", f"/local/domain/{first}/control/feature-reboot") == "1\n"
    home.run("console", "asked", stdin=f"echo {READY}\n")
    until(lambda: console().count(SAID) == 1)  # the shell is there, and init behind it
    # A process of the guest asks the store, too: for its name, and to write something.
    ask = r"printf '\2\0\0\0\1\0\0\0\0\0\0\0\5\0\0\0name\0' >&3; dd bs=1 count=21 <&3 2>/dev/null | tail -c 5"
    tell = r"printf '\13\0\0\0\2\0\0\0\0\0\0\0\20\0\0\0data/said\0by-it\0' >&3; dd bs=1 count=19 <&3 2>/dev/null"
    home.run("console", "asked", stdin=f"exec 3<>/dev/xen/xenbus; echo \"[$({ask})]\"; {tell} | tail -c 3; exec 3>&-\n")
    until(lambda: "[asked]" in console())
    until(lambda: home.run("xenstore-read", f"/local/domain/{first}/data/said").stdout == "by-it\\000\n")
    home.ok("reboot", "asked")
    until(lambda: home.list().get("asked", {}).get("domid") not in (None, first))
    assert "Requesting system reboot" in console()
    left = {row["path"] for row in json.loads(home.ok("xenstore-ls", "--json"))}
    assert not {path for path in left if str(first) in path.split("/")}  # a whole name: a UUID may begin with it
    home.run("console", "asked", stdin=f"echo {READY}\n")
    until(lambda: console().count(SAID) == 2)  # (sooner, nobody may be there who takes a shutdown)
    home.ok("shutdown", "-w", "asked")
    until(lambda: not home.list())
