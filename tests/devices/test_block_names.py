# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of disks and their numbers. tests/toolstack/xl asks libxl about the same names."""

from __future__ import annotations

import random

import pytest

from pvhv.devices.block.names import linux_minors, name_of, number_of, place_of

KNOWN = {
    "xvda": 51712, "xvda1": 51713, "xvdb": 51728, "xvdp15": 51967, "xvdq": 268439552, "xvda16": 268435472,
    "hda": 768, "hdb": 832, "hdb63": 895, "hdc": 5632, "hdd1": 5697, "sda": 2048, "sdb3": 2067, "sdp15": 2303,
}  # fmt: skip
ALSO = {
    "d0p0": 51712, "d1p2": 51730, "d16p0": 268439552, "d0x10p0": 268439552, "d0xap017": 51887,
    "d1048575p255": (1 << 28) + (1 << 28) - 1, "51712": 51712, "0xca00": 51712, "0145000": 51712, "0": 0,
    "2147483647": (1 << 31) - 1,
}  # fmt: skip
NO_NAMES = (
    "", "xvd", "xvd1", "hd", "sd7", "xvda0", "xvda01", "xvda256", "xvdA", "xvda ", " xvda", "xvdbhwik", "zzz", "hde",
    "hda64", "sdq", "sda16", "d0", "d0p", "p0", "d0p256", "d1048576p0", "d-1p0", "d08p0", "2147483648", "-1", "08",
    "0x", "1x", "0x1ffffffff", "xvda\n", "١", "9" * 5000, "xvd" + "a" * 5000, "nvme0n1",
)  # fmt: skip


def test_names_and_numbers() -> None:
    assert {name: number_of(name) for name in KNOWN} == KNOWN
    assert {name_of(number): number for number in KNOWN.values()} == KNOWN
    assert {name: number_of(name) for name in ALSO} == ALSO


@pytest.mark.parametrize("name", NO_NAMES, ids=lambda name: ascii(name)[:12])
def test_what_is_no_name(name: str) -> None:
    assert number_of(name) is None


def test_every_number_has_a_name_that_means_it() -> None:
    chance = random.Random(1)
    for _ in range(20_000):
        number = chance.getrandbits(chance.randint(1, 31))
        assert number_of(name_of(number)) == number, number


def test_which_disk_a_name_means() -> None:
    assert place_of("hdc2") == ("hd", 2, 2)
    assert place_of("d536p37") == place_of("xvdtq37") == ("xvd", 536, 37)
    assert place_of("51712") is None


def test_the_numbers_that_linux_gives_a_disk() -> None:
    minors = {
        "xvda": range(16), "xvda1": range(1, 2), "xvdp": range(240, 256), "xvdq": range(4096, 4352),
        "hda": range(16), "hda3": range(16), "hdb": range(16, 32), "hdc": range(32, 48), "hdd": range(48, 64),
        "sda": range(16), "sdb2": range(18, 19), "xvda16": range(16, 17), "0": None, "2147483647": None,
    }  # fmt: skip
    assert {name: linux_minors(number_of(name) or 0) for name in minors} == minors
