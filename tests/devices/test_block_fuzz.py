# SPDX-License-Identifier: GPL-2.0-or-later
"""A front end that does anything, at any moment: with its rings, its lists of segments, its grants and its nodes.

Beside it another domain uses its disk. Whatever the first one does, the other's requests are answered, nothing of the
first one's stays mapped or bound when it is gone, the frame table balances, and no exception is left over. A model of
the image says what its bytes may be: only what a request of the front end could have written.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pvhv.abi.grant_table import GTF_permit_access, GTF_readonly
from pvhv.abi.io.blkif import BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_ERROR, BLKIF_RSP_OKAY
from pvhv.abi.io.xenbus import (
    XenbusStateClosed,
    XenbusStateClosing,
    XenbusStateConnected,
    XenbusStateInitialising,
    XenbusStateInitWait,
)
from pvhv.devices.block import disk as disks
from pvhv.devices.block import pages
from pvhv.devices.block.ring import REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, SLOT_SIZE
from pvhv.images.raw import RawImage
from pvhv.testing import Machine
from tests.core import accounting
from tests.devices.blkfront import (
    FIRST,
    LISTS,
    MASK32,
    PAGES,
    RING,
    SECTORS,
    FrontEnd,
    Gate,
    Segments,
    fronted,
    held,
    image_at,
    opened,
)
from tests.toolstack.recipes import SPIN, Recipe

STEPS = 500
OPERATIONS = (0, 1, 2, 3, 5, 6, 0, 1, 0, 1, 4, 7, 255)
REFS = (*range(FIRST, FIRST + PAGES), LISTS, LISTS + 1, RING, 77, 2**32 - 1)


class Attacker:
    """A front end, and the dice that decide what it does next."""

    def __init__(self, front: FrontEnd, path: Path, gate: Gate, dice: random.Random) -> None:
        self.front, self.path, self.gate, self.dice = front, path, gate, dice
        self.deeds: list[tuple[int, Callable[[], object]]] = [
            (40, self.direct), (25, self.indirect), (5, self.discard), (15, self.noise), (2, self.indices),
            (20, self.signal), (15, self.work), (8, self.grants), (4, self.lists), (4, self.state), (4, self.node),
            (6, self.connect), (3, self.close), (2, self.image), (2, self.length),
        ]  # fmt: skip

    def act(self) -> None:
        weights, deeds = zip(*self.deeds, strict=True)
        self.dice.choices(deeds, weights)[0]()

    # -- the rings ---------------------------------------------------------------------------------------------
    def segments(self, most: int) -> Segments:
        dice = self.dice
        return [
            (dice.choice(REFS) if dice.random() < 0.1 else dice.randrange(FIRST, FIRST + PAGES), *self.part())
            for _ in range(dice.randrange(most + 1))
        ]

    def part(self) -> tuple[int, int]:
        dice = self.dice
        if dice.random() < 0.9:
            first = dice.randrange(8)
            return first, dice.randrange(first, 8)
        return dice.randrange(256), dice.randrange(256)

    def queue(self) -> int:
        return self.dice.randrange(len(self.front.rings))

    def sector(self) -> int:
        return self.dice.choice((self.dice.randrange(SECTORS), self.dice.randrange(SECTORS), 2**64 - 1, SECTORS))

    def direct(self) -> None:
        dice = self.dice
        segments = self.segments(11)
        count = len(segments) if dice.random() < 0.95 else dice.randrange(256)
        self.front.put(dice.choice(OPERATIONS), self.sector(), segments, count, dice.getrandbits(64), self.queue())

    def indirect(self) -> None:
        dice = self.dice
        segments = self.segments(dice.choice((3, 40)))
        count = len(segments) if dice.random() < 0.9 else dice.randrange(65536)
        lists = [dice.choice((LISTS, LISTS, LISTS, *REFS)) for _ in range(8)]
        self.front.list_segments(segments)
        self.front.put_indirect(
            dice.choice(OPERATIONS), self.sector(), segments, count, lists, dice.getrandbits(64), self.queue()
        )

    def discard(self) -> None:
        self.front.put_discard(self.sector(), self.dice.choice((0, 1, 8, 2**63)), self.dice.randrange(3))

    def noise(self) -> None:
        slot = bytes([self.dice.choice(OPERATIONS)]) + self.dice.randbytes(SLOT_SIZE - 1)
        self.front.rings[self.queue()].put_bytes(slot)

    def indices(self) -> None:
        word = self.dice.choice((REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT))
        words = self.front.rings[self.queue()].words
        words[word] = (words[word] + self.dice.choice((1, 2, 40, 1000, MASK32))) & MASK32

    def lists(self) -> None:
        self.front.list_segments(self.segments(60))

    def signal(self) -> None:
        if self.dice.random() < 0.5 or not self.front.disk.heard():  # (None hears it where there is no ring.)
            self.front.disk.pump()

    # -- the pages -----------------------------------------------------------------------------------------------
    def grants(self) -> None:
        dice, front = self.dice, self.front
        ref = dice.choice((*range(FIRST, FIRST + PAGES), LISTS, RING, RING + 1))
        flags = dice.choice((0, GTF_permit_access, GTF_permit_access, GTF_permit_access | GTF_readonly, 3))
        front.grant(ref, dice.choice((front.mfns[ref], front.mfns[ref], 0, 1)), flags, dice.choice((0, 0, 0, 1, 5)))

    def mend(self) -> None:
        for ref, mfn in self.front.mfns.items():
            self.front.grant(ref, mfn)

    # -- the nodes -----------------------------------------------------------------------------------------------
    def state(self) -> None:
        self.front.write("state", self.dice.randrange(1, 9))  # (another ends the device: tested elsewhere)

    def node(self) -> None:
        nodes = ("ring-ref", "ring-ref0", "event-channel", "ring-page-order", "multi-queue-num-queues", "protocol")
        values = (0, 1, 2, 4, 5, RING, RING + 1, 77, 2**32, "", "x", "x86_64-abi")
        self.front.write(self.dice.choice(nodes), self.dice.choice(values))

    def connect(self) -> None:
        self.close()
        if self.dice.random() < 0.9:
            self.mend()
        dice = self.dice
        self.front.connect(dice.randrange(1, 5), dice.choice((None, 0, 1, 3)), dice.random() < 0.6)

    def close(self) -> None:
        self.front.close()

    # -- behind it -----------------------------------------------------------------------------------------------
    def work(self) -> None:
        """The thread of the file gets on, and the hypervisor hears of it."""
        for _ in range(min(len(self.gate.waiting), self.dice.randrange(1, 40))):
            self.gate.waiting.pop(0)()
        scheduler = self.front.hv.scheduler
        work = scheduler._posted, scheduler._patience.waiting, scheduler.deferred, scheduler.background
        self.front.hv.run_until(lambda: not any(work), 10)

    def image(self) -> None:
        old = self.front.disk.image
        self.front.disk.change_image(opened(self.path, image=type(old)), self.gate, old.close)

    def length(self) -> None:
        self.front.disk.look()


def settled(front: FrontEnd, done: Callable[[], bool], seconds: float = 10) -> bool:
    """Let the thread of its file and the hypervisor go on until `done()`. (What exceeds a turn's share of work is done
    in the background, whoever caused it.)"""
    gate = front.disk.worker.thread
    assert isinstance(gate, Gate)

    def so() -> bool:
        gate.open()
        return done()

    return front.hv.run_until(so, seconds)


@pytest.mark.parametrize("seed", range(8))
def test_it_harms_nobody_else(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(pages, "MOST_KEPT", 8)  # so that they are reached
    monkeypatch.setattr(pages, "PURGED", 2)
    monkeypatch.setattr(pages, "PURGE_NS", 0)
    monkeypatch.setattr(disks, "MOST_BYTES_UNDER_WAY", 30 * 4096)
    (tmp_path / "spin").write_bytes(Recipe(code=SPIN).build())
    dice, gate = random.Random(seed), Gate()
    front = fronted(machine, image_at(tmp_path / "image"), gate)
    if seed % 2:  # a host that has it in memory
        front.disk.image = opened(tmp_path / "image", image=RawImage)
    length = (tmp_path / "image").stat().st_size
    other = machine.create(tmp_path / "spin", name="other", memory=8, clock="wall", paused=True)
    bystander = FrontEnd(machine, other, opened(image_at(tmp_path / "theirs")), Gate())
    bystander.connect()
    theirs = (tmp_path / "theirs").read_bytes()
    attacker = Attacker(front, tmp_path / "image", gate, dice)
    front.before = held(front)
    attacker.connect()
    for step in range(STEPS):
        attacker.act()
        assert front.disk.under_way <= disks.MOST_UNDER_WAY
        if not step % 50:
            page = step // 50 % PAGES
            bystander.put(BLKIF_OP_READ, page, [(FIRST, 0, 0)])
            bystander.disk.pump()
            assert settled(bystander, lambda answers=step // 50 + 1: bystander.rings[0].words[RSP_PROD] == answers)
            assert bystander.answers() == [(7, BLKIF_OP_READ, BLKIF_RSP_OKAY)]
            assert bytes(bystander.data(0)[:512]) == theirs[page * 512 : (page + 1) * 512]
        if not step % 100:
            assert not accounting.problems(machine.hypervisor)
    assert not machine.hypervisor.bugs
    # It ends as a front end does that waits for the other end. (Who goes through all states at once may be seen in the
    # last of them only, by Linux's backends as well.)
    front.write("state", XenbusStateClosing)
    assert settled(front, lambda: front.other in (XenbusStateClosing, XenbusStateClosed))
    front.write("state", XenbusStateClosed)
    assert settled(front, lambda: front.other == XenbusStateClosed)
    front.write("state", XenbusStateInitialising)
    assert settled(front, lambda: front.other == XenbusStateInitWait)
    assert settled(front, lambda: held(front) == front.before and not front.disk._change)
    assert not any(front.in_use(ref) for ref in front.mfns)
    assert not accounting.problems(machine.hypervisor) and not machine.hypervisor.bugs
    assert (tmp_path / "image").stat().st_size == length and (tmp_path / "theirs").read_bytes() == theirs
    attacker.mend()
    front.connect(2, 1, persistent=True)  # and it may still come back
    assert settled(front, lambda: front.other == XenbusStateConnected)
    front.put(BLKIF_OP_WRITE, queue=1)
    front.disk.pump()
    assert settled(front, lambda: front.rings[1].words[RSP_PROD] == 1)
    assert front.answers(1) == [(7, BLKIF_OP_WRITE, BLKIF_RSP_OKAY)]


def test_each_request_is_answered_once(machine: Machine, tmp_path: Path) -> None:
    """Whatever stands in a slot: one answer for each, with its number, and never another status than there is."""
    front = fronted(machine, image_at(tmp_path / "image"))
    dice = random.Random(7)
    attacker = Attacker(front, tmp_path / "image", Gate(), dice)
    for queues, order, persistent in ((1, None, False), (3, 2, True)):
        front.connect(queues, order, persistent)
        for _ in range(12):
            put: list[list[int]] = [[] for _ in range(queues)]
            for _ in range(30):
                before = [ring.words[REQ_PROD] for ring in front.rings]
                dice.choice((attacker.direct, attacker.indirect, attacker.noise, attacker.discard))()
                for queue, ring in enumerate(front.rings):
                    if ring.words[REQ_PROD] != before[queue]:
                        number = bytes(page[at] for page, at in ring.at(before[queue], SLOT_SIZE)[8:16])
                        put[queue].append(int.from_bytes(number, "little"))
            front.settle()
            for queue in range(queues):
                answers = front.answers(queue)
                assert sorted(id_ for id_, _, _ in answers) == sorted(put[queue])
                assert {status for _, _, status in answers} <= {BLKIF_RSP_OKAY, BLKIF_RSP_ERROR, BLKIF_RSP_EOPNOTSUPP}
        front.close()
        front.begin_ring()
    assert held(front) == front.before and not accounting.problems(front.hv) and not front.hv.bugs
