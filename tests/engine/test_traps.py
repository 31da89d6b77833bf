# SPDX-License-Identifier: GPL-2.0-or-later
"""Traps and faults come as the processor's do: which, where, with which error code, and with nothing changed.

What is expected here was seen on an AMD EPYC, in a Linux process; tests/linux/programs/traps.c is the same there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import DR6, EFLAGS, ERROR_CODE, RAX, RBP, RBX, RCX, RDI, RDX, RF, RIP, RSI, RSP
from tests.machine.lab import CODE, DATA, HOLE, KINDS, USER_CODE, USER_DATA, Done, Lab, count_each_instruction

NOWHERE = 0x8000_0000_0000_0000  # no address
PORT = 0x80


class Fault(NamedTuple):
    vector: int
    code: int = 0


class Machine(Lab):
    """A Lab that tells what came of a few instructions."""

    def __init__(self, kind: str = "wall") -> None:
        super().__init__(kind)
        self.seen: list[Fault] = []
        self.resumes = False  # RF, at the last one
        for vector in range(32):
            self.pcpu.on_exception[vector] = lambda vector=vector: self.note(vector)  # type: ignore[misc]

    def note(self, vector: int) -> None:
        self.seen.append(Fault(vector, self.aux[ERROR_CODE]))
        self.resumes = bool(self.state[EFLAGS] & RF)
        raise Done

    def of(self, code: str, cpl: int = 3, **registers: int) -> Fault | None:
        """What it raises, RIP on its first byte; None if it gets to its end."""
        at = self.put(code + "0f05", CODE if cpl == 1 else USER_CODE)
        self.state[EFLAGS], self.state[RBX] = 2, DATA if cpl == 1 else USER_DATA
        self.state[RSP] = USER_DATA + 0x2000 if cpl == 3 else DATA + 0x2000
        for name, value in registers.items():
            self.state[getattr(cs, name.upper())] = value
        before = self.state[: cs.RIP].tolist()
        self.seen.clear()
        self.run(at, cpl)
        if not self.seen:
            return None
        assert self.state[RIP] == at and self.resumes
        assert self.state[: cs.RIP].tolist() == before
        return self.seen[0]


@pytest.fixture
def lab() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.close()


@pytest.mark.parametrize("cpl", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_icebp_is_a_trap(kind: str, cpl: int) -> None:
    lab = Machine(kind)
    lab.state[DR6] = 0xFFFF_0FF0
    at = lab.put("90 f1 90 0f05", CODE if cpl == 1 else USER_CODE)
    counted = count_each_instruction(lab.pcpu)
    before = lab.pcpu.executed
    lab.run(at, cpl)
    assert lab.seen == [Fault(svm.DB)] and lab.state[RIP] == at + 2
    assert not lab.resumes and lab.state[DR6] == 0xFFFF_0FF0
    assert not lab.pcpu.virtual or lab.pcpu.executed - before == counted()
    lab.close()


def test_rf_is_set_by_faults_alone(lab: Machine) -> None:
    assert lab.of("0f0b") == (svm.UD, 0)
    assert lab.of("488b03", rbx=HOLE) == (svm.PF, 4)
    assert lab.of("f7f3", rbx=0) == (svm.DE, 0)
    flags: list[int] = []
    lab.pcpu.on_int = lambda vector: flags.append(lab.state[EFLAGS])
    assert lab.of("cc cd80") is None
    assert len(flags) == 2 and not any(each & RF for each in flags)


# ---- registers and flags -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("lock", ["", "f0"])
def test_cmpxchg_of_32_bits_writes_one_register(lab: Machine, lock: str) -> None:
    old, new, other = 0x1234_5678_9ABC_DEF0, 0x1111_2222_3333_4444, 0x7777_7777_0000_0001
    lab.ram.words[USER_DATA // 8] = old & 0xFFFF_FFFF
    assert lab.of(lock + "0fb113", rax=old, rdx=new) is None
    assert lab.state[RAX] == old and lab.ram.words[USER_DATA // 8] == new & 0xFFFF_FFFF
    assert lab.of(lock + "0fb113", rax=old, rdx=new) is None
    assert lab.state[RAX] == lab.ram.words[USER_DATA // 8] == new & 0xFFFF_FFFF
    if lock:
        return
    assert lab.of("0fb1d3", rax=old, rdx=new, rbx=other & ~0xFFFF_FFFF | old & 0xFFFF_FFFF) is None
    assert (lab.state[RAX], lab.state[RBX], lab.state[RDX]) == (old, new & 0xFFFF_FFFF, new)
    assert lab.of("0fb1d3", rax=old, rdx=new, rbx=other) is None
    assert (lab.state[RAX], lab.state[RBX]) == (1, other)
    assert lab.of("0fb1c0", rax=old) is None and lab.state[RAX] == old & 0xFFFF_FFFF
    for code, expected in (("0fb0d3", old & ~0xFF | 1), ("660fb1d3", old & ~0xFFFF | 1), ("480fb1d3", other)):
        assert lab.of(code, rax=old, rdx=new, rbx=other) is None
        assert (lab.state[RAX], lab.state[RBX]) == (expected, other)


@pytest.mark.parametrize("code", ["f0f713", "f0f71b", "f0f61b", "f048f71b", "f066f71b"])
def test_lock_neg_sets_the_flags_of_neg(lab: Machine, code: str) -> None:
    for value in (0, 1, 0x80, 0x8000, 0x8000_0000, 1 << 63, 0x1234_5678_9ABC_DEF0):
        outcome = []
        for each in (code, code[2:]):
            lab.ram.words[USER_DATA // 8] = value
            assert lab.of(each + "9c58") is None
            outcome.append((lab.state[RAX], lab.ram.words[USER_DATA // 8]))
        assert outcome[0] == outcome[1], hex(value)


# ---- addresses that are none -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("cpl", [1, 3])
def test_the_stack_has_a_fault_of_its_own(lab: Machine, cpl: int) -> None:
    stack = "50 58 e800000000 c3 c20800 c8100000 9c 9d ff33 6a00 8b0424 488b0424 48cb ff13 ffd3 0fa0 0fa1 8f03".split()
    for code in stack:
        assert lab.of(code, cpl, rsp=NOWHERE) == (svm.SS, 0), code
    through_rbp = "8b4500 894500 3e8b4500 368b4500 8b441d00 c9 0f284500 0fa34500 014500 0f104500 663e0f6f4500".split()
    for code in through_rbp:
        registers = {"rbp": NOWHERE, "rbx": 0}
        assert lab.of(code, cpl, **registers) == (svm.SS, 0), code
    for code in "8b03 8903 368b03 ff33 8f03 ff13 ff23 0103 48ff03 8b042b 0f2803 dd03 d7 660f6f03 6c".split():
        if code == "6c":
            lab.pcpu.on_io = lambda port, size, write, value: 0
        assert lab.of(code, cpl, rbx=NOWHERE, rbp=0, rdi=NOWHERE, rax=0) == (svm.GP, 0), code
    for code in "a4 a5 ac a6".split():
        assert lab.of(code, cpl, rsi=NOWHERE, rdi=USER_DATA if cpl == 3 else DATA) == (svm.GP, 0), code
    # R12, R13; FS; RIP; an index is no base; no base at all.
    for code in "418b0424 418b4500 648b4500 8b042b a10000000000000080".split():
        registers = {"r12": NOWHERE, "r13": NOWHERE, "rbp": NOWHERE, "rbx": 0}
        assert lab.of(code, cpl, **registers) == (svm.GP, 0), code


@pytest.mark.parametrize("code, fault", [("488b03", svm.GP), ("488b4500", svm.SS), ("48894500", svm.SS)])
@pytest.mark.parametrize("mapped", [False, True])
def test_where_addresses_end(lab: Machine, code: str, fault: int, mapped: bool) -> None:
    end = 0x7FFF_FFFF_FFFC
    if mapped:
        words = lab.ram.words
        for table, index in ((1, 255), (2, 511), (3, 511)):
            words[table * 512 + index] = words[table * 512]
        words[4 * 512 + 511] = USER_DATA | 7
        lab.pcpu.load_cr3(0x1000)
    assert lab.of(code, rbx=end, rbp=end) == (fault, 0)


BRANCHES = "ffe0 ff23 ffd0 ff13 c3 c20800 c2ffff f3c3 48ffe0"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cpl", [1, 3])
def test_a_branch_to_nowhere_does_not_happen(kind: str, cpl: int) -> None:
    lab = Machine(kind)
    data = DATA if cpl == 1 else USER_DATA
    for target in (NOWHERE, 0x8000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF):
        for code in BRANCHES.split():
            lab.ram.words[data // 8] = lab.ram.words[(data + 0x2000) // 8] = target
            counted = count_each_instruction(lab.pcpu)
            before = lab.pcpu.executed
            assert lab.of(code, cpl, rax=target) == (svm.GP, 0), (code, hex(target))
            assert not lab.pcpu.virtual or lab.pcpu.executed - before == counted()
    lab.close()


# ---- page faults ---------------------------------------------------------------------------------------------------
READS = "8b03 390b 3b0b 833b05 f723 f733 f70301000000 0fa30b 0fba2301 ff33 0a03 030b 0faf03 0fb603 d7 ac"
RMW = """
    010b 000b 2903 1103 1903 2103 3103 0903 830b01 801305 8733
    8633 0fb10b 0fb00b 0fc70b 480fc70b 0fc10b ff03 fe0b f713 f71b f61b
    0fab0b 0fb30b 0fbb0b 0fba2b01 0fba3301 0fba3b01 d123 d323 c12300 c02b03 d11b
    0fa40b01 0fa50b 0fac0b00 0fad0b f0010b f0ff03 66010b 66f0010b 480fb10b f0f71b f00fc70b
    2e010b 64010b
""".split()


@pytest.mark.parametrize("cpl", [1, 3])
def test_what_changes_memory_faults_as_a_write(lab: Machine, cpl: int) -> None:
    user = 4 if cpl == 3 else 0
    for code in RMW:
        assert lab.of(code, cpl, rbx=HOLE, rcx=0) == (svm.PF, 2 | user), code
        assert lab.address_of_fault() == HOLE
        read_only = USER_CODE + 0x1000
        if cpl == 3:
            assert lab.of(code, cpl, rbx=read_only, rcx=0) == (svm.PF, 7), code
        else:
            lab.map(DATA + 0x3000, 1 | cs_nx())
            lab.pcpu.flush_tlb()
            assert lab.of(code, cpl, rbx=DATA + 0x3000, rcx=0) == (svm.PF, 3), code
    for code in READS.split():
        assert lab.of(code, cpl, rbx=HOLE, rsi=HOLE, rax=0) == (svm.PF, user), code
    for code in "8903 0f9403 8f03 aa".split():
        assert lab.of(code, cpl, rbx=HOLE, rdi=HOLE) == (svm.PF, 2 | user), code


def cs_nx() -> int:
    return 1 << 63


@pytest.mark.parametrize("code", ["d313", "d31b", "d113", "48d31b", "d213", "c11b03"])
def test_rotates_through_cf_fault_before_they_change_it(lab: Machine, code: str) -> None:
    for flags in (2, 2 | cs.CF):
        assert lab.of(code, rbx=USER_CODE + 0x1000, rcx=5, eflags=flags) == (svm.PF, 7)
        assert lab.state[EFLAGS] & cs.CF == flags & cs.CF


def test_where_addresses_of_32_bit_code_end(lab: Machine) -> None:
    lab.pcpu.set_segment(cs.CS, 0xE023, 0, 0xFFFF_FFFF, 0x00CF_FB00)
    lab.state[cs.HFLAGS] &= ~cs.HF_CS64
    for code, fault in (("c9", svm.SS), ("8b4500", svm.SS), ("8b03", svm.GP), ("3e8b4500", svm.GP), ("368b03", svm.SS)):
        assert lab.of(code, rbx=0xFFFF_FFFE, rbp=0xFFFF_FFFE) == (fault, 0), code
    assert lab.of("8b03", rbx=0xFFFF_FFFC) == (svm.PF, 4)


def test_enter_tries_its_new_stack(lab: Machine) -> None:
    assert lab.of("c8000100", rsp=USER_DATA + 0x108) is None
    for code, rsp, address in (("c8000100", 0x100, -8), ("c8000201", 0x100, -0x110), ("c8010000", 8, -1)):
        assert lab.of(code, rsp=USER_DATA + rsp) in ((svm.PF, 6), (svm.PF, 7)), code
        assert lab.address_of_fault() == USER_DATA + address


# ---- alignment -----------------------------------------------------------------------------------------------------
MISALIGNED = (
    "668b4301 8b4301 8b4302 488b4304 894301 014301 f0014301 8f4302 ff7302 f20f104301 f30f104301 d94301 dd4304 a5"
)


@pytest.mark.parametrize("kind", KINDS)
def test_ac_has_alignment_checked(kind: str) -> None:
    lab, cpl, data = Machine(kind), 3, USER_DATA
    for code in MISALIGNED.split():
        registers = {"rsi": data + 1, "rdi": data + 0x100}
        assert lab.of(code, cpl, eflags=2 | cs.AC, **registers) == (svm.AC, 0), code
        assert lab.of(code, cpl, **registers) is None, code
    for code in "8a4301 8b4304 668b4302 488b4308 50 58 f3a4 884303".split():
        assert lab.of(code, cpl, eflags=2 | cs.AC, rsi=data, rdi=data, rcx=8) is None, code
    assert lab.of("8b4301", cpl, eflags=2 | cs.AC, rbx=HOLE) == (svm.AC, 0)  # before the page is looked for
    lab.state[cs.CR0] &= ~(1 << 18)
    assert lab.of("8b4301", cpl, eflags=2 | cs.AC) is None
    lab.close()


def test_rings_that_are_none_of_ours_are_not_checked() -> None:
    lab = Lab()
    lab.state[RBX], lab.state[EFLAGS] = DATA, 2 | cs.AC
    lab.pcpu.on_exception[svm.AC] = lambda: pytest.fail("#AC")
    lab.run(lab.put("8b4301 0f05"))
    lab.close()


# ---- I/O -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cpl", [1, 3])
def test_io_that_is_refused_touches_nothing(kind: str, cpl: int) -> None:
    lab = Machine(kind)
    data = DATA if cpl == 1 else USER_DATA
    lab.pcpu.on_may_io = lambda port, size: False
    lab.ram.bytes[data : data + 8] = b"A" * 8
    counted = count_each_instruction(lab.pcpu)
    before = lab.pcpu.executed
    for code in "6c 6d 666d f36c f36d 6e 6f f36e ec ed 66ed ee ef e480 e680".split():
        for registers in ({"rdi": data, "rsi": data}, {"rdi": HOLE, "rsi": HOLE}, {"rdi": NOWHERE, "rsi": NOWHERE}):
            for count in (4, 0):
                assert lab.of(code, cpl, rcx=count, rdx=PORT, **registers) == (svm.GP, 0), code
    assert bytes(lab.ram.bytes[data : data + 8]) == b"A" * 8
    assert not lab.pcpu.virtual or lab.pcpu.executed - before == counted()
    lab.close()


def test_io_that_is_permitted_is_done(lab: Machine) -> None:
    asked: list[tuple[int, int]] = []
    done: list[tuple[int, int, bool, int]] = []

    def may(port: int, size: int) -> bool:
        asked.append((port, size))
        return True

    def io(port: int, size: int, write: bool, value: int) -> int:
        done.append((port, size, write, value))
        return 0x4342

    lab.pcpu.on_may_io, lab.pcpu.on_io = may, io
    assert lab.of("f3 66 6d", rdi=USER_DATA, rcx=2, rdx=PORT) is None
    assert asked == [(PORT, 2)] * 3 and done == [(PORT, 2, False, 0)] * 2
    assert bytes(lab.ram.bytes[USER_DATA : USER_DATA + 4]) == b"BCBC" and lab.state[RDI] == USER_DATA + 4
    done.clear()
    assert lab.of("6e", rsi=USER_DATA, rdx=PORT) is None and done == [(PORT, 1, True, 0x42)]
    assert lab.state[RSI] == USER_DATA + 1
    assert lab.of("6c", rdi=HOLE, rdx=PORT) == (svm.PF, 6)


# ---- segments ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_64_bit_code_has_no_base(kind: str) -> None:
    lab = Machine(kind)
    lab.pcpu.set_segment(cs.CS, 0xE033, 0x1_0000, 0xFFFF_FFFF, 0x00AF_FB00)
    counted = count_each_instruction(lab.pcpu)
    before = lab.pcpu.executed
    at = lab.put("48ffc0 e800000000 5b 0f05", USER_CODE)
    lab.state[RAX], lab.state[RSP], lab.state[RCX] = 1, USER_DATA + 0x100, 0
    lab.run(at, 3)
    assert not lab.seen and (lab.state[RAX], lab.state[RBX]) == (2, at + 8)
    assert not lab.pcpu.virtual or lab.pcpu.executed - before == counted()
    assert lab.of("8b03", rbx=HOLE, rbp=0) == (svm.PF, 4) and lab.state[RBP] == 0
    lab.close()
