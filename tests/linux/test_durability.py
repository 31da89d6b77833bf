# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stock Linux was told is on its disk is there after its pvhvd was killed: tools/kill_test.py, for two kills.

Ten kills are those of the teaching kernel, which boots in a moment: tests/guest/test_durability.py.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.linux.conftest import Linux, host_tool
from tools import kill_test

pytestmark = pytest.mark.linux

KILLS = 2


def test_two_kills_lose_nothing(linux: Linux, tmp_path: Path) -> None:
    host_tool("mke2fs")
    lives = kill_test.run(tmp_path, KILLS, random.SystemRandom().randrange(1 << 32))  # its output has the seed
    assert len(lives) == KILLS + 1 and lives[0].found == 0
    assert lives[-1].found >= KILLS  # a life has a record at least


@pytest.mark.parametrize(
    ("life", "safe", "named", "lost"),
    [
        (kill_test.Life(-1, -1, 5, 0), 4, 0, ""),
        (kill_test.Life(9, 8, 6, 8), 4, 0, ""),  # more was there than was acknowledged
        (kill_test.Life(9, 8, 4, 0), 4, 0, "record 4 was acknowledged"),
        (kill_test.Life(-1, -1, 20, 8), 12, 16, "renamed to 16, and says 8"),
    ],
)
def test_what_is_lost_is_noticed(life: kill_test.Life, safe: int, named: int, lost: str) -> None:
    if not lost:
        kill_test.check_found(life, safe, named)
    else:
        with pytest.raises(kill_test.Lost, match=lost):
            kill_test.check_found(life, safe, named)


def test_a_damaged_file_system_is_noticed(tmp_path: Path) -> None:
    host_tool("mke2fs")
    image = kill_test.make_image(tmp_path, "raw")
    kill_test.check_image(tmp_path, image, "raw")
    with image.open("r+b") as file:
        file.seek(1024 + 40)  # of the superblock: inodes of a group
        file.write(b"\xff" * 4)
    with pytest.raises(kill_test.Lost, match="e2fsck"):
        kill_test.check_image(tmp_path, image, "raw")
