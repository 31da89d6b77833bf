# SPDX-License-Identifier: GPL-2.0-or-later
"""Ramdisks as libxenguest hands them over: unzipped where gzip packed them and all of it is there."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from pvhv.toolstack import ramdisk
from pvhv.toolstack.errors import ToolstackError

PLAIN = b"070701 an archive " * 1000
SLACK = bytes(16)


def test_what_a_guest_gets() -> None:
    assert ramdisk.unzipped(PLAIN) == PLAIN
    assert ramdisk.unzipped(b"") == b"" and ramdisk.unzipped(b"\x1f\x8b") == b"\x1f\x8b"
    assert ramdisk.unzipped(gzip.compress(PLAIN)) == PLAIN + SLACK
    noise = os.urandom(5000)  # longer packed than not
    packed = gzip.compress(noise)
    assert ramdisk.unzipped(packed) == noise + bytes(len(packed) - len(noise))
    assert len(packed) > len(noise) + len(SLACK)


def test_what_does_not_unzip_is_handed_over_as_it_is() -> None:
    packed = gzip.compress(PLAIN)
    damaged = packed[:50] + b"?" * 20 + packed[70:]
    assert ramdisk.unzipped(damaged) == damaged.ljust(len(PLAIN) + 16, b"\0")
    longer = packed[:-4] + len(PLAIN[:100]).to_bytes(4, "little")  # there is more than it says
    assert ramdisk.unzipped(longer) == longer.ljust(max(116, len(longer)), b"\0")
    huge = packed[:-4] + b"\xff\xff\xff\xff"  # which nobody believes
    assert ramdisk.unzipped(huge) == huge


def test_larger_than_the_domain(tmp_path: Path) -> None:
    file = tmp_path / "initrd"
    file.write_bytes(gzip.compress(bytes(9 << 20)))
    with pytest.raises(ToolstackError, match=r"initrd unzips to 9 MiB, and the domain has 8 MiB for everything"):
        ramdisk.read(file, 8)
    assert len(ramdisk.read(file, 16)) == (9 << 20) + 16
    file.write_bytes(bytes(9 << 20))
    with pytest.raises(ToolstackError, match=r"initrd has 9 MiB"):
        ramdisk.read(file, 8)
    with pytest.raises(ToolstackError, match="cannot read the ramdisk"):
        ramdisk.read(tmp_path / "none", 8)
