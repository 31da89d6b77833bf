# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest nobody here wrote and that is no Linux: GRUB's image for paravirtual domains, as Debian packages it."""

from __future__ import annotations

import pytest

from pvhv.testing import Machine
from tools import fetch_linux
from tools.linux.deb import BadPackage

pytestmark = pytest.mark.linux


def test_grub_reaches_its_prompt_and_takes_commands() -> None:
    try:
        image = fetch_linux.fetch_grub()
    except (BadPackage, OSError) as error:
        pytest.skip(f"no GRUB to boot: {error}")
    with Machine(64) as machine:
        guest = machine.create(image, memory=64, clock="wall")

        def said(words: bytes) -> bool:
            return words in guest.console.output() or guest.ended is not None

        assert machine.hypervisor.run_until(lambda: said(b"grub> "), 30)
        guest.console.typed += b"echo it-is-$grub_platform\rhalt\r"
        guest.console.pump()
        assert machine.run(guest, timeout=30)
        done = machine.result(guest)
    assert "it-is-xen" in done.output and done.exit_status == 0
