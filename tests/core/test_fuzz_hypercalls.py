# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypercall surface under hostile guests: 300 000 calls, by fixed seeds.

No handler may raise anything but errors its spec declares, whatever the guests try; the frame table balances at any
time; every error of every spec comes at some time or other, or is listed with the reason why it does not; and nothing
is left of a guest that was destroyed.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from pvhv.abi.errno import Errno
from pvhv.abi.grant_table import GNTST_address_too_big
from pvhv.abi.hypercalls import specs
from tests.core.fuzz_campaign import Campaign

CAMPAIGNS = 12
CALLS = 25_000

# Statuses that no guest can be given, and why. Errors have such a list in their specs (`unreachable`).
UNREACHABLE_STATUSES = {
    ("GNTTABOP_transfer", GNTST_address_too_big): "no machine of ours has 2^32 frames",
}


@pytest.fixture(scope="module")
def campaigns() -> Iterator[list[Campaign]]:
    """All of them, run to the end. Every third has guests that serve others as device models."""
    made = [Campaign(seed, device_models=seed % 3 == 0) for seed in range(CAMPAIGNS)]
    for campaign in made:
        campaign.run(CALLS)
    yield made
    made.clear()
    gc.collect()  # a heap of dead machines, looked through at its own time, would upset tests that measure


def test_there_were_enough_calls_and_lives(campaigns: list[Campaign]) -> None:
    assert sum(campaign.judge.calls for campaign in campaigns) >= 300_000
    assert all(campaign.lives >= 10 for campaign in campaigns)


def test_no_error_came_that_no_spec_declares(campaigns: list[Campaign]) -> None:
    undeclared: Counter[str] = Counter()
    for campaign in campaigns:
        undeclared += campaign.judge.undeclared
    assert not undeclared, undeclared.most_common(10)


def test_every_declared_error_came_or_cannot_come(campaigns: list[Campaign]) -> None:
    reached: set[tuple[Any, int]] = set()
    for campaign in campaigns:
        reached |= set(campaign.judge.reached)
    missing, surprising = [], []
    for row, command in specs():
        spec: Any = command or row
        for errno in spec.errors:
            if errno in spec.unreachable and (spec, int(errno)) in reached:
                surprising.append(f"{spec.full_name}: {Errno(errno).name}")
            elif errno not in spec.unreachable and (spec, int(errno)) not in reached:
                missing.append(f"{spec.full_name}: {Errno(errno).name}")
        for status in getattr(spec, "statuses", ()):
            known = (spec.full_name, status) in UNREACHABLE_STATUSES
            if known == ((spec, status) in reached):
                (surprising if known else missing).append(f"{spec.full_name}: status {status}")
    assert (missing, surprising) == ([], []), "declared but never met; met though listed as unreachable"


def test_nothing_is_left_of_the_guests(campaigns: list[Campaign]) -> None:
    for campaign in campaigns:
        hypervisor = campaign.machine.hv
        assert set(hypervisor.domains) == {0}, campaign.name
        assert campaign.machine.frames.free_frames == campaign.free_at_first, campaign.name
        assert len(hypervisor.dom0.events.in_use()) == campaign.ports_at_first, campaign.name
        assert not hypervisor.dom0.grants.active and not hypervisor.dom0.grants.views, campaign.name
        assert not hypervisor.pagetables.partial, campaign.name


def test_guests_that_end_by_their_own_doing_say_why(campaigns: list[Campaign]) -> None:
    """A crash has a reason that names the guest's fault; none of ours is among them."""
    for campaign in campaigns:
        assert not [reason for reason in campaign.judge.crashes if "bug" in reason], campaign.name


def test_the_same_seed_is_the_same_story() -> None:
    first, second = (Campaign(77, device_models=False) for _ in range(2))
    for campaign in (first, second):
        campaign.run(3000)
    assert first.judge.reached == second.judge.reached
    assert first.judge.crashes == second.judge.crashes
    assert first.lives == second.lives
