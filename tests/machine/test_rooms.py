# SPDX-License-Identifier: GPL-2.0-or-later
"""The small rooms: RAM, page-table walk, clocks, ticker, safe reads, and the engine's numbers."""

from __future__ import annotations

import ctypes
import random
import time

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import pacer, paging
from pvhv.machine.clock import VIRTUAL_START_NS, VirtualClock, WallClock
from pvhv.machine.hostmem import read_safely
from pvhv.machine.paging import PTE_NX, PTE_PRESENT, PTE_PSE, PTE_RW
from pvhv.machine.pcpu import PCPU
from pvhv.machine.ram import Ram
from pvhv.machine.ticker import Ticker
from tests.machine.lab import DATA, Lab


def test_ram_is_one_memory_seen_three_ways() -> None:
    ram = Ram(4)
    ram.words[3 * 512 + 1] = 0x1122_3344_5566_7788
    assert bytes(ram.bytes[3 * 4096 + 8 : 3 * 4096 + 16]) == bytes.fromhex("8877665544332211")
    assert ctypes.c_uint64.from_address(ram.address + 3 * 4096 + 8).value == 0x1122_3344_5566_7788
    ram.frame(3)[8] = 0
    assert ram.words[3 * 512 + 1] == 0x1122_3344_5566_7700
    ram.words[2 * 512] = 5
    ram.discard(3)
    assert ram.words[3 * 512 + 1] == 0 and ram.words[2 * 512] == 5
    with pytest.raises(IndexError):
        ram.words[4 * 512]
    with pytest.raises(ValueError, match="memory"):
        Ram(0)


def test_ram_costs_nothing_until_used() -> None:
    def resident() -> int:
        try:
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096
        except OSError:
            pytest.skip("needs /proc (Linux)")

    before = resident()
    ram = Ram(1 << 18)  # 1 GiB
    ram.words[-1] = 1
    assert resident() - before < 1 << 20


def test_walk_finds_what_the_engine_finds() -> None:
    lab = Lab()
    words = lab.ram.words
    words[3 * 512 + 5] = 0 | PTE_PRESENT | PTE_RW | PTE_PSE | PTE_NX  # 2 MiB at 0xa00000
    words[2 * 512 + 1] = 0 | PTE_PRESENT | PTE_RW | PTE_PSE | PTE_NX  # 1 GiB at 0x40000000
    dice = random.Random(3)
    for _ in range(200):
        va = dice.choice([DATA, 0xA0_0000, 0x4000_0000]) + dice.randrange(0x3_0000 // 8) * 8
        physical = paging.translate(words, 0x1000, va)
        assert physical is not None
        before, words[physical // 8] = words[physical // 8], 0xBEEF_0000 + va
        lab.state[cs.RBX] = va
        lab.run(lab.put("488b03 0f05"))
        assert lab.state[cs.RAX] == 0xBEEF_0000 + va
        words[physical // 8] = before
    lab.close()


def test_walk_says_where_it_ended() -> None:
    words = Ram(8).words
    words[1 * 512 + 2], words[2 * 512 + 3] = 2 << 12 | 7, 9 << 12 | 7
    va = 2 << 39 | 3 << 30 | 4 << 21 | 5 << 12
    assert paging.walk(words, 0x1018, 0) == (0, 4, 0x1000)
    assert paging.walk(words, 0x1000, 2 << 39) == (0, 3, 0x2000)
    assert paging.walk(words, 0x1000, va) == (0, 2, 0x9020)  # a table outside RAM has nothing
    words[2 * 512 + 3] = 3 << 12 | 7
    words[3 * 512 + 4] = 4 << 12 | 7
    words[4 * 512 + 5] = 6 << 12 | 1
    assert paging.walk(words, 0x1000, va) == (6 << 12 | 1, 1, 0x4028)
    assert paging.translate(words, 0x1000, va + 0x123) == 0x6123
    assert paging.translate(words, 0x1000, va + 0x1000) is None
    assert [paging.table_index(va, level) for level in (4, 3, 2, 1)] == [2, 3, 4, 5]
    assert paging.is_canonical(0x7FFF_FFFF_FFFF) and paging.is_canonical(0xFFFF_8000_0000_0000)
    assert not paging.is_canonical(1 << 47)


def test_virtual_clock_counts_instructions_and_skips_idle_time() -> None:
    executed = 100
    clock = VirtualClock()
    assert (clock.now_ns(), clock.wallclock()) == (0, VIRTUAL_START_NS)
    clock.attach(lambda: executed)
    executed = 150
    assert clock.now_ns() == 50
    clock.skip_to(1000)
    executed = 160
    assert clock.now_ns() == 1010
    clock.skip_to(5)
    assert clock.now_ns() == 1010
    with pytest.raises(RuntimeError):
        clock.attach(lambda: 0)
    clock.detach()
    executed = 9999
    assert clock.now_ns() == 1010
    clock.attach(lambda: executed)
    executed += 1
    assert clock.wallclock() == VIRTUAL_START_NS + 1011


def test_wall_clock_is_the_hosts() -> None:
    clock = WallClock()
    first = clock.now_ns()
    assert 0 <= first < 1_000_000_000 and clock.now_ns() >= first
    assert abs(clock.wallclock() - time.time_ns()) < 1_000_000_000


def test_ticker_repeats_until_disarmed_and_takes_earlier_deadlines() -> None:
    calls: list[int] = []
    ticker = Ticker(lambda: calls.append(time.monotonic_ns()))
    for _ in range(3):
        calls.clear()
        start = time.monotonic_ns()
        ticker.arm(start + 60_000_000_000)
        ticker.arm_by(start + 3_000_000)
        ticker.arm_by(start + 90_000_000_000)
        while len(calls) < 3 and time.monotonic_ns() < start + 2_000_000_000:
            time.sleep(0.001)
        ticker.disarm()
        assert len(calls) >= 3 and calls[0] >= start + 3_000_000
    calls.clear()
    time.sleep(0.02)
    assert len(calls) <= 1  # one may have been on its way
    ticker.close()


def test_an_earlier_deadline_is_heard_after_the_function_gave_a_later_one() -> None:
    calls: list[int] = []

    def later() -> int | None:
        calls.append(time.monotonic_ns())
        return calls[0] + 60_000_000_000 if len(calls) == 1 else None

    ticker = Ticker(later)
    ticker.arm(time.monotonic_ns())
    while not calls:
        time.sleep(0.001)
    time.sleep(0.01)  # it sleeps now, for a minute
    ticker.arm_by(time.monotonic_ns() + 1_000_000)
    end = time.monotonic_ns() + 5_000_000_000
    while len(calls) < 2 and time.monotonic_ns() < end:
        time.sleep(0.001)
    ticker.disarm()
    ticker.close()
    assert len(calls) >= 2


def test_pcpus_leave_nothing_behind() -> None:
    import threading

    ram = Ram(16)
    before = threading.active_count()
    for _ in range(3):
        pcpu = PCPU(ram)
        pcpu.run_wall  # noqa: B018
        pcpu.stop()
        pcpu.run_wall(time.monotonic_ns() + 1_000_000)
        pcpu.close()
        pcpu.close()
    assert threading.active_count() == before


def test_reading_nowhere_is_not_fatal() -> None:
    word = ctypes.c_uint64(0x1234)
    assert read_safely(ctypes.addressof(word), 8) == (0x1234).to_bytes(8, "little")
    assert read_safely(8, 8) is None
    assert read_safely(1 << 60, 8) is None


def test_the_engines_numbers_are_those_of_the_package() -> None:
    names = pytest.importorskip("unicorn.x86_const")
    common = pytest.importorskip("unicorn.unicorn_const")
    for ours, theirs in {
        "REG_RIP": "RIP", "REG_CR0": "CR0", "REG_CR2": "CR2", "REG_CR3": "CR3", "REG_CR4": "CR4", "REG_DR0": "DR0",
        "REG_DR7": "DR7", "REG_XMM0": "XMM0", "REG_IDTR": "IDTR", "REG_GDTR": "GDTR", "REG_LDTR": "LDTR",
        "REG_TR": "TR", "REG_MSR": "MSR", "REG_MXCSR": "MXCSR", "REG_FS_BASE": "FS_BASE", "REG_GS_BASE": "GS_BASE",
        "REG_RFLAGS": "RFLAGS", "REG_CS": "CS", "REG_DS": "DS", "REG_ES": "ES", "REG_FS": "FS", "REG_GS": "GS",
        "REG_SS": "SS",
    }.items():  # fmt: skip
        assert getattr(uc, ours) == getattr(names, f"UC_X86_REG_{theirs}")
    order = "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15".split()
    assert list(uc.REGS_GENERAL) == [getattr(names, f"UC_X86_REG_{name}") for name in order]
    assert [getattr(cs, name) for name in order] == list(range(16))
    for name in ("CPUID", "IN", "OUT", "SYSCALL", "SYSENTER"):
        assert getattr(uc, f"INSN_{name}") == getattr(names, f"UC_X86_INS_{name}")
    for name in ("INTR", "INSN", "CODE", "BLOCK", "INSN_INVALID", "EDGE_GENERATED"):
        assert getattr(uc, f"HOOK_{name}") == getattr(common, f"UC_HOOK_{name}")


def test_the_pacers_words_are_its_structs() -> None:
    """What Python writes through a name is what C reads through the field of that name."""
    source = (pacer.Path(pacer.__file__).with_name("pacer.h")).read_text()
    body = source.split("struct pacer {")[1].split("struct entry table")[0]
    declared: list[str] = []
    for line in body.splitlines():
        text = line.split("/*")[0].strip().rstrip(";")
        if not text or "spare" in text:
            continue
        if "(*" in text:
            declared.append(text.split("(*")[1].split(")")[0])
        else:
            declared += [name.split()[-1].lstrip("*") for name in text.split(",")]
    named = {"vmexit_error_code": "ERROR_CODE_OFFSET"}
    for index, field in enumerate(declared):
        assert getattr(pacer, named.get(field, field.upper())) == index, field
    assert len(declared) * 8 <= pacer._TABLE_AT


def test_a_missing_or_foreign_pacer_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uc, "target", lambda: "plan9-mips")
    with pytest.raises(pacer.PacerMissing, match=r"plan9-mips.*dev\.py build"):
        pacer.find()
    monkeypatch.undo()
    monkeypatch.setattr(pacer, "_library", None)
    monkeypatch.setattr(pacer, "_LAYOUT", 999)
    with pytest.raises(pacer.PacerMissing, match="another version"):
        pacer.library()
