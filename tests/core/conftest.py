# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine for the tests that need no more than one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.lab import Lab


@pytest.fixture(scope="module")
def shared() -> Lab:
    return Lab(frames=1 << 14)


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    """One machine for all; each test's domains are taken apart."""
    before = set(shared.hv.domains)
    yield shared
    for domid in set(shared.hv.domains) - before:
        shared.hv.destroy(shared.hv.domains[domid])
    assert shared.hv.run_until(lambda: set(shared.hv.domains) <= before, 10)
    assert not shared.hv.bugs, shared.hv.bugs[0]
