# SPDX-License-Identifier: GPL-2.0-or-later
"""hw-shadow: which instructions leave the guest, once each; what becomes of a page fault; and a whole kernel.

Expected exits are counted by hand from the intercepts a first-generation monitor sets.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pvhv.core.hypervisor import Hypervisor
from pvhv.hvm.cpu.memory import PageFault, walk
from pvhv.hvm.guest import HvmGuest
from pvhv.hvm.techniques.hw_shadow import HwShadow
from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import RAX, RSP
from pvhv.toolstack import elf, pvh
from pvhv.toolstack.kernel_files import find_kernel
from tests.hvm.hw_lab import (
    CODE,
    CR0,
    CR4,
    DATA,
    ENTRY,
    HANDLERS,
    KERNEL_CS,
    L1,
    L4,
    NX,
    PAGES,
    RW,
    STACK,
    TABLE,
    US,
    USER_CS,
    USER_SS,
    A,
    D,
    HwLab,
    P,
)

LOAD, STORE = "488b03", "488903"  # mov rax, [rbx]; mov [rbx], rax
EFER, LSTAR = 0xC000_0080, 0xC000_0082


@pytest.fixture
def lab() -> Iterator[HwLab]:
    made = HwLab(HwShadow)
    yield made
    made.close()


def test_the_way_into_long_mode(lab: HwLab) -> None:
    """One exit for each of CR4, CR3, EFER, CR0; and hidden faults: the first page of code before paging and after it,
    and the first group of pages that holds GDT and stack."""
    assert lab.entry_exits == {"CR4_WRITE": 1, "CR3_WRITE": 1, "MSR": 1, "CR0_WRITE": 1, "PF": 3}


EXITS = [
    ("mov rax, cr0", "0f20c0", {}, {"CR0_READ": 1}),
    ("mov rax, cr3", "0f20d8", {}, {"CR3_READ": 1}),
    ("mov rax, cr4", "0f20e0", {}, {"CR4_READ": 1}),
    ("mov cr0, rax", "0f22c0", {"rax": CR0}, {"CR0_WRITE": 1}),
    ("mov cr3, rax", "0f22d8", {"rax": L4}, {"CR3_WRITE": 1}),
    ("mov cr4, rax", "0f22e0", {"rax": CR4}, {"CR4_WRITE": 1}),
    ("mov cr8, rax", "440f22c0", {"rax": 5}, {"CR8_WRITE": 1}),
    ("mov rax, cr8", "440f20c0", {}, {}),
    ("mov rax, cr2", "0f20d0", {}, {}),
    ("clts", "0f06", {}, {"CR0_WRITE": 1}),
    ("lmsw ax", "0f01f0", {"rax": 0x31}, {"CR0_WRITE": 1}),
    ("smsw eax", "0f01e0", {}, {"CR0_READ": 1}),
    ("invlpg [rbx]", "0f013b", {"rbx": DATA}, {"INVLPG": 1}),
    ("cpuid", "0fa2", {"rax": 0}, {"CPUID": 1}),
    ("rdmsr EFER", "0f32", {"rcx": EFER}, {"MSR": 1}),
    ("rdmsr LSTAR", "0f32", {"rcx": LSTAR}, {}),
    ("wrmsr LSTAR", "0f30", {"rcx": LSTAR, "rdx": 0}, {}),
    ("in al, dx", "ec", {"rdx": 0x3FD}, {"IOIO": 1}),
    ("out 0x80, eax", "e780", {}, {"IOIO": 1}),
    ("two of them", "0f20d80f22d8", {}, {"CR3_READ": 1, "CR3_WRITE": 1}),
    ("nop; cli; pushf; popf", "90fa9c9d", {}, {}),
    ("sgdt, sidt", "0f010425000003000f010c2500010300", {}, {}),
    ("call; ret", "e801000000f4c3", {}, {}),
]


@pytest.mark.parametrize(("code", "registers", "exits"), [row[1:] for row in EXITS], ids=[row[0] for row in EXITS])
def test_what_exits(lab: HwLab, code: str, registers: dict[str, int], exits: dict[str, int]) -> None:
    lab.run(LOAD, rbx=DATA)  # so that no page is new
    assert lab.run(code, **registers) == exits


def test_the_guest_reads_what_it_wrote(lab: HwLab) -> None:
    lab.run("0f20c0")
    assert lab.state[RAX] == CR0 and lab.guest.pcpu.state[cs.CR0] & CR0 == CR0
    lab.run("0f20d8")
    assert lab.state[RAX] == L4 != lab.state[cs.CR3]
    lab.run("0f20e0")
    assert lab.state[RAX] == CR4
    lab.run("440f22c0", rax=5)
    lab.run("440f20c0")
    assert lab.state[RAX] == 5
    lab.run("0f32", rcx=EFER)
    assert lab.state[RAX] == 0xD01  # NXE LMA LME SCE; no SVME
    assert not lab.counts.exits["CR8_READ"]


def test_task_switched_is_the_processors(lab: HwLab) -> None:
    lab.run("0f22c0", rax=CR0 | 8)
    assert lab.run("0f57c0") == {}  # xorps: #NM by the guest's own IDT
    assert lab.vector() == 7
    lab.run("0f06")
    assert lab.run("0f57c0") == {} and lab.state[cs.RIP] < 0x21000


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("0f22c0", CR0 & 0x7FFF_FFFF),  # paging off in 64-bit code
        ("0f22c0", CR0 & ~1),
        ("0f22c0", CR0 | 1 << 32),
        ("0f22c0", CR0 | 1 << 29),  # NW without CD
        ("0f22d8", L4 | 1 << 45),
        ("0f22e0", CR4 & ~0x20),  # PAE off in long mode
        ("0f22e0", CR4 | 1 << 20),  # SMEP, which CPUID does not offer
    ],
)
def test_what_a_control_register_cannot_hold(lab: HwLab, code: str, value: int) -> None:
    lab.run(code, rax=value)
    assert lab.vector() == 13 and lab.frame()[:2] == [0, CODE + 0x100]


def test_paging_without_long_mode_ends_the_guest() -> None:
    with pytest.raises(AssertionError, match="it ended"):
        HwLab(HwShadow, start=bytes.fromhex("b811000080 0f22c0 f4"))


# -- each intercept by itself ------------------------------------------------------------------------------------------
def clear_cr(bit: int) -> Any:
    def clear(lab: HwLab) -> None:
        lab.guest.pcpu.aux[cs.INTERCEPT_CR] &= ~(1 << bit)

    return clear


def clear_instruction(code: int) -> Any:
    def clear(lab: HwLab) -> None:
        lab.state[cs.INTERCEPT] &= ~svm.intercept_bit(code)

    return clear


def clear_port(lab: HwLab) -> None:
    lab.technique.io_permissions[0x80 // 8] = 0


def clear_msr(lab: HwLab) -> None:
    lab.technique.intercept_msr(0x277, False)


CLEARED = [
    ("CR0_READ", clear_cr(0)),
    ("CR3_READ", clear_cr(3)),
    ("CR4_READ", clear_cr(4)),
    ("CR0_WRITE", clear_cr(16)),
    ("CR3_WRITE", clear_cr(19)),
    ("CR4_WRITE", clear_cr(20)),
    ("CR8_WRITE", clear_cr(24)),
    ("INVLPG", clear_instruction(svm.VMEXIT_INVLPG)),
    ("CPUID", clear_instruction(svm.VMEXIT_CPUID)),
    ("IOIO", clear_port),
    ("MSR", clear_msr),
]
# clts; mov rdi, cr3; mov cr3 with the very value the CPU has; mov rax, cr0; mov rax, cr4; mov cr4, rsi; mov cr8, rax;
# invlpg; cpuid; out 0x80; rdmsr PAT
ALL = "0f06 0f20df 0f22da 0f20c0 0f20e0 0f22e6 31c0 440f22c0 0f013b 31c0 0fa2 e680 b977020000 0f32"


@pytest.mark.parametrize(("reason", "clear"), CLEARED, ids=[row[0] for row in CLEARED])
def test_without_its_intercept_an_exit_vanishes_and_no_other(lab: HwLab, reason: str, clear: Any) -> None:
    lab.run(LOAD, rbx=DATA)
    clear(lab)
    root = lab.state[cs.CR3] if reason == "CR3_WRITE" else L4
    taken = lab.run(ALL, rbx=DATA, rsi=CR4, rdx=root)
    assert taken == {name: 1 for name, _ in CLEARED if name != reason}


def test_without_the_intercept_of_page_faults_the_guest_gets_them(lab: HwLab) -> None:
    lab.guest.pcpu.aux[cs.INTERCEPT_EXCEPTIONS] &= ~(1 << svm.PF)
    assert lab.run(LOAD, rbx=DATA) == {}
    assert lab.vector() == 14


# -- page faults -------------------------------------------------------------------------------------------------------
def test_a_page_is_hidden_until_it_is_used_and_until_it_is_written_to() -> None:
    lab = HwLab(HwShadow, lambda page: P | RW | US if page == DATA else TABLE | D)
    assert lab.run(LOAD, rbx=DATA) == {"PF": 1}
    assert lab.entry(DATA) == DATA | P | RW | US | A
    assert lab.run(STORE, rbx=DATA, rax=7) == {"PF": 1}
    assert lab.entry(DATA) == DATA | P | RW | US | A | D
    assert lab.run(LOAD + STORE, rbx=DATA) == {} and lab.state[RAX] == 7
    lab.close()


def test_a_store_to_a_page_table_is_one_exit_and_takes_effect(lab: HwLab) -> None:
    lab.physical.set_word(DATA + 0x1000, 0x1234)
    assert lab.run(LOAD, rbx=DATA) == {"PF": 1}
    entry = L1 + (DATA >> 12) * 8
    assert lab.run(STORE, rbx=entry, rax=DATA + 0x1000 | TABLE | D) == {"PF": 1}
    assert lab.run(LOAD, rbx=DATA) == {} and lab.state[RAX] == 0x1234
    assert lab.run("0fba3306", rbx=entry) == {"PF": 1}  # btr dword [rbx], 6: dirty no more
    assert lab.run(LOAD, rbx=entry) == {} and lab.state[RAX] == DATA + 0x1000 | TABLE
    assert lab.run(STORE, rbx=DATA) == {"PF": 1} and lab.entry(DATA) & D
    assert lab.run(STORE, rbx=entry, rax=0) == {"PF": 1}
    assert lab.run(LOAD, rbx=DATA) == {"PF": 1} and lab.vector() == 14


def test_the_guests_own_page_fault() -> None:
    lab = HwLab(HwShadow, lambda page: 0 if page == DATA else (P | US | A if page == DATA + 0x1000 else TABLE | D))
    assert lab.run(LOAD, rbx=DATA + 8) == {"PF": 1}
    assert lab.vector() == 14 and lab.state[cs.CR2] == DATA + 8
    assert lab.frame()[:3:2] == [0, KERNEL_CS]
    assert lab.run(STORE, rbx=DATA + 0x1000) == {"PF": 1}
    assert lab.frame()[:2] == [3, CODE + 0x100] and lab.state[cs.CR2] == DATA + 0x1000
    lab.close()


@pytest.mark.parametrize(("flags", "exits"), [(TABLE | D, 2), (P | RW | US, 3)], ids=["accessed", "not yet"])
def test_a_page_fault_that_the_guest_resolves(flags: int, exits: int) -> None:
    """Its own fault, and the store to the page table that is traced; and a hidden fault more, if that entry says that
    the page was not accessed yet."""
    lab = HwLab(HwShadow, lambda page: 0 if page == DATA else TABLE | D)
    lab.physical.write(HANDLERS + 14 * 16, bytes.fromhex("488911 4883c408 48cf"))  # mov [rcx], rdx; add rsp, 8; iretq
    lab.physical.set_word(DATA, 0x77)
    assert lab.run(LOAD, rbx=DATA, rcx=L1 + (DATA >> 12) * 8, rdx=DATA | flags) == {"PF": exits}
    assert lab.state[RAX] == 0x77 and lab.state[RSP] == STACK
    lab.close()


def test_user_code_may_not_what_only_the_kernel_may() -> None:
    lab = HwLab(HwShadow, lambda page: P | RW | A | D if page == DATA else TABLE | D)
    lab.run(LOAD, rbx=DATA)
    lab.technique.cpu.memory.write(CODE + 0x800, bytes.fromhex(LOAD + "f4"))
    enter = f"6a{USER_SS:02x} 6800780100 6a02 6a{USER_CS:02x} 6800080200 48cf"  # push all of it; iretq
    assert lab.run(enter, rbx=DATA) == {"PF": 1}
    assert lab.vector() == 14 and lab.frame()[:3] == [5, CODE + 0x800, USER_CS]
    assert lab.run(enter, rbx=DATA + 0x1000) == {}  # the load is done; HLT is not a user's
    assert lab.vector() == 13 and lab.frame()[1:3] == [CODE + 0x803, USER_CS]
    lab.close()


def test_without_write_protection_the_kernels_store_is_carried_out() -> None:
    lab = HwLab(HwShadow, lambda page: P | US | A if page == DATA else TABLE | D)
    assert lab.run("0f22c0", rax=CR0 & ~(1 << 16)) == {"CR0_WRITE": 1}
    lab.run(LOAD, rbx=DATA)
    assert lab.run(STORE, rbx=DATA, rax=99) == {"PF": 1} and lab.physical.word(DATA) == 99
    assert lab.run(STORE, rbx=DATA, rax=98) == {"PF": 1} and lab.physical.word(DATA) == 98
    lab.close()


def test_stores_that_take_more_than_one_look(lab: HwLab) -> None:
    entry = L1 + (DATA >> 12) * 8
    old = lab.entry(DATA)
    lab.run(LOAD, rbx=DATA)
    assert lab.run("488703", rbx=entry, rax=old | 1 << 9) == {"PF": 1}  # xchg
    assert lab.state[RAX] == old and lab.entry(DATA) == old | 1 << 9
    assert lab.run("f0480fb10b", rbx=entry, rax=old | 1 << 9, rcx=old) == {"PF": 1}  # lock cmpxchg [rbx], rcx
    assert lab.entry(DATA) == old and lab.guest.pcpu.state[cs.EFLAGS] & cs.ZF
    assert lab.run("f348ab", rdi=entry, rax=old | 1 << 9, rcx=3) == {"PF": 1}  # rep stosq
    assert lab.entry(DATA + 0x2000) == old | 1 << 9
    assert lab.state[cs.RCX] == 0 and lab.state[cs.RDI] == entry + 24
    lab.run("66480f6ec0 0f16c0", rax=old)  # movq xmm0, rax; movlhps xmm0, xmm0
    assert lab.run("0f1103", rbx=entry) == {"PF": 1}  # movups [rbx], xmm0: two entries
    assert lab.entry(DATA) == lab.entry(DATA + 0x1000) == old


def test_a_long_string_store_is_carried_out_as_far_as_the_table_goes(lab: HwLab) -> None:
    lab.run(LOAD, rbx=DATA)
    before = lab.counts.events["emulated_instructions"]
    assert lab.run("f348ab", rdi=L1 + 0x1F0 * 8, rax=0, rcx=2 * 512 + 16)["PF"] <= 4
    assert lab.state[cs.RCX] == 0 and lab.state[cs.RDI] == L1 + 0x3000
    assert lab.counts.events["emulated_instructions"] == before + 1


def test_a_store_that_cannot_be_decoded_ends_a_guest_that_stores_to_a_table_in_use(lab: HwLab) -> None:
    with pytest.raises(AssertionError, match="it ended"):
        lab.run("dd1b", rbx=L1 + 0x1F0 * 8)  # fstp qword [rbx]


def test_code_is_what_was_last_written_whoever_wrote_it(lab: HwLab) -> None:
    """Through another page that maps the same frame and is not executable: no exit, and no old code."""
    lab.set_entry(DATA, CODE | TABLE | D | NX)
    lab.run(LOAD, rbx=DATA)
    at, alias = CODE + 0x700, DATA + 0x700
    lab.run("b801000000", at=at)
    for n in range(2, 6):
        assert lab.run(STORE, rbx=alias, rax=0x9090_F400_0000_00B8 | n << 8) == {}
        lab.state[cs.RIP] = at
        assert lab.resume() == {} and lab.state[RAX] == n
    assert lab.counts.assists["code-coherence"]


def test_what_the_monitor_stores_is_executed_too(lab: HwLab) -> None:
    """A store that is carried out, to a page code was translated from."""
    for number in (1, 2, 3):
        lab.run(f"b8{number:02x}000000", at=CODE + 0x700)
        assert lab.state[RAX] == number


def test_frames_come_from_the_hypervisor_and_go_back() -> None:
    hypervisor = Hypervisor(memory_frames=4096)
    before = hypervisor.frames.free_frames
    guest = HvmGuest(hypervisor, HwShadow, PAGES)
    assert hypervisor.frames.free_frames < before - PAGES
    guest.technique.reset(ENTRY, 0)
    domain = guest.domain
    hypervisor.destroy(domain)
    assert hypervisor.run_until(lambda: domain.dead, timeout_s=10)
    assert hypervisor.frames.free_frames == before and not domain.hypervisor_frames


# -- a kernel ----------------------------------------------------------------------------------------------------------
class Native:
    """The teaching kernel's native build, and its console."""

    def __init__(self) -> None:
        self.hypervisor = Hypervisor(memory_frames=64 * 256 + 4096)
        self.said = bytearray()
        self.at_prompt: list[Any] = []  # what was counted when the first prompt's last character left
        self.guest = HvmGuest(self.hypervisor, HwShadow, 64 * 256, transmit=self.hear)
        kernel = elf.read(find_kernel("guest-native", Path.cwd(), "a test"))
        plan = pvh.plan(kernel, 64, 0)
        assert list(pvh.load(self.guest.physical, kernel, plan, "", b""))
        self.guest.technique.reset(plan.entry, pvh.TELL_AT)
        self.guest.domain.paused = self.guest.domain.controller_paused = 0
        self.until_prompt()

    def hear(self, data: bytes) -> None:
        self.said.extend(data)
        if self.said.endswith(b"$ ") and not self.at_prompt:
            self.at_prompt = [self.guest.counts.snapshot(), self.guest.instructions]

    def until_prompt(self) -> None:
        domain = self.guest.domain
        self.hypervisor.run_until(lambda: self.said.endswith(b"$ ") or not domain.runs, timeout_s=120)
        assert self.said.endswith(b"$ "), self.said.decode()

    def type(self, line: str) -> str:
        self.said.clear()
        self.guest.platform.uart.receive(line.encode() + b"\n")
        self.until_prompt()
        return self.said.decode()


def test_the_teaching_kernel_passes_its_own_test() -> None:
    native = Native()
    assert "usertest: ok" in native.type("usertest")
    exits = native.guest.counts.exits
    assert set(exits) <= {
        "PF", "CR0_READ", "CR0_WRITE", "CR3_WRITE", "CR4_WRITE", "INVLPG",
        "CPUID", "MSR", "IOIO", "HLT", "INTR", "VINTR",
    }  # fmt: skip
    assert not native.guest.counts.exits["NPF"] and exits["CR3_WRITE"] > 50 and exits["PF"] > 500


def test_two_runs_are_one() -> None:
    first, second = Native(), Native()
    assert first.at_prompt == second.at_prompt != []


# -- the engine against the walk ---------------------------------------------------------------------------------------
FLAGS = [TABLE | D, TABLE, P | RW | US, P | RW | A, P | US | A | D, TABLE | D | NX, 0, P | A | 1 << 44]
ACCESSES = {"read": LOAD, "write": STORE, "fetch": "ffd3"}  # call rbx, where a RET is


@pytest.mark.parametrize("seed", range(4))
def test_the_engine_on_shadows_does_what_the_guests_tables_say(seed: int) -> None:
    """Pages are mapped anew by the guest's own stores, and used by its own code, which faults if and only if its
    tables say so, with the right code; and in these tables the same accessed and dirty bits are set."""
    choose = random.Random(seed)
    lab = HwLab(HwShadow)
    cpu = lab.technique.cpu
    pages = [DATA + n * 0x1000 for n in range(4)]
    for page in pages:
        lab.physical.write(page, b"\xc3" * 4096)
    seen: Counter[str] = Counter()
    for _ in range(150):
        page = choose.choice(pages)
        if choose.random() < 0.4:
            lab.run(STORE, rbx=L1 + (page >> 12) * 8, rax=choose.choice(pages) | choose.choice(FLAGS))
            continue
        kind = choose.choice(list(ACCESSES))
        entry = lab.entry(page)
        try:
            walk(lab.physical, cpu, page + 64, write=kind == "write", fetch=kind == "fetch", set_bits=False)
            expected = None
        except PageFault as fault:
            expected = fault.code
        lab.run(ACCESSES[kind], rbx=page + 64, rax=0xC3C3_C3C3_C3C3_C3C3)
        if expected is None:
            assert CODE <= lab.state[cs.RIP] < CODE + 0x1000
            assert lab.entry(page) == entry | A | (D if kind == "write" else 0)
        else:
            assert lab.vector() == 14 and lab.state[cs.CR2] == page + 64 and lab.frame()[0] == expected
            assert lab.entry(page) == entry
        seen[f"{kind} {expected}"] += 1
    assert len(seen) >= 6, seen
    lab.close()
