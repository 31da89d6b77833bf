# SPDX-License-Identifier: GPL-2.0-or-later
"""The block device, by a front end in Python that keeps to the protocol, and by one that does not."""

from __future__ import annotations

import gc
import random
import threading
import time
from pathlib import Path

import pytest

from pvhv.abi.grant_table import GTF_permit_access, GTF_reading, GTF_readonly
from pvhv.abi.io.blkif import (
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_READ,
    BLKIF_OP_RESERVED_1,
    BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER,
    BLKIF_RSP_EOPNOTSUPP,
    BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY,
)
from pvhv.abi.io.xenbus import (
    XenbusStateClosed,
    XenbusStateClosing,
    XenbusStateConnected,
    XenbusStateInitialised,
    XenbusStateInitialising,
)
from pvhv.core.mm.frames import WRITABLE
from pvhv.core.sched.worker import LATENCY_NS
from pvhv.devices.block.disk import MOST_UNDER_WAY
from pvhv.devices.block.ring import REQ_PROD, RSP_EVENT, RSP_PROD, SLOT_SIZE
from pvhv.images.image import SECTOR_SIZE
from pvhv.machine.wrapping import wrap
from pvhv.testing import Machine
from tests.core import accounting
from tests.devices.blkfront import (
    FIRST,
    MASK32,
    PAGES,
    RING,
    SECTORS,
    SLOTS,
    FrontEnd,
    Gate,
    Segments,
    connected,
    fronted,
    held,
    opened,
)
from tests.toolstack.recipes import SPIN, Recipe


def test_what_it_offers(front: FrontEnd, path: Path) -> None:
    offers = {
        "sectors": b"64", "sector-size": b"512", "physical-sector-size": b"512", "info": b"0", "mode": b"w",
        "dev": b"xvda", "feature-flush-cache": b"1", "feature-barrier": b"1",
    }  # fmt: skip
    assert {node: front.offered(node) for node in offers} == offers
    assert front.guest.store.read(f"{front.backend.front}/virtual-device") == b"51712"


def test_it_reads_and_writes(front: FrontEnd, path: Path) -> None:
    was = path.read_bytes()
    everything = [(FIRST + page, 0, 7) for page in range(8)]
    assert front.does(BLKIF_OP_READ, 0, everything) == BLKIF_RSP_OKAY
    assert b"".join(bytes(front.data(page)) for page in range(8)) == was[: SECTORS * SECTOR_SIZE]
    front.data(9)[:] = b"w" * 4096
    assert front.does(BLKIF_OP_WRITE, 61, [(FIRST + 9, 7, 7), (FIRST, 0, 1)], id_=1 << 63) == BLKIF_RSP_OKAY
    now = path.read_bytes()
    assert now[: 61 * 512] == was[: 61 * 512] and now[64 * 512 :] == was[64 * 512 :]
    assert now[61 * 512 : 62 * 512] == b"w" * 512 and now[62 * 512 : 64 * 512] == was[:1024]
    assert held(front) == (front.before[0] + 1, front.before[1] + 1)  # the ring's port and page


def test_a_part_of_a_page_is_all_that_is_touched(front: FrontEnd, path: Path) -> None:
    front.data(0)[:] = b"-" * 4096
    assert front.does(BLKIF_OP_READ, 5, [(FIRST, 2, 3)]) == BLKIF_RSP_OKAY
    assert bytes(front.data(0)) == b"-" * 1024 + path.read_bytes()[5 * 512 : 7 * 512] + b"-" * 2048


@pytest.mark.parametrize("operation", [BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER])
def test_flushing(front: FrontEnd, path: Path, monkeypatch: pytest.MonkeyPatch, operation: int) -> None:
    """Whatever was written is on the disk, and then what it brings is written."""
    done = []
    monkeypatch.setattr("os.fdatasync", lambda _fd: done.append(path.read_bytes()[:512]))
    front.data(0)[:] = b"1" * 4096
    front.put(BLKIF_OP_WRITE)
    front.data(1)[:] = b"2" * 4096
    front.put(operation, 0, [(FIRST + 1, 0, 0)])
    front.put(operation, 0, [])
    front.settle()
    assert [status for _, _, status in front.answers()] == [BLKIF_RSP_OKAY] * 3
    assert done == [b"1" * 512, b"2" * 512]


LAST = SECTORS - 1
HOSTILE: dict[str, tuple[int, int, Segments, int | None]] = {
    "behind the end": (BLKIF_OP_READ, SECTORS, [(FIRST, 0, 0)], None),
    "across the end": (BLKIF_OP_WRITE, LAST, [(FIRST, 0, 1)], None),
    "far behind the end": (BLKIF_OP_READ, 2**64 - 1, [(FIRST, 0, 7)], None),
    "a negative one, to who counts in bytes": (BLKIF_OP_WRITE, 2**55, [(FIRST, 0, 0)], None),
    "twelve segments": (BLKIF_OP_READ, 0, [(FIRST, 0, 0)] * 11, 12),
    "255 segments": (BLKIF_OP_WRITE, 0, [(FIRST, 0, 0)] * 11, 255),
    "no segments": (BLKIF_OP_READ, 0, [], None),
    "none to write": (BLKIF_OP_WRITE, 0, [], None),
    "the last before the first": (BLKIF_OP_READ, 0, [(FIRST, 3, 2)], None),
    "the page's ninth sector": (BLKIF_OP_READ, 0, [(FIRST, 0, 8)], None),
    "all numbers that there are": (BLKIF_OP_WRITE, 0, [(FIRST, 255, 255)], None),
    "no grant": (BLKIF_OP_READ, 0, [(FIRST, 0, 0), (77, 0, 0)], None),
    "a grant beyond the table": (BLKIF_OP_WRITE, 0, [(FIRST, 0, 0), (2**32 - 1, 0, 0)], None),
    "a grant for somebody else": (BLKIF_OP_WRITE, 0, [(90, 0, 0)], None),
    "a page that it may only read": (BLKIF_OP_READ, 0, [(91, 0, 0)], None),
    "a page of the hypervisor's": (BLKIF_OP_READ, 0, [(92, 0, 0)], None),
    "a page table": (BLKIF_OP_READ, 0, [(93, 0, 0)], None),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_requests_that_cannot_be(front: FrontEnd, path: Path, case: str) -> None:
    frames, domid = front.hv.frames, front.guest.domid
    front.grant(90, front.mfns[FIRST], domid=3)
    front.grant(91, front.mfns[FIRST], GTF_permit_access | GTF_readonly)
    front.grant(92, 1)
    front.grant(93, next(mfn for mfn in frames.owned_by(domid) if 0 < frames.types[mfn] & 7 < WRITABLE))
    was, before = path.read_bytes(), held(front)
    operation, sector, segments, count = HOSTILE[case]
    assert front.does(operation, sector, segments, count) == BLKIF_RSP_ERROR
    assert path.read_bytes() == was and held(front) == before
    assert not accounting.problems(front.hv)
    assert front.does(BLKIF_OP_WRITE, 0, [(91, 0, 0)]) == BLKIF_RSP_OKAY  # it goes on; and to write, reading is enough


@pytest.mark.parametrize("operation", [BLKIF_OP_RESERVED_1, 7, 255])
def test_operations_that_there_are_not(front: FrontEnd, operation: int) -> None:
    assert front.does(operation, 0, [(77, 9, 0)], 200) == BLKIF_RSP_EOPNOTSUPP


def test_a_disk_to_be_read_only(machine: Machine, path: Path) -> None:
    front = fronted(machine, path, mode="rb")
    front.connect()
    assert (front.offered("info"), front.offered("mode")) == (b"4", b"r")
    assert front.does(BLKIF_OP_READ) == BLKIF_RSP_OKAY
    for operation in (BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER, BLKIF_OP_FLUSH_DISKCACHE):  # blkback refuses that, too
        assert front.does(operation) == BLKIF_RSP_ERROR


def test_an_image_that_is_cut_short(front: FrontEnd, path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(512)
    front.data(0)[:] = b"-" * 4096
    assert front.does(BLKIF_OP_READ, 0, [(FIRST, 0, 7)]) == BLKIF_RSP_ERROR
    assert bytes(front.data(0)[512:]) == b"-" * (4096 - 512)  # (what there was may have been read)
    assert front.does(BLKIF_OP_READ) == BLKIF_RSP_OKAY


def test_a_host_that_has_no_threads(machine: Machine, path: Path) -> None:
    gate = Gate()
    front = connected(machine, path, gate)
    before, gate.broken = held(front), True
    assert front.does(BLKIF_OP_READ) == BLKIF_RSP_ERROR
    assert held(front) == before


# -- the ring ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ahead", [SLOTS + 1, 1000, 2**31, MASK32])
def test_a_producer_that_is_too_far_ahead_ends_the_ring(front: FrontEnd, ahead: int) -> None:
    assert front.does(BLKIF_OP_READ) == BLKIF_RSP_OKAY
    front.words[REQ_PROD] = (front.words[REQ_PROD] + ahead) & MASK32
    front.settle()
    assert front.disk.over and front.answers() == []
    front.words[REQ_PROD] = front.words[RSP_PROD]
    front.put(BLKIF_OP_READ)
    front.settle()
    assert front.answers() == []  # it stays over
    front.close()
    front.begin_ring()
    front.connect()  # another ring is another matter
    assert front.does(BLKIF_OP_READ) == BLKIF_RSP_OKAY


def test_what_was_signalled_before_a_ring_goes_is_answered(front: FrontEnd) -> None:
    """Though the backend did not look yet, because it waited for more."""
    front.put(BLKIF_OP_READ, 3)
    front.write("state", XenbusStateClosing)
    front.put(BLKIF_OP_READ, 4)
    front.settle()
    assert front.answers() == [(7, BLKIF_OP_READ, BLKIF_RSP_OKAY)] and front.other == XenbusStateClosing


def test_a_full_ring_goes_round(front: FrontEnd, path: Path) -> None:
    for turn in range(5):
        for slot in range(SLOTS):
            front.put(BLKIF_OP_READ, slot, id_=turn * SLOTS + slot)
        front.settle()
        assert [id_ for id_, _, _ in front.answers()] == [turn * SLOTS + slot for slot in range(SLOTS)]


def test_indices_wrap(front: FrontEnd) -> None:
    front.close()
    front.begin_ring()
    start = MASK32 - 3
    front.words[REQ_PROD] = front.words[RSP_PROD] = front.ring.heard = start
    front.connect()
    for _ in range(8):
        assert front.does(BLKIF_OP_READ) == BLKIF_RSP_OKAY
    assert front.words[RSP_PROD] == 4


def test_a_request_is_read_once(machine: Machine, path: Path) -> None:
    """What is checked is what is done, whatever stands in the slot by then."""
    gate = Gate()
    front = connected(machine, path, gate)
    was = path.read_bytes()
    front.data(0)[:] = b"a" * 4096
    front.put(BLKIF_OP_WRITE, 3)
    front.disk.pump()
    front.page[64 : 64 + SLOT_SIZE] = b"\xff" * SLOT_SIZE
    front.data(0)[:] = b"b" * 4096
    assert front.in_use(FIRST) == GTF_reading  # and the page stays mapped until it is answered
    gate.open()
    front.settle()
    assert front.answers() == [(7, BLKIF_OP_WRITE, BLKIF_RSP_OKAY)] and not front.in_use(FIRST)
    assert path.read_bytes() == was[: 3 * 512] + b"a" * 512 + was[4 * 512 :]


def test_it_is_signalled_as_it_asks(front: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[int] = []
    monkeypatch.setattr(front.disk._queues[0], "notify", lambda: signals.append(front.words[RSP_PROD]))
    front.words[RSP_EVENT] = 3
    for _ in range(4):
        front.put(BLKIF_OP_READ)
    front.settle()
    assert len(signals) == 1 and signals[0] >= 3  # (what was done together is shown together)


# -- rings that go --------------------------------------------------------------------------------------------------
def test_a_ring_goes_when_what_was_asked_is_answered(machine: Machine, path: Path) -> None:
    """As with blkback: what was taken from it is done and answered, nothing more is taken, and then it is unmapped."""
    gate = Gate()
    front = connected(machine, path, gate)
    for life in range(2):
        front.data(0)[:] = bytes([life]) * 4096
        for sector in range(20):
            front.put(BLKIF_OP_WRITE, sector)
        front.disk.pump()
        front.write("state", XenbusStateClosing)
        front.put(BLKIF_OP_WRITE, 30)
        front.disk.pump()
        assert front.other == XenbusStateConnected and front.disk.under_way == 20
        if life:
            front.write("state", XenbusStateClosed)  # it does not wait for us
        gate.open()
        front.settle()
        assert front.answers() == [(7, BLKIF_OP_WRITE, BLKIF_RSP_OKAY)] * 20
        assert front.other == (XenbusStateClosed if life else XenbusStateClosing)
        assert held(front) == front.before and not front.in_use(FIRST) and not accounting.problems(front.hv)
        assert path.read_bytes()[: 20 * 512] == bytes([life]) * 20 * 512
        front.write("state", XenbusStateClosed)
        front.write("state", XenbusStateInitialising)
        front.begin_ring()
        front.connect()
        assert front.other == XenbusStateConnected


@pytest.mark.parametrize("forced", [False, True])
def test_a_disk_that_is_taken_away_while_it_is_at_work(machine: Machine, path: Path, forced: bool) -> None:
    """Its front end closes as it is told to, or is not asked. Either way it gets its answers first."""
    gate = Gate()
    front = connected(machine, path, gate)
    front.put(BLKIF_OP_READ)
    front.disk.pump()
    if forced:
        front.backend.take_away()
        assert front.guest.store.children(front.backend.front) == ()
    else:
        front.backend.unplug()
        front.write("state", XenbusStateClosed)
    assert front.other == XenbusStateClosing and not front.backend.gone and front.in_use(FIRST)
    gate.open()
    front.settle()
    assert front.backend.gone and front.answers() == [(7, BLKIF_OP_READ, BLKIF_RSP_OKAY)]
    assert held(front) == front.before and not front.in_use(FIRST) and not accounting.problems(front.hv)


def test_more_requests_than_may_be_under_way(machine: Machine, path: Path) -> None:
    gate = Gate()
    front = connected(machine, path, gate, queues=4)
    for number in range(4 * SLOTS):
        front.put(BLKIF_OP_READ, 0, [(FIRST + PAGES - 1, 0, 0)], queue=number % 4)
    front.disk.pump()
    assert front.disk.under_way == MOST_UNDER_WAY < 4 * SLOTS
    while front.disk.under_way:
        gate.open()
        assert front.hv.run_until(lambda: bool(gate.waiting) or not front.disk.under_way, 10)
    assert sum(len(front.answers(queue)) for queue in range(4)) == 4 * SLOTS


def test_a_domain_that_goes_while_its_disk_is_at_work(machine: Machine, path: Path) -> None:
    hv, gate = machine.hypervisor, Gate()
    nothing = hv.dom0.events.active, len(hv.dom0.grants.views)
    front = connected(machine, path, gate)
    front.put(BLKIF_OP_WRITE)
    front.put(BLKIF_OP_READ)
    front.disk.pump()
    front.guest.destroy()
    gate.do(front.image.close)
    assert hv.run_until(lambda: front.guest.domid not in hv.domains, 10)
    assert held(front) == nothing and not accounting.problems(hv)
    gate.open()
    hv.run_until(lambda: not front.disk.under_way, 10)
    assert not hv.bugs
    with pytest.raises(ValueError, match="closed file"):
        front.image.read(0, 1)


def test_a_ring_for_another_processor(machine: Machine, path: Path) -> None:
    front = fronted(machine, path)
    for node, value in (("ring-ref", RING), ("event-channel", 1), ("protocol", "x86_32-abi")):
        front.write(node, value)
    front.write("state", XenbusStateInitialised)
    assert front.other == XenbusStateClosing
    assert front.guest.store.read(f"{front.backend.errors}/error") == b"-1 unknown fe protocol x86_32-abi"


def test_whatever_stands_in_the_ring(front: FrontEnd, path: Path) -> None:
    """Nothing is written but into the image, nothing stays held, and each request that was taken is answered once."""
    dice, before, length = random.Random(12), held(front), path.stat().st_size
    for _ in range(300):
        for _ in range(dice.randrange(1, SLOTS)):
            if dice.random() < 0.5:
                at = 64 + front.words[REQ_PROD] % SLOTS * SLOT_SIZE
                front.page[at : at + SLOT_SIZE] = dice.randbytes(SLOT_SIZE)
                front.words[REQ_PROD] = (front.words[REQ_PROD] + 1) & MASK32
            else:
                refs = [dice.choice((*range(FIRST, FIRST + PAGES), 77)) for _ in range(dice.randrange(12))]
                parts = [(ref, dice.randrange(9), dice.randrange(9)) for ref in refs]
                front.put(dice.randrange(5), dice.randrange(SECTORS + 5), parts)
        front.settle()
        assert len(front.answers()) <= SLOTS and front.words[RSP_PROD] == front.words[REQ_PROD]
        assert held(front) == before
    assert path.stat().st_size == length
    assert not accounting.problems(front.hv) and not front.hv.bugs


# -- guests' time ------------------------------------------------------------------------------------------------------
@pytest.fixture
def spinning(machine: Machine, path: Path, tmp_path: Path) -> tuple[FrontEnd, Gate]:
    """A guest on a virtual clock that is busy, and whose disk is as fast as the test has it."""
    kernel, gate = tmp_path / "kernel.elf", Gate()
    kernel.write_bytes(Recipe(code=SPIN).build())
    front = FrontEnd(machine, machine.create(kernel, memory=8), opened(path), gate)
    front.connect()
    return front, gate


@pytest.mark.parametrize(("fast", "latency"), [(True, LATENCY_NS), (False, LATENCY_NS), (True, 0), (False, 3_000_000)])
def test_on_a_virtual_clock_it_takes_as_long_every_time(
    spinning: tuple[FrontEnd, Gate], fast: bool, latency: int
) -> None:
    front, gate = spinning
    front.disk.worker.latency_ns = latency
    timeline = front.guest.domain.timeline
    heard: list[int] = []
    front.disk._queues[0].notify = lambda: heard.append(timeline.now())
    began = timeline.now()
    front.put(BLKIF_OP_READ)
    front.disk.pump()
    if fast:
        gate.open()
        front.hv.run_until(lambda: bool(heard), 10)
    else:
        front.hv.run_until(lambda: timeline.held > 0, 10)
        stood = timeline.now()
        front.hv.run_until(lambda: False, 0.05)
        assert timeline.now() == stood and not heard  # it stands still
        threading.Timer(0.05, gate.open).start()
        front.hv.run_until(lambda: bool(heard), 10)
    assert heard == [began + latency] and timeline.held == 0
    front.hv.run_until(lambda: timeline.now() > began + 2 * latency, 10)  # and goes on


def test_a_domain_that_goes_while_its_clock_stands_still(spinning: tuple[FrontEnd, Gate]) -> None:
    front, gate = spinning
    timeline = front.guest.domain.timeline
    front.put(BLKIF_OP_READ)
    front.disk.pump()
    front.hv.run_until(lambda: timeline.held > 0, 10)
    front.machine.host.destroy(front.guest)
    assert front.hv.run_until(lambda: front.guest.domid not in front.hv.domains, 10)
    gate.open()
    assert front.hv.run_until(lambda: not front.disk.under_way, 10)
    assert timeline.held == 0 and not front.hv.bugs


def test_nobody_waits_for_many_disks_at_once(tmp_path: Path) -> None:
    """Five domains fill the rings of eight disks each, and all is done at the same moment. Whatever the hypervisor's
    thread does for them at a stretch is a share of it."""
    gate = Gate()
    with Machine(256) as machine:
        fronts = []
        for at in range(40):
            file = tmp_path / f"{at}.img"
            file.write_bytes(bytes(SECTORS * SECTOR_SIZE))
            kernel = tmp_path / "spin"
            kernel.write_bytes(Recipe(code=SPIN).build())
            guest = machine.create(kernel, name=f"d{at}", memory=4, clock="wall", paused=True)
            front = FrontEnd(machine, guest, opened(file), gate)
            front.connect()
            fronts.append(front)
        for front in fronts:
            for number in range(SLOTS):
                front.put(BLKIF_OP_READ, 0, [(FIRST + page, 0, 0) for page in range(11)], id_=number)
        longest, scheduler = 0.0, machine.hypervisor.scheduler
        turn = scheduler.turn

        def timed(deadline: float | None = None) -> None:
            nonlocal longest
            began = time.thread_time()
            turn(deadline)
            longest = max(longest, time.thread_time() - began)

        gc.collect()
        gc.disable()  # pvhvd has collections of its own (toolstack/garbage.py)
        unwrap = wrap(scheduler, "turn", lambda _turn: timed)
        for front in fronts:
            scheduler.defer(front.disk.pump)
        assert machine.hypervisor.run_until(lambda: all(front.disk.under_way == SLOTS for front in fronts), 60)
        gate.open()  # all of them are done at once
        assert machine.hypervisor.run_until(lambda: not any(front.disk.under_way for front in fronts), 60)
        unwrap()
        gc.enable()
        assert all(len(front.answers()) == SLOTS for front in fronts)
        assert longest < 0.05, f"{longest * 1000:.0f} ms"
