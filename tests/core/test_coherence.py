# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that changes code runs what it wrote, by whichever mapping it wrote it, once that is closed.

The code is a function that returns a constant; the guest writes the next number into it, calls it and compares, a
thousand times. %r9 counts what was wrong.
"""

from __future__ import annotations

import pytest

from pvhv.abi.xen import UVMF_INVLPG, HYPERVISOR_update_va_mapping
from pvhv.core.domain import Domain
from pvhv.core.pagetables import ACCESSED, NX, PRESENT, RW
from pvhv.machine.cpustate import R9, R12
from tests.core import code as asm
from tests.core.code import Code
from tests.core.lab import BASE, CODE, DATA, L1, PAGE, Lab

FUNCTION = CODE + 2 * PAGE
WINDOW = BASE + 62 * PAGE  # where the function's frame can be written
ROUNDS = 1000


def write_number(code: Code, at: int) -> Code:
    """movl %r12d, (at): the constant of `mov $constant, %eax` before it"""
    return code.mov(asm.R15, at).raw("45 89 27")


def call_and_compare(code: Code) -> Code:
    """%eax must be %r12 now; else count."""
    code.call(FUNCTION).raw("44 39 e0 74 03")  # cmp %r12d, %eax; je past the next
    return code.inc(asm.R9)


def run(lab: Lab, body: Code, clock: str, flags: int) -> Domain:
    """A guest that does `body` ROUNDS times, with the function's page mapped with `flags` at FUNCTION."""

    def prepare(domain: Domain) -> None:
        mfns = lab.mfns[domain.domid]
        words = lab.hv.ram.words
        words[mfns[L1] * 512 + (FUNCTION - BASE >> 12)] = mfns[FUNCTION - BASE >> 12] << 12 | flags
        words[mfns[L1] * 512 + (WINDOW - BASE >> 12)] = 0

    code = Code(CODE).mov(asm.R12, 0).mov(asm.R9, 0)
    again = code.here
    assert body.at == code.inc(asm.R12).here
    code.raw(bytes(body.bytes))
    code.cmp(asm.R12, ROUNDS).jne(again).ud2()
    timeline = lab.hv.wall if clock == "wall" else lab.hv.timeline("lab")
    domain = lab.domain(code, timeline=timeline, prepare=prepare)
    lab.write(domain, FUNCTION, bytes.fromhex("b8 00 00 00 00 c3"))
    return domain


BODY = CODE + 23  # where a body stands: behind two movs and an inc


def update_entry(code: Code, va: int, value_at: int) -> Code:
    """update_va_mapping(va, the word at value_at, INVLPG)"""
    code.load(asm.RSI, value_at).mov(asm.RDI, va).mov(asm.RDX, UVMF_INVLPG)
    return code.mov(asm.RAX, HYPERVISOR_update_va_mapping).syscall()


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_code_written_where_it_is_executed(lab: Lab, clock: str) -> None:
    body = call_and_compare(write_number(Code(BODY), FUNCTION + 1))
    domain = run(lab, body, clock, PRESENT | ACCESSED | RW)
    lab.run(domain)
    assert (domain.vcpus[0].state[R12], domain.vcpus[0].state[R9]) == (ROUNDS, 0)


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_code_written_through_a_window_that_is_closed_again(lab: Lab, clock: str) -> None:
    """As kernels patch themselves: map it somewhere else, write, unmap. The executable mapping stays all the while."""
    body = update_entry(Code(BODY), WINDOW, DATA)
    write_number(body, WINDOW + 1)
    update_entry(body, WINDOW, DATA + 8)
    call_and_compare(body)
    domain = run(lab, body, clock, PRESENT | ACCESSED)
    mfn = lab.mfns[domain.domid][FUNCTION - BASE >> 12]
    lab.poke(domain, DATA, mfn << 12 | PRESENT | RW | NX | ACCESSED)
    lab.poke(domain, DATA + 8, 0)
    lab.run(domain)
    assert (domain.vcpus[0].state[R12], domain.vcpus[0].state[R9]) == (ROUNDS, 0)


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
    lab.run(domain)
    assert (domain.vcpus[0].state[R12], domain.vcpus[0].state[R9]) == (ROUNDS, 0)
