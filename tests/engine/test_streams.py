# SPDX-License-Identifier: GPL-2.0-or-later
"""A hundred thousand instructions in streams that nobody would write. Ten million: tools/fuzz_engine.py."""

from __future__ import annotations

import pytest

from tests.engine.streams import KINDS, fuzz


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_lives_and_holds_its_guest(kind: str) -> None:
    ground = fuzz(kind, seed=2026, enough=lambda ground: ground.instructions >= 25_000)
    assert ground.streams > 20
    ground.close()


def test_the_same_seed_gives_the_same_streams() -> None:
    counts = []
    for _ in range(2):
        ground = fuzz("virtual", seed=7, enough=lambda ground: ground.streams >= 60)
        counts.append((ground.instructions, ground.exits, bytes(ground.state[:16].tobytes())))
        ground.close()
    assert counts[0] == counts[1]
