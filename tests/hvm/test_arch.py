# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done for the CPU is done as the manual says: events through the IDT, SYSCALL, I/O permission, page walks.

Expectations are taken by hand from AMD's manual (volume 2: 8.2 exceptions, 8.9 long-mode control transfers, 12.2.5 the
TSS, 5.3 to 5.6 paging; volume 3: SYSCALL, SYSRET; volume 1: 3.8 I/O), and hold under every technique. The walk is also
compared with the engine's own, which nobody here wrote.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import pytest

from pvhv.hvm.cpu.guestcpu import Table
from pvhv.hvm.cpu.memory import GuestPhysical, PageFault, walk
from pvhv.hvm.techniques.bare import Bare
from pvhv.hvm.techniques.registry import TECHNIQUES
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import CF, IF, RF, TF, ZF
from pvhv.machine.ram import Ram
from tests.hvm.hw_lab import (
    CODE,
    DATA,
    GDT,
    HANDLERS,
    IDT,
    KERNEL_CS,
    KERNEL_SS,
    L1,
    L3,
    L4,
    NX,
    RW,
    STACK,
    TSS,
    TSS_SELECTOR,
    US,
    USER_CS,
    USER_SS,
    A,
    D,
    HwLab,
    P,
)
from tests.hvm.shadowing import Registers

AT = CODE + 0x100
HOLE = 0x40_0000  # no page
INTERRUPT, TRAP = 14, 15
FROM_IDT, EXT = 2, 1
DE, DB, UD, DF, NP, SS, GP, PF = 0, 1, 6, 8, 11, 12, 13, 14
USER_AT, USER_STACK = DATA + 0x1000, DATA + 0x2800


def le(value: int, size: int = 4) -> str:
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little").hex()


class Lab(HwLab):
    """With words for what tests change."""

    def put(self, address: int, data: bytes) -> None:
        self.technique.cpu.memory.write(address, data)

    def gate(
        self, vector: int, *, kind: int = INTERRUPT, dpl: int = 0, present: bool = True, ist: int = 0,
        selector: int = KERNEL_CS, to: int | None = None,
    ) -> None:  # fmt: skip
        """Set a gate of the IDT."""
        target = HANDLERS + vector * 16 if to is None else to & (1 << 64) - 1
        flags = present << 7 | dpl << 5 | kind
        parts = (target & 0xFFFF, selector, ist, flags, target >> 16 & 0xFFFF, target >> 32, 0)
        self.put(IDT + vector * 16, struct.pack("<HHBBHII", *parts))

    def user(self, code: str, flags: int = 2, **registers: int) -> dict[str, int]:
        """Execute `code` at CPL 3."""
        self.put(USER_AT, bytes.fromhex(code) + b"\xf4")
        words = (USER_SS, USER_STACK, flags, USER_CS, USER_AT)
        return self.run("".join(f"68{le(word)}" for word in words) + "48cf", **registers)

    def fault(self) -> tuple[int, int]:
        """(vector, error code) of an exception that has one."""
        return self.vector(), self.frame()[0]

    @property
    def flags(self) -> int:
        return cast(int, self.technique.cpu.rflags)


@pytest.fixture(params=TECHNIQUES)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    made = Lab(TECHNIQUES[request.param])
    yield made
    made.close()


# -- frames, stacks and flags --------------------------------------------------------------------------------------
def test_an_exception_without_an_error_code(lab: Lab) -> None:
    """The stack is aligned to 16 before the frame, and the frame has SS and RSP even within one level."""
    lab.run(f"bc{le(STACK - 0x103)} f9 0f0b")  # mov esp; stc; ud2
    assert lab.vector() == UD
    rip, selector, flags, stack, stack_selector = lab.frame()
    assert (rip, selector, stack, stack_selector) == (AT + 6, KERNEL_CS, STACK - 0x103, KERNEL_SS)
    assert flags & (RF | IF | TF | CF | 2) == RF | CF | 2
    assert lab.state[cs.RSP] == (STACK - 0x103 & ~15) - 5 * 8


def test_an_exception_with_an_error_code(lab: Lab) -> None:
    lab.run(f"66b8{le(0x1003, 2)} 8ed8")  # mov ds, 0x1003
    code, rip, *_ = lab.frame()
    assert (lab.vector(), code, rip) == (GP, 0x1000, AT + 4)
    assert lab.state[cs.RSP] == STACK - 6 * 8


@pytest.mark.parametrize("kind", [INTERRUPT, TRAP])
def test_what_a_gate_does_to_the_flags(lab: Lab, kind: int) -> None:
    """An interrupt gate clears IF, a trap gate does not; RF and TF are cleared by both."""
    lab.gate(UD, kind=kind)
    lab.run("fb 90 31c0 0f0b")
    assert lab.frame()[2] & (IF | ZF | RF) == IF | ZF | RF
    assert lab.flags & (IF | RF | TF) == (0 if kind == INTERRUPT else IF)


def test_int_n_shows_no_rf_and_the_next_instruction(lab: Lab) -> None:
    lab.run("cd80")
    rip, _, flags, *_ = lab.frame()
    assert (lab.vector(), rip, flags & RF) == (0x80, AT + 2, 0)


def test_int3_is_one_byte_long(lab: Lab) -> None:
    lab.run("cc")
    assert (lab.vector(), lab.frame()[0]) == (3, AT + 1)


def test_a_single_step_is_a_trap(lab: Lab) -> None:
    lab.run(f"9c 810c24{le(TF)} 9d 90 90")
    rip, _, flags, *_ = lab.frame()
    assert (lab.vector(), rip) == (DB, AT + 10)  # behind the first NOP after POPF
    assert flags & (TF | RF) == TF
    assert not lab.flags & TF


def test_from_user_mode_on_the_stack_of_the_tss(lab: Lab) -> None:
    lab.user("f9 0f0b", flags=IF | 2)
    rip, selector, flags, stack, stack_selector = lab.frame()
    assert (rip, selector, stack, stack_selector) == (USER_AT + 1, USER_CS, USER_STACK, USER_SS)
    assert flags & (RF | IF | TF | CF | 2) == RF | IF | CF | 2
    assert lab.state[cs.RSP] == STACK - 5 * 8
    cpu = lab.technique.cpu
    assert (cpu.cpl, cpu.segment(cs.CS).selector, cpu.segment(cs.SS).selector) == (0, KERNEL_CS, 0)  # SS: null


@pytest.mark.parametrize("ist", [1, 2, 7])
@pytest.mark.parametrize("user", [False, True], ids=["kernel", "user"])
def test_a_stack_of_the_interrupt_stack_table(lab: Lab, ist: int, user: bool) -> None:
    lab.gate(UD, ist=ist)
    lab.put(TSS + 36 + (ist - 1) * 8, struct.pack("<Q", DATA + 0x3808))
    if user:
        lab.user("0f0b")
    else:
        lab.run("0f0b")
    assert lab.state[cs.RSP] == DATA + 0x3800 - 5 * 8
    assert lab.frame()[3] == (USER_STACK if user else STACK)
    assert lab.technique.cpu.segment(cs.SS).selector == (0 if user else KERNEL_SS)


# -- error codes ---------------------------------------------------------------------------------------------------
def test_descriptor_faults_name_the_selector(lab: Lab) -> None:
    lab.put(GDT + 0x38, struct.pack("<Q", 0x00CF_1300_0000_FFFF))  # not present
    for code, expected in (
        ("66b83800 8ed8", (NP, 0x38)),
        ("66b83800 8ed0", (SS, 0x38)),
        (f"66b8{le(KERNEL_CS, 2)} 8ed0", (GP, KERNEL_CS)),  # no stack
        (f"66b8{le(USER_SS, 2)} 8ed0", (GP, USER_SS & ~3)),  # of another level
        ("66b80400 8ed8", (GP, 4)),  # there is no LDT
    ):
        lab.run(code)
        assert lab.fault() == expected, code


def test_an_address_that_is_not_canonical(lab: Lab) -> None:
    lab.run(f"48bb{le(1 << 47, 8)} 8a03")
    assert lab.fault() == (GP, 0)
    lab.run(f"48bd{le(1 << 47, 8)} 8a4500")  # by RBP it is the stack
    assert lab.fault() in ((SS, 0), (GP, 0))


@pytest.mark.parametrize("user", [False, True], ids=["kernel", "user"])
@pytest.mark.parametrize("access", ["read", "write", "fetch"])
@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (0, {"read": 0, "write": 2, "fetch": 16}),
        (P | US | NX, {"read": None, "write": 3, "fetch": 17}),
        (P | RW | US | NX, {"read": None, "write": None, "fetch": 17}),
        (P | RW | US | 1 << 51, {"read": 9, "write": 11, "fetch": 25}),
    ],
    ids=["absent", "read-only", "no-execute", "reserved"],
)
def test_page_fault_codes(lab: Lab, user: bool, access: str, entry: int, code: dict[str, int | None]) -> None:
    """P 1, W/R 2, U/S 4, RSV 8, I/D 16; CR2 has the address. CR0.WP is set."""
    page = DATA + 0x7000
    lab.set_entry(page, page | entry | (A | D if entry else 0))
    lab.put(DATA + 0x3000, b"\xc3")
    instruction = {"read": "8a03", "write": "8803", "fetch": "ffe3"}[access]
    (lab.user if user else lab.run)("0f20d8 0f22d8" * (not user) + instruction, rbx=page + 0x123)
    expected = code[access]
    if expected is None:
        assert lab.vector() == GP if user else True  # it came to the HLT, which is no user's
        assert lab.state[cs.RIP] != HANDLERS + PF * 16 + 6
        return
    assert lab.fault() == (PF, expected | 4 * user)
    assert lab.technique.cpu.cr2 == page + 0x123


def test_a_supervisors_page_is_not_a_users(lab: Lab) -> None:
    page = DATA + 0x7000
    lab.set_entry(page, page | P | RW | A | D)
    lab.user("8a03", rbx=page)
    assert lab.fault() == (PF, 5)


# -- gates ---------------------------------------------------------------------------------------------------------
def test_a_gate_that_is_not_the_users(lab: Lab) -> None:
    """INT n asks for DPL; an exception does not."""
    lab.gate(0x80, dpl=0)
    lab.user("cd80")
    assert lab.fault() == (GP, 0x80 << 3 | FROM_IDT)
    assert lab.frame()[1] == USER_AT
    lab.gate(UD, dpl=0)
    lab.user("0f0b")
    assert lab.vector() == UD
    lab.gate(0x80, dpl=3)
    lab.user("cd80")
    assert lab.vector() == 0x80


def test_a_gate_that_is_not_present(lab: Lab) -> None:
    """EXT says that it was not the program's own INT."""
    lab.gate(0x80, present=False)
    lab.run("cd80")
    assert lab.fault() == (NP, 0x80 << 3 | FROM_IDT)
    assert lab.frame()[1] == AT
    lab.gate(UD, present=False)
    lab.run("0f0b")
    assert lab.fault() == (NP, UD << 3 | FROM_IDT | EXT)


@pytest.mark.parametrize("kind", [0, 5, 6, 7, 12])
def test_what_is_no_gate(lab: Lab, kind: int) -> None:
    lab.gate(0x80, kind=kind)
    lab.run("cd80")
    assert lab.fault() == (GP, 0x80 << 3 | FROM_IDT)


def test_a_gate_beyond_the_limit(lab: Lab) -> None:
    lab.put(DATA, struct.pack("<HQ", 0x80 * 16 + 14, IDT))  # one byte too short
    lab.run(f"0f011c25{le(DATA)} cd80")
    assert lab.fault() == (GP, 0x80 << 3 | FROM_IDT)
    lab.put(DATA, struct.pack("<HQ", 0x80 * 16 + 15, IDT))
    lab.run(f"0f011c25{le(DATA)} cd80")
    assert lab.vector() == 0x80


@pytest.mark.parametrize(
    ("selector", "code"), [(0, 0), (3, 0), (KERNEL_SS, KERNEL_SS), (0x1000, 0x1000), (TSS_SELECTOR, TSS_SELECTOR)]
)
def test_a_gate_to_what_is_no_code(lab: Lab, selector: int, code: int) -> None:
    lab.gate(0x80, selector=selector)
    lab.run("cd80")
    assert lab.fault() == (GP, code)


def test_a_gate_to_32_bit_code(lab: Lab) -> None:
    lab.put(GDT + 0x38, struct.pack("<Q", 0x00CF_9B00_0000_FFFF))
    lab.gate(0x80, selector=0x38)
    lab.run("cd80")
    assert lab.fault() == (GP, 0x38)


def test_a_gate_to_an_outer_level(lab: Lab) -> None:
    lab.gate(0x80, selector=USER_CS)
    lab.run("cd80")
    assert lab.fault() == (GP, USER_CS & ~3)


# -- faults on the way to a handler --------------------------------------------------------------------------------
def stack_for_double_faults(lab: Lab) -> None:
    lab.gate(DF, ist=1)
    lab.put(TSS + 36, struct.pack("<Q", DATA + 0x4000))


@pytest.mark.parametrize(
    ("first", "second", "comes"),
    [
        # 8.2.9: a contributory exception after a contributory one, or after a page fault; a page fault after that.
        ("page fault", "page fault", DF),
        ("page fault", "not present", DF),
        ("contributory", "not present", DF),
        # Everything else is handled one after the other.
        ("contributory", "page fault", PF),
        ("benign", "page fault", PF),
        ("benign", "not present", NP),
    ],
)
def test_double_faults(lab: Lab, first: str, second: str, comes: int) -> None:
    stack_for_double_faults(lab)
    instruction, vector = {
        "page fault": (f"8a0425{le(HOLE)}", PF),
        "contributory": ("31c9 31d2 f7f1", DE),
        "benign": ("0f0b", UD),
    }[first]
    if second == "not present":
        lab.gate(vector, present=False)
    else:
        lab.gate(vector, ist=2)  # a stack that is not there
        lab.put(TSS + 44, struct.pack("<Q", HOLE + 0x1000))
    lab.run(instruction)
    assert lab.vector() == comes
    frame = lab.frame()
    assert frame[1] == AT + (4 if first == "contributory" else 0)
    if comes == DF:
        assert frame[0] == 0
    if comes == PF:
        assert lab.technique.cpu.cr2 == HOLE + 0x1000 - 5 * 8
        assert frame[0] == 2


def test_a_fault_on_the_way_changes_nothing_else(lab: Lab) -> None:
    """From user mode, the stack of the TSS being gone: a double fault, from user mode."""
    stack_for_double_faults(lab)
    lab.put(TSS + 4, struct.pack("<Q", HOLE))
    lab.user(f"8a0425{le(HOLE)}")
    code, rip, selector, _, stack, stack_selector = lab.frame()
    assert (lab.vector(), code) == (DF, 0)
    assert (rip, selector, stack, stack_selector) == (USER_AT, USER_CS, USER_STACK, USER_SS)


def test_a_handler_that_is_not_canonical(lab: Lab) -> None:
    lab.gate(0x80, to=1 << 47)
    lab.run("cd80")
    assert lab.fault() == (GP, 0)


# -- SYSCALL -------------------------------------------------------------------------------------------------------
STAR, LSTAR, SFMASK, EFER = 0xC000_0081, 0xC000_0082, 0xC000_0084, 0xC000_0080


def wrmsr(number: int, value: int) -> str:
    return f"b9{le(number)} b8{le(value)} ba{le(value >> 32)} 0f30"


SETUP = wrmsr(STAR, (0x10 | 3) << 48 | KERNEL_CS << 32) + wrmsr(LSTAR, DATA + 0x5000) + wrmsr(SFMASK, IF | CF)


def test_syscall(lab: Lab) -> None:
    lab.run(SETUP)
    lab.put(DATA + 0x5000, b"\xf4")
    lab.user("f9 0f05", flags=IF | ZF | 2)
    state, cpu = lab.state, lab.technique.cpu
    assert state[cs.RIP] == DATA + 0x5001
    assert state[cs.RCX] == USER_AT + 3
    assert state[cs.R11] == IF | ZF | CF | 2
    assert state[cs.RSP] == USER_STACK
    assert lab.flags & (IF | CF | ZF) == ZF
    assert (cpu.cpl, cpu.segment(cs.CS).selector, cpu.segment(cs.SS).selector) == (0, KERNEL_CS, KERNEL_CS + 8)


def test_sysret(lab: Lab) -> None:
    """CS is STAR's upper selector and 16, SS is it and 8, both of ring 3; RIP is RCX and the flags are R11."""
    lab.run(SETUP)
    lab.put(USER_AT, bytes.fromhex("0f0b"))
    lab.run("480f07", rcx=USER_AT, r11=ZF | IF | 2)
    rip, selector, flags, _, stack_selector = lab.frame()
    assert (rip, selector, stack_selector) == (USER_AT, 0x10 + 16 | 3, 0x10 + 8 | 3)
    assert flags & ~RF == ZF | IF | 2


def test_syscall_that_is_switched_off(lab: Lab) -> None:
    """EFER.SCE: #UD, with nothing changed."""
    lab.run(SETUP + wrmsr(EFER, 0xD00))
    lab.user("0f05", rcx=0x1111, r11=0x2222)
    assert (lab.vector(), lab.frame()[0]) == (UD, USER_AT)
    assert (lab.state[cs.RCX], lab.state[cs.R11]) == (0x1111, 0x2222)


# -- I/O permission ------------------------------------------------------------------------------------------------
def may(lab: Lab, port: int, size: int, flags: int = 2) -> bool:
    """Whether a user's IN goes through (to the HLT behind it, which faults one instruction later)."""
    instruction = {1: "ec", 2: "66ed", 4: "ed"}[size]
    lab.user(instruction, flags=flags, rdx=port)
    assert lab.fault() == (GP, 0)
    through = lab.frame()[1] != USER_AT
    assert lab.frame()[1] == USER_AT + len(instruction) // 2 * through
    return through


def test_iopl(lab: Lab) -> None:
    lab.put(TSS + 102, b"\xff\xff")
    assert [may(lab, 0x80, 1, iopl << 12 | 2) for iopl in range(4)] == [False, False, False, True]


def test_the_permission_bitmap(lab: Lab) -> None:
    """A clear bit permits; an access needs those of all its ports."""
    lab.put(TSS + 102, struct.pack("<H", 0x50))
    lab.put(TSS + 0x50, b"\xff" * 0x16)
    lab.put(TSS + 0x50 + 0x80 // 8, bytes([0b1111_0000, 0xFF]))  # 0x80 to 0x83
    assert [may(lab, port, 1) for port in (0x7F, 0x80, 0x83, 0x84)] == [False, True, True, False]
    assert [may(lab, port, 2) for port in (0x7F, 0x80, 0x82, 0x83)] == [False, True, True, False]
    assert [may(lab, port, 4) for port in (0x7F, 0x80, 0x81)] == [False, True, False]


def test_the_bitmap_ends_with_the_tss(lab: Lab) -> None:
    """Two bytes are read; both must lie within the limit (0x67)."""
    lab.put(TSS + 102, struct.pack("<H", 0x60))
    lab.put(TSS + 0x60, bytes(6))
    # The bitmap begins at 0x60: port 0x28 is in byte 0x65, read with 0x66; port 0x30 in byte 0x66, read with 0x67.
    assert may(lab, 0x28, 1)
    assert not may(lab, 0x38, 1)  # in byte 0x67, read with one beyond the limit
    assert not may(lab, 0x400, 1)


# -- walks ---------------------------------------------------------------------------------------------------------
class Paging:
    """A guest's tables in a Ram: four levels for `VA`."""

    VA = 0x7654_3210_F000 & 0x7FFF_FFFF_F000
    L = (0x1000, 0x2000, 0x3000, 0x4000)

    def __init__(self, **registers: int) -> None:
        self.physical = GuestPhysical(Ram(64), list(range(48)))
        self.cpu: Any = Registers(cr3=self.L[0], **registers)
        for level in range(3):
            self.set(level, self.L[level + 1] | P | RW | US)
        self.set(3, 0x5000 | P | RW | US)

    def place(self, level: int) -> int:
        return self.L[level] + (self.VA >> (39, 30, 21, 12)[level] & 511) * 8

    def set(self, level: int, entry: int) -> None:
        self.physical.set_word(self.place(level), entry)

    def get(self, level: int) -> int:
        return self.physical.word(self.place(level))

    def walk(self, offset: int = 0, **access: bool) -> int | str:
        """Where it leads, or the error code."""
        try:
            return walk(self.physical, self.cpu, self.VA + offset, **access).gpa
        except PageFault as fault:
            assert fault.va == self.VA + offset
            return f"fault {fault.code}"


def test_walk_to_a_page() -> None:
    paging = Paging()
    assert paging.walk(0x678) == 0x5678
    assert [paging.get(level) & (A | D) for level in range(4)] == [A, A, A, A]
    assert paging.walk(0x678, write=True) == 0x5678
    assert [paging.get(level) & (A | D) for level in range(4)] == [A, A, A, A | D]


def test_a_walk_that_fails_leaves_no_mark() -> None:
    paging = Paging()
    paging.set(3, 0x5000 | P | US)
    assert paging.walk(write=True, user=True) == "fault 7"
    assert [paging.get(level) & (A | D) for level in range(4)] == [0, 0, 0, 0]
    assert walk(paging.physical, paging.cpu, paging.VA, set_bits=False).gpa == 0x5000
    assert paging.get(3) & A == 0


def test_large_pages() -> None:
    paging = Paging()
    paging.set(2, 0x20_0000 | P | RW | US | 0x80)
    assert paging.walk(0x123) == 0x20_0000 | paging.VA & 0x1F_F000 | 0x123
    assert paging.get(2) & (A | D) == A
    paging = Paging()
    paging.set(1, 0x4000_0000 | P | RW | US | 0x80)
    assert paging.walk(0x123, write=True) == 0x4000_0000 | paging.VA & 0x3FFF_F000 | 0x123
    assert paging.get(1) & (A | D) == A | D


@pytest.mark.parametrize("level", range(4))
def test_rights_are_those_of_all_levels(level: int) -> None:
    for bit, access, code in (
        (US, {"user": True}, 5), (RW, {"user": True, "write": True}, 7), (RW, {"write": True}, 3), (P, {}, 0),
    ):  # fmt: skip
        paging = Paging()
        paging.set(level, paging.get(level) & ~bit)
        assert paging.walk(**access) == f"fault {code}"
    paging = Paging()
    paging.set(level, paging.get(level) | NX)
    assert paging.walk(fetch=True) == "fault 17"
    assert paging.walk() == 0x5000


def test_without_wp_the_kernel_writes_where_it_wants() -> None:
    paging = Paging(cr0=1 << 31)
    paging.set(3, 0x5000 | P | US)
    assert paging.walk(write=True) == 0x5000
    assert paging.walk(write=True, user=True) == "fault 7"


def test_without_nxe_the_bit_is_reserved() -> None:
    paging = Paging(efer=1 << 10)
    paging.set(3, 0x5000 | P | RW | US | NX)
    assert paging.walk() == "fault 9"
    assert paging.walk(fetch=True, user=True) == "fault 13"  # and I/D is not told


def test_smep_and_smap() -> None:
    """Intel's rules for a supervisor on a user's page: no fetch; no access either, unless RFLAGS.AC."""
    assert Paging(cr4=1 << 20).walk(fetch=True) == "fault 17"
    assert Paging(cr4=1 << 20).walk() == 0x5000
    assert Paging(cr4=1 << 21).walk() == "fault 1"
    assert Paging(cr4=1 << 21).walk(write=True) == "fault 3"
    assert Paging(cr4=1 << 21, rflags=1 << 18 | 2).walk() == 0x5000
    assert Paging(cr4=3 << 20).walk(user=True, fetch=True) == 0x5000


@pytest.mark.parametrize(
    ("level", "entry"),
    [
        *((level, 0x5000 | P | RW | US | 1 << bit) for level in range(4) for bit in (40, 51)),
        (0, 0x2000 | P | RW | US | 0x80),  # no page is that large
        (2, 0x5000 | P | RW | US | 0x80),  # 2 MiB that do not begin at 2 MiB
        (1, 0x20_0000 | P | RW | US | 0x80),
    ],
)
def test_reserved_bits(level: int, entry: int) -> None:
    paging = Paging()
    paging.set(level, entry)
    assert paging.walk() == "fault 9"
    assert paging.walk(write=True, user=True) == "fault 15"


def test_tables_beyond_memory_are_all_ones() -> None:
    paging = Paging()
    paging.set(1, 0x100_0000 | P | RW | US)
    assert paging.walk() == "fault 9"


def test_without_paging_addresses_are_what_they_are() -> None:
    paging = Paging(cr0=1)
    assert walk(paging.physical, paging.cpu, 0x1_2345_6789, write=True).gpa == 0x2345_6789


class Access(NamedTuple):
    code: str
    write: bool
    fetch: bool


ACCESSES = (Access("8a03", False, False), Access("8803", True, False), Access("ffe3", False, True))
VIRTUAL = 1 << 30 | 5 << 21 | 7 << 12  # in an L3 slot that nothing else is in


def test_the_walk_and_the_engines_own() -> None:
    """Entries at random on all levels, accesses of all kinds: the same fault with the same code, and the same bits."""
    lab = Lab(Bare)
    dice = random.Random(41)
    middle, lower, page = (DATA + 0x6000 + n * 0x1000 for n in range(3))
    assert VIRTUAL >> 30 & 511 == 1
    places = (L3 + 8, middle + 5 * 8, lower + 7 * 8)
    for present in range(300):
        for place, to in zip(places, (middle, lower, page), strict=True):
            bits = dice.choice([P | RW | US] * 6 + [P | RW, P | US, P, 0]) | dice.choice([0, 0, 0, NX, A, A | D])
            bits |= dice.choice([0] * 30 + [0x80, 1 << 40, 1 << 51, 0x100])
            lab.put(place, struct.pack("<Q", to | bits))
        lab.put(page, b"\xf4" + bytes(15))
        access, user = dice.choice(ACCESSES), dice.random() < 0.5
        before = [lab.physical.word(place) for place in places]
        cpu: Any = lab.technique.cpu
        try:
            walk(lab.physical, cpu, VIRTUAL, write=access.write, user=user, fetch=access.fetch)
            expected = None
        except PageFault as fault:
            expected = fault.code
        marked = [lab.physical.word(place) for place in places]
        for place, entry in zip(places, before, strict=True):
            lab.put(place, struct.pack("<Q", entry))
        lab.run("0f20d8 0f22d8")
        (lab.user if user else lab.run)(access.code, rbx=VIRTUAL)
        at_fault = lab.state[cs.RIP] == HANDLERS + PF * 16 + 6
        assert (lab.fault()[1] if at_fault else None) == expected, (present, [hex(entry) for entry in before])
        if expected is None:
            assert [lab.physical.word(place) for place in places] == marked
    lab.close()


def test_the_lab_is_where_these_tests_think() -> None:
    lab = Lab(Bare)
    assert lab.technique.cpu.gdtr == Table(GDT, 63)
    assert lab.technique.cpu.cr3 == L4
    assert lab.entry(DATA) == lab.physical.word(L1 + (DATA >> 12) * 8)
    assert not upper_half_used(lab)
    lab.close()


def upper_half_used(lab: Lab) -> bool:
    return any(lab.physical.word(L4 + slot * 8) for slot in range(1, 512))
