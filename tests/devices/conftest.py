# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of backends share: a machine, and a front end on its disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvhv.devices.block import disk as disks
from pvhv.testing import Machine
from tests.devices.blkfront import FrontEnd, connected, image_at


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as made:
        yield made


@pytest.fixture(autouse=True)
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks do not look at their images by themselves, unless a test has them do it: a test may take long."""
    monkeypatch.setattr(disks, "LOOK_NS", 10**15)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A raw image with content, of which a domain may read and write `SECTORS` sectors."""
    return image_at(tmp_path / "image")


@pytest.fixture
def front(machine: Machine, path: Path) -> FrontEnd:
    """A front end that is connected to a disk with this image."""
    return connected(machine, path)
