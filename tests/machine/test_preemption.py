# SPDX-License-Identifier: GPL-2.0-or-later
"""No stop, wherever it comes from, makes a guest execute an instruction twice or not at all."""

from __future__ import annotations

import ctypes
import threading
import time

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import pacer as pace
from pvhv.machine import running, seam
from pvhv.machine.engine import target
from tests.machine.lab import CODE, DATA, KINDS, STACK, Done, Lab

# Each loop adds one to memory (and to R12) in ways that show a repetition, until [rbx+128] is set.
LOOPS = {
    # inc, lock xadd, lock inc, add; bts+adc and btr+adc count how often the bit was found set
    "read-modify-write": "48ff03 b801000000 f0480fc14308 f0ff4310 83431401 480fba6b1805 4883532000 "
    "480fba731805 4883532800 49ffc4 4883bb8000000000 74c7 0f05",
    # rep movsb of 64 bytes, incb of a source byte, add
    "rep-movsb": "488db300010000 488dbb00020000 b940000000 f3a4 fe8300010000 48830301 49ffc4 "
    "4883bb8000000000 74d4 0f05",
    # push, pop, xchg, xor, push [m], add [rsp], pop [m]
    "stack": "4154 58 48874308 4883731001 ff33 4883042401 8f03 49ffc4 4883bb8000000000 74de 0f05",
}  # fmt: skip


def check(name: str, lab: Lab) -> None:
    words = lab.ram.words[DATA // 8 : DATA // 8 + 128]
    rounds = lab.state[cs.R12]
    assert rounds > 100
    if name == "read-modify-write":
        low = rounds & 0xFFFF_FFFF
        assert (words[0], words[1], words[2]) == (rounds, rounds, low | low << 32)
        assert (words[3], words[4], words[5]) == (0, 0, rounds)
    elif name == "rep-movsb":
        data = lab.ram.bytes[DATA : DATA + 1024]
        assert words[0] == rounds
        assert (data[256], data[512]) == (rounds & 255, rounds - 1 & 255)
        assert bytes(data[257:320]) == bytes(data[513:576])
    else:
        assert (words[0], words[1], words[2]) == (rounds, rounds - 1, rounds & 1)
        assert lab.state[cs.RSP] == STACK


def start(name: str, kind: str) -> Lab:
    lab = Lab(kind)
    lab.state[cs.RBX], lab.state[cs.RIP] = DATA, lab.put(LOOPS[name])
    lab.ram.bytes[DATA + 256 : DATA + 320] = bytes(range(64))
    return lab


def finish(lab: Lab) -> None:
    lab.ram.words[DATA // 8 + 16] = 1
    with pytest.raises(Done):
        lab.pcpu.run()


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
def test_ticks(name: str, kind: str) -> None:
    lab = start(name, kind)
    stops = 1500 if kind == "wall" else 250
    for n in range(stops):
        lab.pcpu.run_wall(time.monotonic_ns() + 60_000 + n * 7 % 40_000)
        assert not lab.pcpu.stop_pending
    finish(lab)
    check(name, lab)
    lab.close()


@pytest.mark.parametrize("name", LOOPS)
def test_budgets(name: str) -> None:
    lab = start(name, "virtual")
    for n in range(4000):
        before = lab.pcpu.executed
        lab.pcpu.run(1 + n % 61)
        assert 0 <= lab.pcpu.executed - before - (1 + n % 61) < 512
    finish(lab)
    check(name, lab)
    lab.close()


def test_without_the_switch_the_engines_own_stop_would_corrupt() -> None:
    """The control: these loops do find double execution where nothing prevents it."""
    lab = start("read-modify-write", "wall-block")
    engine = uc.Engine()  # no hooks of ours at all: the same state, and a thread that stops it
    engine.map(0, lab.ram.size, lab.ram.address)
    live = cs.find_live(engine)
    assert live is not None
    state = memoryview((ctypes.c_char * cs.STATE_BYTES).from_address(live)).cast("B")
    state[: cs.SAVED_BYTES] = lab.pcpu.save()
    state.cast("Q")[cs.HFLAGS] &= ~(cs.HF_GUEST | cs.HF_SVME)
    uc.uc_ctl(engine.handle, uc.CTL_FLUSH_TLB)
    over = threading.Event()

    def nag() -> None:
        while not over.wait(0.0002):
            uc.uc_emu_stop(engine.handle)

    thread = threading.Thread(target=nag)
    thread.start()
    words = state.cast("Q")
    corrupt = False
    for _ in range(40_000):  # it takes a few hundred, and on some days more
        uc.uc_emu_start(engine.handle, words[cs.RIP], 0, 0, 0)
        corrupt = lab.ram.words[DATA // 8] > words[cs.R12] + 1
        if corrupt:
            break
    over.set()
    thread.join()
    assert corrupt
    engine.close()
    lab.close()


@pytest.mark.skipif(target() != "linux-x86_64", reason="blocks are eased by writing over this platform's code")
def test_blocks_look_for_a_stop_by_themselves() -> None:
    lab = Lab("wall")
    words = lab.pcpu._words
    eased = words[pace.EASED]
    assert bool(eased) != seam.corrected  # those of the proof; the corrected engine needs none
    if seam.corrected:
        return
    lab.state[cs.RIP] = lab.put("48ffc0 75fb ebfe")  # inc rax; jne to it; jmp to itself
    lab.state[cs.RAX] = -100 & 0xFFFF_FFFF_FFFF_FFFF
    give_up = time.monotonic() + 60
    while words[pace.EASED] < eased + 2 and time.monotonic() < give_up:
        lab.pcpu.run_wall(time.monotonic_ns() + 1_000_000)
    for _ in range(3):
        lab.pcpu.run_wall(time.monotonic_ns() + 1_000_000)
    assert lab.state[cs.RIP] == CODE + 5 and lab.state[cs.RAX] == 0
    assert words[pace.EASED] == eased + 2  # each once
    for kind in ("virtual", "wall-block", "wall-copy"):
        assert not Lab(kind).pcpu._words[pace.EASED]
    lab.close()


@pytest.mark.parametrize("kind", ["wall", "virtual", "wall-block"])
@pytest.mark.parametrize("before", [True, False])
def test_a_deadline_that_another_thread_brings_forward(kind: str, before: bool) -> None:
    """Whether the run has begun or not."""
    lab = Lab(kind)
    lab.state[cs.RIP] = lab.put("ebfe")
    began = time.monotonic()
    for _ in range(20):
        sooner = threading.Timer(0.0 if before else 0.002, lambda: lab.pcpu.stop_by(time.monotonic_ns() + 300_000))
        sooner.start()
        if before:
            sooner.join()
        lab.pcpu.run_wall(time.monotonic_ns() + 60_000_000_000)
        sooner.join()
    assert time.monotonic() - began < 60
    lab.close()


@pytest.mark.parametrize("kind", ["wall", "virtual", "wall-block"])
def test_stop_from_any_thread_is_never_lost(kind: str) -> None:
    lab = Lab(kind)
    lab.state[cs.RIP] = lab.put("ebfe")
    asked, answered = threading.Semaphore(0), threading.Semaphore(0)

    def stopper() -> None:
        for n in range(300):
            asked.acquire()
            if n % 3:
                time.sleep(0.00002 * (n % 7))
            lab.pcpu.stop()
            answered.release()

    thread = threading.Thread(target=stopper)
    thread.start()
    for _ in range(300):
        asked.release()
        if kind == "virtual":
            lab.pcpu.run()
        else:
            lab.pcpu.run_wall(time.monotonic_ns() + 60_000_000_000)
        answered.acquire()
    thread.join()
    lab.close()


def test_stop_between_runs_ends_the_next_at_once() -> None:
    for kind in KINDS:
        lab = Lab(kind)
        lab.state[cs.RIP] = lab.put("48ffc0 0f05")
        lab.pcpu.stop()
        assert lab.pcpu.stop_pending
        lab.pcpu.run()
        assert lab.state[cs.RIP] == CODE and not lab.pcpu.stop_pending
        lab.close()


def test_a_tick_is_not_early_and_not_very_late() -> None:
    lab = Lab("wall")
    lab.state[cs.RIP] = lab.put("ebfe")
    late = []
    for _ in range(20):
        deadline = time.monotonic_ns() + 2_000_000
        lab.pcpu.run_wall(deadline)
        late.append(time.monotonic_ns() - deadline)
    assert min(late) >= 0
    assert min(late) < 20_000_000  # the host may be busy
    lab.close()


def budget_trail(budgets: list[int], disturb: bool) -> list[tuple[int, int, int]]:
    lab = start("rep-movsb", "virtual")
    over = threading.Event()

    def disturber() -> None:
        while not over.wait(0.0003):
            lab.pcpu.stop()

    thread = threading.Thread(target=disturber)
    if disturb:
        thread.start()
    trail = []
    for budget in budgets:
        goal = lab.pcpu.executed + budget
        while (left := goal - lab.pcpu.executed) > 0:
            lab.pcpu.run(left)
        trail.append((lab.state[cs.RIP], lab.state[cs.RCX], lab.pcpu.executed))
    over.set()
    if disturb:
        thread.join()
    lab.close()
    return trail


def test_budgets_end_at_the_same_instruction_whatever_disturbs() -> None:
    budgets = [1 + n * n % 50_000 for n in range(300)]
    assert budget_trail(budgets, False) == budget_trail(budgets, True)


@pytest.mark.parametrize("kind", [*KINDS])
def test_what_the_engine_remembers_of_blocks_is_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "MOST_BLOCKS", 20)
    lab = Lab(kind)
    words, state = lab.pcpu._words, lab.state
    # Thirty blocks in a row, then a system call; in each round other code lies there.
    rounds = 6
    lab.pcpu.on_syscall = lab.pcpu.stop
    state[cs.CR2] = 0x1234
    for number in range(rounds):
        state[cs.RAX], state[cs.RIP] = 0, lab.put("48ffc0 eb00" * 30 + "90" * number + "0f05")
        lab.pcpu.forget_code(CODE >> 12)
        before = words[pace.EXECUTED]
        lab.pcpu.run()
        assert state[cs.RAX] == 30 and state[cs.CR2] == 0x1234
        if lab.pcpu.virtual:
            assert words[pace.EXECUTED] - before == 61 + number
        if not seam.corrected:  # the corrected engine remembers nothing of them
            assert words[pace.BLOCKS] <= 20 + 31 + 5
    lab.close()
