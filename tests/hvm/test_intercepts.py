# SPDX-License-Identifier: GPL-2.0-or-later
"""Intercepts, one by one: with all of them on, a program with one instruction for each leaves the guest once for each;
clear one, and that exit is gone, and no other.

The first half is about the engine's AMD-V as it is, with the intercept words set by the test. The second half is about
what pvhv adds under the same rules: ports by a permission bitmap, and interrupts. Codes are those of AMD's manual,
volume 2, appendix C.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from pvhv.hvm.cpu.guestcpu import Table
from pvhv.hvm.techniques.bare import Bare
from pvhv.hvm.techniques.hw_nested import HwNested
from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import IF, RAX, RCX, RDX, RIP, RSP
from pvhv.machine.x86 import CR0_TS
from tests.hvm.hw_lab import CODE, DATA, GDT, HANDLERS, KERNEL_CS, KERNEL_SS, STACK, TSS, HwLab

OUR_GDT, FRAME, TSS_BUSY = DATA + 0x2000, DATA + 0x3000, 0x28
NOT_PRESENT, OTHER_TSS, BEYOND = 0x38, 0x40, 0x1000
UNMAPPED = 0x40_0000


class Case(NamedTuple):
    """An exit: which bit of which word intercepts it, and an instruction for which it happens."""

    name: str
    code: int
    word: str  # "cr", "dr", "exception" or "instruction"
    bit: int
    instruction: str  # what is in `before` does not exit
    before: str = ""


def cr(number: int, write: bool) -> Case:
    rex, low = ("44", number - 8) if number > 7 else ("", number)
    code = 0x10 * write + number
    opcode = "0f22" if write else "0f20"
    before = f"48b8 {{cr{number}}}" if write else ""  # to write what it holds
    name = f"cr{number} {'write' if write else 'read'}"
    return Case(name, code, "cr", code, f"{rex}{opcode}{0xC0 | low << 3:02x}", before)


def dr(number: int, write: bool) -> Case:
    code = 0x20 + 0x10 * write + number
    value = {6: 0xFFFF_0FF0, 7: 0x400}.get(number, 0)
    before = f"48b8 {struct.pack('<Q', value).hex()}" if write else ""
    opcode = "0f23" if write else "0f21"
    return Case(
        f"dr{number} {'write' if write else 'read'}", code, "dr", number + 16 * write,
        f"{opcode}{0xC0 | number << 3:02x}", before,
    )  # fmt: skip


def exception(name: str, vector: int, instruction: str, before: str = "") -> Case:
    return Case(name, 0x40 + vector, "exception", vector, instruction, before)


def instruction(name: str, code: int, instruction: str, before: str = "") -> Case:
    return Case(name, code, "instruction", code - 0x60, instruction, before)


def at(address: int) -> str:
    return struct.pack("<I", address).hex()


CASES = [
    *(cr(number, write) for write in (False, True) for number in (0, 2, 3, 4, 8)),
    *(dr(number, write) for write in (False, True) for number in (0, 1, 2, 3, 6, 7)),
    exception("#DE", 0, "f7f1", "31c9 31d2"),  # div ecx
    exception("#UD", 6, "0f0b"),
    exception("#NM", 7, "d9e8"),  # fld1, CR0.TS being set
    exception("#NP", 11, "8ed8", f"66b8{NOT_PRESENT:02x}00"),  # mov ds
    exception("#SS", 12, "8ed0", f"66b8{NOT_PRESENT:02x}00"),  # mov ss
    exception("#GP", 13, "8ed8", "66b80010"),
    exception("#PF", 14, f"8a0425{at(UNMAPPED)}"),
    instruction("sidt", 0x66, f"0f010c25{at(DATA)}"),
    instruction("sgdt", 0x67, f"0f010425{at(DATA)}"),
    instruction("sldt", 0x68, "0f00c0"),
    instruction("str", 0x69, "0f00c8"),
    instruction("lidt", 0x6A, f"0f011c25{at(GDT + 0x90)}"),
    instruction("lgdt", 0x6B, f"0f011425{at(OUR_GDT + 0x100)}"),
    instruction("lldt", 0x6C, "0f00d0", "31c0"),
    instruction("ltr", 0x6D, "0f00d8", f"66b8{OTHER_TSS:02x}00"),
    instruction("rdtsc", 0x6E, "0f31"),
    instruction("rdpmc", 0x6F, "0f33", "31c9"),
    instruction("pushf", 0x70, "9c", f"bc{at(STACK - 64)}"),
    instruction("popf", 0x71, "9d", f"bc{at(STACK - 64)}"),
    instruction("cpuid", 0x72, "0fa2", "31c0"),
    instruction("iret", 0x74, "48cf", f"bc{at(FRAME)}"),
    instruction("int n", 0x75, "cd80"),
    instruction("hlt", 0x78, "f4"),
    instruction("invlpg", 0x79, f"0f013c25{at(DATA)}"),
    instruction("rdmsr", 0x7C, "0f32", "b977020000"),  # PAT
    instruction("vmmcall", 0x81, "0f01d9"),
    instruction("stgi", 0x84, "0f01dc"),
    instruction("clgi", 0x85, "0f01dd"),
    instruction("wbinvd", 0x89, "0f09"),
]  # fmt: skip


class Done(Exception):
    """The program came to its end."""


class Engine:
    """A guest at CPL 0 whose every exit is written down, and answered by going on behind the instruction."""

    def __init__(self) -> None:
        self.lab = lab = HwLab(HwNested)
        self.pcpu, self.state = lab.guest.pcpu, lab.state
        self.exits: Counter[int] = Counter()
        self.behind: dict[int, int] = {}
        self._tables()
        self._program()
        pcpu, aux = self.pcpu, self.pcpu.aux
        aux[cs.INTERCEPT_CR] = aux[cs.INTERCEPT_DR] = aux[cs.INTERCEPT_EXCEPTIONS] = 0xFFFF_FFFF
        self.state[cs.INTERCEPT] = sum(1 << case.bit for case in CASES if case.word == "instruction")
        pcpu.msr_permissions[:] = b"\xff" * len(pcpu.msr_permissions)
        for code in range(0x9F):
            pcpu.on_exit(code, lambda code=code: self._exit(code))  # type: ignore[misc]
        pcpu.on_fault(lambda vector: self._skip())
        pcpu.on_int = lambda vector: None
        pcpu.on_cpuid = lambda: None
        pcpu.on_syscall = self._end
        pcpu.set_ts(True)

    def _tables(self) -> None:
        put = self.lab.physical.write
        table = bytearray(self.lab.physical.read(GDT, TSS_BUSY + 16)) + bytes(24)
        table[NOT_PRESENT : NOT_PRESENT + 8] = struct.pack("<Q", 0x00CF_1300_0000_FFFF)
        table[OTHER_TSS:] = struct.pack("<2Q", 0x67 | (TSS + 0x80 & 0xFF_FFFF) << 16 | 0x89 << 40, 0)
        put(OUR_GDT, bytes(table))
        put(OUR_GDT + 0x100, struct.pack("<HQ", len(table) - 1, OUR_GDT))
        put(STACK - 64, struct.pack("<Q", 2))  # for POPF
        self.lab.technique.cpu.gdtr = Table(OUR_GDT, len(table) - 1)

    def _program(self) -> None:
        here = CODE + 0x100
        code = b""
        crs = {f"cr{n}": struct.pack("<Q", self.state[place]).hex() for n, place in CONTROL.items()}
        crs["cr0"] = struct.pack("<Q", self.state[cs.CR0] | CR0_TS).hex()
        crs["cr8"] = struct.pack("<Q", 0).hex()
        for case in CASES:
            code += bytes.fromhex(case.before.format(**crs))
            start = here + len(code)
            code += bytes.fromhex(case.instruction)
            self.behind[start] = here + len(code)
            if case.name == "iret":
                frame = (here + len(code), KERNEL_CS, 2, STACK - 64, KERNEL_SS)
                self.lab.physical.write(FRAME, struct.pack("<5Q", *frame))
        self.lab.technique.cpu.memory.write(here, code + b"\x0f\x05")

    def _skip(self) -> None:
        self.state[RIP] = self.behind[self.state[RIP]]

    def _exit(self, code: int) -> None:
        self.exits[code] += 1
        self._skip()

    def _end(self) -> None:
        raise Done

    def clear(self, case: Case) -> None:
        """Intercept it no longer."""
        if case.word == "instruction":
            self.state[cs.INTERCEPT] &= ~(1 << case.bit)
        else:
            self.pcpu.aux[WORDS[case.word]] &= ~(1 << case.bit)

    def run(self) -> Counter[int]:
        self.exits = Counter()
        self.state[RIP], self.state[RSP] = CODE + 0x100, STACK
        with pytest.raises(Done):
            self.pcpu.run(100_000)
        return self.exits


CONTROL = {0: cs.CR0, 2: cs.CR2, 3: cs.CR3, 4: cs.CR4}
WORDS = {"cr": cs.INTERCEPT_CR, "dr": cs.INTERCEPT_DR, "exception": cs.INTERCEPT_EXCEPTIONS}


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.lab.close()


def test_every_intercept_is_an_exit(engine: Engine) -> None:
    assert engine.run() == Counter(case.code for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_cleared_intercept_and_no_other_vanishes(engine: Engine, case: Case) -> None:
    everything = Counter(case.code for case in CASES)
    engine.clear(case)
    seen = engine.run()
    assert everything - seen == Counter([case.code])
    # The engine has neither performance counters nor a host to call: both are undefined then. Nothing else is new.
    assert seen - everything == (Counter([0x40 + svm.UD]) if case.name in ("rdpmc", "vmmcall") else Counter())


# -- a technique's own ---------------------------------------------------------------------------------------------
@pytest.fixture
def lab() -> Iterator[HwLab]:
    made = HwLab(HwNested)
    made.run("0f0b")  # its code, its IDT and the handlers are in the nested tables now
    yield made
    made.close()


RDMSR, WRMSR = "0f32", "0f30"
PAT, STAR, LSTAR = 0x277, 0xC000_0081, 0xC000_0082


@pytest.mark.parametrize("number", [PAT, STAR, LSTAR])
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_each_bit_of_the_msr_permission_map(lab: HwLab, number: int, write: bool) -> None:
    """Two bits for each MSR: the even one is for reads (AMD's manual volume 2, 15.11)."""
    base = {0: 0, 0xC000_0000: 0x800}[number & 0xFFFF_0000]
    place, bit = base + (number & 0x1FFF) // 4, (number & 3) * 2 + write
    value = lab.technique.cpu.read_msr(number)
    permissions = lab.guest.pcpu.msr_permissions
    registers = {"rcx": number, "rax": value & 0xFFFF_FFFF, "rdx": value >> 32}
    both = {False: RDMSR, True: WRMSR}
    permissions[place] |= 1 << bit
    assert lab.run(both[write], **registers) == {"MSR": 1}
    permissions[place] |= 3 << bit - write
    assert lab.run(RDMSR + WRMSR, **registers) == {"MSR": 2}
    permissions[place] &= ~(1 << bit)
    assert lab.run(RDMSR + WRMSR, **registers) == {"MSR": 1}
    assert lab.run(both[write], **registers) == {}
    permissions[place] &= ~(3 << bit - write)
    assert lab.run(RDMSR + WRMSR, **registers) == {}


def test_an_msr_beyond_the_map_always_exits(lab: HwLab) -> None:
    lab.guest.pcpu.msr_permissions[:] = bytes(len(lab.guest.pcpu.msr_permissions))
    assert lab.run(RDMSR, rcx=0x4000_0000) == {"MSR": 1}
    assert lab.vector() == 13


IN = {1: "ec", 2: "66ed", 4: "ed"}
OUT = {1: "ee", 2: "66ef", 4: "ef"}


@pytest.mark.parametrize("port", [0x80, 0x81, 0x87, 0x88, 0xED, 0xFFFF])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_each_bit_of_the_io_permission_map(lab: HwLab, port: int, size: int) -> None:
    """An access exits if the bit of any of its ports is set, and of no other port; nobody answers at these ports."""
    permissions = lab.technique.io_permissions
    bits = [n for n in range(port - 1, port + 5) if n < len(permissions) * 8]
    for way in (IN, OUT):
        for n in bits:
            permissions[:] = bytes(len(permissions))
            permissions[n // 8] |= 1 << n % 8
            assert lab.run(way[size], rdx=port) == ({"IOIO": 1} if port <= n < port + size else {})
        permissions[:] = bytes(len(permissions))
        assert lab.run(way[size], rdx=port) == {}
    assert lab.state[RDX] == port


def test_an_in_is_one_exit_and_reads_what_the_device_says(lab: HwLab) -> None:
    assert lab.run("ec ec ec", rdx=0x21) == {"IOIO": 3}  # the PIC's mask
    lab.technique.io_permissions[0x21 // 8] = 0
    assert lab.run("ec", rdx=0x21, rax=0x100) == {}
    assert lab.state[RAX] == 0x100 | lab.guest.platform.bus.read(0x21, 1)


def test_cpuid_is_answered_alike_with_and_without_the_exit(lab: HwLab) -> None:
    assert lab.run("0fa2", rax=0, rcx=0) == {"CPUID": 1}
    told = [lab.state[n] for n in (RAX, cs.RBX, RCX, RDX)]
    lab.state[cs.INTERCEPT] &= ~svm.intercept_bit(svm.VMEXIT_CPUID)
    assert lab.run("0fa2", rax=0, rcx=0) == {}
    assert [lab.state[n] for n in (RAX, cs.RBX, RCX, RDX)] == told


def test_a_nested_fault_is_one_exit_for_each_page_at_its_first_use(lab: HwLab) -> None:
    load, store = "8a03", "8803"
    assert lab.run(load, rbx=DATA + 0x8000) == {"NPF": 1}
    assert lab.run(load + store + load, rbx=DATA + 0x8FFF) == {}
    assert lab.run(store, rbx=DATA + 0x9000) == {"NPF": 1}
    assert lab.run("488b03", rbx=DATA + 0x9FFC) == {"NPF": 1}  # eight bytes over the boundary: one page was there


TIMER = 0x20  # vector


def arm(lab: HwLab) -> None:
    """Let the timer interrupt in 84 us: as many thousand instructions, on this clock."""
    write = lab.guest.platform.bus.write
    for port, value in ((0x20, 0x11), (0x21, TIMER), (0x21, 4), (0x21, 1), (0x21, 0xFE)):
        write(port, 1, value)
    for port, value in ((0x43, 0x30), (0x40, 100), (0x40, 0)):
        write(port, 1, value)


WAIT = "b9400d0300 ffc9 75fc"  # mov ecx, 200000; 1: dec ecx; jnz 1b


def test_an_interrupt_that_can_be_taken_is_one_exit(lab: HwLab) -> None:
    arm(lab)
    assert lab.run("fb" + WAIT) == {"INTR": 1}
    assert lab.vector() == TIMER
    assert lab.frame()[2] & IF
    assert lab.counts.assists["idt-delivery"] == 2  # and the fixture's


def test_one_that_has_to_wait_is_another_when_the_guest_lets_it_in(lab: HwLab) -> None:
    arm(lab)
    assert lab.run("fa" + WAIT + "fb 90 90 ebfe") == {"INTR": 1, "VINTR": 1}
    assert lab.vector() == TIMER
    assert lab.state[RCX] == 0
    assert lab.frame()[0] == CODE + 0x100 + 12  # behind the instruction that follows STI


def test_one_that_ends_a_sleep_is_none(lab: HwLab) -> None:
    """The exit was HLT: the processor was the monitor's when the interrupt came."""
    arm(lab)
    assert lab.run("fb") == {}  # and that HLT
    before = lab.counts.exits.copy()
    assert lab.hypervisor.run_until(lambda: lab.guest.vcpu.blocked and HANDLERS < lab.state[RIP] < STACK, timeout_s=10)
    assert lab.counts.exits - before == {"HLT": 1}  # the handler's
    assert lab.vector() == TIMER


def test_under_bare_all_the_same_instructions_exit_nowhere() -> None:
    bare = HwLab(Bare)
    code = "0fa2 b977020000 0f32 ba80000000 ec ee 0f20c0 0f20d8 0f22d8 0f013c25 00000300 0f31 8a042500800300"
    bare.run(code, rax=0)
    assert bare.state[RIP] == CODE + 0x100 + len(bytes.fromhex(code)) + 1  # behind the HLT: it came through
    assert bare.counts.exits == {}
    bare.close()
