# SPDX-License-Identifier: GPL-2.0-or-later
"""grant_table_op: arrays of requests, each with its own answer.

A batch is processed item by item: copy in, carry out, copy the status out. So an item sees the effects of those before
it, and these stay when a later item faults. After a share of work the call continues with the rest of the array. Unmaps
go in groups of 32 that share one TLB flush.

The items' layouts are those of the records in pvhv.abi.grant_table, taken apart by codecs because these
batches are the hot path of every backend.

Read beside it: do_grant_table_op in xen/common/grant_table.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ctypes import sizeof
from typing import TYPE_CHECKING, Any

from pvhv.abi import grant_table as abi
from pvhv.abi.errno import Errno
from pvhv.abi.grant_table import GNTTABOP, GRANT_TABLE_OP
from pvhv.abi.layout import codec
from pvhv.abi.spec import Command
from pvhv.core.errors import GrantError, GuestFault, HypercallError
from pvhv.core.grants import version as grant_version
from pvhv.core.grants.acquire import TryAgain
from pvhv.core.grants.map import Unmapped, finish, map_grant_ref, unmap
from pvhv.core.grants.table import DEFAULT_MAX_FRAMES
from pvhv.core.grants.transfer import transfer
from pvhv.core.privilege import controls
from pvhv.core.traps.dispatch import HANDLERS, Continue, handles, hypercall

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.mm.guestmem import GuestMemory
    from pvhv.core.vcpu import VCPU

CMD_MASK = 0xFFF  # GNTTABOP_CMD_MASK; above it, a continued cache_flush keeps its place
UNMAP_BATCH = 32  # GNTTAB_UNMAP_BATCH_SIZE
ITEM_COST = 4

MAP = abi.GNTTAB_MAP_GRANT_REF_CODEC
UNMAP = codec(abi.gnttab_unmap_grant_ref)
REPLACE = codec(abi.gnttab_unmap_and_replace)
TRANSFER = codec(abi.gnttab_transfer)
SWAP = codec(abi.gnttab_swap_grant_ref)
COPY = struct.Struct("<QHH4xQHH4xHHh2x")  # gnttab_copy; its unions as their wider member, gmfn
STATUS = struct.Struct("<h")


@hypercall(GRANT_TABLE_OP)
def grant_table_op(vcpu: VCPU, cmd: int, uop: int, count: int) -> int:
    """Choose the function for a batch; what it raises or returns is the answer for the whole batch."""
    cmd, count = cmd & 0xFFFF_FFFF, count & 0xFFFF_FFFF
    number, place = cmd & CMD_MASK, cmd & ~CMD_MASK
    if count >> 31 or (place and number != abi.GNTTABOP_cache_flush):
        raise HypercallError(Errno.EINVAL)
    command = GNTTABOP.by_number.get(number)
    handler = None if command is None else HANDLERS.get(command)
    if handler is None:
        raise HypercallError(Errno.ENOSYS)
    if place:
        return flush_from(vcpu, uop, count, place)
    return handler(vcpu, uop, count) or 0


def fetch(memory: GuestMemory, address: int, request: struct.Struct) -> tuple[int, tuple[Any, ...]]:
    """Read a request; returns (its byte offset in machine memory, or 0; its fields).

    Usually a request lies in one page, which the guest may write. Then `reply` can answer at that offset, and needs no
    second translation.
    """
    if address & 0xFFF <= 0x1000 - request.size:
        base = memory.write_tlb.get(address >> 12)
        if base is not None:
            at = base + (address & 0xFFF)
            return at, request.unpack_from(memory.bytes, at)
        try:
            at = memory.translate(address, True)
            return at, request.unpack_from(memory.bytes, at)
        except GuestFault:
            pass  # not writable: it can be read, carried out, and not answered
    return 0, request.unpack(memory.read(address, request.size))


def reply(memory: GuestMemory, address: int, at: int, answer: bytes) -> None:
    """Write the answer at `address`. It was at offset `at` when the request was fetched, and may be unmapped by now."""
    if at and memory.write_tlb.get(address >> 12) == at - (address & 0xFFF) and not memory.code[at >> 12]:
        memory.bytes[at : at + len(answer)] = answer
    else:
        memory.write(address, answer)


def items(vcpu: VCPU, number: int, uop: int, count: int, size: int) -> Iterator[int]:
    """The address of each item; between two items the call is continued if the share of work is used up."""
    if not vcpu.memory.accessible(uop, count * size):
        raise GuestFault(uop)
    must_yield = vcpu.domain.hypervisor.must_yield
    for index in range(count):
        if must_yield(ITEM_COST) and index:
            raise Continue(number, uop + index * size, count - index)
        yield uop + index * size


# -- map and unmap -------------------------------------------------------------------------------------------
@handles(GNTTABOP.map_grant_ref)
def map_batch(vcpu: VCPU, uop: int, count: int) -> None:
    memory = vcpu.memory
    for address in items(vcpu, abi.GNTTABOP_map_grant_ref, uop, count, MAP.size):
        at, (host_addr, flags, ref, dom, _, handle, bus) = fetch(memory, address, MAP)
        status = 0
        try:
            handle, bus = map_grant_ref(vcpu, host_addr, flags, ref, dom)
        except GrantError as error:
            status = error.status
        reply(memory, address, at, MAP.pack(host_addr, flags, ref, dom, status, handle, bus))


@handles(GNTTABOP.unmap_grant_ref)
def unmap_batch(vcpu: VCPU, uop: int, count: int) -> None:
    unmaps(vcpu, GNTTABOP.unmap_grant_ref, UNMAP, uop, count)


@handles(GNTTABOP.unmap_and_replace)
def replace_batch(vcpu: VCPU, uop: int, count: int) -> None:
    unmaps(vcpu, GNTTABOP.unmap_and_replace, REPLACE, uop, count)


def unmaps(vcpu: VCPU, command: Command, request: struct.Struct, uop: int, count: int) -> None:
    """Unmap in groups: clear the entries, flush, end the uses. The commands differ in the second word."""
    memory = vcpu.memory
    size, status_at = request.size, command.arg.status.offset
    replacing = command is GNTTABOP.unmap_and_replace
    if not memory.accessible(uop, count * size):
        raise GuestFault(uop)
    done = 0
    while done < count:
        end = min(done + UNMAP_BATCH, count)
        unmapped: list[Unmapped] = []
        try:
            for address in range(uop + done * size, uop + end * size, size):
                at, (host_addr, second, handle, _) = fetch(memory, address, request)
                status = 0
                try:
                    undone = (
                        unmap(vcpu, handle, host_addr, 0, second) if replacing
                        else unmap(vcpu, handle, host_addr, second)
                    )  # fmt: skip
                    if undone is not None:
                        unmapped.append(undone)
                except GrantError as error:
                    status = error.status
                reply(memory, address + status_at, at and at + status_at, STATUS.pack(status))
        finally:
            if unmapped:
                finish(vcpu, unmapped)
        over = vcpu.domain.hypervisor.must_yield((end - done) * ITEM_COST)
        done = end
        if over and done < count:
            raise Continue(command.number, uop + done * size, count - done)


# -- copy, transfer, swap ------------------------------------------------------------------------------------
@handles(GNTTABOP.copy)
def copy_batch(vcpu: VCPU, uop: int, count: int) -> None:
    memory = vcpu.memory
    status_at = abi.GnttabCopy.status.offset
    with vcpu.domain.hypervisor.copies.of(vcpu.domain) as copies:
        for address in items(vcpu, abi.GNTTABOP_copy, uop, count, COPY.size):
            at, request = fetch(memory, address, COPY)
            status = 0
            try:
                copies.copy(request[0:3], request[3:6], request[6], request[7])
            except GrantError as error:
                status = error.status
            except TryAgain:
                vcpu.domain.hypervisor.activity.yield_now(vcpu)  # it is for another to end what is in the way
                raise Continue(abi.GNTTABOP_copy, address, count - (address - uop) // COPY.size) from None
            reply(memory, address + status_at, at and at + status_at, STATUS.pack(status))


@handles(GNTTABOP.transfer)
def transfer_batch(vcpu: VCPU, uop: int, count: int) -> None:
    memory, domain = vcpu.memory, vcpu.domain
    status_at = abi.GnttabTransfer.status.offset
    for address in items(vcpu, abi.GNTTABOP_transfer, uop, count, TRANSFER.size):
        mfn, domid, ref, _ = TRANSFER.unpack(memory.read(address, TRANSFER.size))
        status = abi.GNTST_okay
        try:
            transfer(domain, mfn, domid, ref)
        except GrantError as error:
            status = error.status
        memory.write(address + status_at, STATUS.pack(status))


@handles(GNTTABOP.swap_grant_ref)
def swap_batch(vcpu: VCPU, uop: int, count: int) -> None:
    memory, grants = vcpu.memory, vcpu.domain.grants
    status_at = abi.GnttabSwapGrantRef.status.offset
    for address in items(vcpu, abi.GNTTABOP_swap_grant_ref, uop, count, SWAP.size):
        ref_a, ref_b, _ = SWAP.unpack(memory.read(address, SWAP.size))
        status = abi.GNTST_okay
        try:
            grants.swap(ref_a, ref_b)
        except GrantError as error:
            status = error.status
        memory.write(address + status_at, STATUS.pack(status))


# -- about the table -----------------------------------------------------------------------------------------
def single(vcpu: VCPU, record: Any, uop: int, count: int | None = 1) -> Any:
    """Copy in the one structure a command takes. Raises GuestFault, and HypercallError(EINVAL) if `count` is not 1."""
    if count not in (None, 1):
        raise HypercallError(Errno.EINVAL)
    return record.from_buffer_copy(vcpu.memory.read(uop, sizeof(record)))


def table_owner(vcpu: VCPU, domid: int) -> Domain:
    """The domain whose table a command is about. Raises GrantError."""
    domain: Domain | None = vcpu.domain.hypervisor.resolve(vcpu.domain, domid)
    if domain is None:
        raise GrantError(abi.GNTST_bad_domain)
    if not controls(vcpu.domain, domain):
        raise GrantError(abi.GNTST_permission_denied)
    return domain


@handles(GNTTABOP.setup_table)
def setup_table(vcpu: VCPU, uop: int, count: int) -> None:
    op = single(vcpu, abi.GnttabSetupTable, uop, count)
    if not vcpu.memory.accessible(op.frame_list, op.nr_frames * 8):
        raise GuestFault(op.frame_list)
    status = abi.GNTST_okay
    vcpu.domain.hypervisor.must_yield(min(op.nr_frames, DEFAULT_MAX_FRAMES))
    try:
        status = tell_frames(vcpu, op.frame_list, table_owner(vcpu, op.dom).grants.setup(op.nr_frames))
    except GrantError as error:
        status = error.status
    vcpu.memory.write(uop + abi.GnttabSetupTable.status.offset, STATUS.pack(status))


def tell_frames(vcpu: VCPU, where: int, frames: list[int]) -> int:
    """Write frame numbers to the guest's list; returns GNTST_bad_virt_addr if one could not be written, else okay."""
    status = abi.GNTST_okay
    for index, mfn in enumerate(frames):
        try:
            vcpu.memory.write(where + index * 8, mfn.to_bytes(8, "little"))
        except GuestFault:
            status = abi.GNTST_bad_virt_addr
    return status


@handles(GNTTABOP.get_status_frames)
def get_status_frames(vcpu: VCPU, uop: int, count: int) -> None:
    op = single(vcpu, abi.GnttabGetStatusFrames, uop, count)
    if not vcpu.memory.accessible(op.frame_list, op.nr_frames * 8):
        raise GuestFault(op.frame_list)
    status = abi.GNTST_okay
    try:
        frames = table_owner(vcpu, op.dom).grants.status_frames
        if op.nr_frames > len(frames):
            raise GrantError(abi.GNTST_general_error)
        status = tell_frames(vcpu, op.frame_list, frames[: op.nr_frames])
    except GrantError as error:
        status = error.status
    vcpu.memory.write(uop + abi.GnttabGetStatusFrames.status.offset, STATUS.pack(status))


@handles(GNTTABOP.query_size)
def query_size(vcpu: VCPU, uop: int, count: int) -> None:
    op = single(vcpu, abi.GnttabQuerySize, uop, count)
    try:
        grants = table_owner(vcpu, op.dom).grants
        op.nr_frames, op.max_nr_frames, op.status = len(grants.frames), grants.max_frames, abi.GNTST_okay
    except GrantError as error:
        op.status = error.status
    vcpu.memory.write(uop, bytes(op))


@handles(GNTTABOP.set_version)
def set_version(vcpu: VCPU, uop: int, count: int) -> int:
    op = single(vcpu, abi.GnttabSetVersion, uop, None)
    grants, answer = vcpu.domain.grants, 0
    try:
        grant_version.set_version(grants, op.version, vcpu.domain.hypervisor.must_yield)
    except HypercallError as error:
        answer = -int(error.errno)
    op.version = grants.version
    vcpu.memory.write(uop, bytes(op))  # whatever the answer, the guest is told which version it has
    return answer


@handles(GNTTABOP.get_version)
def get_version(vcpu: VCPU, uop: int, count: int) -> None:
    op = single(vcpu, abi.GnttabGetVersion, uop, None)
    domain: Domain | None = vcpu.domain.hypervisor.resolve(vcpu.domain, op.dom)
    if domain is None:
        raise HypercallError(Errno.ESRCH)
    if not controls(vcpu.domain, domain):
        raise HypercallError(Errno.EPERM)
    op.version = domain.grants.version
    vcpu.memory.write(uop, bytes(op))


# -- caches --------------------------------------------------------------------------------------------------
@handles(GNTTABOP.cache_flush)
def cache_flush(vcpu: VCPU, uop: int, count: int) -> int:
    return flush_from(vcpu, uop, count, 0)


def flush_from(vcpu: VCPU, uop: int, count: int, place: int) -> int:
    """Check the items; `place` is where a continued search in the first one's grants resumes."""
    for address in items(vcpu, abi.GNTTABOP_cache_flush, uop, count, sizeof(abi.GnttabCacheFlush)):
        op: Any = single(vcpu, abi.GnttabCacheFlush, address)
        end = op.offset + op.length
        if op.offset >= 4096 or end > 4096 or op.op & ~(abi.GNTTAB_CACHE_INVAL | abi.GNTTAB_CACHE_CLEAN):
            raise HypercallError(Errno.EINVAL)
        if not op.length or not op.op:
            if place:
                raise HypercallError(Errno.EILSEQ)
            continue
        check_frame(vcpu.domain, op.a.dev_bus_addr >> 12, place)
        if op.op == abi.GNTTAB_CACHE_INVAL:
            raise HypercallError(Errno.EOPNOTSUPP)
        place = 0
    return 0


def check_frame(domain: Domain, mfn: int, place: int) -> None:
    """EINVAL or EPERM unless the frame is the domain's own or granted to it and in use."""
    frames = domain.hypervisor.frames
    if mfn >= frames.count:
        raise HypercallError(Errno.EINVAL)
    owner = domain.hypervisor.domain_by_id(frames.owner[mfn])
    if owner is None or not frames.refs[mfn]:
        raise HypercallError(Errno.EPERM)
    domain.hypervisor.must_yield(len(owner.grants.active) // 8)
    if owner is not domain and not any(
        active.domid == domain.domid and active.mfn == mfn and ref >= place
        for ref, active in owner.grants.active.items()
    ):
        raise HypercallError(Errno.EINVAL)

