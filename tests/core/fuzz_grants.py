# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves of a hostile guest that are about grants (tests/core/fuzz_moves.py has the others)."""

from __future__ import annotations

from typing import Any

from pvhv.abi import grant_table as gnttab
from pvhv.abi import xen
from pvhv.abi.grant_table import GNTTABOP
from pvhv.abi.spec import Command
from pvhv.abi.xen import DOMID_SELF
from pvhv.core.domain import Domain
from pvhv.core.mm.pte import ADDRESS
from tests.core.fuzz import BATCH_PAGE, Hostile
from tests.core.fuzz_judge import UNTOUCHED
from tests.core.fuzz_mmu import clear_page_entry, free_pfn, slot_of
from tests.core.guests import BASE, write_entry


def grant(it: Hostile) -> None:
    """Write an entry of its table."""
    rng = it.rng
    peer = rng.choice(it.peers).domid if it.peers and rng.random() < 0.8 else it.domain.domid
    flags = rng.choice((1, 1, 1, 1, 5, 2, 0, 3, 0x101, rng.getrandbits(9)))
    table = it.domain.grants
    if not table.frames:
        return
    ref = rng.randrange(8, 24)
    if table.version == 1:
        write_entry(table, ref, flags, peer, it.mfn() & 0xFFFF_FFFF)
    else:
        kind = rng.random()
        low = rng.choice((0, 0, 8 | 4000 << 16, 0x8008 | 100 << 16, it.word() & 0xFFFF_FFFF)) if kind < 0.4 else 0
        frame = it.mfn()
        if kind < 0.3:  # passed on: a peer's, as a rule
            flags, low, frame = rng.choice((3, 3, 7)), it.domid(), it.ref()
        write_entry_2(it, ref, flags, peer, low, frame)


def write_entry_2(it: Hostile, ref: int, flags: int, domid: int, low: int, high: int) -> None:
    """A version 2 entry, as its two words."""
    slot, words = it.domain.grants.entries.slot(ref), it.machine.ram.words
    words[slot] = flags | domid << 16 | low << 32
    words[slot + 1] = high


def change_version(it: Hostile) -> None:
    """Another layout, with entries among the first eight that may not come over, and nobody's mappings in the way."""
    rng, grants = it.rng, it.domain.grants
    version = 3 - grants.version
    if grants.version == 2 and rng.random() < 0.3 and grants.frames:
        write_entry_2(it, rng.randrange(8), rng.choice((0, 1, 2, 3)), it.domid(), 0, rng.choice((it.mfn(), 1 << 32)))
    elif grants.version == 2 and grants.frames:
        for ref in range(8):
            write_entry_2(it, ref, 0, 0, 0, 0)
    hypervisor = it.machine.hv
    starved = hypervisor.allocate(hypervisor.dom0, hypervisor.frames.free_frames) if rng.random() < 0.05 else ()
    batch(it, GNTTABOP.set_version, gnttab.GnttabSetVersion(version))
    for mfn in starved:
        hypervisor.frames.release_allocation(mfn)


def batch(it: Hostile, command: Command, *records: Any) -> list[Any]:
    """A grant_table_op over these records; them again, answered and judged."""
    for record in records:
        if hasattr(record, "status"):
            record.status = UNTOUCHED
    address = BASE + BATCH_PAGE * 4096 if it.rng.random() < 0.95 else it.request(*records)
    it.store(address, b"".join(map(bytes, records)))
    if it.call(xen.HYPERVISOR_grant_table_op, command.number, address, len(records)) is None:
        return []
    size = len(bytes(records[0]))
    answered = [command.arg.from_buffer_copy(it.load(address + index * size, size)) for index in range(len(records))]
    if address == BASE + BATCH_PAGE * 4096:
        for record, asked in zip(answered, records, strict=True):
            if hasattr(record, "status") and same_request(command, asked, record):
                it.judge.status(command, record.status)
    return answered


def same_request(command: Command, asked: Any, answered: Any) -> bool:
    """Whether nothing but the answer changed: no item of a batch wrote over another."""
    names = [field.name for field in command.arg.abi.fields if field.name not in command.out]
    return all(bytes_of(asked, name) == bytes_of(answered, name) for name in names)


def bytes_of(record: Any, name: str) -> bytes:
    field = getattr(type(record), name)
    return bytes(memoryview(record).cast("B")[field.offset : field.offset + field.size])


def granter(it: Hostile) -> Domain:
    return it.rng.choice(it.peers) if it.peers and it.rng.random() < 0.85 else it.domain


def map_grants(it: Hostile) -> None:
    rng = it.rng
    requests = []
    for _ in range(rng.choice((1, 1, 3, 8))):
        flags = rng.choice((2, 2, 2, 6, 6, 3, 7, 1, 5, 0xA, 0x12, 0x12, 0x16, 0, rng.getrandbits(20)))
        where = slot_of(it, free_pfn(it)) if flags & 0x10 else BASE + free_pfn(it) * 4096
        where = where if rng.random() < 0.95 else it.address()
        source = granter(it)
        table = source.grants
        good = [ref for ref in range(8, 24) if table.frames and it.machine.ram.words[table.entries.slot(ref)] & 1]
        ref = rng.choice(good) if good and rng.random() < 0.8 else it.ref()
        domid = source.domid if rng.random() < 0.95 else it.domid()
        requests.append(gnttab.GnttabMapGrantRef(where, flags, ref, domid))
    for done in batch(it, GNTTABOP.map_grant_ref, *requests):
        if done.status == 0:
            it.mapped.append((done.handle, done.host_addr, done.flags))


def unmap_grants(it: Hostile) -> None:
    rng = it.rng
    chosen = [it.mapped.pop(rng.randrange(len(it.mapped))) for _ in range(min(len(it.mapped), rng.choice((1, 1, 4))))]
    if rng.random() < 0.15:
        chosen.append((it.value("handle"), it.address(), 2))
    if not chosen:
        return
    requests = []
    for handle, where, flags in chosen:
        bus = 0
        if flags & 1:
            mapping = it.domain.grants.mapping(handle)
            granter = mapping.granter if mapping else None
            there = granter is not None and it.domain.hypervisor.domains.get(granter.domid) is granter
            active = granter.grants.active.get(mapping.ref) if there else None
            bus = active.mfn << 12 if active and rng.random() < 0.9 else it.word()
        requests.append(gnttab.GnttabUnmapGrantRef(where if rng.random() < 0.95 else it.address(), bus, handle))
    if rng.random() < 0.2:
        it.mapped += chosen  # and again
    batch(it, GNTTABOP.unmap_grant_ref, *requests)


def replace_grants(it: Hostile) -> None:
    if it.mapped:
        handle, where, _ = it.mapped.pop(it.rng.randrange(len(it.mapped)))
        other = it.rng.choice((0, BASE + free_pfn(it) * 4096, it.address()))
        batch(it, GNTTABOP.unmap_and_replace, gnttab.GnttabUnmapAndReplace(where, other, handle))


def copy_grants(it: Hostile) -> None:
    rng = it.rng
    requests = []
    for _ in range(rng.choice((1, 2, 5))):
        op: Any = gnttab.GnttabCopy()
        op.flags = rng.choice((0, 1, 1, 2, 2, 3, 3))
        for end, by_grant in ((op.source, op.flags & 1), (op.dest, op.flags & 2)):
            if by_grant:
                end.u.gmfn, end.domid = it.ref(), granter(it).domid if rng.random() < 0.95 else it.domid()
            else:
                end.u.gmfn, end.domid = it.mfn(), DOMID_SELF if rng.random() < 0.95 else it.domid()
            end.offset = rng.choice((0, 0, 8, 8, 4000, 4096, 65535))
        op.len = rng.choice((0, 1, 16, 96, 4096, 65535))
        requests.append(op)
    batch(it, GNTTABOP.copy, *requests)


def transfer(it: Hostile) -> None:
    """Give a frame to a peer that offered to take it, or to itself."""
    receiver = granter(it)
    if receiver.grants.frames and it.rng.random() < 0.9:
        if receiver.grants.version == 1:
            write_entry(receiver.grants, 20, 2, it.domain.domid, it.word() & 0xFFFF_FFFF)
        else:
            it.machine.ram.words[receiver.grants.entries.slot(20)] = 2 | it.domain.domid << 16
    receiver.max_pages += it.rng.choice((0, 1))
    mfn = clear_page_entry(it) if it.rng.random() < 0.8 else it.mfn()
    domid = receiver.domid if it.rng.random() < 0.95 else it.domid()
    batch(it, GNTTABOP.transfer, gnttab.GnttabTransfer(mfn, domid, it.rng.choice((20, 20, 20, 21, 512))))


def about_the_table(it: Hostile) -> None:
    rng = it.rng
    what = rng.randrange(6)
    if what == 0:
        record = gnttab.GnttabSetupTable(it.domid(), rng.choice((0, 1, 2, 4, 65)), 0, it.address())
        if record.frame_list >> 47 not in (0, (1 << 17) - 1):
            record.frame_list = BASE
        batch(it, GNTTABOP.setup_table, record)
    elif what == 1:
        batch(it, GNTTABOP.query_size, gnttab.GnttabQuerySize(it.domid()))
    elif what == 2:
        count = rng.choice((0, 1, 1, 2, 9))
        batch(it, GNTTABOP.get_status_frames, gnttab.GnttabGetStatusFrames(count, it.domid(), 0, it.address()))
    elif what == 3:
        batch(it, GNTTABOP.swap_grant_ref, gnttab.GnttabSwapGrantRef(it.ref(), it.ref()))
    elif what == 4:
        batch(it, GNTTABOP.set_version, gnttab.GnttabSetVersion(rng.randrange(4)))
    else:
        record = gnttab.GnttabCacheFlush(offset=rng.choice((0, 4096)), length=rng.choice((0, 64)))
        record.op = rng.choice((0, 1, 2, 2, 3, 4))
        machine = it.machine
        mfn = rng.choice((it.mfn(), it.own_mfn(), machine.hv.m2p_l3, machine.frames.count - 1))
        record.a.dev_bus_addr = mfn << 12 & ADDRESS
        number = GNTTABOP.cache_flush.number | rng.choice((0, 0, 0x1000))
        it.call(xen.HYPERVISOR_grant_table_op, number, it.request(record), 1)
