# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that changes code runs what was written, whoever wrote it and by whichever mapping.

The code is a function that returns a constant, and another like it in the same page; the next number is written into
them, by the guest or by the hypervisor for it, and the guest calls them and compares, a thousand times. %r9 counts what
was wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from pvhv.abi.event_channel import EVTCHNOP_alloc_unbound
from pvhv.abi.grant_table import GnttabCopy, GNTTABOP_copy, GTF_permit_access
from pvhv.abi.xen import (
    DOMID_SELF,
    DOMID_XEN,
    UVMF_INVLPG,
    HYPERVISOR_event_channel_op,
    HYPERVISOR_grant_table_op,
    HYPERVISOR_update_va_mapping,
)
from pvhv.core.domain import Domain
from pvhv.core.grants.view import GrantView
from pvhv.core.mm.coherence import WATCHED
from pvhv.core.mm.pte import ACCESSED, NX, PRESENT, RW
from pvhv.machine import seam
from pvhv.machine.cpustate import R9, R12, RIP
from tests.core import code as asm
from tests.core.code import Code
from tests.core.guests import Machine, write_entry
from tests.core.lab import BASE, CODE, DATA, L1, PAGE, PAGES, USER_L4, Lab

FUNCTION = CODE + 2 * PAGE
WINDOW = BASE + 62 * PAGE  # where the function's frame can be written
VIEW = BASE + 30 * PAGE  # ... and where it can always be
ROUNDS = 1000
NUMBER = bytes.fromhex("b8 00 00 00 00 c3")  # mov $0, %eax; ret
OTHER = FUNCTION + 64  # another one in the same page: translated on its own, and not written first


def write_number(code: Code, at: int) -> Code:
    """movl %r12d, (at): the constant of `mov $constant, %eax` before it"""
    return code.mov(asm.R15, at).raw("45 89 27")


def call_and_compare(code: Code, function: int = FUNCTION) -> Code:
    """%eax must be %r12d now; else count."""
    code.call(function).raw("44 39 e0 74 03")  # cmp %r12d, %eax; je past the next
    return code.inc(asm.R9)


def run(lab: Lab, body: Code, clock: str, flags: int, view: int = 0) -> Domain:
    """A guest that does `body` ROUNDS times, with the function's page mapped with `flags` at FUNCTION.

    With `view`, it is mapped with those at VIEW as well, and was so before.
    """

    def prepare(domain: Domain) -> None:
        mfns = lab.mfns[domain.domid]
        words = lab.hv.ram.words
        words[mfns[L1] * 512 + (FUNCTION - BASE >> 12)] = mfns[FUNCTION - BASE >> 12] << 12 | flags
        words[mfns[L1] * 512 + (WINDOW - BASE >> 12)] = 0
        if view:
            words[mfns[L1] * 512 + (VIEW - BASE >> 12)] = mfns[FUNCTION - BASE >> 12] << 12 | PRESENT | ACCESSED | view

    code = Code(CODE).mov(asm.R12, 0).mov(asm.R9, 0)
    again = code.here
    assert body.at == code.inc(asm.R12).here
    code.raw(bytes(body.bytes))
    code.cmp(asm.R12, ROUNDS).jne(again).ud2()
    timeline = lab.hv.wall if clock == "wall" else lab.hv.timeline("lab")
    domain = lab.domain(code, timeline=timeline, prepare=prepare)
    lab.write(domain, FUNCTION, NUMBER)
    return domain


BODY = CODE + 23  # where a body stands: behind two movs and an inc


def update_entry(code: Code, va: int, value_at: int) -> Code:
    """update_va_mapping(va, the word at value_at, INVLPG)"""
    code.load(asm.RSI, value_at).mov(asm.RDI, va).mov(asm.RDX, UVMF_INVLPG)
    return code.mov(asm.RAX, HYPERVISOR_update_va_mapping).syscall()


def all_right(lab: Lab, domain: Domain) -> bool:
    """Run; whether every call of every round returned what was written before it."""
    lab.run(domain)
    state = domain.vcpus[0].state
    return (state[R12], state[R9]) == (ROUNDS, 0)


# -- the guest writes, and one mapping is there at a time --------------------------------------------------------------
@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_code_written_where_it_is_executed(lab: Lab, clock: str) -> None:
    body = call_and_compare(write_number(Code(BODY), FUNCTION + 1))
    domain = run(lab, body, clock, PRESENT | ACCESSED | RW)
    assert all_right(lab, domain)


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_code_written_through_a_window_that_is_closed_again(lab: Lab, clock: str) -> None:
    """As kernels patch themselves: map it somewhere else, write, unmap. The executable mapping stays all the while."""
    body = update_entry(Code(BODY), WINDOW, DATA)
    write_number(body, WINDOW + 1)
    write_number(body, WINDOW + (OTHER - FUNCTION) + 1)
    update_entry(body, WINDOW, DATA + 8)
    call_and_compare(call_and_compare(body), OTHER)
    domain = run(lab, body, clock, PRESENT | ACCESSED)
    lab.write(domain, OTHER, NUMBER)
    mfn = lab.mfns[domain.domid][FUNCTION - BASE >> 12]
    lab.poke(domain, DATA, mfn << 12 | PRESENT | RW | NX | ACCESSED)
    lab.poke(domain, DATA + 8, 0)
    assert all_right(lab, domain)


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_code_that_is_made_writable_and_executable_by_turns(lab: Lab, clock: str) -> None:
    body = update_entry(Code(BODY), FUNCTION, DATA)
    write_number(body, FUNCTION + 1)
    update_entry(body, FUNCTION, DATA + 8)
    call_and_compare(body)
    domain = run(lab, body, clock, PRESENT | ACCESSED)
    mfn = lab.mfns[domain.domid][FUNCTION - BASE >> 12]
    lab.poke(domain, DATA, mfn << 12 | PRESENT | RW | NX | ACCESSED)
    lab.poke(domain, DATA + 8, mfn << 12 | PRESENT | ACCESSED)
    assert all_right(lab, domain)


def aliased(lab: Lab, clock: str, mappings: dict[int, int], write_at: int) -> Domain:
    """A guest that writes both functions through `write_at` and calls them, with the frame mapped as `mappings` say."""

    def prepare(domain: Domain) -> None:
        mfns = lab.mfns[domain.domid]
        words = lab.hv.ram.words
        for va, flags in mappings.items():
            words[mfns[L1] * 512 + (va - BASE >> 12)] = mfns[FUNCTION - BASE >> 12] << 12 | PRESENT | ACCESSED | flags

    code = Code(CODE).mov(asm.R12, 0).mov(asm.R9, 0)
    again = code.here
    code.inc(asm.R12)
    for function in (FUNCTION, OTHER):
        write_number(code, write_at + (function - FUNCTION) + 1)
    for function in (FUNCTION, OTHER):
        call_and_compare(code, function)
    code.cmp(asm.R12, ROUNDS).jne(again).ud2()
    timeline = lab.hv.wall if clock == "wall" else lab.hv.timeline("lab")
    domain = lab.domain(code, timeline=timeline, prepare=prepare)
    for function in (FUNCTION, OTHER):
        lab.write(domain, function, NUMBER)
    return domain


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_code_written_through_a_view_of_all_memory_and_then_mapped(lab: Lab, clock: str) -> None:
    """As a kernel reads a program from its disk: the view stays, the executable mapping comes and goes."""
    body = update_entry(Code(BODY), FUNCTION, DATA)
    for function in (FUNCTION, OTHER):
        write_number(body, VIEW + (function - FUNCTION) + 1)
    update_entry(body, FUNCTION, DATA + 8)
    call_and_compare(call_and_compare(body), OTHER)
    domain = run(lab, body, clock, PRESENT | ACCESSED, view=RW | NX)
    lab.write(domain, OTHER, NUMBER)
    lab.poke(domain, DATA, 0)
    lab.poke(domain, DATA + 8, lab.mfn(domain, FUNCTION) << 12 | PRESENT | ACCESSED)
    assert all_right(lab, domain)
    assert lab.mfn(domain, FUNCTION) not in lab.hv.coherence.watched


# -- a writable mapping and an executable one at the same time ---------------------------------------------------------
@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_code_written_through_an_alias_that_stays(lab: Lab, clock: str) -> None:
    """As a JIT does that maps its code twice. The entry that writes comes after the one that executes."""
    domain = aliased(lab, clock, {FUNCTION: 0, WINDOW: RW | NX}, WINDOW)
    assert all_right(lab, domain)


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_code_written_through_an_alias_that_was_there_before(lab: Lab, clock: str) -> None:
    """Beside the kernel's own view of the frame: here, the first of the two."""
    domain = aliased(lab, clock, {VIEW: RW | NX, VIEW + PAGE: RW | NX, FUNCTION: 0}, VIEW + PAGE)
    assert all_right(lab, domain)


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_an_alias_made_while_the_code_is_in_use(lab: Lab, clock: str) -> None:
    """Both functions have run when update_va_mapping makes the alias; it stays."""
    domain = aliased(lab, clock, {FUNCTION: 0, WINDOW: 0}, WINDOW)
    # In front of that guest, another that runs the functions once and then makes the window writable.
    before = Code(CODE + 5 * PAGE).call(FUNCTION).call(OTHER)
    update_entry(before, WINDOW, DATA).jmp(CODE)
    lab.write(domain, before.at, bytes(before.bytes))
    mfn = lab.mfn(domain, FUNCTION)
    lab.poke(domain, DATA, mfn << 12 | PRESENT | RW | NX | ACCESSED)
    domain.vcpus[0].state[RIP] = before.at
    assert all_right(lab, domain)


def test_one_frame_more_than_can_be_watched() -> None:
    """Frames that nobody writes any more make room; else the oldest does."""
    lab = Lab()
    domain = lab.domain()
    coherence, mfns = lab.hv.coherence, lab.mfns[domain.domid]
    counts = lab.hv.frames.type_counts
    for mfn in range(WATCHED):
        coherence.watch_code(mfn, True)
    assert len(coherence.watched) == WATCHED
    coherence.watch_code(mfns[DATA - BASE >> 12], True)
    assert len(coherence.watched) == WATCHED and 0 not in coherence.watched and 1 in coherence.watched
    coherence.watch_code(mfns[DATA - BASE >> 12], True)  # it is there
    assert len(coherence.watched) == WATCHED and 1 in coherence.watched
    counts[mfns[DATA - BASE >> 12]] -= 1
    coherence.watch_code(0, True)
    counts[mfns[DATA - BASE >> 12]] += 1
    assert set(coherence.watched) == set(range(WATCHED))
    hooked = set() if seam.corrected else set(range(WATCHED))  # the corrected engine sees stores to code by itself
    assert set(domain.timeline.cpu.pcpu.watch._hooks) == hooked


def test_a_frame_of_data_is_watched_no_longer(lab: Lab) -> None:
    """Code that was written through an alias, and is given up: its page becomes a program's data."""
    machine = lab.hv
    machine.pagetables.executable.sees_stores = False  # as the published engine
    domain = aliased(lab, "virtual", {FUNCTION: 0, WINDOW: RW | NX}, WINDOW)
    mfn, l1 = lab.mfn(domain, FUNCTION), lab.mfns[domain.domid][L1]

    def entry(va: int, value: int) -> None:
        address = (l1 << 12) + (va - BASE >> 12) * 8
        assert machine.pagetables.modify(address, value, False, domain.domid, domain.domid)

    assert mfn in machine.coherence.watched
    entry(WINDOW, 0)
    entry(FUNCTION, 0)
    entry(DATA, mfn << 12 | PRESENT | RW | NX | ACCESSED)
    assert mfn not in machine.coherence.watched
    entry(FUNCTION, mfn << 12 | PRESENT | ACCESSED)  # one writable mapping, which was there before
    assert mfn not in machine.coherence.watched
    entry(FUNCTION, mfn << 12 | PRESENT | RW | NX | ACCESSED)  # code by turns
    assert mfn not in machine.coherence.watched
    entry(FUNCTION, mfn << 12 | PRESENT | ACCESSED)
    entry(WINDOW, mfn << 12 | PRESENT | RW | NX | ACCESSED)
    assert mfn in machine.coherence.watched
    machine.destroy(domain)


def test_a_frame_that_is_free_is_watched_no_longer(lab: Lab) -> None:
    lab.hv.pagetables.executable.sees_stores = False
    domain = aliased(lab, "virtual", {FUNCTION: 0, WINDOW: RW | NX}, WINDOW)
    mfn = lab.mfn(domain, FUNCTION)
    assert mfn in lab.hv.coherence.watched
    lab.run(domain)
    lab.hv.destroy(domain)
    assert lab.hv.run_until(lambda: domain.dead, 10)
    assert mfn not in lab.hv.coherence.watched and mfn not in domain.timeline.cpu.pcpu.watch._hooks


# -- the hypervisor writes ---------------------------------------------------------------------------------------------
def grant_copy_body() -> Code:
    """GNTTABOP_copy of the 8 bytes at DATA + 0x800, which get the number first, to the function's constant."""
    body = Code(BODY)
    write_number(body, DATA + 0x800)
    return body.hypercall(HYPERVISOR_grant_table_op, GNTTABOP_copy, DATA, 1)


@pytest.mark.parametrize("flags", [0, RW])
@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_code_copied_by_grant_copy(lab: Lab, clock: str, flags: int) -> None:
    domain = run(lab, call_and_compare(grant_copy_body()), clock, PRESENT | ACCESSED | flags)
    copy = GnttabCopy()
    copy.source.u.gmfn, copy.source.domid, copy.source.offset = lab.mfn(domain, DATA), DOMID_SELF, 0x800
    copy.dest.u.gmfn, copy.dest.domid, copy.dest.offset = lab.mfn(domain, FUNCTION), DOMID_SELF, 1
    copy.len = 4
    lab.write(domain, DATA, bytes(copy))
    assert all_right(lab, domain)


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_the_answer_of_a_hypercall_is_code(lab: Lab, clock: str) -> None:
    """alloc_unbound writes 1, 2, 3 .. into its record, which `movabs $record, %rax; shr $32, %rax; ret` loads."""
    body = Code(BODY).hypercall(HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, FUNCTION + 2)
    domain = run(lab, call_and_compare(body), clock, PRESENT | ACCESSED | RW)
    record = struct.pack("<HHI", DOMID_SELF, DOMID_SELF, 0)
    lab.write(domain, FUNCTION, b"\x48\xb8" + record + bytes.fromhex("48 c1 e8 20 c3"))
    assert all_right(lab, domain)


@pytest.mark.parametrize("tells", [GrantView.wrote, GrantView.release])
@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_code_written_by_a_backend(lab: Lab, clock: str, tells: Callable[[GrantView], None]) -> None:
    """The guest says at DATA that it has come round, and waits there until the backend has written."""
    body = Code(BODY).store(DATA, asm.R12)
    wait = body.here
    body.load(asm.RAX, DATA).cmp(asm.RAX, 0).jne(wait)
    domain = run(lab, call_and_compare(body), clock, PRESENT | ACCESSED)
    mfn = lab.mfn(domain, FUNCTION)
    write_entry(domain.grants, 8, GTF_permit_access, 0, mfn)
    for number in range(1, 20):
        assert lab.hv.run_until(lambda: lab.word(domain, DATA) == number, 10)  # noqa: B023
        view = GrantView(lab.hv.dom0, domain.domid, 8)
        view.bytes[1:5] = number.to_bytes(4, "little")
        tells(view)
        lab.poke(domain, DATA, 0)
        lab.hv.run_until(lambda: lab.word(domain, DATA) == number + 1, 10)  # noqa: B023
        view.release()
    assert domain.vcpus[0].state[R9] == 0


def put_at_function(lab: Lab, domain: Domain, frame: int) -> None:
    """Exchange pages of a domain that has no context yet, so that `frame`, one of its own, is where the function is."""
    words, mfns = lab.hv.ram.words, lab.mfns[domain.domid]
    here, there = mfns.index(frame), FUNCTION - BASE >> 12
    for pfn, mfn in ((here, mfns[there]), (there, frame)):
        mfns[pfn] = mfn
        words[mfns[L1] * 512 + pfn] = words[mfns[L1] * 512 + pfn] & 0x8000_0000_0000_0FFF | mfn << 12


def test_a_frame_that_goes_from_one_domain_to_another() -> None:
    """At the same address in both, and with other code in the second: what it runs is its own."""
    lab = Lab()
    frame, same = 0, 0

    def prepare(domain: Domain) -> None:
        nonlocal same
        if frame in lab.mfns[domain.domid][USER_L4 + 1 :]:
            put_at_function(lab, domain, frame)
            same += 1

    for number in range(1, 10):
        code = Code(CODE).mov(asm.R12, number).mov(asm.R9, 0)
        domain = lab.domain(call_and_compare(code).ud2(), prepare=prepare)
        while lab.hv.frames.free_frames:
            lab.hv.frames.allocate(DOMID_XEN)  # so that the next domain gets the frames of this one
        frame = lab.mfn(domain, FUNCTION)
        lab.hv.ram.bytes[frame * PAGE : frame * PAGE + 6] = b"\xb8" + number.to_bytes(4, "little") + b"\xc3"
        lab.run(domain)
        assert (domain.vcpus[0].state[R12], domain.vcpus[0].state[R9]) == (number, 0)
        lab.hv.destroy(domain)
        assert lab.hv.run_until(lambda: lab.hv.frames.free_frames > PAGES, 10)
    assert same > 4


def test_bytes_that_did_not_change_are_not_translated_anew() -> None:
    """A program's page, mapped by one process after another, beside the kernel's writable view of it."""
    machine = Machine()
    domain = machine.guest()
    tables = machine.hv.pagetables
    tables.executable.sees_stores = False
    forgotten: list[int] = []
    tables.executable.forget_code = forgotten.append
    view, program = 20, 21  # two pages' entries: the kernel's own, and one to map `view`'s frame by, executable
    mfn = machine.mfn(domain, view)
    executable = mfn << 12 | PRESENT | ACCESSED

    def run_anew() -> int:
        before = len(forgotten)
        machine.set_entry(domain, program, 0)
        machine.set_entry(domain, program, executable)
        return len(forgotten) - before

    run_anew()  # nothing is known of the page
    run_anew()  # or of what was in it the time before
    assert [run_anew() for _ in range(3)] == [0, 0, 0]
    for value in (1, 2, 1):
        machine.ram.words[(mfn << 9) + 511] = value
        assert [run_anew(), run_anew()] == [1, 0]
    machine.set_entry(domain, program, 0)
    machine.set_entry(domain, view, 0)
    machine.frames.release_allocation(mfn)  # which forgets all of it
    assert mfn not in tables.executable.digests and forgotten[-1] == mfn
