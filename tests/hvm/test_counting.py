# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts of a fully virtualized guest are exact: instructions to the unit, exits by reason.

Instructions are counted twice, by the pacer and by the engine's own hook on each instruction (slow, and the measure of
exactness), in runs that take every turn there is: 32-bit code without paging, faults, faults while a fault is
delivered, interrupts, single steps, sleep. Exits are compared with what follows from the techniques' definitions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from ctypes import CFUNCTYPE, c_int
from pathlib import Path

import pytest

from pvhv import compare
from pvhv.compare.names import PV
from pvhv.hvm.names import BARE, BINARY_TRANSLATION, HW_NESTED, HW_SHADOW, TRAP_EMULATE
from pvhv.hvm.techniques.registry import TECHNIQUES
from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine.pcpu import PCPU
from pvhv.observe.trace import Record, Recorder
from pvhv.testing import Machine
from pvhv.toolstack.full_guest import FullGuest
from tests.hvm.hw_lab import CODE, HANDLERS, IDT, STACK, TSS, USER_CS, USER_SS, HwLab
from tests.toolstack.recipes import Recipe, shutdown

every_technique = pytest.mark.parametrize("technique", TECHNIQUES)
USER = 3


def count_each(pcpu: PCPU) -> Callable[[], tuple[int, int]]:
    """(instructions, those at CPL 3), counted one by one from now on."""
    counts, state = [0, 0], pcpu.state

    def each(_engine: int) -> None:
        counts[0] += 1
        counts[1] += state[cs.HFLAGS] & 3 == USER

    pcpu._engine.add_hook(uc.HOOK_CODE, CFUNCTYPE(None, c_int)(each))
    return lambda: (counts[0], counts[1])


# -- instructions --------------------------------------------------------------------------------------------------
def session(technique: str, hooked: bool) -> tuple[tuple[int, int], tuple[int, int], bytes]:
    """What the pacer and (if it is there) the hook counted in a whole session of the teaching kernel; what it said."""
    with Machine(32) as machine:
        typed = "usertest faults cpu maps sleep\necho a | cat\nsleep 0.1\nexit\n"
        guest = machine.create("guest-native", stdin=typed, technique=technique, memory=32)
        assert isinstance(guest, FullGuest)
        pcpu = guest.hvm.pcpu
        hook = count_each(pcpu) if hooked else lambda: (0, 0)
        machine.run(guest, timeout=60)
        result = machine.result(guest)
        assert result.ending == "poweroff"
        return (pcpu.executed, pcpu.executed_user), hook(), result.raw


@every_technique
def test_a_whole_session_to_the_unit(technique: str) -> None:
    counted, hook, said = session(technique, True)
    assert counted == hook
    assert counted[0] > 500_000 and counted[1] > 1000
    assert session(technique, False) == (counted, (0, 0), said)


def iret_to(rip: int, flags: int = 2, stack: int = STACK - 0x800) -> str:
    """push ss, rsp, rflags, cs, rip of a user; iret"""
    words = (USER_SS, stack, flags, USER_CS, rip)
    return "".join(f"68{struct.pack('<I', word).hex()}" for word in words) + "48cf"


IRETQ = "48cf"
AT = CODE + 0x100
PROGRAMS = {
    "straight": "48ffc0 48ffc3 90 90",
    "loop": "b905000000 48ffc0 ffc9 75f9",
    # ud2, whose handler halts
    "fault": "48ffc0 48ffc0 0f0b 90 90",
    # mov al, [unmapped] amid a block
    "page-fault": "48ffc0 8a042500004000 90 90",
    # the same with a stack that is not there: page fault, then double fault (whose gate has IST 1)
    "nested-fault": "bc00005000 90 8a042500004000 90",
    # int 0x80, and behind it nothing
    "int": "90 cd80 90",
    # cpuid, in, out, rdtsc in straight code
    "instructions": "90 0fa2 90 ba80000000 ec ee 90 0f31 90 b977020000 0f32 90",
    "control": "0f20c0 90 0f20d8 0f22d8 90 0f013c2500000300 90 0f20e0 0f22e0 90",
    # rep stosb over a page boundary into a page that is not there
    "rep": "bfc0ff1f00 b980000000 f3aa",
    # pushf, set TF, popf: three steps, then off again (each a #DB, whose handler is an iret)
    "steps": "9c 810c2400010000 9d 90 90 9c 812424fffeffff 9d 90",
    # to user mode, which does in
    "user": iret_to(AT + 0x40) + "90" * (0x40 - 27) + "90 90 ec 90",
    # code that rewrites itself in the same block
    "patch": f"b90a000000 880c25{struct.pack('<I', AT + 0xE).hex()} 90 b000 0401 ffc9 75f0",
}  # fmt: skip


def counted(technique: str, name: str, hooked: bool) -> tuple[int, int]:
    """Of one program's run, from the end of its machine's start."""
    lab = HwLab(TECHNIQUES[technique])
    write = lab.technique.cpu.memory.write
    write(IDT + 8 * 16 + 4, b"\x01")  # #DF has a stack of its own
    write(TSS + 36, struct.pack("<Q", STACK - 0x400))
    write(HANDLERS + 16, bytes.fromhex(IRETQ))  # #DB's
    write(TSS + 102, b"\xff\xff")  # no permission map: no port is a user's
    lab.run("5058")  # the stack is there: an instruction that has to wait for its page is counted each time it is tried
    pcpu = lab.guest.pcpu
    before = pcpu.executed, pcpu.executed_user
    hook = count_each(pcpu) if hooked else None
    lab.run(PROGRAMS[name].replace(" ", ""))
    result = hook() if hook else (pcpu.executed - before[0], pcpu.executed_user - before[1])
    if hook:
        assert result == (pcpu.executed - before[0], pcpu.executed_user - before[1])
    lab.close()
    return result


@every_technique
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_to_the_unit(technique: str, name: str) -> None:
    without, with_hook = counted(technique, name, False), counted(technique, name, True)
    assert without == with_hook


# Instructions by hand: those of the program, HLT at the end, and of the handler MOV and HLT.
BY_HAND = {
    "straight": (4 + 1, 0),
    "loop": (1 + 5 * 3 + 1, 0),
    "fault": (2 + 1 + 2, 0),  # ud2 is tried
    "int": (2 + 2, 0),
    "user": (6 + 3 + 2, 3),  # five pushes and iret; nop, nop, in; the handler
}


@pytest.mark.parametrize("technique", [name for name in (BARE, HW_NESTED) if name in TECHNIQUES])
@pytest.mark.parametrize("name", BY_HAND)
def test_programs_by_hand(technique: str, name: str) -> None:
    assert counted(technique, name, False) == BY_HAND[name]


# -- exits ---------------------------------------------------------------------------------------------------------
N = 256
# (benchmark, technique) -> exits of N operations, by what the technique is.
EXITS: dict[tuple[str, str], dict[str, int]] = {
    # Every IN is the monitor's, and nothing else happens.
    ("in", TRAP_EMULATE): {"in": N},
    ("in", HW_SHADOW): {"IOIO": N},
    ("in", HW_NESTED): {"IOIO": N},
    # SYSCALL enters the kernel by itself where the kernel is at CPL 0; deprivileged, it and SYSRET come by the monitor.
    ("syscall", HW_SHADOW): {},
    ("syscall", HW_NESTED): {},
    ("syscall", TRAP_EMULATE): {"syscall": N, "sysret": N},
    ("syscall", PV): {"syscall": N, "hypercall:iret": N},
    # A fault the guest's tables say: NPT leaves it to the guest; a shadow pager must look at each.
    ("pgfault", HW_NESTED): {},
    ("pgfault", HW_SHADOW): {"PF": N},
    ("pgfault", PV): {"page-fault": N, "hypercall:iret": N},
    # No exit has to do with calls and returns.
    ("callret", TRAP_EMULATE): {},
    ("callret", BINARY_TRANSLATION): {},
    ("callret", HW_SHADOW): {},
    ("callret", HW_NESTED): {},
    ("callret", PV): {},
    ("divzero", HW_NESTED): {},
    ("divzero", HW_SHADOW): {},
    ("divzero", PV): {"divide-error": N, "hypercall:iret": N},
}  # fmt: skip


@pytest.fixture(scope="module")
def comparison() -> Iterator[compare.Comparison]:
    yield compare.run([*TECHNIQUES, PV], ["syscall", "in", "pgfault", "callret", "divzero"])


@pytest.mark.parametrize(("bench", "technique"), EXITS)
def test_exits_of_the_simplest_operations(comparison: compare.Comparison, bench: str, technique: str) -> None:
    counts = comparison.get(technique, bench)
    assert counts is not None and counts.operations == N
    assert {reason: count for reason, count in counts.exits.items() if count} == EXITS[bench, technique]


def test_under_bare_nothing_is_ever_an_exit(comparison: compare.Comparison) -> None:
    for bench in comparison.benches:
        counts = comparison.get(BARE, bench)
        assert counts is not None and counts.exits_per_operation == 0


def test_what_is_done_for_the_cpu_is_told_apart(comparison: compare.Comparison) -> None:
    """The engine executes no SYSCALL and knows no IDT; where the kernel is at CPL 0 no monitor has part in either."""
    for technique in (BARE, HW_NESTED, HW_SHADOW):
        for bench, kind in (("syscall", "syscall"), ("pgfault", "idt-delivery"), ("divzero", "idt-delivery")):
            counts = comparison.get(technique, bench)
            assert counts is not None
            assert {name: count for name, count in counts.engine_assists.items() if count} == {kind: N}


def test_all_techniques_execute_the_same_instructions(comparison: compare.Comparison) -> None:
    """It is one kernel, and none of these operations runs code of a monitor's."""
    for bench in comparison.benches:
        executed = {
            (counts.scalars["instructions.user"], counts.scalars["instructions.kernel"])
            for technique in TECHNIQUES
            if (counts := comparison.get(technique, bench))
        }
        assert len(executed) == 1, bench


def test_a_null_hypercall_is_one_exit(tmp_path: Path) -> None:
    """xen_version(XENVER_version) thirty times: thirty times one hypercall, and nothing else that is an exit."""
    call = bytes.fromhex("31ff 31f6 b811000000 0f05")  # xor edi, edi; xor esi, esi; mov eax, 17; syscall
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(Recipe(code=call * 30 + shutdown(0)).build())
    with Machine() as machine:
        guest = machine.create(kernel, memory=8, paused=True)
        records: list[Record] = []
        Recorder(machine.hypervisor).start(guest.domain, records.append)
        guest.start()
        machine.run(guest)
    calls = [record.data[0].number for record in records if record.kind == "hypercall"]
    assert calls == [17] * 30 + [29]
    assert {record.kind for record in records} <= {"hypercall", "event"}


@every_technique
def test_in_is_a_users_fault(technique: str) -> None:
    """#GP(0) at the instruction, as from the processor; under a software monitor the fault is how it comes to know."""
    lab = HwLab(TECHNIQUES[technique])
    lab.technique.cpu.memory.write(TSS + 102, b"\xff\xff")  # no permission map
    lab.run((iret_to(AT + 0x40) + "90" * (0x40 - 27) + "ec"), rdx=0x40, rax=0x1234)
    assert lab.vector() == 13
    code, rip, selector, *_ = lab.frame()
    assert (code, rip, selector) == (0, AT + 0x40, USER_CS)
    assert lab.state[cs.RAX] == 0x1234
    reasons = {reason for reason, count in lab.counts.exits.items() if count}
    assert "IOIO" not in reasons and "in" not in reasons
    lab.close()


def test_a_callout_is_not_interpreted_besides() -> None:
    """It has a price of its own: IN is a callout, and nothing is left for which to decode."""
    counts = compare.run([BINARY_TRANSLATION], ["in"]).get(BINARY_TRANSLATION, "in")
    assert counts is not None
    assert (counts.callouts, counts.scalars["emulated_instructions"]) == ({"in": N}, 0)
