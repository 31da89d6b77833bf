# SPDX-License-Identifier: GPL-2.0-or-later
"""What a front end may use of the block device: many segments, many rings, pages that stay mapped, discarding, and what
a disk may be: of other sectors, longer than before, a CD-ROM drive."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from pvhv.abi.grant_table import GTF_permit_access, GTF_reading, GTF_readonly, GTF_writing
from pvhv.abi.io.blkif import (
    BLKIF_OP_DISCARD,
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_RSP_EOPNOTSUPP,
    BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY,
)
from pvhv.abi.io.xenbus import XenbusStateClosing, XenbusStateConnected
from pvhv.core.sched.asked import Counts
from pvhv.devices.block import disk as disks
from pvhv.devices.block import pages
from pvhv.devices.block.disk import RATHER_MANY
from pvhv.devices.block.ring import REQ_EVENT, REQ_PROD, slots_of
from pvhv.images import file as file_module
from pvhv.images.empty import NoMedium
from pvhv.images.raw import RawImage
from pvhv.testing import Machine
from pvhv.toolstack.beside import Beside
from tests.core import accounting
from tests.devices.blkfront import (
    FIRST,
    LISTS,
    MASK32,
    PAGES,
    SECTORS,
    FrontEnd,
    Gate,
    connected,
    fronted,
    held,
    image_at,
    opened,
)

OKAY, ERROR = BLKIF_RSP_OKAY, BLKIF_RSP_ERROR
READ, WRITE = BLKIF_OP_READ, BLKIF_OP_WRITE


# -- indirect segments ---------------------------------------------------------------------------------------------
def test_more_segments_than_a_slot_has_room_for(machine: Machine, tmp_path: Path) -> None:
    path = image_at(tmp_path / "image", 256 * 8)
    front = connected(machine, path)
    was = path.read_bytes()
    everything = [(FIRST + page % PAGES, 0, 7) for page in range(256)]
    front.put_indirect(READ, 0, everything)
    front.settle()
    assert front.answers() == [(7, READ, OKAY)]  # the answer names what was inside
    last = {page % PAGES: page for page in range(256)}
    assert all(bytes(front.data(page)) == was[at * 4096 : (at + 1) * 4096] for page, at in last.items())
    front.data(3)[:] = bytes(range(256)) * 16
    front.put_indirect(WRITE, 9, [(FIRST + 3, 2, 3), (FIRST + 3, 0, 0)] * 50)
    assert front.answered() == OKAY
    one = bytes(front.data(3)[1024:2048]) + bytes(front.data(3)[:512])
    assert path.read_bytes() == was[: 9 * 512] + one * 50 + was[(9 + 150) * 512 :]
    assert held(front)[1] == front.before[1] + 1 and not front.in_use(LISTS)


WHOLE = [(FIRST, 0, 7)]
HOSTILE = {
    "no segments": (READ, [], 0, [LISTS]),
    "257": (READ, WHOLE * 257, 257, None),
    "65535": (READ, WHOLE, 65535, None),
    "a ninth sector": (WRITE, [*WHOLE, (FIRST, 0, 8)], 2, None),
    "the last before the first": (WRITE, [*WHOLE, (FIRST, 3, 2)], 2, None),
    "behind the end": (WRITE, WHOLE * 9, 9, None),
    "no such list": (READ, WHOLE, 1, [77]),
    "a list for nobody": (READ, WHOLE, 1, [2**32 - 1]),
    "no such page": (READ, [*WHOLE, (77, 0, 7)], 2, None),
    "discarding": (BLKIF_OP_DISCARD, WHOLE, 1, None),
    "flushing": (BLKIF_OP_FLUSH_DISKCACHE, WHOLE, 1, None),
    "itself": (6, WHOLE, 1, None),
    "anything": (255, WHOLE, 1, None),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_indirect_requests_that_cannot_be(front: FrontEnd, path: Path, case: str) -> None:
    was, before = path.read_bytes(), held(front)
    operation, segments, count, lists = HOSTILE[case]
    front.put_indirect(operation, 0, segments, count, lists)
    front.settle()
    assert front.answers() == [(7, operation, ERROR)]
    assert path.read_bytes() == was and held(front) == before and not accounting.problems(front.hv)
    front.put_indirect(READ, 0, WHOLE)
    assert front.answered() == OKAY


def test_a_list_is_read_once(machine: Machine, path: Path) -> None:
    """What is checked is what is done, whatever the list says by then, and whether or not it is granted still."""
    gate = Gate()
    front = connected(machine, path, gate)
    was = path.read_bytes()
    front.put_indirect(READ, 0, [(FIRST, 0, 7), (FIRST + 1, 0, 7)])
    front.disk.pump()
    assert not front.in_use(LISTS) and front.in_use(FIRST)
    front.list_segments([(FIRST + 2, 0, 255)] * 2)
    front.grant(LISTS, 0, flags=0)
    front.grant(FIRST + 1, front.mfns[FIRST + 1], flags=0)  # revoked in flight: what is mapped stays so
    front.data(2)[:] = b"-" * 4096
    gate.open()
    assert front.answered() == OKAY
    assert bytes(front.data(0)) + bytes(front.data(1)) == was[:8192] and bytes(front.data(2)) == b"-" * 4096
    assert not accounting.problems(front.hv)


# -- rings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", [0, 1, 4])
def test_rings_of_many_pages(machine: Machine, path: Path, order: int) -> None:
    """Some slots lie in two pages. Each is read and answered whole, and the ring goes round."""
    front = connected(machine, path, order=order)
    slots = slots_of(1 << order)
    assert slots == front.ring.slots == {0: 32, 1: 64, 4: 512}[order]
    for turn in range(2):
        for slot in range(slots):
            front.put(READ, slot % SECTORS, id_=slot << 40 | turn)
        front.settle()
        assert front.answers() == [(slot << 40 | turn, READ, OKAY) for slot in range(slots)]
    assert held(front) == (front.before[0] + 1, front.before[1] + (1 << order))
    front.close()
    assert held(front) == front.before and not accounting.problems(front.hv)


def test_many_rings(machine: Machine, path: Path) -> None:
    front = connected(machine, path, queues=4, order=2)
    assert held(front) == (front.before[0] + 4, front.before[1] + 16)
    for queue in range(4):
        front.put(READ, queue, [(FIRST + queue, 0, 0)], id_=queue, queue=queue)
    front.settle()
    assert [front.answers(queue) for queue in range(4)] == [[(queue, READ, OKAY)] for queue in range(4)]
    front.rings[2].words[REQ_PROD] += 1000  # a ring that is over is nobody else's
    assert [front.does(READ, queue=queue) for queue in (0, 1, 3)] == [OKAY] * 3
    assert front.disk.over and not front.answers(2)
    front.close()
    front.connect(queues=1)
    assert held(front) == (front.before[0] + 1, front.before[1] + 1) and front.does(READ) == OKAY


def test_rings_take_turns(machine: Machine, path: Path) -> None:
    """One ring cannot keep the others from being served."""
    gate = Gate()
    front = connected(machine, path, gate, queues=2, order=4)
    for _ in range(500):
        front.put(READ, queue=0)
    for _ in range(20):
        front.put(READ, queue=1)
    front.disk.pump()
    assert front.disk.under_way == disks.MOST_UNDER_WAY
    gate.open()
    front.hv.run_until(lambda: front.rings[1].words[2] == 20, 10)
    assert front.rings[0].words[2] <= disks.MOST_UNDER_WAY


REFUSED: dict[str, tuple[dict[str, object], bytes]] = {
    "too many rings": ({"multi-queue-num-queues": 5}, b"-1 guest requested 5 queues, exceeding the maximum of 4."),
    "no rings": ({"multi-queue-num-queues": 0}, b"-1 guest requested 0 queues, exceeding the maximum of 4."),
    "too many pages": ({"ring-page-order": 5}, b"22 requested ring page order 5 exceed max:4"),
    "pages that are not told": ({"ring-page-order": 1}, b"22 reading /local/domain/1/device/vbd/51712/ring-ref0"),
    "rings that are not told": (
        {"multi-queue-num-queues": 2}, b"22 reading /local/domain/1/device/vbd/51712/queue-0/event-channel"),
    "a page that is not granted": ({"ring-page-order": 0, "ring-ref0": 77}, b"-1 mapping the page of ring-ref"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_rings_that_are_none(machine: Machine, path: Path, case: str) -> None:
    front = fronted(machine, path)
    nodes, why = REFUSED[case]
    for node, value in {**nodes, "event-channel": 5, "ring-ref": 128, "state": 3}.items():
        front.write(node, value)
    assert front.other == XenbusStateClosing and front.error == why
    assert held(front) == front.before
    for node, value in {"state": 6, "multi-queue-num-queues": 1}.items():
        front.write(node, value)
    front.write("state", 1)
    front.connect()
    assert front.other == XenbusStateConnected


def test_some_rings_that_are_none_and_some_that_are(machine: Machine, path: Path) -> None:
    """Nothing stays mapped or bound of those that were found first."""
    front = fronted(machine, path)
    port = front.guest.domain.events.alloc_unbound(0)
    nodes: dict[str, object] = {"multi-queue-num-queues": 2, "ring-page-order": 1}
    for queue, refs in enumerate(((128, 129), (130, 77))):
        nodes[f"queue-{queue}/event-channel"] = port
        nodes |= {f"queue-{queue}/ring-ref{page}": ref for page, ref in enumerate(refs)}
    for node, value in {**nodes, "state": 3}.items():
        front.write(node, value)
    assert front.other == XenbusStateClosing and held(front) == front.before
    assert not accounting.problems(front.hv)


# -- persistent grants ---------------------------------------------------------------------------------------------
def test_pages_that_stay_mapped(machine: Machine, path: Path) -> None:
    front = connected(machine, path, persistent=True)
    was = path.read_bytes()
    for sector in range(3):
        assert front.does(READ, sector) == OKAY
        assert front.in_use(FIRST) == GTF_reading | GTF_writing
        assert bytes(front.data(0)[:512]) == was[sector * 512 : (sector + 1) * 512]
    assert held(front)[1] == front.before[1] + 2  # the ring, and the one page
    front.put_indirect(WRITE, 3, [(FIRST, 0, 0)])
    assert front.answered() == OKAY and path.read_bytes()[3 * 512 : 4 * 512] == was[2 * 512 : 3 * 512]
    assert held(front)[1] == front.before[1] + 3  # and the list
    front.close()
    assert held(front) == front.before and not front.in_use(FIRST) and not accounting.problems(front.hv)


def test_a_front_end_that_ends_what_it_promised_to_keep(machine: Machine, path: Path) -> None:
    """What is mapped stays the page that it was. The grant's next life begins when that is unmapped."""
    front = connected(machine, path, persistent=True)
    assert front.does(READ) == OKAY
    was = bytes(front.data(0))
    front.grant(FIRST, front.mfns[FIRST + 1])  # the entry names another page now
    assert front.does(READ, 1) == OKAY
    assert bytes(front.data(0)) != was and bytes(front.data(1)) != bytes(front.data(0))
    front.grant(FIRST, 0, flags=0)
    assert front.does(READ, 1) == OKAY
    front.close()
    assert held(front) == front.before and not accounting.problems(front.hv)


def test_a_page_that_may_only_be_read_cannot_stay(machine: Machine, path: Path) -> None:
    """Such a page could be written to, so it is mapped for that even if the request only reads it. (blkback)"""
    front = connected(machine, path, persistent=True)
    front.grant(FIRST, front.mfns[FIRST], GTF_permit_access | GTF_readonly)
    assert front.does(WRITE) == ERROR
    assert not front.in_use(FIRST)


def test_one_page_twice_at_once(machine: Machine, path: Path) -> None:
    """The second use is mapped for itself."""
    gate = Gate()
    front = connected(machine, path, gate, persistent=True)
    front.put(READ, 0, [(FIRST, 0, 0), (FIRST, 1, 1)])
    front.put(READ, 2, [(FIRST, 2, 2)])
    front.disk.pump()
    assert held(front)[1] == front.before[1] + 1 + 3
    gate.open()
    front.settle()
    assert [status for _, _, status in front.answers()] == [OKAY] * 2
    assert bytes(front.data(0)[:1536]) == path.read_bytes()[:1536]
    assert held(front)[1] == front.before[1] + 2


def test_more_pages_than_are_kept(machine: Machine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are mapped for one request. A little later, those that were unused for longest give way."""
    monkeypatch.setattr(pages, "MOST_KEPT", 6)
    monkeypatch.setattr(pages, "PURGED", 2)
    front = connected(machine, path, persistent=True)
    queue = front.disk._queues[0]
    now = [10**9]
    queue.pages._now = lambda: now[0]
    assert front.does(READ, 0, [(FIRST + page, 0, 0) for page in range(6)]) == OKAY
    now[0] += pages.PURGE_NS  # what is used between two looks is as old
    assert front.does(READ, 0, [(FIRST, 0, 0), (FIRST + 6, 0, 0), (FIRST + 7, 0, 0)]) == OKAY
    assert list(queue.pages.kept) == list(range(FIRST, FIRST + 6)) and held(front)[1] == front.before[1] + 1 + 6
    now[0] += pages.PURGE_NS
    assert front.does(READ, 0, [(FIRST + 7, 0, 0)]) == OKAY
    assert set(queue.pages.kept) == {FIRST, FIRST + 3, FIRST + 4, FIRST + 5, FIRST + 7}
    now[0] += pages.KEPT_NS
    assert front.does(READ, 0, [(FIRST + 5, 0, 0)]) == OKAY
    assert list(queue.pages.kept) == [FIRST + 5] and not front.in_use(FIRST) and not accounting.problems(front.hv)


def test_more_bytes_than_may_be_under_way(machine: Machine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "MOST_BYTES_UNDER_WAY", 24 * 4096)
    gate = Gate()
    front = connected(machine, path, gate)
    for _ in range(9):
        front.put(WRITE, 0, [(FIRST + page, 0, 7) for page in range(8)])
    front.disk.pump()
    assert front.disk.under_way == 3
    gate.open()
    assert front.hv.run_until(lambda: front.disk.under_way == 3 and bool(gate.waiting), 10)
    gate.open()
    assert front.hv.run_until(lambda: front.disk.under_way == 3 and bool(gate.waiting), 10)
    gate.open()
    front.settle()
    assert [status for _, _, status in front.answers()] == [OKAY] * 9 and not front.disk.bytes_under_way


# -- discarding ----------------------------------------------------------------------------------------------------
def test_discarding(front: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, int]] = []
    monkeypatch.setattr(front.image, "discard", lambda *given: done.append(given))
    for given, status in (
        ((8, 16), OKAY), ((0, SECTORS), OKAY), ((8, 8, 1), OKAY), ((0, 0), ERROR), ((1, SECTORS), ERROR),
        ((2**64 - 1, 2), ERROR), ((1, 2**64 - 1), ERROR), ((SECTORS, 1), ERROR),
    ):  # fmt: skip
        front.put_discard(*given)
        front.settle()
        assert front.answers() == [(7, BLKIF_OP_DISCARD, status)], given
    assert done == [(8, 16), (0, SECTORS), (8, 8)]  # "secure" is not offered, and ignored
    told = ("feature-discard", "discard-granularity", "discard-alignment", "discard-secure")
    assert [front.offered(node) for node in told] == [b"1", b"4096", b"0", b"0"]


def test_an_image_that_cannot_discard(front: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(front.image, "discard", refuse)
    front.put_discard(0, 8)
    assert front.answered() == BLKIF_RSP_EOPNOTSUPP
    monkeypatch.setattr(front.image, "flush", refuse)
    assert front.does(BLKIF_OP_FLUSH_DISKCACHE, 0, []) == BLKIF_RSP_EOPNOTSUPP
    monkeypatch.setattr(front.image, "write", refuse)
    assert front.does(WRITE) == ERROR


@pytest.mark.parametrize(("mode", "kind"), [("rb", {}), ("r+b", {"discards": False})])
def test_a_disk_that_does_not_offer_to_discard(machine: Machine, path: Path, mode: str, kind: dict[str, bool]) -> None:
    front = fronted(machine, path, mode=mode, **kind)
    front.connect()
    assert front.offered("feature-discard") is None and front.offered("discard-enable") == b"0"
    front.put_discard(0, 8)
    assert front.answered() == (ERROR if mode == "rb" else OKAY)  # not told is not refused (blkback)


# -- what a disk may be ---------------------------------------------------------------------------------------------
def test_sectors_of_4096_bytes(machine: Machine, tmp_path: Path) -> None:
    """Requests count in 512 bytes all the same."""
    front = fronted(machine, image_at(tmp_path / "image", SECTORS + 3), sector_size=4096)
    front.connect()
    told = ("sectors", "sector-size", "physical-sector-size")
    assert [front.offered(node) for node in told] == [b"64", b"4096", b"4096"]
    whole, part = (FIRST, 0, 7), (FIRST, 0, 3)
    for sector, segments, status in (
        (8, [whole], OKAY), (0, [whole, whole], OKAY), (1, [whole], ERROR), (0, [part], ERROR),
        (0, [part, part], ERROR), (64, [whole], ERROR),
    ):  # fmt: skip
        assert front.does(READ, sector, segments) == status
    front.put_discard(8, 4)
    assert front.answered() == ERROR
    front.put_discard(8, 8)
    assert front.answered() == OKAY


def test_a_disk_that_grows(front: FrontEnd, path: Path) -> None:
    """The front end hears of it by the state, which is written anew."""
    states: list[bytes | None] = []
    front.guest.store.watch(f"{front.backend.back}/state", lambda _path: states.append(front.offered("sectors")))
    os.truncate(path, 100 * 512)
    assert front.does(READ, 99) == ERROR
    front.disk.look()
    front.hv.run_until(lambda: bool(states), 10)
    assert states == [b"100"] and front.other == XenbusStateConnected and front.does(READ, 99) == OKAY
    os.truncate(path, 8 * 512)
    front.disk.look()
    front.hv.run_until(lambda: len(states) > 1, 10)
    assert states == [b"100", b"8"] and front.does(READ, 8) == ERROR


def looks(front: FrontEnd) -> int:
    """How many timers of the disk's there are."""
    timers = front.guest.domain.timeline.timers
    return sum(timer.callback == front.disk._look_again for _, _, timer in timers)


def test_an_idle_disk_looks_by_itself(machine: Machine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It notices that its file grew, and gives pages back that were not used for long. Nobody asks it for anything."""
    monkeypatch.setattr(disks, "LOOK_NS", 20_000_000)
    monkeypatch.setattr(pages, "KEPT_NS", 100_000_000)
    front = fronted(machine, path)
    assert not looks(front)
    front.connect(queues=2, persistent=True)
    assert looks(front) == 1
    assert front.does(READ, queue=1) == OKAY and front.in_use(FIRST)
    os.truncate(path, 100 * 512)
    assert front.hv.run_until(lambda: front.offered("sectors") == b"100", 10)
    assert front.hv.run_until(lambda: not front.in_use(FIRST), 10)
    assert not any(queue.pages.kept for queue in front.disk._queues) and not front.answers(1)
    front.close()
    assert not looks(front)
    front.connect()
    assert looks(front) == 1
    front.guest.domain.shutdown_code = 0
    assert front.hv.run_until(lambda: not looks(front), 10)
    front.backend.close()
    assert not machine.hypervisor.bugs


def test_a_disk_that_goes_looks_no_more(machine: Machine, path: Path) -> None:
    front = connected(machine, path)
    assert looks(front) == 1
    machine.host.destroy(front.guest)
    assert not looks(front)


def test_on_a_virtual_clock_no_disk_looks_by_itself(machine: Machine, path: Path) -> None:
    """What the host does with the file, and when, is not in the guest's time."""
    guest = machine.create("test-hello", paused=True, clock="virtual")
    front = FrontEnd(machine, guest, opened(path), Beside(1))
    before = len(guest.domain.timeline.timers)
    front.connect(persistent=True)
    assert front.other == XenbusStateConnected and len(guest.domain.timeline.timers) == before


def test_a_medium_is_not_changed_while_it_is_looked_at(machine: Machine, path: Path, tmp_path: Path) -> None:
    gate, changed = Gate(), list[bool]()
    front = fronted(machine, path, gate, mode="rb", cdrom=True)
    front.connect()
    front.disk.look()
    other = tmp_path / "other"
    other.write_bytes(bytes(1024))
    front.disk.change_image(opened(other, "rb"), Beside(1), lambda: changed.append(True))
    front.settle()
    assert not changed and front.disk.sectors == SECTORS
    gate.open()
    assert front.hv.run_until(lambda: bool(changed), 10) and front.disk.sectors == 2
    gate.broken = True
    front.disk.worker.thread = gate
    front.disk.look()
    assert not front.disk._looking


def test_one_that_is_not_connected_grows(machine: Machine, path: Path) -> None:
    front = fronted(machine, path)
    os.truncate(path, 100 * 512)
    front.disk.look()
    front.hv.run_until(lambda: front.disk.sectors == 100, 10)
    assert front.offered("sectors") is None
    front.connect()
    assert front.offered("sectors") == b"100"


def test_a_cd_rom_drive(machine: Machine, path: Path, tmp_path: Path) -> None:
    """The medium is changed when nothing is under way, and what is asked meanwhile is asked of the new one."""
    gate, changed = Gate(), Future[None]()
    front = fronted(machine, path, gate, mode="rb", cdrom=True)
    front.connect()
    told = ("info", "device-type", "removable", "mode")
    assert [front.offered(node) for node in told] == [b"5", b"cdrom", b"1", b"r"]
    assert front.guest.store.read(f"{front.backend.front}/device-type") == b"cdrom"
    front.put(READ, 0, [(FIRST, 0, 0)])
    front.disk.pump()
    other = tmp_path / "other"
    other.write_bytes(b"other".ljust(1024))
    front.disk.change_image(opened(other, "rb"), Beside(1), lambda: changed.set_result(None))
    front.put(READ, 0, [(FIRST + 1, 0, 0)])
    front.put(READ, 2, [(FIRST + 1, 0, 0)])
    front.disk.pump()
    assert front.disk.under_way == 1 and not changed.done()
    gate.open()
    front.settle()
    assert changed.done() and front.offered("sectors") == b"2" and front.disk.image.sectors == 2
    assert [status for _, _, status in front.answers()] == [OKAY, ERROR, OKAY]
    assert bytes(front.data(0)[:512]) == path.read_bytes()[:512] and bytes(front.data(1)[:5]) == b"other"
    assert front.does(WRITE) == ERROR


def test_a_drive_that_is_empty(machine: Machine, path: Path) -> None:
    """It connects, with no sectors, and hears of a medium."""
    front = fronted(machine, path, mode="rb", cdrom=True)
    front.disk.change_image(NoMedium(), Beside(1), lambda: None)
    front.connect()
    assert front.offered("sectors") == b"0" and front.does(READ) == ERROR
    front.disk.change_image(opened(path, "rb"), Beside(1), lambda: None)
    assert front.offered("sectors") == b"64" and front.does(READ) == OKAY
    front.disk.change_image(NoMedium(), Beside(1), lambda: None)
    assert front.offered("sectors") == b"0" and front.does(READ) == ERROR


def test_what_is_counted(front: FrontEnd) -> None:
    front.does(READ, 0, [(FIRST, 0, 7)])
    front.does(WRITE, 0, [(FIRST, 0, 2)])
    front.does(BLKIF_OP_FLUSH_DISKCACHE, 0, [])
    front.put_discard(0, 8)
    front.settle()
    assert front.disk.counts == Counts(rd_req=1, wr_req=1, f_req=1, ds_req=1, rd_sect=8, wr_sect=3)


# -- inside the hypercall that signals --------------------------------------------------------------------------------
def test_one_request_is_begun_at_once(machine: Machine, path: Path) -> None:
    """A guest that has one request at a time is not stopped for it. One that has many signals the first of them, and
    then need not signal each."""
    gate = Gate()
    front = connected(machine, path, gate, persistent=True)
    front.put(READ)
    front.put(READ, segments=[(FIRST + 1, 0, 0)])
    front.disk.pump()
    gate.open()
    front.settle()  # its pages are known now
    front.answers()
    front.disk._had_many = False
    for many in (1, 1, 3, 1, 1):
        had_many = front.disk._had_many
        front.put(READ)
        assert front.disk.heard() is not had_many
        assert front.disk.under_way == 1 and len(gate.waiting) == 1
        ahead = (front.words[REQ_EVENT] - front.words[REQ_PROD]) & MASK32
        assert ahead == (RATHER_MANY if had_many else 1)
        for _ in range(many - 1):
            front.put(READ, segments=[(FIRST + 1, 0, 0)])
            assert not front.disk.heard() and front.disk.under_way == 1, "the others are begun together, when it rests"
        front.disk.pump()
        assert front.disk.under_way == many and (front.words[REQ_EVENT] - front.words[REQ_PROD]) & MASK32 == 1
        gate.open()
        front.settle()
        assert front.answers() == [(7, READ, OKAY)] * many
        assert front.disk._had_many == (many > 1)


def test_what_is_to_be_mapped_first_is_begun_later(machine: Machine, path: Path) -> None:
    gate = Gate()
    front = connected(machine, path, gate)
    front.put(READ)
    assert not front.disk.heard() and not gate.waiting and not front.in_use(FIRST)
    front.disk.pump()
    gate.open()
    front.settle()
    assert front.answers() == [(7, READ, OKAY)]


# -- reading what the host has in memory ------------------------------------------------------------------------------
@pytest.fixture
def warm(machine: Machine, path: Path) -> tuple[FrontEnd, Gate]:
    """A disk whose image is in the host's memory, and whose thread does nothing."""
    if not file_module._NOWAIT:
        pytest.skip("only Linux reads without waiting")
    gate = Gate()
    front = fronted(machine, path, gate)
    front.disk.image = opened(path, image=RawImage)
    front.connect(persistent=True)
    return front, gate


def test_what_the_host_has_in_memory_is_read_at_once(warm: tuple[FrontEnd, Gate], path: Path) -> None:
    front, gate = warm
    was = path.read_bytes()
    for segments in ([(FIRST, 0, 7), (FIRST + 1, 0, 7)], [(FIRST + 2, 3, 4), (FIRST + 2, 7, 7)]):
        for _ in range(2):  # its pages are new, and known
            front.data(0)[:] = front.data(2)[:] = bytes(4096)
            front.put(READ, 3, segments)
            front.disk.pump()
            assert front.answers() == [(7, READ, OKAY)] and not gate.waiting and not front.disk.under_way
        read = b"".join(front.data(ref - FIRST)[first * 512 : (last + 1) * 512] for ref, first, last in segments)
        assert read == was[3 * 512 : 3 * 512 + len(read)]
    assert front.disk.counts == Counts(rd_req=4, rd_sect=2 * 16 + 2 * 3)


def test_translated_code_is_dropped_where_it_is_read_to(
    warm: tuple[FrontEnd, Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    front, _gate = warm
    written: list[list[int]] = []
    monkeypatch.setattr(front.hv, "host_wrote_all", written.append)
    front.put(READ, 0, [(FIRST, 0, 0), (FIRST + 2, 0, 0)])
    front.disk.pump()
    assert written == [[front.mfns[FIRST], front.mfns[FIRST + 2]]]


def test_a_read_has_what_was_written_before_it(warm: tuple[FrontEnd, Gate]) -> None:
    front, gate = warm
    front.data(0)[:] = b"new!" * 1024
    front.put(WRITE, 5, [(FIRST, 0, 0)])
    front.put(READ, 5, [(FIRST + 1, 0, 0)])
    front.disk.pump()
    assert front.disk.under_way == 2 and not front.answers()
    gate.open()
    front.settle()
    assert len(front.answers()) == 2 and bytes(front.data(1)[:512]) == b"new!" * 128


def test_what_it_does_not_have_is_read_by_the_thread(
    warm: tuple[FrontEnd, Gate], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for again where the host says "not now", and not where it cannot say so."""
    front, gate = warm
    asked: list[int] = []
    error = errno.EAGAIN

    def preadv(descriptor: int, parts: Sequence[memoryview], offset: int, flags: int) -> int:
        asked.append(offset)
        if error:
            raise OSError(error, os.strerror(error))
        return os.readv(os.dup(descriptor), list(parts)[:1])  # a part of it

    monkeypatch.setattr(os, "preadv", preadv)
    for error, times in ((errno.EAGAIN, 2), (0, 2), (errno.EOPNOTSUPP, 1)):  # noqa: B007
        asked.clear()
        for _ in range(2):
            front.data(0)[:] = bytes(4096)
            front.put(READ, 3, [(FIRST, 0, 0), (FIRST + 1, 0, 0)])
            front.disk.pump()
            assert len(gate.waiting) == 1
            gate.open()
            front.settle()
            assert front.answers() == [(7, READ, OKAY)]
            assert bytes(front.data(0)[:512]) == path.read_bytes()[3 * 512 : 4 * 512]
        assert len(asked) == times


def test_an_image_that_became_shorter_is_an_error(warm: tuple[FrontEnd, Gate], path: Path) -> None:
    front, gate = warm
    os.truncate(path, 4 * 512)
    front.put(READ, 3, [(FIRST, 0, 1)])
    front.disk.pump()
    gate.open()
    front.settle()
    assert front.answers() == [(7, READ, ERROR)]
