# SPDX-License-Identifier: GPL-2.0-or-later
"""The largest requests of a disk are done in pieces: nobody waits for one, and a ring may go between any two."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pvhv.abi.io.blkif import BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_RSP_OKAY
from pvhv.core.mm.frames import WRITABLE
from pvhv.core.sched.worker import Thread
from pvhv.devices.block.pages import PIECE
from pvhv.devices.block.request import MAX_INDIRECT_SEGMENTS
from pvhv.machine.wrapping import wrap
from pvhv.testing import Machine
from tests.core.test_hostile import LIMIT
from tests.devices.blkfront import SLOTS, FrontEnd, Gate, held, opened
from tests.toolstack.recipes import SPIN, Recipe

T = TypeVar("T")
GREFS = range(200, 200 + MAX_INDIRECT_SEGMENTS)
SEGMENTS = [(gref, 0, 7) for gref in GREFS]
PIECE_S = 0.002  # a piece takes a quarter of it on an idle host; a whole request, twice as much


class AtOnce:
    """A thread that is done before anybody looks."""

    def do(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(work())
        return future


def large(machine: Machine, path: Path, thread: Thread) -> FrontEnd:
    """A front end that grants as many pages as a request may have; not connected."""
    kernel = path.with_name("spin")
    kernel.write_bytes(Recipe(code=SPIN).build())
    path.write_bytes(bytes(MAX_INDIRECT_SEGMENTS * 4096))
    guest = machine.create(kernel, name="large", memory=8, clock="wall", paused=True)
    front, frames = FrontEnd(machine, guest, opened(path), thread), machine.hypervisor.frames
    taken = {*front.mfns.values(), *guest.domain.hypervisor_frames}
    own = [mfn for mfn in frames.owned_by(guest.domid) if frames.types[mfn] & 7 in (0, WRITABLE) and mfn not in taken]
    for gref, mfn in zip(GREFS, own[: len(GREFS)], strict=True):
        front.grant(gref, mfn)
    return front


@pytest.mark.parametrize("operation", [BLKIF_OP_READ, BLKIF_OP_WRITE])
def test_nobody_waits_for_the_largest_requests(tmp_path: Path, operation: int) -> None:
    """A ring full of requests that map 256 pages each, copy them and unmap them, again and again."""
    turns: list[float] = []
    pieces: list[float] = []
    with Machine(128) as machine:
        front = large(machine, tmp_path / "it.img", gate := Gate())
        front.connect()
        before, scheduler, worker = held(front), machine.hypervisor.scheduler, front.disk.worker

        def timed(turn: Callable[[float | None], None]) -> Callable[[float | None], None]:
            def around(deadline: float | None = None) -> None:
                began = time.thread_time()
                turn(deadline)
                turns.append(time.thread_time() - began)

            return around

        def each(work: Iterator[int]) -> Iterator[int]:
            while True:
                began = time.thread_time()
                cost = next(work, None)
                pieces.append(time.thread_time() - began)
                if cost is None:
                    return
                yield cost

        gc.collect()
        gc.disable()
        undo = wrap(scheduler, "turn", timed)
        in_pieces = worker.in_pieces
        worker.in_pieces = lambda work: in_pieces(each(work))  # type: ignore[method-assign]
        for _round in range(3):
            for number in range(SLOTS):
                front.put_indirect(operation, 0, SEGMENTS, id_=number)
            scheduler.defer(front.disk.pump)
            answers: list[Any] = []
            while len(answers) < SLOTS:
                gate.open()
                scheduler.turn(time.monotonic())
                answers += front.answers()
            assert {status for _, _, status in answers} == {BLKIF_RSP_OKAY}
        undo()
        gc.enable()
        assert held(front) == before and not machine.hypervisor.bugs
    pieces.sort()
    slow = pieces[-len(pieces) // 100]
    print(f"turns {max(turns) * 1000:.1f} ms; of {len(pieces)} pieces, one in a hundred {slow * 1000:.2f} ms")
    assert len(pieces) > 3 * SLOTS * 2 * MAX_INDIRECT_SEGMENTS // PIECE
    assert max(turns) < LIMIT and slow < PIECE_S


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("operation", [BLKIF_OP_READ, BLKIF_OP_WRITE])
def test_a_ring_goes_between_two_pieces(tmp_path: Path, operation: int, persistent: bool) -> None:
    """At each place where the work for a request can stand, the rings are closed. Nothing stays mapped or counted."""
    with Machine(128) as machine:
        front = large(machine, tmp_path / "it.img", AtOnce())
        disk, hv, places, steps = front.disk, machine.hypervisor, 0, 0

        def in_pieces(work: Iterator[int]) -> None:
            nonlocal steps
            for _cost in work:
                steps -= 1
                if not steps:
                    disk.detach()

        disk.worker.in_pieces = in_pieces  # type: ignore[method-assign]
        while steps <= 0:
            front.begin_ring()
            front.connect(persistent=persistent)
            before = held(front)
            places, steps = places + 1, places + 1
            front.put_indirect(operation, 0, SEGMENTS)
            disk.pump()
            hv.run_until(lambda: False, 0.002)
            if whole := steps > 0:  # it was answered before that many pieces
                steps = 1000  # to be left alone
            if persistent and whole:
                assert len(disk._queues[0].pages.kept) == MAX_INDIRECT_SEGMENTS + 1  # the list, too
                disk.detach()
            assert held(front) == before and not any(map(front.in_use, GREFS))
            assert (disk.under_way, disk.bytes_under_way, hv.bugs) == (0, 0, [])
            assert len(front.answers()) == whole
            front.close()
        assert places >= (8 if operation == BLKIF_OP_WRITE and persistent else 11)
