# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest was told is on its disk is there after its pvhvd was killed: ten times, at random moments.

The teaching kernel boots in a second, so ten kills are cheap. A stock Linux, whose file system has a journal, is killed
twice in tests/linux/test_durability.py, and fifty times by tools/kill_test.py, whose kills these are.

The shell appends records to a file on ext2, syncs after each, and acknowledges it. After each kill e2fsck repairs what
it repairs without asking (a file system without a journal needs that after a crash), and finds the rest clean. The next
boot reads each record that was acknowledged.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
from pathlib import Path

from tests.guest.test_ext2 import host_tool, made
from tools import kill_test
from tools.benchmark.cli import Pvhv, Session

KILLS = 10
RECORDS = 100  # more than a life has before it is killed
SECTOR = 512
DOMAIN = 'name = "durable"\nkernel = "guest-pv"\nmemory = 32\ndisk = ["{}", "{}"]\n'
BEGIN = "mount /dev/xvda /mnt; cat /mnt/records; echo; echo end of records; sh /dev/xvdb"
FOUND = re.compile(r"^record (\d+) \w+$", re.MULTILINE)


def record(number: int) -> str:
    """A line that follows from its number. Its length is the same for each, and crosses sectors and blocks."""
    return f"record {number:04} {hashlib.sha256(str(number).encode()).hexdigest()}\n"


def script(first: int) -> bytes:
    """What the shell does for records from `first` on, as the bytes of a disk."""
    length = len(record(0))
    lines = [
        f"echo {record(number).strip()} | dd of=/mnt/records bs={length} seek={number} conv=fsync,notrunc"
        f" && echo acknowledged {number}\n"
        for number in range(first, first + RECORDS)
    ]
    data = "".join(lines).encode()
    return data + b"\n" * (-len(data) % SECTOR)


def found(said: str) -> int:
    """How many records the guest read, from the first on, before one that is not whole."""
    read, _, _ = said.partition("\nend of records")
    number = 0
    while record(number).strip() in read:
        number += 1
    return number


def life(directory: Path, safe: int, dice: random.Random) -> tuple[int, int]:
    """Boot, and be killed. Returns how many records were there, and the last that is acknowledged (-1: none)."""
    (directory / "script").write_bytes(script(safe + 1))
    pvhv = Pvhv()
    try:
        session = Session(pvhv, "create", "-c", str(directory / "durable.cfg"), quiet=True)
        session.type(BEGIN)
        session.until(b"\nend of records")
        said = kill_test.kill(pvhv, session, dice)
    finally:
        shutil.rmtree(pvhv.directory, ignore_errors=True)
    text = said.decode().replace("\r\n", "\n")
    last = [int(number) for number in re.findall(r"^acknowledged (\d+)$", text, re.MULTILINE)]
    return found(text), max(last, default=-1)


def test_ten_kills_lose_nothing(tmp_path: Path) -> None:
    host_tool("e2fsck")
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    image = made(tmp_path / "disk.raw", size="2M", tree=False)
    (tmp_path / "durable.cfg").write_text(DOMAIN.format(f"{image},raw,xvda,rw", f"{tmp_path / 'script'},raw,xvdb,ro"))
    safe = -1
    for number in range(KILLS + 1):
        there, acknowledged = life(tmp_path, safe, dice)
        print(f"life {number}: {there} records found, {acknowledged + 1} acknowledged")
        assert there > safe, f"record {safe} was acknowledged"
        safe = max(safe, acknowledged)
        kill_test.check_file_system(image)
    assert safe >= KILLS  # a life has a record at least
