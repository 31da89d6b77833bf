# SPDX-License-Identifier: GPL-2.0-or-later
"""INS, OUTS and DMA in every technique: the bytes arrive, a page is one exit, nobody keeps what was there before."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from pvhv.hvm import names
from pvhv.hvm.platform.bus import MOST_AT_ONCE
from pvhv.hvm.techniques.registry import TECHNIQUES
from pvhv.machine.cpustate import RCX, RDI, RIP, RSI
from tests.hvm.hw_lab import CODE, DATA, RW, TABLE, D, HwLab
from tests.hvm.test_stale_code import CODE_PAGE, COLLECT, OTHER, call, collected, returns

PORT = 0x300
REASONS = {
    names.BARE: None, names.TRAP_EMULATE: "ins", names.BINARY_TRANSLATION: None, names.HW_SHADOW: "IOIO",
    names.HW_NESTED: "IOIO",
}  # fmt: skip
REP_INSW, REP_INSB, REP_OUTSW, INSD = "66f36d", "f36c", "66f36f", "6d"
STD, CLD = "fd", "fc"


class Register:
    """A data register: reads count up from 1, writes are kept. `streams`: it gives and takes many at once."""

    def __init__(self, streams: bool) -> None:
        self.streams = streams
        self.last = 0
        self.taken = bytearray()

    def read(self, port: int) -> int:
        return self.read_wide(port, 1)

    def write(self, port: int, value: int) -> None:
        self.write_wide(port, 1, value)

    def read_wide(self, port: int, size: int) -> int:
        self.last += 1
        return self.last & (1 << 8 * size) - 1

    def write_wide(self, port: int, size: int, value: int) -> None:
        self.taken += value.to_bytes(size, "little")

    def read_stream(self, port: int, size: int, count: int) -> bytes | None:
        if not self.streams:
            return None
        return b"".join(self.read_wide(port, size).to_bytes(size, "little") for _ in range(count))

    def write_stream(self, port: int, size: int, data: bytes) -> bool:
        if self.streams:
            self.taken += data
        return self.streams


class Lab(HwLab):
    def plug(self, streams: bool = True) -> Register:
        register = Register(streams)
        self.guest.platform.bus.add(range(PORT, PORT + 4), register)
        return register

    def exits(self, taken: dict[str, int]) -> int:
        """How many were for the instruction."""
        return sum(count for reason, count in taken.items() if reason in ("IOIO", "ins", "outs"))


@pytest.fixture(params=TECHNIQUES)
def technique(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lab(technique: str) -> Iterator[Lab]:
    made = Lab(TECHNIQUES[technique])
    yield made
    made.close()


def counted(count: int, size: int = 2, first: int = 1) -> bytes:
    return b"".join(n.to_bytes(size, "little") for n in range(first, first + count))


@pytest.mark.parametrize("streams", [True, False])
def test_a_page_is_one_exit(lab: Lab, technique: str, streams: bool) -> None:
    register = lab.plug(streams)
    taken = lab.run(REP_INSW, rcx=128, rdi=DATA, rdx=PORT)
    assert lab.physical.read(DATA, 256) == counted(128)
    assert (lab.state[RCX], lab.state[RDI]) == (0, DATA + 256)
    assert lab.exits(taken) == (0 if REASONS[technique] is None else 1)
    taken = lab.run(REP_OUTSW, rcx=100, rsi=DATA, rdx=PORT)
    assert register.taken == counted(100) and (lab.state[RCX], lab.state[RSI]) == (0, DATA + 200)
    assert lab.exits(taken) == (0 if REASONS[technique] is None else 1)


def test_others_do_not_wait_for_a_device_without_a_data_register(lab: Lab, technique: str) -> None:
    """Some hundred accesses at a time: then the guest is left, and comes back to the same instruction."""
    register = lab.plug(streams=False)
    taken = lab.run(REP_INSB, rcx=1000, rdi=DATA, rdx=PORT)
    assert register.last == 1000 and lab.physical.read(DATA + 998, 2) == bytes((999 & 255, 1000 & 255))
    assert lab.exits(taken) == (0 if REASONS[technique] is None else -(-1000 // MOST_AT_ONCE))
    lab.run(REP_OUTSW, rcx=1000, rsi=DATA, rdx=PORT)
    assert register.taken == lab.physical.read(DATA, 2000) and lab.state[RCX] == 0


def test_what_crosses_pages_is_one_for_each(lab: Lab, technique: str) -> None:
    lab.plug()
    taken = lab.run(REP_INSW, rcx=3000, rdi=DATA + 0x800, rdx=PORT)
    assert lab.physical.read(DATA + 0x800, 6000) == counted(3000)
    assert lab.exits(taken) == (0 if REASONS[technique] is None else 2)
    lab.run(REP_INSW, rcx=4, rdi=DATA + 0xFFD, rdx=PORT)  # an element lies in two pages
    assert lab.physical.read(DATA + 0xFFD, 8) == counted(4, first=3001)


@pytest.mark.parametrize(("code", "size"), [("6e", 1), ("666f", 2), ("6f", 4), ("6c", 1), ("666d", 2), ("6d", 4)])
@pytest.mark.parametrize("streams", [True, False])
def test_elements_of_all_sizes(lab: Lab, code: str, size: int, streams: bool) -> None:
    register = lab.plug(streams)
    data = random.Random(size).randbytes(40 * size)
    lab.technique.cpu.memory.write(DATA, data)
    repeated = code[:2] + "f3" + code[2:] if code.startswith("66") else "f3" + code
    lab.run(repeated, rcx=40, rdi=DATA, rsi=DATA, rdx=PORT)
    if code.endswith(("6e", "6f")):
        assert register.taken == data and lab.state[RSI] == DATA + 40 * size
    else:
        assert lab.physical.read(DATA, 40 * size) == counted(40, size) and lab.state[RDI] == DATA + 40 * size
    assert lab.state[RCX] == 0


def test_backwards_once_and_not_at_all(lab: Lab) -> None:
    lab.plug()
    lab.run(STD + REP_INSB + CLD, rcx=3, rdi=DATA + 2, rdx=PORT)
    assert lab.physical.read(DATA, 4) == bytes((3, 2, 1, 0)) and lab.state[RDI] == DATA - 1
    lab.run(INSD, rcx=7, rdi=DATA, rdx=PORT)
    assert lab.physical.read(DATA, 8) == bytes((4, 0, 0, 0, 0, 0, 0, 0))
    assert (lab.state[RCX], lab.state[RDI]) == (7, DATA + 4)
    lab.run(REP_INSW, rcx=0, rdi=DATA, rdx=PORT)
    assert lab.state[RDI] == DATA


def test_a_fault_comes_before_the_device_is_asked(lab: Lab) -> None:
    register = lab.plug()
    lab.set_entry(DATA + 0x1000, DATA + 0x1000 | TABLE & ~RW)
    lab.run(REP_INSW, rcx=20, rdi=DATA + 0x1000 - 10, rdx=PORT)
    assert lab.vector() == 14 and lab.frame()[1] == CODE + 0x100
    assert register.last == 5 and (lab.state[RCX], lab.state[RDI]) == (15, DATA + 0x1000)
    assert lab.physical.read(DATA + 0x1000 - 10, 10) == counted(5)


def test_code_that_came_through_a_port_is_executed(lab: Lab) -> None:
    """The page has been executed before, and holds code of a translator perhaps."""
    register = lab.plug()
    lab.technique.cpu.memory.write(CODE_PAGE, returns(1))
    register.last = int.from_bytes(returns(5)[:2], "little") - 1
    lab.run(f"{call(CODE_PAGE)} {COLLECT} 48c7c7{CODE_PAGE.to_bytes(4, 'little').hex()} 66ba0003 666d"
            f"{call(CODE_PAGE)} {COLLECT}".replace(" ", ""), r8=0)  # fmt: skip
    assert lab.state[RIP] and lab.physical.read(CODE_PAGE, 2) == returns(5)[:2]
    assert lab.state.tolist()[8] == collected(1, 5)


def test_code_that_a_device_wrote_is_executed(lab: Lab) -> None:
    lab.technique.cpu.memory.write(CODE_PAGE, returns(1))
    lab.technique.cpu.memory.write(OTHER, returns(3))
    for value in (2, 9, 4, 7, 8):  # four times, as what guards a page may lose patience
        lab.run(call(CODE_PAGE) + COLLECT, r8=0)
        lab.guest.memory.write(CODE_PAGE, returns(value))
        lab.run(call(CODE_PAGE) + COLLECT + call(OTHER) + COLLECT, r8=0)
        assert lab.state.tolist()[8] == collected(value, 3)


def test_a_page_table_that_a_device_wrote_counts_at_once(lab: Lab) -> None:
    lab.physical.write(DATA + 0x2000, b"\x11")
    lab.physical.write(DATA + 0x3000, b"\x22")
    load = "0fb61c25" + (DATA + 0x2000).to_bytes(4, "little").hex()  # movzx ebx, byte [DATA + 0x2000]
    lab.run(load)
    assert lab.state.tolist()[3] == 0x11
    at = 0x13000 + (DATA + 0x2000 >> 12) * 8
    lab.guest.memory.write(at, (DATA + 0x3000 | TABLE | D).to_bytes(8, "little"))
    lab.run("0f20d8 0f22d8".replace(" ", "") + load)  # the guest flushes its TLB, as it has to
    assert lab.state.tolist()[3] == 0x22


def test_a_device_reaches_this_guests_memory_only(lab: Lab) -> None:
    memory, dice = lab.guest.memory, random.Random(4)
    size = lab.physical.frames << 12
    assert memory.holds(size - 1, 1) and not memory.holds(size - 1, 2) and not memory.holds(1 << 63, 1)
    before = bytes(lab.hypervisor.ram.bytes)
    ours = set(lab.physical.mfns)
    for _ in range(50):
        memory.write(dice.choice((size - 5, size, dice.getrandbits(64))), b"\xaa" * 4096)
    after = lab.hypervisor.ram.bytes
    changed = {at >> 12 for at in range(0, len(before), 4096) if before[at : at + 4096] != after[at : at + 4096]}
    assert changed <= ours
