# SPDX-License-Identifier: GPL-2.0-or-later
"""binary-translation: what is rewritten, when, and that the guest can never tell; a whole kernel.

The programs are written so that a sensitive instruction that was executed instead of rewritten gives another result:
PUSHF with interrupts off, MOV from CS, SGDT.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from ctypes import CFUNCTYPE

import pytest

from pvhv.hvm.monitor import translator
from pvhv.hvm.techniques import binary_translation
from pvhv.hvm.techniques.bare import Bare
from pvhv.hvm.techniques.binary_translation import FAULTS_BEFORE, BinaryTranslation
from pvhv.hvm.techniques.trap_emulate import TrapEmulate
from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine.cpustate import IF, RAX, RBX, RCX, RIP, RSP
from pvhv.testing import boot
from tests.hvm.hw_lab import CODE, CR0, DATA, IDT, KERNEL_CS, L1, STACK, TABLE, TSS, D, HwLab
from tests.hvm.monitor_lab import MonitorLab
from tests.hvm.test_trap_emulate import BENCHES, EXITS, LOAD, STORE, USERS, enter_user

AT = CODE + 0x700  # where code is put that is to stay


@pytest.fixture
def lab() -> Iterator[MonitorLab]:
    made = MonitorLab(BinaryTranslation)
    made.run(LOAD, rbx=DATA)  # data, stack and page tables have been used before
    made.run("50" + LOAD, rbx=L1)
    made.physical.write(TSS + 102, b"\x68\0")  # no ports for users
    yield made
    made.close()


def put(lab: MonitorLab, code: str, at: int = AT) -> None:
    """Code, told to nobody but the monitor."""
    lab.technique.cpu.memory.write(at, bytes.fromhex(code) + b"\xf4")


def go(lab: MonitorLab, at: int = AT) -> dict[str, int]:
    lab.state[RIP], lab.state[RSP] = at, STACK
    return lab.resume()


def test_the_way_into_long_mode() -> None:
    """What trapped under trap-emulate is a callout, and so are the far jump and the loads of data segments."""
    lab = MonitorLab(BinaryTranslation)
    assert lab.entry_exits == {"page-fault": 2}
    assert lab.callouts == {
        "mov-to-cr4": 1, "mov-to-cr3": 1, "wrmsr": 1, "mov-to-cr0": 1, "lgdt": 1, "lidt": 1, "ltr": 1, "mov-seg": 3,
        "jmp-far": 1,
    }  # fmt: skip


SENSITIVE = {
    "cpuid": {"cpuid": 1}, "pushfq; popfq": {"pushf": 1, "popf": 1}, "sgdt [rbx]": {"sgdt": 1},
    "sidt [rbx]": {"sidt": 1}, "str eax": {"str": 1}, "smsw eax": {"smsw": 1}, "mov ds, eax": {"mov-seg": 1},
}  # fmt: skip


@pytest.mark.parametrize("what, code, registers, exits", EXITS, ids=[row[0] for row in EXITS])
def test_callouts(lab: MonitorLab, what: str, code: str, registers: dict[str, int], exits: dict[str, int]) -> None:
    """Everything that is privileged or sensitive; no exits but for a store to a page table."""
    taken = lab.run(code, **registers)
    if "trace" in exits:
        assert taken == exits and lab.callouts == {}
    else:
        assert taken == {} and lab.callouts == (exits or SENSITIVE.get(what, {}))


def test_the_guest_sees_its_own_machine(lab: MonitorLab) -> None:
    lab.run("8cc8")
    assert lab.state[RAX] == KERNEL_CS
    lab.run("fa9c58")
    assert not lab.state[RAX] & IF
    lab.run("0f010b", rbx=DATA)
    assert int.from_bytes(lab.physical.read(DATA + 2, 8), "little") == IDT
    lab.run("0f01e0")
    assert lab.state[RAX] == CR0
    lab.run("6800320000 9d 9c 58".replace(" ", ""))
    assert lab.state[RAX] & 0x3200 == 0x3200


@pytest.mark.parametrize("_what, code", USERS, ids=[row[0] for row in USERS])
def test_user_code_runs_directly(lab: MonitorLab, _what: str, code: str) -> None:
    assert enter_user(lab, code, rbx=DATA, rdx=0x80) == {"general-protection": 1}
    assert lab.callouts == {"iret": 1} and lab.vector() == 13


def test_user_code_with_the_interrupts_off_does_not(lab: MonitorLab) -> None:
    """Its PUSHF must show the guest's IF and IOPL, which are not the processor's."""
    for flags in (0, IF, 3 << 12, IF | 3 << 12):
        enter_user(lab, "9c58", flags=flags)
        assert lab.vector() == 6 and lab.state[RAX] & (IF | 3 << 12) == flags


# -- code as it is found -----------------------------------------------------------------------------------------------
def test_blocks_are_counted_once(lab: MonitorLab) -> None:
    """Two blocks: to the jump, and behind it to HLT."""
    put(lab, "90eb009090")
    before = lab.counts.events["translated_blocks"]
    for _ in range(3):
        go(lab)
        assert lab.counts.events["translated_blocks"] == before + 2


def test_the_guests_bytes_stay_what_they_are(lab: MonitorLab) -> None:
    """A kernel that reads its own code finds what it wrote."""
    put(lab, "fa9c58488b0df6ffffff")  # cli; pushfq; pop rax; mov rcx, [rip - 10]
    for _ in range(3):
        assert go(lab) == {} and lab.callouts == {"cli": 1, "pushf": 1}
        assert lab.state[RCX].to_bytes(8, "little").hex() == "fa9c58488b0df6ff"


def test_instructions_within_instructions(lab: MonitorLab) -> None:
    """mov eax, imm32 whose immediate is `pushfq; pop rax; hlt; nop`: entered at both ends, in both orders."""
    for order in ((0, 1, 0, 1), (1, 0, 1, 0)):
        lab.run("fa")
        put(lab, "b89c58f490")
        for entered in order:
            go(lab, AT + entered)
            if entered:
                assert not lab.state[RAX] & IF and lab.callouts == {"pushf": 1}
            else:
                assert lab.state[RAX] == 0x90F4_589C and lab.callouts == {}


def test_data_among_code_is_not_decoded(lab: MonitorLab) -> None:
    """Behind a jump lie bytes that would be CLI; nothing happens to them, and the jump's target is found."""
    put(lab, "eb04fafafafa8cc8")
    go(lab)
    assert lab.state[RAX] == KERNEL_CS and lab.callouts == {"mov-seg": 1}


@pytest.mark.parametrize("transfer", ["ffd0", "50ff1424", "ffe0", "50c3", "6a085048cb"])
def test_targets_that_only_running_shows(lab: MonitorLab, transfer: str) -> None:
    """Calls and jumps by a register or by memory, a return to what was pushed, a far return."""
    put(lab, "8cc9", AT + 0x40)  # mov ecx, cs
    put(lab, transfer)
    lab.state[RAX], lab.state[RCX] = AT + 0x40, 0
    go(lab)
    assert lab.state[RCX] == KERNEL_CS and lab.state[RIP] == AT + 0x43


def test_code_across_pages(lab: MonitorLab) -> None:
    """A block, and an instruction of it, that begin in one page and end in the next."""
    at = CODE + 0x5000 - 2
    put(lab, "90660f20c0", at)  # mov rax, cr0 with a prefix in front
    go(lab, at)
    assert lab.state[RAX] == CR0 and lab.callouts == {"mov-from-cr0": 1}


# -- code that changes -------------------------------------------------------------------------------------------------
CHANGES = [  # code, what RAX & mask is then, callouts
    ("fa9c58", IF, 0, {"cli": 1, "pushf": 1}),
    ("0f20c0", ~0, CR0, {"mov-from-cr0": 1}),
    ("8cc8", ~0, KERNEL_CS, {"mov-seg": 1}),
    ("b805000000", ~0, 5, {}),
    ("31c0", ~0, 0, {}),
    ("908cc8", ~0, KERNEL_CS, {"mov-seg": 1}),
]


@pytest.mark.parametrize("alias", [False, True])
def test_self_modified_code(lab: MonitorLab, alias: bool) -> None:
    """The guest stores other code where it ran code, at the same address or through another mapping of the page."""
    target = AT
    if alias:
        target = DATA + 0x1000 + AT % 4096
        lab.set_entry(DATA + 0x1000, AT & ~0xFFF | TABLE | D)
    choose = random.Random(7)
    for _ in range(40):
        code, mask, value, callouts = choose.choice(CHANGES)
        word = int.from_bytes((bytes.fromhex(code) + b"\xf4").ljust(8, b"\x90"), "little")
        lab.run(STORE, rbx=target, rax=word)
        go(lab)
        assert lab.state[RAX] & mask == value and lab.callouts == callouts, code


def test_a_block_that_rewrites_itself(lab: MonitorLab) -> None:
    """A store into the instructions right behind it: NOP NOP become MOV EAX, CS."""
    for _ in range(2):
        put(lab, "66c705000000008cc8" + "9090")  # mov word [rip], 0xc88c
        lab.state[RAX] = 0
        go(lab)
        assert lab.state[RAX] == KERNEL_CS


def test_a_store_to_code_is_an_exit(lab: MonitorLab) -> None:
    """The page was write-protected while there were translations from it."""
    put(lab, "90", CODE + 0x4000)
    go(lab, CODE + 0x4000)
    assert lab.run(STORE, rbx=CODE + 0x4800) == {"code-write": 1}
    assert lab.run(STORE, rbx=CODE + 0x4800) == {}


def test_a_page_that_becomes_another(lab: MonitorLab) -> None:
    """The same address, other code: by the guest's own change of its tables."""
    page, other = DATA + 0x2000, DATA + 0x3000
    put(lab, "8cc8", page)
    put(lab, "b8070000000f20c0", other)
    for to, value in ((page, KERNEL_CS), (other, CR0), (page, KERNEL_CS), (other, CR0)):
        lab.run(STORE + "0f0139", rbx=L1 + (page >> 12) * 8, rax=to | TABLE | D, rcx=page)
        go(lab, page)
        assert lab.state[RAX] == value


# -- adapting ----------------------------------------------------------------------------------------------------------
def test_stores_to_page_tables_are_adapted(lab: MonitorLab) -> None:
    put(lab, STORE, AT)
    for n in range(FAULTS_BEFORE + 3):
        lab.state[RBX], lab.state[RAX] = L1 + 0x1F0 * 8, (0x100 + n) << 12 | TABLE | D
        taken = go(lab)
        if n < FAULTS_BEFORE:
            assert (taken, lab.callouts) == ({"trace": 1}, {})
        else:
            assert (taken, lab.callouts) == ({}, {"trace": 1})
        assert lab.physical.word(L1 + 0x1F0 * 8) == lab.state[RAX]
    lab.state[RBX] = DATA  # what is no page table is stored to just the same
    go(lab)
    assert lab.physical.word(DATA) == lab.state[RAX]
    put(lab, LOAD, AT)  # and another instruction there is not taken for it
    lab.state[RAX] = 0
    go(lab)
    assert lab.physical.word(DATA) == lab.state[RAX] != 0


# -- exact counts ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("technique", [TrapEmulate, BinaryTranslation])
def test_instructions_are_counted_to_the_unit(technique: type[TrapEmulate] | type[BinaryTranslation]) -> None:
    """Against a hook on every instruction."""
    lab = MonitorLab(technique)
    tried = 0

    def one() -> None:
        nonlocal tried
        tried += 1

    lab.guest.pcpu._engine.add_hook(uc.HOOK_CODE, CFUNCTYPE(None)(one))
    for frame in lab.physical.mfns:
        lab.guest.pcpu.forget_code(frame)
    pcpu = lab.guest.pcpu
    program = "b90a000000 fa 9c 58 0f20c0 fb 90 48890b ffc9 75f1".replace(" ", "")
    before, tried = pcpu.executed, 0
    lab.run(program, rbx=L1 + 0x1F0 * 8)
    lab.run(program, rbx=DATA)
    assert pcpu.executed - before == tried > 150


# Alike on a machine of its own, whatever comes before: every sensitive instruction, some others, and short jumps.
PIECES = [
    "fa", "fb90", "9c58", "9c5b", "51 9d 9c 5a", "0f20c0", "0f20d9", "0f20d8 0f22d8", "0f20e2", "0f06", "0f01e0",
    "66b83100 0f01f0", "8cc8", "8cd3", "8cda", "0f010425 00000300",
    "0f010c25 10000300", "0f00c8", "0f00c3", "b810000000 0f02d0", "b808000000 0f03d0", "b818000000 0f00e0",
    "b820000000 0f00e8", "b81b000000 8ee0", "8ce1", "b810000000 8ed0", "6a08 488d0502000000 50 48cb",
    "b9800000c0 0f32", "b9820000c0 31d2 0f30", "0f01f8", "440f20c0", "4889d8", "48ffc3", "f9 4811d8", "f8", "fd", "fc",
    "50 5a", "e800000000 5a", "eb00", "7200", "48891c25 20000300", "480fb11c25 20000300", "0f23c3", "0f21c2", "0f09",
    "0f013c25 00000300", "31c9 0f00d1", "0f00c1",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_the_same_end_as_on_a_machine_of_its_own(seed: int) -> None:
    """Random walks through these leave the same registers, flags and memory as without a monitor."""
    choose = random.Random(seed)
    code = "".join(choose.choice(PIECES) for _ in range(60)).replace(" ", "")
    ends = []
    for technique, kind in ((Bare, HwLab), (BinaryTranslation, MonitorLab)):
        lab = kind(technique)
        for _ in range(2):  # the second time it is all translated
            lab.run(code, rax=seed, rbx=3, rcx=1, rdx=2)
        cpu = lab.technique.cpu
        memory = lab.physical.read(DATA, 64), lab.physical.read(STACK - 64, 64), lab.physical.read(L1, 4096)
        segments = [cpu.segment(register).selector for register in range(cs.ES, cs.TR + 1, 3)]
        ends.append((lab.state[0:17].tolist(), cpu.rflags, segments, memory, cpu.cr0, cpu.cr3))
        lab.close()
    for own, translated in zip(*ends, strict=True):
        assert own == translated


# -- a kernel ----------------------------------------------------------------------------------------------------------
def test_the_teaching_kernel_passes_its_own_test() -> None:
    result = boot("guest-native", stdin="usertest\nexit\n", technique="binary-translation", timeout=120)
    assert "usertest: ok" in result.output
    # No instruction of the kernel's traps; these are faults, and what user code does.
    assert set(result.counters.exits) <= {
        "page-fault", "trace", "code-write", "syscall", "int", "interrupt", "divide-error", "general-protection",
        "invalid-opcode", "device-not-available",
    }  # fmt: skip


def test_all_benchmarks_come_to_their_end() -> None:
    script = "".join(f"measure {name} 4\n" for name in BENCHES)
    result = boot("guest-native", stdin=script + "exit\n", technique="binary-translation", timeout=120)
    assert re.findall(r"^(\S+): ok 4\r?$", result.output, re.M) == BENCHES


# -- bounds ------------------------------------------------------------------------------------------------------------
def test_what_is_remembered_of_a_guest_is_bounded(lab: MonitorLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translator, "MOST_BLOCKS", 8)
    monkeypatch.setattr(binary_translation, "MOST_COUNTED", 4)
    technique = lab.technique
    assert isinstance(technique, BinaryTranslation)
    for n in range(40):  # the same store, at another place each time
        put(lab, STORE, AT + 8 * n)
        lab.state[RBX], lab.state[RAX] = L1 + 0x1F0 * 8, (0x100 + n) << 12 | TABLE | D
        go(lab, AT + 8 * n)
        assert lab.physical.word(L1 + 0x1F0 * 8) == lab.state[RAX]
        assert 0 < len(technique.translator._blocks) <= 8 and len(technique._faults) <= 4
    monkeypatch.setattr(translator, "MOST_CALLOUTS", len(technique.translator.callouts) + 3)
    with pytest.raises(AssertionError, match=r"more than \d+ sensitive instructions"):
        for n in range(8):
            put(lab, "9c58", AT + 8 * n)  # pushf; pop %rax
            go(lab, AT + 8 * n)
