# SPDX-License-Identifier: GPL-2.0-or-later
"""Two programs do not write to one image: we keep QEMU's from ours, and are kept from QEMU's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pvhv.images import locks
from pvhv.images.image import BadImage
from pvhv.images.opening import open_image
from tests.images.lab import MIB, make_image, opened, qemu

pytestmark = pytest.mark.skipif(not locks.HAVE, reason="this system has no locks of open file descriptions")

HOLD = """
import sys
from pvhv.images.opening import open_image
image = open_image(sys.argv[1], "qcow2", sys.argv[2] == "w")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_image(tmp_path / "it", MIB)


@contextmanager
def held(path: Path, how: str, by: str) -> Iterator[None]:
    """Another program has the image open to write (w) or to read (r)."""
    if by == "pvhv":
        command = [sys.executable, "-c", HOLD, str(path), how]
    else:
        qemu("qemu-io", "--version")  # or it is skipped
        command = ["qemu-io", *(["-r"] if how == "r" else []), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        if by == "pvhv":
            process.stdout.readline()
        else:
            process.stdin.write(b"read 0 512\n")
            process.stdin.flush()
            process.stdout.readline()
        yield
        process.stdin.close()


@pytest.mark.parametrize("by", ["pvhv", "qemu"])
def test_we_are_kept_from_what_others_have(path: Path, by: str) -> None:
    with held(path, "w", by):
        for writable in (True, False):
            with pytest.raises(BadImage, match="in use: another program writes to it"):
                open_image(str(path), "qcow2", writable)
    with held(path, "r", by):
        with opened(path, False):
            pass
        with pytest.raises(BadImage, match="in use: another program reads it"):
            open_image(str(path), "qcow2", True)
    with opened(path):
        pass


def test_qemu_is_kept_from_what_we_have(path: Path) -> None:
    with opened(path):
        assert 'Failed to get "write" lock' in qemu("qemu-io", "-c", "write 0 512", path, fails=True)
        assert 'Failed to get shared "write" lock' in qemu("qemu-img", "info", path, fails=True)
        qemu("qemu-img", "info", "-U", path)
    with opened(path, False):
        qemu("qemu-img", "info", path)
        assert 'Failed to get "write" lock' in qemu("qemu-io", "-c", "write 0 512", path, fails=True)
    qemu("qemu-io", "-c", "write 0 512", path)


def test_backing_files_are_kept_too(path: Path, tmp_path: Path) -> None:
    above = make_image(tmp_path / "above", MIB, backing_file="it", backing_format="qcow2")
    with opened(above):
        qemu("qemu-io", "-c", "write 0 512", path, fails=True)
        qemu("qemu-img", "info", path)
        other = make_image(tmp_path / "other", MIB, backing_file="it", backing_format="qcow2")
        with opened(other):
            pass
        qemu("qemu-io", "-c", "write 0 512", path, fails=True)  # the first still has it
    qemu("qemu-io", "-c", "write 0 512", path)


def test_in_one_process_the_lock_is_what_all_need_together(path: Path) -> None:
    """The next life of a domain opens what the last one has not closed yet."""
    writer = open_image(str(path), "qcow2", True)
    reader = open_image(str(path), "qcow2", False)
    writer.close()
    writer.close()
    qemu("qemu-img", "info", path)
    qemu("qemu-io", "-c", "write 0 512", path, fails=True)
    reader.close()
    qemu("qemu-io", "-c", "write 0 512", path)
    assert not locks._holders


def test_what_nobody_closes_is_let_go_in_the_end(path: Path) -> None:
    open_image(str(path), "raw", True)
    assert not locks._holders
