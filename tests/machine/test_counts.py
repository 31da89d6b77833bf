# SPDX-License-Identifier: GPL-2.0-or-later
"""The pacer counts as the engine's own per-instruction hook does, to the unit, at every exit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import pacer, svm
from pvhv.machine.paging import PTE_NX, PTE_PRESENT, PTE_RW
from tests.machine.lab import CODE, DATA, HOLE, KINDS, STACK, Done, Lab, count_each_instruction

PROGRAMS = {
    # mov ecx,5; 1: inc rax; dec ecx; jnz 1b; syscall
    "loop": "b905000000 48ffc0 ffc9 75f9 0f05",
    # inc rax; mov rdx,[rsi] (faults, mapped, retried); inc rax; inc rax; ud2 (skipped); inc rax;
    # mov dword [rsi],7; add rax,3; syscall
    "faults": "48ffc0 488b16 48ffc0 48ffc0 0f0b 48ffc0 c70607000000 4883c003 0f05",
    # rep movsb of 100; rep stosb of 0; repne scasb; inc rax; syscall
    "rep": "4889de 488dbb00020000 b964000000 f3a4 31c9 f3aa b903000000 f2ae 48ffc0 0f05",
    # rep movsb over a page that is not there until it faults
    "rep-fault": "488dbef0ffffff 4889de b920000000 f3a4 48ffc0 0f05",
    # a loop that rewrites the immediate of a later instruction of the same block
    "patches-itself": "b90a000000 48ffc0 488d3d06000000 884f02 48ffc2 41b011 90 90 4d01c1 ffc9 75e4 0f05",
    # ... whose first instruction does it
    "patches-at-once": "b90a000000 eb00 880d05000000 48ffc0 48ffc0 b811111111 ffc9 75ec 0f05",
    # a loop that makes two nops of the next block one instruction, and back
    "repacks-next-block": "b906000000 488d3d08000000 8037f6 eb00 48ffc0 90 90 48ffc0 ffc9 75e8 0f05",
    # inc rax; syscall (sent over one inc); inc rax; inc rax; syscall
    "redirected": "48ffc0 0f05 48ffc0 48ffc0 0f05",
    # a loop entered in its middle; then cpuid, int 0x80, in, out, pause in straight code
    "mid": "b904000000 eb06 48ffc0 48ffc3 48ffc2 ffc9 75f3 eb00 0fa2 48ffc0 cd80 48ffc0 ec 48ffc0 ee f390 48ffc0 0f05",
    # call, push, pop, ret, loop
    "calls": "b903000000 e804000000 e2f9 0f05 50 5a c3",
    # push a popf of TF, three single-stepped instructions, popf without
    "single-step": "9c 58 0d00010000 50 9d 48ffc3 48ffc3 9c 812424fffeffff 9d 48ffc3 0f05",
    # 700 nops: more than a block can hold
    "long": "90" * 700 + "488b16" + "90" * 700 + "0f05",
    # 1500 bytes of nops before a page boundary, and on
    "crosses-page": "eb0e" + "90" * 14 + "e9eb0b0000" + "90" * 0xFEB * 1 + "48b81122334455667788" + "488b16" + "0f05",
}  # fmt: skip


def exits_of(kind: str, code: str, budget: Callable[[], int] | None = None) -> list[tuple[str, int, int]]:
    """Run a program; (what, RIP, instructions so far) at every exit and at its end."""
    lab = Lab(kind)
    pcpu, state = lab.pcpu, lab.state
    counted = (lambda: pcpu.executed) if pcpu.virtual else count_each_instruction(pcpu)
    seen: list[tuple[str, int, int]] = []
    syscalls = 0

    def note(what: str) -> None:
        seen.append((what, state[cs.RIP], counted()))

    def syscall() -> None:
        nonlocal syscalls
        note("syscall")
        syscalls += 1
        if code == PROGRAMS["redirected"] and syscalls == 1:
            state[cs.RIP] += 3
        else:
            raise Done

    def page_fault() -> None:
        note(f"#PF {lab.address_of_fault():x}")
        lab.map(lab.address_of_fault() & ~4095, PTE_PRESENT | PTE_RW | PTE_NX)

    def undefined() -> None:
        note("#UD")
        state[cs.RIP] += 2

    pcpu.on_syscall = syscall
    pcpu.on_exception[svm.PF] = page_fault
    pcpu.on_exception[svm.UD] = undefined
    pcpu.on_exception[svm.DB] = lambda: note("#DB")
    pcpu.on_exception[svm.GP] = lambda: (note("#GP"), state.__setitem__(cs.RIP, state[cs.RIP] + 1))
    pcpu.on_int = lambda vector: note(f"int {vector}")
    pcpu.on_cpuid = lambda: note("cpuid")
    pcpu.on_io = lambda port, size, write, value: None if write else 7
    state[cs.RBX], state[cs.RSI] = DATA, HOLE
    state[cs.RIP] = lab.put(code)
    try:
        while True:
            pcpu.run(budget() if budget else None)
    except Done:
        pass
    lab.close()
    return seen


@pytest.mark.parametrize("kind", ["virtual", "virtual-copy", "virtual-block-copy"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_counts_equal_the_instruction_hook(name: str, kind: str) -> None:
    expected = exits_of("wall", PROGRAMS[name])
    assert expected[-1][0] == "syscall"
    assert exits_of(kind, PROGRAMS[name]) == expected


@pytest.mark.parametrize("name", PROGRAMS)
def test_stops_and_resumptions_do_not_count(name: str) -> None:
    dice = random.Random(name)
    assert exits_of("virtual", PROGRAMS[name], lambda: dice.randrange(1, 9)) == exits_of("wall", PROGRAMS[name])


def test_random_programs() -> None:
    """Bytes as they come, resumed after each of six exits at a place that makes no sense."""
    counted, watched = Lab("virtual"), Lab("wall")
    sides = [(counted, lambda: counted.pcpu.executed), (watched, count_each_instruction(watched.pcpu))]
    clean = [lab.pcpu.save() for lab, _ in sides]
    dice = random.Random(11)
    compared = 0
    for _ in range(600):
        pieces = (dice.choice(PIECES) + dice.randbytes(dice.randrange(1, 5)) for _ in range(6))
        code = b"".join(pieces) + b"\x0f\x0b" * 8
        registers = [dice.choice([DATA, 0, 1, CODE, STACK, dice.getrandbits(64)]) for _ in range(16)]
        registers[cs.RSP], registers[cs.RCX] = STACK, dice.randrange(300)
        trails = []
        for (lab, executed), context in zip(sides, clean, strict=True):
            lab.ram.bytes[CODE : CODE + 8192] = bytes(8192)
            lab.pcpu.load(context)
            lab.pcpu.flush_tlb()
            lab.put(code.hex())
            for n, value in enumerate(registers):
                lab.state[n] = value
            lab.state[cs.RIP] = CODE
            trails.append(stray(lab, executed))
        # The engine's hook for each instruction spoils the flags now and then, and with them the path;
        # and the time stamp counter is refused on one side only.
        paths = [[exit_[:3] for exit_ in trail] for trail in trails]
        if paths[0] == paths[1] and len(trails[0]) == 6 and b"\x31" not in code:
            compared += 1
            assert trails[0] == trails[1], code.hex()
    assert compared > 250
    counted.close()
    watched.close()


PIECES = [bytes.fromhex(p) for p in " 48 0f f3 f3a4 f3aa 66 ffc0 9090 8805 f20f 660f".split(" ")]


def stray(lab: Lab, executed: Callable[[], int]) -> list[tuple[str, int, int, int]]:
    """(what, RIP, registers, count) of up to six exits."""
    trail: list[tuple[str, int, int, int]] = []
    begin = executed()
    state, pcpu = lab.state, lab.pcpu

    def note(what: str) -> None:
        trail.append((what, state[cs.RIP], hash(tuple(state[0:16])), executed() - begin))
        if len(trail) == 6 or state[cs.RIP] >> 12 != CODE >> 12:
            raise Done
        state[cs.RIP] += len(trail) % 4

    for vector in range(32):
        pcpu.on_exception[vector] = lambda vector=vector: note(f"exception {vector}")  # type: ignore[misc]
    pcpu.on_int, pcpu.on_cpuid = lambda vector: note("int"), lambda: note("cpuid")
    pcpu.on_io, pcpu.on_syscall = lambda port, *_: None if port & 1 else 5, lambda: note("syscall")
    try:
        if pcpu.virtual:
            pcpu.run(3000)
        else:
            pcpu.run_wall(time.monotonic_ns() + 3_000_000)
    except Done:
        pass
    return trail


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("virtual")])
@pytest.mark.parametrize("broken_off", [False, True])
def test_a_run_that_is_broken_off_at_a_fault_counts_as_one_that_is_not(kind: str, broken_off: bool) -> None:
    """What a fault leaves in RFLAGS (RF) must not make of the retried instruction another one than it is."""
    lab = Lab(kind)
    faults = 0

    def fault() -> None:
        nonlocal faults
        faults += 1
        lab.map(HOLE, PTE_PRESENT | PTE_RW | PTE_NX)
        lab.pcpu.flush_tlb()
        if broken_off:
            lab.pcpu.stop()

    lab.pcpu.on_exception[svm.PF] = fault
    lab.pcpu.on_syscall = lab.finish
    lab.state[cs.RDI], lab.state[cs.RCX] = HOLE, 3
    before = lab.pcpu.executed
    lab.run(lab.put("f3aa 0f05"))  # rep stosb
    if broken_off:
        lab.resume()
    # The try that faulted, three times, the look that finds it done, and the system call.
    assert faults == 1 and lab.pcpu.executed - before == 6
    lab.close()


def test_instruction_lengths_agree_with_a_disassembler() -> None:
    capstone = pytest.importorskip("capstone")
    dice = random.Random(1)
    length = pacer.library().pacer_length
    # What ends a block is never measured; what this engine has not got cannot have been executed.
    for mode, long_mode in ((capstone.CS_MODE_64, 1), (capstone.CS_MODE_32, 0)):
        reader = capstone.Cs(capstone.CS_ARCH_X86, mode)
        compared = 0
        while compared < 20_000:
            prefix = dice.choice([b"", b"", b"\x66", b"\xf2", b"\xf3", b"\x67", b"\x48", b"\x66\x49", b"\x64"])
            escape = dice.choice([b"", b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a"])
            code = prefix + escape + dice.randbytes(16)
            decoded = next(reader.disasm(code[:15], 0), None)
            if decoded is None or ends_block_or_absent(decoded, code):
                continue
            compared += 1
            assert length(code, long_mode) == decoded.size, f"{code.hex()} {decoded.mnemonic} {decoded.op_str}"


def ends_block_or_absent(decoded: object, code: bytes) -> bool:
    mnemonic = str(decoded.mnemonic).split()[-1]  # type: ignore[attr-defined]
    if mnemonic.startswith(("j", "call", "ret", "loop", "iret", "lcall", "ljmp", "xbegin", "xabort", "ud")):
        return True
    # AVX, AVX-512, XOP, 3DNow, PadLock
    absent = ("v", "k", "pf", "pavgusb", "femms", "xcrypt", "xsha", "xstore", "montmul")
    return mnemonic.startswith(absent) or code[0] in (0x62, 0x8F)
