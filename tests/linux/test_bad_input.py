# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be wrong about a domain that is to be a stock Linux: one message each, which says what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.conftest import Pvhv
from tests.linux.conftest import Linux

pytestmark = pytest.mark.linux


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, linux: Linux) -> Iterator[Pvhv]:
    """A domain file that is right, and files beside it that are not."""
    made = Pvhv(directory := tmp_path_factory.mktemp("pvhv"))
    (directory / "linux.cfg").write_text(
        f'kernel = "{linux.kernel}"\nramdisk = "{linux.ramdisk}"\ncmdline = "console=hvc0"\nmemory = 128\n'
    )
    whole = linux.kernel.read_bytes()
    (directory / "half").write_bytes(whole[: len(whole) // 2])
    (directory / "header").write_bytes(whole[:600])
    payload = (whole[0x1F1] + 1) * 512 + int.from_bytes(whole[0x248:0x24C], "little")
    (directory / "odd").write_bytes(whole[:payload] + b"odd!" + whole[payload + 4 :])
    (directory / "flipped").write_bytes(whole[: payload + 9999] + b"damaged!" + whole[payload + 10007 :])
    with (directory / "large").open("wb") as file:
        file.truncate(300 << 20)
    yield made
    made.end()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("kernel='half'", ["half is cut short", "copy it, or build it, anew"]),
        ("kernel='header'", ["header is cut short"]),
        ("kernel='odd'", ["packed in a way pvhv does not know", "extract-vmlinux"]),
        ("kernel='flipped'", ["flipped is damaged"]),
        ("kernel='linux.cfg'", ["is not an ELF file, so it is not a kernel"]),
        ("kernel='guest-native'", ["not for a paravirtual one", 'say type = "hvm"']),
        ("ramdisk='large'", ["large has 300 MiB, and the domain has 128 MiB", "say memory ="]),
        ("ramdisk='none'", ["there is no file", "none"]),
        ("memory=64", ["64 MiB is too little memory", "MiB to start", "say memory = "]),
        ("memory=1000000", ["no 1000000 MiB left", "give this one less memory"]),
        ("vcpus=1000", ["'vcpus' must lie between 1 and 32"]),
        (f"cmdline='{'x' * 1024}'", ["longer than the 1023 bytes start_info has room for"]),
    ],
)
def test_one_message(home: Pvhv, setting: str, words: list[str]) -> None:
    said = home.run("create", "linux.cfg", setting)
    assert said.returncode in (1, 2) and said.stdout == "" and "Traceback" not in said.stderr
    assert all(word in said.stderr for word in words), said.stderr
    assert len(said.stderr.splitlines()) <= 3
    home.until(lambda: not home.list())
