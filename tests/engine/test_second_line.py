# SPDX-License-Identifier: GPL-2.0-or-later
"""The second line, alone: with an engine that lets a guest escape, the guest is stopped and nobody else notices.

The published engine is one such: a null selector in SS gives CPL 0. It runs in a process of its own. And faults are
planted: a hook that changes, at some instruction, what no guest can change.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import pacer, seam
from pvhv.machine.guard import Escaped
from pvhv.machine.rings import KERNEL, MODE
from pvhv.testing import Machine
from tests.machine.lab import CODE, KINDS, Lab

ROOT = Path(__file__).parents[2]

# Behind `mov ss, eax` of 0: mov rax,cr3; mov cr3,rax; mov cr0,rax; clts; lmsw; mov dr7,rax; lgdt; lidt; lldt; ltr;
# rdmsr; wrmsr; hlt; invlpg; wbinvd; invd; vmrun; vmload; vmsave; stgi; clgi; a far jump nowhere; an endless loop
DEEDS = (
    "0f20d8 0f22d8 0f22c0 0f06 0f01f0 0f23f8 0f0113 0f011b 0f00d0 0f00d8 0f32 0f30 f4 0f013b 0f09 0f08 0f01d8 0f01da "
    "0f01db 0f01dc 0f01dd ff2b ebfe"
).split()

STOCK = """
import sys, time
from tests.machine.lab import CODE, DATA, Done, Lab
from pvhv.machine import cpustate as cs
from pvhv.machine.guard import Escaped
for kind in ("wall", "virtual"):
    for deed in sys.argv[1:]:
        lab = Lab(kind)
        lab.pcpu.contain()
        lab.state[cs.RAX], lab.state[cs.RBX] = 0, DATA
        lab.state[cs.RIP] = lab.put("8ed0" + deed + "ebfe")
        before = [lab.state[n] for n in (cs.CR0, cs.CR3, cs.CR4, cs.GDT + 1, cs.IDT + 1, cs.EFER)]
        try:
            for _ in range(100):  # a busy machine may give one run no time at all
                lab.pcpu.run_wall(time.monotonic_ns() + 20_000_000)
            print(kind, deed, "was not seen")
        except Escaped as escaped:
            print(kind, deed, "seen:", escaped)
        lab.pcpu.load(lab.pcpu.initial, 0x1000)
        after = [lab.state[n] for n in (cs.CR0, cs.CR3, cs.CR4, cs.GDT + 1, cs.IDT + 1, cs.EFER)]
        if before != after or lab.state[cs.HFLAGS] & 3 != 1:
            print(kind, deed, "the machine is not as it was")
        lab.run(lab.put("48ffc0 0f05"))
        lab.close()
"""


def test_on_an_engine_that_lets_it_escape_a_guest_is_stopped() -> None:
    environment = os.environ | {"PVHV_ENGINE": "stock"}
    command = [sys.executable, "-c", STOCK, *DEEDS]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(DEEDS)
    assert [line for line in lines if not re.search(r"seen: it (changed CPL|executed)", line)] == []


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    made = Lab(request.param)
    made.pcpu.contain()
    yield made
    made.close()


CHANGES = {
    "CPL": lambda state: change(state, cs.HFLAGS, 3),
    "CR0": lambda state: change(state, cs.CR0, 1 << 16),
    "CR3": lambda state: change(state, cs.CR3, 0x2000),
    "CR4": lambda state: change(state, cs.CR4, 1 << 21),
    "EFER": lambda state: change(state, cs.EFER, 1),
    "GDTR": lambda state: change(state, cs.GDT + cs.LIMIT_FLAGS, 0xFF),
    "LDTR": lambda state: change(state, cs.LDT + cs.BASE, 0x1000),
    "IDTR": lambda state: change(state, cs.IDT + cs.BASE, 0x1000),
    "TR": lambda state: change(state, cs.TR + cs.BASE, 0x1000),
}


def change(state: memoryview, word: int, bits: int) -> None:
    state[word] ^= bits


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("leave", ["0f05", "0f0b", "cd80", "0fa2", "ec", "ee"])
def test_what_no_guest_can_change_is_seen_at_its_next_exit(lab: Lab, what: str, leave: str) -> None:
    if not lab.pcpu.live:
        lab.pcpu.enter_engine = changing(lab, what)  # a hook would change a copy
    else:
        lab.pcpu.on_address(CODE + 3, lambda: CHANGES[what](lab.state))
    asked: list[str] = []
    lab.pcpu.on_cpuid = lambda: asked.append("cpuid")
    lab.pcpu.on_io = lambda *_: asked.append("io") or 0  # type: ignore[func-returns-value]
    lab.pcpu.on_int = lambda vector: asked.append("int")
    for n in range(32):
        lab.pcpu.on_exception[n] = lambda: asked.append("exception")
    lab.pcpu.on_syscall = lambda: asked.append("syscall")
    with pytest.raises(Escaped, match=what):
        lab.run(lab.put("eb01 90" + leave + "ebfe"))
    assert asked == []


def changing(lab: Lab, what: str) -> object:
    start = lab.pcpu.enter_engine

    def run(rip: int) -> int:
        CHANGES[what](lab.state)
        lab.pcpu._context.restore()  # type: ignore[union-attr]
        return start(rip)

    return run


def test_what_is_allowed_is_not_seen(lab: Lab) -> None:
    """A kernel that falls to CPL 3 by its own iretq, as Linux does, has not escaped."""
    seen: list[int] = []

    def fault() -> None:
        seen.append(lab.state[cs.HFLAGS] & 3)
        lab.finish()

    lab.pcpu.on_exception[14] = fault
    gdt = 0x14_3000
    for n, descriptor in enumerate((0, 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF)):
        lab.ram.words[gdt // 8 + n] = descriptor
    lab.pcpu.set_gdtr(gdt, 23)
    # mov rax, rsp; push 0x13; push rax; pushf; push 0x0b; lea rax, [rip+3]; push rax; iretq
    lab.run(lab.put("4889e0 6a13 50 9c 6a0b 488d0503000000 50 48cf 90 0f05"))
    assert seen == [3]


# ---- whole domains ----------------------------------------------------------------------------------------------

HOW = [0, signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGBUS, signal.SIGABRT]


@pytest.mark.skipif(not seam.corrected, reason="only the corrected engine ends its run and not the process")
def test_ten_domains_go_on_while_engines_die_under_another() -> None:
    with Machine(1024) as machine:
        typed = ["".join(f"echo {n} {i}\n" for i in range(40)) for n in range(10)]
        echoes = [
            machine.create("guest-pv", name=f"echo{n}", stdin=lines, clock="wall") for n, lines in enumerate(typed)
        ]
        for how in HOW:
            victim = machine.create("test-hello", name=f"victim{how}", clock="wall", paused=True)
            pcpu = victim.domain.timeline.cpu.pcpu
            entry = victim.domain.vcpus[0].state[cs.RIP]
            hook = pcpu._engine.add_hook(uc.HOOK_CODE, pacer.address(seam.fail_here), how, begin=entry, end=entry)
            victim.start()
            assert machine.run(victim, timeout=30)
            pcpu._engine.remove_hook(hook)
            assert victim.ended is not None and victim.ended.name == "crash"
            assert "the engine" in victim.report and f"{entry:#x}" in victim.report and "code " in victim.report
            assert "crashed: the engine" in machine.hypervisor.console.read()
        for guest in echoes:
            guest.console.typed += b"poweroff\n"
            guest.console.pump()
        assert machine.run(*echoes, timeout=60)
        for n, guest in enumerate(echoes):
            result = machine.result(guest)
            assert result.ending == "poweroff"
            assert [line for line in result.lines if re.fullmatch(r"\d+ \d+", line)] == [f"{n} {i}" for i in range(40)]


@pytest.mark.skipif(not seam.corrected, reason="only the corrected engine ends its run and not the process")
def test_a_domain_whose_engine_died_is_not_started_again_by_itself() -> None:
    """Each death costs the process what that engine had allocated: no domain file makes a loop of it."""
    with Machine() as machine:
        victim = machine.create("test-hello", name="victim", clock="wall", paused=True)
        victim.config.on_crash = "restart"
        entry = victim.domain.vcpus[0].state[cs.RIP]
        engine = victim.domain.timeline.cpu.pcpu._engine
        engine.add_hook(uc.HOOK_CODE, pacer.address(seam.fail_here), signal.SIGSEGV, begin=entry, end=entry)
        victim.start()
        assert machine.run(victim, timeout=30)
        assert victim.preserved and victim.ended is not None and victim.ended.name == "crash"
        assert "victim is kept as it is and not started again: the engine died" in machine.hypervisor.console.read()


def test_a_domain_that_escapes_is_crashed_with_a_reason() -> None:
    with Machine() as machine:
        other = machine.create("guest-pv", name="other", stdin="echo here\npoweroff\n", clock="wall")
        victim = machine.create("test-hello", name="escapee", clock="wall", paused=True)
        pcpu = victim.domain.timeline.cpu.pcpu
        entry = victim.domain.vcpus[0].state[cs.RIP]

        def escape() -> None:
            if pcpu.state[cs.HFLAGS] & MODE == KERNEL:
                pcpu.state[cs.HFLAGS] &= ~3

        pcpu.on_address(entry, escape)
        victim.start()
        assert machine.run(victim, other, timeout=30)
        assert victim.ended is not None and victim.ended.name == "crash"
        assert "it changed CPL without leaving guest code (CPL 0" in victim.report and "as the kernel)" in victim.report
        assert "here" in machine.result(other).lines
