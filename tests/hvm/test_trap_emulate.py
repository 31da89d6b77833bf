# SPDX-License-Identifier: GPL-2.0-or-later
"""trap-emulate: which instructions leave the guest, once each; whose an exception is; a whole kernel.

Expected exits are counted by hand: an instruction that ring 1 may not execute is one, under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from pvhv.hvm.techniques.trap_emulate import TrapEmulate
from pvhv.machine.cpustate import IF, R8, R9, RAX, RBX, RCX
from pvhv.testing import boot
from tests.hvm.hw_lab import (
    CODE,
    CR0,
    CR4,
    DATA,
    GDT,
    IDT,
    KERNEL_CS,
    KERNEL_SS,
    L1,
    L4,
    NX,
    RW,
    STACK,
    TABLE,
    TSS,
    TSS_SELECTOR,
    US,
    USER_CS,
    USER_SS,
    A,
    D,
    P,
)
from tests.hvm.monitor_lab import MonitorLab

LOAD, STORE = "488b03", "488903"  # mov rax, [rbx]; mov [rbx], rax
EFER, STAR, LSTAR, GS_BASE, KERNEL_GS = 0xC000_0080, 0xC000_0081, 0xC000_0082, 0xC000_0101, 0xC000_0102
USER = CODE + 0x800  # where user code is put
BENCHES = (
    "syscall in cr8wr callret pgfault divzero ptemod null-call fork exec sh ctx-2p-0k ctx-2p-16k ctx-2p-64k ctx-8p-16k "
    "ctx-8p-64k ctx-16p-16k ctx-16p-64k mmap prot-fault page-fault pipe file-create file-delete"
).split()


@pytest.fixture
def lab() -> Iterator[MonitorLab]:
    made = MonitorLab(TrapEmulate)
    made.run(LOAD, rbx=DATA)  # data, stack and page tables have been used before
    made.run("50" + LOAD, rbx=L1)
    made.physical.write(TSS + 102, b"\x68\0")  # no ports for users
    yield made
    made.close()


def test_the_way_into_long_mode() -> None:
    """The prologue of hw_lab.py, instruction by instruction: the far jump and two loads of data segments do not trap;
    that of SS does, as its selector's RPL is not 1. Hidden faults: the code before paging and after it."""
    lab = MonitorLab(TrapEmulate)
    assert lab.entry_exits == {
        "mov-to-cr4": 1, "mov-to-cr3": 1, "wrmsr": 1, "mov-to-cr0": 1, "lgdt": 1, "lidt": 1, "ltr": 1, "mov-seg": 1,
        "page-fault": 2,
    }  # fmt: skip


EXITS = [
    ("cli", "fa", {}, {"cli": 1}),
    ("sti; cli", "fbfa", {}, {"sti": 1, "cli": 1}),
    ("in al, dx", "ec", {"rdx": 0x80}, {"in": 1}),
    ("out dx, al", "ee", {"rdx": 0x80}, {"out": 1}),
    ("in ax, 0x80", "66e580", {}, {"in": 1}),
    ("mov rax, cr0", "0f20c0", {}, {"mov-from-cr0": 1}),
    ("mov rax, cr2", "0f20d0", {}, {"mov-from-cr2": 1}),
    ("mov cr3, rax", "0f22d8", {"rax": L4}, {"mov-to-cr3": 1}),
    ("mov cr4, rax", "0f22e0", {"rax": CR4}, {"mov-to-cr4": 1}),
    ("mov cr8, rax", "440f22c0", {"rax": 5}, {"mov-to-cr8": 1}),
    ("mov dr0, rax", "0f23c0", {"rax": 5}, {"mov-to-dr": 1}),
    ("clts", "0f06", {}, {"clts": 1}),
    ("lmsw ax", "0f01f0", {"rax": 0x31}, {"lmsw": 1}),
    ("invlpg [rbx]", "0f013b", {"rbx": DATA}, {"invlpg": 1}),
    ("wbinvd", "0f09", {}, {"wbinvd": 1}),
    ("rdmsr", "0f32", {"rcx": EFER}, {"rdmsr": 1}),
    ("wrmsr", "0f30", {"rcx": LSTAR, "rax": 1, "rdx": 0}, {"wrmsr": 1}),
    ("swapgs", "0f01f8", {}, {"swapgs": 1}),
    ("rdtsc", "0f31", {}, {}),  # time is virtual: it is done for the CPU
    ("lldt ax", "0f00d0", {"rax": 0}, {"lldt": 1}),
    ("mov ss, eax", "8ed0", {"rax": KERNEL_SS}, {"mov-seg": 1}),
    # What does the same at any ring, or does not say that it does not: no exit.
    ("cpuid", "0fa2", {"rax": 0}, {}),
    ("pushfq; popfq", "9c9d", {}, {}),
    ("sgdt [rbx]", "0f0103", {"rbx": DATA}, {}),
    ("sidt [rbx]", "0f010b", {"rbx": DATA}, {}),
    ("str eax", "0f00c8", {}, {}),
    ("smsw eax", "0f01e0", {}, {}),
    ("mov ds, eax", "8ed8", {"rax": KERNEL_SS}, {}),
    ("mov rax, [rbx]", LOAD, {"rbx": DATA}, {}),
    ("mov [rbx], rax", STORE, {"rbx": DATA, "rax": 7}, {}),
    ("mov rax, [rbx] of a page table", LOAD, {"rbx": L1}, {}),
    ("mov [rbx], rax to a page table", STORE, {"rbx": L1 + 0x1F0 * 8, "rax": 0x1F0000 | TABLE | D}, {"trace": 1}),
]


@pytest.mark.parametrize("_what, code, registers, exits", EXITS, ids=[row[0] for row in EXITS])
def test_exits(
    lab: MonitorLab, _what: str, code: str, registers: dict[str, int], exits: dict[str, int]
) -> None:
    assert lab.run(code, **registers) == exits
    assert lab.callouts == {}


def test_what_the_guest_finds_in_its_registers(lab: MonitorLab) -> None:
    """All that traps shows the guest its own machine."""
    assert lab.run("0f20c0 4989c0 0f20d8 4989c1 0f20e0".replace(" ", "")) and lab.state[R8] == CR0
    assert (lab.state[R9], lab.state[RAX]) == (L4, CR4)
    lab.run("0f32", rcx=EFER)
    assert lab.state[RAX] == 0xD01  # NXE LMA LME SCE


def test_swapgs_and_its_msrs(lab: MonitorLab) -> None:
    lab.run("0f30", rcx=KERNEL_GS, rax=DATA, rdx=0)
    lab.physical.write(DATA + 8, (0x1234).to_bytes(8, "little"))
    assert lab.run("0f01f865488b042508000000") == {"swapgs": 1} and lab.state[RAX] == 0x1234  # mov rax, gs:[8]
    lab.run("0f32", rcx=KERNEL_GS)
    assert lab.state[RAX] == 0


def test_a_privileged_instruction_that_is_wrong_is_the_guests_own_fault(lab: MonitorLab) -> None:
    for code, registers in (("0f22d8", {"rax": 1 << 63}), ("0f32", {"rcx": 0x1234}), ("440f22c0", {"rax": 0x10}),
                            ("0f00d8", {"rax": 0}), ("8ed0", {"rax": 0x70})):  # fmt: skip
        before = lab.counts.events["faults_delivered"]
        lab.run(code, **registers)
        assert lab.vector() == 13, code
        assert lab.counts.events["faults_delivered"] == before + 1
        assert lab.frame()[1:3] == [CODE + 0x100, KERNEL_CS]


def test_exceptions_of_the_kernels_own(lab: MonitorLab) -> None:
    assert lab.run("31c9f7f1", rdx=0) == {"divide-error": 1} and lab.vector() == 0
    assert lab.run("0f0b") == {"invalid-opcode": 1} and lab.vector() == 6
    assert lab.run("cc") == {"int": 1} and lab.vector() == 3 and lab.frame()[0] == CODE + 0x101
    assert lab.run("cd42") == {"int": 1} and lab.vector() == 0x42
    assert lab.run(LOAD, rbx=1 << 47) == {"general-protection": 1} and lab.vector() == 13
    lab.set_entry(DATA + 0x8000, 0)
    assert lab.run(LOAD, rbx=DATA + 0x8010) == {"page-fault": 1} and lab.vector() == 14
    assert lab.frame()[:2] == [0, CODE + 0x100]
    assert lab.run("0f20d0") and lab.state[RAX] == DATA + 0x8010


def test_the_interrupt_flag_is_the_guests(lab: MonitorLab) -> None:
    """In the frame of an exception it is as the guest set it, though the real one never changes."""
    for code, expected in (("fb0f0b", IF), ("fa0f0b", 0)):
        lab.run(code)
        assert lab.frame()[2] & IF == expected
        assert lab.state[17] & IF


def enter_user(lab: MonitorLab, code: str, flags: int = IF, **registers: int) -> dict[str, int]:
    """IRET to ring 3, where `code` runs until it faults."""
    lab.technique.cpu.memory.write(USER, bytes.fromhex(code) + b"\x0f\x0b")
    push = b"".join(b"\x68" + value.to_bytes(4, "little") for value in (USER_SS, STACK - 0x100, flags, USER_CS, USER))
    return lab.run(push.hex() + "48cf", **registers)


USERS = [
    ("cli", "fa"), ("sti", "fb"), ("hlt", "f4"), ("in al, dx", "ec"), ("out dx, al", "ee"), ("mov rax, cr0", "0f20c0"),
    ("mov cr3, rax", "0f22d8"), ("lgdt [rbx]", "0f0113"), ("rdmsr", "0f32"), ("wrmsr", "0f30"), ("invlpg", "0f013b"),
    ("swapgs", "0f01f8"), ("sysretq", "480f07"), ("clts", "0f06"), ("ltr", "0f00d8"), ("mov dr0, rax", "0f23c0"),
]  # fmt: skip


@pytest.mark.parametrize("_what, code", USERS, ids=[row[0] for row in USERS])
def test_what_is_privileged_is_a_fault_of_the_users(lab: MonitorLab, _what: str, code: str) -> None:
    """One exit, and the guest's kernel gets #GP(0) at the instruction."""
    assert enter_user(lab, code, rbx=DATA, rdx=0x80) == {"iret": 1, "general-protection": 1}
    assert lab.vector() == 13 and lab.frame()[:3] == [0, USER, USER_CS]


def test_a_user_with_ports(lab: MonitorLab) -> None:
    """IOPL 3: IN is refused by the processor all the same, for the real IOPL is 0, and carried out."""
    assert enter_user(lab, "ec", flags=IF | 3 << 12, rdx=0x80) == {
        "iret": 1, "in": 1, "invalid-opcode": 1,
    }  # fmt: skip
    assert lab.vector() == 6 and lab.frame()[0] == USER + 1 and lab.state[RAX] & 0xFF == 0xFF


def test_system_calls(lab: MonitorLab) -> None:
    """One exit each: there, and by SYSRET back."""
    lab.run("0f30", rcx=STAR, rax=0, rdx=(USER_CS - 16) << 16 | KERNEL_CS)
    lab.run("0f30", rcx=LSTAR, rax=CODE + 0x900, rdx=0)
    lab.technique.cpu.memory.write(CODE + 0x900, bytes.fromhex("4d89d8 480f07"))  # mov r8, r11; sysretq
    assert enter_user(lab, "0f05") == {"iret": 1, "syscall": 1, "sysret": 1, "invalid-opcode": 1}
    assert lab.vector() == 6 and lab.frame()[:2] == [USER + 2, USER_CS]
    assert lab.state[R8] & (IF | 3 << 12) == IF and lab.state[RCX] == USER + 2


def test_page_faults_hidden_and_own() -> None:
    flags = {DATA: P | RW | US, DATA + 0x1000: P | US | A}
    lab = MonitorLab(TrapEmulate, flags=lambda page: flags.get(page, TABLE | D))
    lab.run("50" + LOAD, rbx=L1)
    lab.run(LOAD, rbx=DATA + 0x8000)
    assert lab.run(LOAD, rbx=DATA) == {"page-fault": 1} and lab.entry(DATA) == DATA | P | RW | US | A
    assert lab.run(LOAD, rbx=DATA) == {}
    assert lab.run(STORE, rbx=DATA) == {"page-fault": 1} and lab.entry(DATA) & D
    assert lab.run(STORE, rbx=DATA) == {}
    lab.run(LOAD, rbx=DATA + 0x1000)
    assert lab.run(STORE, rbx=DATA + 0x1000) == {"page-fault": 1} and lab.vector() == 14 and lab.frame()[0] == 3


def test_a_store_to_a_page_table_takes_effect_at_once(lab: MonitorLab) -> None:
    page = DATA + 0x3000
    lab.physical.write(DATA + 0x4000, b"other...")
    assert LOAD and lab.run(LOAD, rbx=page) == {} and lab.state[RAX] == 0
    assert lab.run(STORE, rbx=L1 + (page >> 12) * 8, rax=DATA + 0x4000 | TABLE | D) == {"trace": 1}
    lab.run(LOAD, rbx=page)
    assert lab.state[RAX] == int.from_bytes(b"other...", "little")
    assert lab.counts.events["page_table_updates"] >= 1
    lab.run(STORE, rbx=L1 + (page >> 12) * 8, rax=page | P | RW | US | A | NX)
    lab.run("ffe3", rbx=page)
    assert lab.vector() == 14 and lab.frame()[0] == 0x11


def test_the_guests_descriptor_table_changes(lab: MonitorLab) -> None:
    """By a store that traps; a load that does not finds the change."""
    table = int.from_bytes(lab.physical.read(GDT + KERNEL_SS, 8), "little")
    assert lab.run(STORE, rbx=GDT + 0x38, rax=table) == {"trace": 1}
    assert lab.run("8ee0", rax=0x38) == {} and lab.state[RBX] == GDT + 0x38  # mov fs, eax
    assert lab.run(STORE, rbx=GDT + 0x38, rax=table & ~(1 << 47)) == {"trace": 1}
    assert lab.run("8ee0", rax=0x38) == {"mov-seg": 1} and lab.vector() == 11 and lab.frame()[0] == 0x38


def test_a_table_on_a_busy_page_is_let_go(lab: MonitorLab) -> None:
    """Data beside the GDT: after some stores they trap no more, and loads of segments do instead."""
    beside = GDT + 0x800
    taken = [lab.run(STORE, rbx=beside, rax=n).get("trace", 0) for n in range(12)]
    assert taken[:8] == [1] * 8 and taken[-1] == 0
    assert lab.run("8ee0", rax=KERNEL_SS) == {"mov-seg": 1}
    assert lab.run("8ce0") == {} and lab.state[RAX] & 0xFFFF == KERNEL_SS
    assert lab.run("8ee0", rax=0x70) == {"mov-seg": 1} and lab.vector() == 13 and lab.frame()[0] == 0x70


def test_what_the_monitor_cannot_hide(lab: MonitorLab) -> None:
    """Popek and Goldberg's condition is violated: these do not trap, and tell of the monitor's machine."""
    lab.run("8cc8")
    assert lab.state[RAX] == KERNEL_CS | 1
    lab.run("fa9c58")
    assert lab.state[RAX] & IF
    lab.run("0f00c8")
    assert lab.state[RAX] != TSS_SELECTOR
    lab.run("0f010b", rbx=DATA)
    assert int.from_bytes(lab.physical.read(DATA + 2, 8), "little") != IDT


def test_the_guest_cannot_reach_the_monitors_memory(lab: MonitorLab) -> None:
    slot = 0xFFFF_FE80_0000_0000
    assert lab.run(STORE, rbx=slot, rax=0) == {"page-fault": 1} and lab.vector() == 14
    assert lab.run("8ed8", rax=KERNEL_SS) == {}  # mov ds: the descriptors are whole


# -- a kernel ----------------------------------------------------------------------------------------------------------
def test_the_teaching_kernel_passes_its_own_test() -> None:
    result = boot("guest-native", stdin="usertest\nexit\n", technique="trap-emulate", timeout=120)
    assert "usertest: ok" in result.output


def test_all_benchmarks_come_to_their_end() -> None:
    script = "".join(f"measure {name} 4\n" for name in BENCHES)
    result = boot("guest-native", stdin=script + "exit\n", technique="trap-emulate", timeout=120)
    assert re.findall(r"^(\S+): ok 4\r?$", result.output, re.M) == BENCHES
