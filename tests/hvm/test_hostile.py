# SPDX-License-Identifier: GPL-2.0-or-later
"""A fully virtualized guest that means harm hurts itself alone, under every technique.

Whatever it does, it ends with a clear reason, or goes on and can be destroyed; beside it another guest goes on, the
hypervisor has met no bug, and every frame comes back. That the process is still there goes without saying: much of this
is what would end it if the engine were left to itself.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from pvhv.abi.xen import DOMID_XEN
from pvhv.core.hypervisor import Hypervisor
from pvhv.hvm.guest import HvmGuest
from pvhv.hvm.technique import Technique
from pvhv.hvm.techniques.bare import Bare
from pvhv.hvm.techniques.registry import TECHNIQUES
from pvhv.machine import cpustate as cs
from tests.hvm.hw_lab import (
    CODE,
    DATA,
    ENTRY,
    GDT,
    HANDLERS,
    IDT,
    KERNEL_CS,
    L1,
    L2,
    L3,
    L4,
    PAGES,
    STACK,
    TABLE,
    TSS,
    USER_CS,
    USER_SS,
    D,
    HwLab,
)

AT = CODE + 0x100
NEIGHBOUR_PAGES, NEIGHBOUR_COUNT = 16, 0x2000


class Machine:
    """A hypervisor with a neighbour on it, and then a hostile guest."""

    def __init__(self, technique: type[Technique], start: bytes | None = None) -> None:
        self.lab = lab = HwLab(technique) if start is None else Unstarted(technique, None, start)
        self.hypervisor = lab.hypervisor
        self.state = lab.state
        self.neighbour = HvmGuest(self.hypervisor, Bare, NEIGHBOUR_PAGES)
        self.neighbour.physical.write(0x1000, bytes.fromhex("ff0500200000 ebf8"))  # inc dword [0x2000]; again
        self.neighbour.technique.reset(0x1000, 0)
        self.neighbour.domain.paused = self.neighbour.domain.controller_paused = 0
        self.hypervisor.activity.wake(self.neighbour.vcpu)

    def put(self, address: int, data: bytes) -> None:
        self.lab.technique.cpu.memory.write(address, data)

    def run(self, code: str | bytes, seconds: float = 0.05, at: int = AT, **registers: int) -> str:
        """Let it do that for a while; why it ended, or nothing."""
        self.put(at, code if isinstance(code, bytes) else bytes.fromhex(code))
        self.state[cs.RIP], self.state[cs.RSP] = at, STACK
        for name, value in registers.items():
            self.state[getattr(cs, name.upper())] = value
        return self.go(seconds)

    def go(self, seconds: float = 0.05) -> str:
        domain, vcpu = self.lab.guest.domain, self.lab.guest.vcpu
        self.hypervisor.activity.wake(vcpu)
        self.hypervisor.run_until(lambda: vcpu.blocked or not domain.runs, seconds)
        assert self.hypervisor.bugs == []
        report = domain.crash_report or ""
        return report.partition("\n")[0].partition("crashed: ")[2]

    def neighbour_runs(self) -> bool:
        before = self.neighbour.physical.word(NEIGHBOUR_COUNT)
        done = self.hypervisor.run_until(lambda: self.neighbour.physical.word(NEIGHBOUR_COUNT) != before, 5)
        return done

    def end(self) -> None:
        """The rest of what is promised."""
        hypervisor = self.hypervisor
        assert self.neighbour_runs()
        for guest in (self.lab.guest, self.neighbour):
            hypervisor.destroy(guest.domain)
        assert hypervisor.run_until(lambda: self.lab.guest.domain.dead and self.neighbour.domain.dead, 10)
        assert hypervisor.bugs == []
        assert hypervisor.frames.free_frames == frames_of_an_empty_machine(hypervisor.ram.frames)


@cache
def frames_of_an_empty_machine(size: int) -> int:
    """That are free when nobody is on it."""
    return Hypervisor(memory_frames=size).frames.free_frames


class Unstarted(HwLab):
    """A guest whose very first instructions are somebody else's."""

    def resume(self) -> dict[str, int]:
        return {}


@pytest.fixture(params=TECHNIQUES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    made = Machine(TECHNIQUES[request.param])
    yield made
    made.end()


Early = Callable[[bytes], Machine]


@pytest.fixture(params=TECHNIQUES)
def early(request: pytest.FixtureRequest) -> Iterator[Early]:
    """early(code) -> a machine whose guest executes `code` in 32 bits, without paging."""
    made: list[Machine] = []

    def make(code: bytes) -> Machine:
        made.append(Machine(TECHNIQUES[request.param], code))
        return made[0]

    yield make
    made[0].end()


def mov(register: int, value: int) -> str:
    return f"48{0xB8 + register:02x}{struct.pack('<Q', value & (1 << 64) - 1).hex()}"


RAX, RCX, RDX, RBX, RSP = range(5)
SPIN = "ebfe"


# -- page tables ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", [1 << 39, 1 << 51, -1, 0x1FF_F000, 0x30_0FFF])
def test_a_root_that_is_nowhere(machine: Machine, value: int) -> None:
    assert ended(machine, machine.run(mov(RAX, value) + "0f22d8 90 0f0b" + SPIN, 5))


@pytest.mark.parametrize("level", [L4, L3, L2, L1])
@pytest.mark.parametrize("entry", [1 << 39 | 7, -1, 0x87, 1 << 62 | 7])
def test_an_entry_that_leads_nowhere(machine: Machine, level: int, entry: int) -> None:
    """The way to its own code, its stack and its handlers: nothing is left to it."""
    at = level + (AT >> 12) * 8 if level == L1 else level
    code = mov(RAX, entry) + mov(RBX, at) + "488903 0f20d8 0f22d8 0f0b" + SPIN
    assert ended(machine, machine.run(code, 5))


def ended(machine: Machine, reason: str) -> bool:
    """With a reason, or asleep in one of its own handlers."""
    return bool(reason) or HANDLERS <= machine.state[cs.RIP] < HANDLERS + 0x1000


@pytest.mark.parametrize("level", [L4, L3, L2, L1])
def test_tables_that_are_their_own_tables(machine: Machine, level: int) -> None:
    code = mov(RAX, level | TABLE) + mov(RBX, level) + "488903 0f20d8 0f22d8 8b0425000000000f0b" + SPIN
    machine.run(code)


def test_all_entries_at_random_and_again(machine: Machine) -> None:
    """rdtsc; imul; stosq over all four tables, over and over, with a look at memory in between."""
    dice = random.Random(5)
    junk = b"".join(struct.pack("<Q", dice.getrandbits(52) | dice.choice([0, 7, 0x87, 0xE7])) for _ in range(512))
    for page in range(4):
        machine.put(DATA + page * 4096, junk)
    # mov esi, DATA; mov edi, L3 + 8; mov ecx, 511; rep movsq; walk a few addresses
    code = "be" + struct.pack("<I", DATA).hex() + "bf" + struct.pack("<I", L3 + 8).hex() + "b9ff010000 f348a5"
    code += "bf" + struct.pack("<I", L2 + 8).hex() + "b9ff010000 f348a5 0f20d8 0f22d8"
    for n in range(1, 40):
        code += mov(RBX, n * 0x1234_5678_9000 >> 9) + "8a03"
    machine.run(code + SPIN)


def test_tables_in_the_page_of_the_code_that_uses_them(machine: Machine) -> None:
    """The translation of that code makes the page read-only underneath, and every walk wants to write to it."""
    page = 0x2_2000
    for index in range(400):
        machine.put(page + index * 8, struct.pack("<Q", index << 12 | TABLE | D))
    code = mov(RAX, page | TABLE) + mov(RBX, L2) + "488903 0f20d8 0f22d8 b9e8030000 ff042500000300 ffc9 75f5 f4"
    assert machine.run(code, 5, at=page + 420 * 8) == ""
    assert machine.lab.guest.vcpu.blocked and machine.lab.physical.word(DATA) == 1000


def test_code_whose_stores_go_to_its_own_page(machine: Machine) -> None:
    code = "b9e8030000 ff042500" + "0d0200 ffc9 75f5 f4"
    assert machine.run(code, 5, at=CODE + 0x800) == ""
    assert machine.lab.guest.vcpu.blocked and machine.lab.physical.word(CODE + 0xD00) == 1000


# -- exceptions that lead nowhere ----------------------------------------------------------------------------------
def test_a_triple_fault_has_a_name(machine: Machine) -> None:
    machine.put(DATA, bytes(10))
    assert machine.run(f"0f011c25{struct.pack('<I', DATA).hex()} 0f0b", 5).startswith("triple fault: ")


def test_an_exception_in_its_own_handler_for_ever(machine: Machine) -> None:
    """A page fault whose handler is on a page that is not there, on a stack that never runs out: it cannot end, so it
    must be possible to end it."""
    handler = struct.pack("<HHBBHII", 0, KERNEL_CS, 1, 0x8E, 0x50, 0, 0)
    machine.put(IDT + 14 * 16, handler)
    machine.put(TSS + 36, struct.pack("<Q", DATA + 0x800))
    assert machine.run("8a042500005000", 0.1) == ""
    assert machine.lab.guest.domain.runs


def test_steps_for_ever(machine: Machine) -> None:
    machine.put(HANDLERS + 16, bytes.fromhex("48cf"))
    assert machine.run("9c 810c2400010000 9d 90 ebfd", 0.05) == ""


def test_interrupts_for_ever(machine: Machine) -> None:
    machine.put(HANDLERS + 0x80 * 16, bytes.fromhex("cd80"))
    machine.run("cd80", 0.05)


def test_a_breakpoint_on_everything(machine: Machine) -> None:
    code = mov(RAX, AT + 0x40) + "0f23c0" + mov(RAX, DATA) + "0f23c8 0f23d0 0f23d8" + mov(RAX, 0xFFFF_07FF)
    code += "0f23f8" + "90" * 16 + "8a042500000300 88042500000300"
    machine.run(code + SPIN, 0.02)


# -- sleep ---------------------------------------------------------------------------------------------------------
def test_sleep_without_interrupts(machine: Machine) -> None:
    assert machine.run("fa f4 0f0b", 5) == ""
    assert machine.lab.guest.vcpu.blocked and machine.lab.guest.domain.runs


def test_a_loop_without_interrupts(machine: Machine) -> None:
    assert machine.run("fa" + SPIN) == ""


def test_a_string_instruction_without_end(machine: Machine) -> None:
    machine.run("f3a4", 0.05, rcx=-1 & (1 << 64) - 1, rsi=DATA, rdi=DATA)
    machine.run("f348ab", 0.05, rcx=-1 & (1 << 64) - 1, rdi=DATA)


# -- what the engine would let it do, or would not survive ---------------------------------------------------------
def test_each_bit_of_cr4(machine: Machine) -> None:
    """What CPUID does not offer is #GP. (AMD's manual volume 2, 3.1.3: so it is of reserved bits.)"""
    offered = {2, 3, 4, 5, 6, 7, 9, 10}
    for bit in range(64):
        assert machine.run(mov(RAX, 0x6A0 | 1 << bit) + "0f22e0 f4", 5, rbx=99) == ""
        assert machine.state[cs.RBX] == (99 if bit in offered else 13), bit


@pytest.mark.parametrize("bits", [0, 0x11, 1 << 31, 0x2000_0011, 0xFFFF_FFFF, 1 << 32])
def test_cr0(machine: Machine, bits: int) -> None:
    machine.run(mov(RAX, bits) + "0f22c0 90 90 0f0b" + SPIN)


def test_a_null_task_register_and_a_gate_to_ring_0(machine: Machine) -> None:
    """The engine would abort for want of a stack. The processor refuses the null selector."""
    assert machine.run("31c0 0f00d8 f4", 5, rbx=99) == ""
    assert machine.state[cs.RBX] == 13
    far = struct.pack("<IH", 0, 0x30)
    gate = struct.pack("<HHBBHII", HANDLERS & 0xFFFF, KERNEL_CS, 0, 0xEC, HANDLERS >> 16, 0, 0)
    machine.put(GDT + 0x30, gate)
    machine.put(DATA, far)
    machine.put(AT + 0x40, bytes.fromhex(f"ff1c25{struct.pack('<I', DATA).hex()} ebfe"))
    machine.run(user(AT + 0x40))


def user(rip: int, flags: int = 2) -> str:
    words = (USER_SS, STACK - 0x800, flags, USER_CS, rip)
    return "".join(f"68{struct.pack('<I', word).hex()}" for word in words) + "48cf"


ODD = [
    "0f01d8", "0f01d9", "0f01da", "0f01db", "0f01dc", "0f01dd", "0f01de", "0f01df", "0f01c8", "0f01c9", "0f01f9",
    "0f01d0", "0f01d1", "0f01ca", "0f01cb", "0f01ee", "0f01ef", "0faa", "0f34", "0f35", "480f35", "0f07", "480f07",
    "0f33", "0f08", "0f09", "0fae20", "0fae28", "480fae08", "0fc7f0", "0fc7f8", "660f38820b", "660f38800b", "f30faed8",
    "f1", "cf", "48cf", "cb", "48cb", "0fa9", "0fa1", "0f00d0", "0fb20b", "ff1b", "ff2b", "48ff1b", "48ff2b", "0f0103",
    "0f010b", "0f0113", "0f011b", "8ed0", "8ed8", "f0480fc70b", "480fc70b", "f00f20c0", "440f20c0", "440f22c0", "9b",
    "dbe3", "dd23", "0fae0b", "6c", "6d", "f36c", "f36e", "66f36f", "62f1", "c4e3", "c5f8", "8fe8", "0fff", "0f3800",
]  # fmt: skip


@pytest.mark.parametrize("level", ["kernel", "user"])
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_odd_instructions(technique: str, level: str) -> None:
    machine: Machine | None = None
    at = DATA + 0x1000
    for code in ODD:
        for rax, rbx in ((DATA, DATA + 0xFFC), (-1, -8), (GDT, 1 << 47)):
            machine = machine or Machine(TECHNIQUES[technique])
            registers = {"rax": rax & (1 << 64) - 1, "rbx": rbx & (1 << 64) - 1, "rcx": 0x10, "rdx": 0x80, "rdi": DATA}
            machine.put(at, bytes.fromhex(code) + b"\xeb\xfe")
            enter = user(at) if level == "user" else "68" + struct.pack("<I", at).hex() + "c3"
            machine.run(enter, 0.001, **registers)
            if not machine.lab.guest.domain.runs:
                machine.end()
                machine = None
    if machine is not None:
        machine.end()


@pytest.mark.parametrize("address", [1 << 47, -(1 << 48), 0x7FFF_FFFF_FFFF, 0xDEAD_BEEF_0000_0000, -1, 0])
def test_jumps_and_stacks_that_are_nowhere(machine: Machine, address: int) -> None:
    machine.run(mov(RAX, address) + "ffe0", 0.02)
    if machine.lab.guest.domain.runs:
        machine.run(mov(RSP, address) + "50 0f0b" + SPIN, 0.02)


def test_msrs_one_after_the_other(machine: Machine) -> None:
    """wrmsr and rdmsr of every number there is a chance to be known, the handler of #GP going on behind it."""
    machine.put(HANDLERS + 13 * 16, bytes.fromhex("4883c408 4883042402 48cf"))
    for start in (0, 0x170, 0x200, 0xC000_0080, 0xC001_0110, 0xFFFF_FFF0):
        code = "b9" + struct.pack("<I", start).hex() + "31c0 31d2 0f32 0f30 ffc1 ebf8"
        machine.run(code, 0.03)
        if not machine.lab.guest.domain.runs:
            break


def test_ports_one_after_the_other(machine: Machine) -> None:
    """Every port is read; those are written by which it cannot simply switch itself off."""
    machine.run("31d2 ec ed 66ed ffc2 81fa00000100 75f3 f4", 1)
    assert machine.lab.guest.domain.runs


def test_garbage_for_the_devices(machine: Machine) -> None:
    """Writes at random to PIC, PIT, UART and clock, while the guest runs with interrupts on."""
    for vector in range(256):
        machine.put(HANDLERS + vector * 16, bytes.fromhex("48cf"))
    dice = random.Random(7)
    ports = [0x20, 0x21, 0xA0, 0xA1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x70, 0x71, *range(0x3F8, 0x400)]
    machine.put(AT, bytes.fromhex("fb ebfe"))
    machine.state[cs.RIP], machine.state[cs.RSP] = AT, STACK
    bus = machine.lab.guest.platform.bus
    for _ in range(150):
        for _ in range(20):
            if dice.random() < 0.7:
                bus.write(dice.choice(ports), dice.choice([1, 1, 1, 2, 4]), dice.getrandbits(32))
            else:
                bus.read(dice.choice(ports), dice.choice([1, 2, 4]))
        machine.go(0.001)
    assert machine.lab.guest.domain.runs, machine.go(0)


# -- before long mode ----------------------------------------------------------------------------------------------
def test_the_oldest_modes(early: Early) -> None:
    """Protected mode is left for real mode."""
    early(bytes.fromhex("0f20c0 24fe 0f22c0 ea00000000 90 cd10 f4")).go()


def test_16_bit_code(early: Early) -> None:
    machine = early(b"\x0f\x01\x15" + struct.pack("<I", DATA + 0x40) + b"\xea" + struct.pack("<IH", AT, 8))
    machine.lab.physical.write(DATA + 0x40, struct.pack("<HI", 15, DATA + 0x50))
    machine.lab.physical.write(DATA + 0x50, struct.pack("<2Q", 0, 0x0000_9B00_0000_FFFF))
    machine.lab.physical.write(AT, bytes.fromhex("b80100 50 58 40 e2fe cd10 f4"))
    machine.go()


def test_a_task_switch(early: Early) -> None:
    gdt = struct.pack("<5Q", 0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0, 0x89 << 40 | DATA << 16 | 0x67)
    machine = early(b"\x0f\x01\x15" + struct.pack("<I", DATA + 0x140) + b"\xea" + struct.pack("<IH", 0, 0x20))
    machine.lab.physical.write(DATA + 0x140, struct.pack("<HI", len(gdt) - 1, DATA + 0x150))
    machine.lab.physical.write(DATA + 0x150, gdt)
    machine.lab.physical.write(DATA, bytes([0xFF] * 0x68))
    machine.go()


def test_virtual_8086(early: Early) -> None:
    code = "bc" + struct.pack("<I", STACK).hex() + "6a00" * 5 + "6800000200" + "6a00 6a00 cf"
    machine = early(bytes.fromhex(code))
    machine.lab.physical.write(0, bytes.fromhex("cd10 9c 9d cf f4"))
    machine.go()


@pytest.mark.parametrize("cr4", [0, 0x10, 0x20, 0x30])
def test_paging_of_other_kinds(early: Early, cr4: int) -> None:
    """32 bits, PSE, PAE: where a monitor would have to walk such tables, it says so and ends the guest."""
    code = b"\xb8" + struct.pack("<I", cr4) + bytes.fromhex("0f22e0")
    code += b"\xb8" + struct.pack("<I", DATA) + bytes.fromhex("0f22d8 b811000080 0f22c0 90 cd80 0f0b ebfe")
    machine = early(code)
    machine.lab.physical.write(DATA, struct.pack("<1024I", *((n << 22 | 0x87) for n in range(1024))))
    machine.go()


def test_long_mode_without_what_it_needs(early: Early) -> None:
    early(bytes.fromhex("b9800000c0 31d2 b800010000 0f30 b811000080 0f22c0 90 0f0b ebfe")).go()


def test_nothing_but_noise(early: Early) -> None:
    early(random.Random(3).randbytes(4096)).go()


# -- the machine's memory ------------------------------------------------------------------------------------------
def test_a_machine_without_a_frame_left(machine: Machine) -> None:
    """Every table the monitor would need for it comes too late: that is the guest's end, with a reason."""
    assert machine.neighbour_runs()
    frames = machine.hypervisor.frames
    taken = [frames.allocate(DOMID_XEN) for _ in range(frames.free_frames)]
    # Pages far apart, each in a table of its own.
    for index in range(1, 512):
        machine.lab.physical.set_word(L2 + index * 8, L1 | TABLE)
        machine.lab.physical.set_word(L3 + index * 8, L2 | TABLE)
    reason = machine.run(mov(RBX, 0x20_0000) + "8a03 4881c300002000 ebf5", 1)
    for mfn in taken:
        frames.release_allocation(mfn)
    assert reason == "" or "no memory left" in reason


# -- anything ------------------------------------------------------------------------------------------------------
MORE = (
    "0f22c0 0f22d8 0f22e0 0f30 0f32 ec ee f4 fb fa 9d 9c 50 58 8b03 8903 cd80 cc 0f05 0fa2 0f31 f3aa c3 ebfe".split()
)
PIECES = [bytes.fromhex(piece) for piece in (*ODD, *MORE)]
VALUES = [0, 1, 8, 0x10, L4, L1, DATA, CODE, STACK, GDT, 0x8001_0031, 0x6A0, 0xC000_0080, 0x3F8, 1 << 39, 1 << 47]


@pytest.mark.parametrize("seed", range(12))
def test_anything(seed: int) -> None:
    for name in TECHNIQUES:
        dice = random.Random(seed)
        machine = Machine(TECHNIQUES[name])
        for _ in range(12):
            if not machine.lab.guest.domain.runs:
                break
            code = b"".join(
                dice.choice(PIECES)
                if dice.random() < 0.6
                else bytes.fromhex(mov(dice.choice([0, 1, 2, 3, 6, 7]), dice.choice(VALUES)))
                for _ in range(dice.randrange(2, 9))
            )
            machine.lab.physical.write(AT, code + bytes.fromhex(SPIN))
            machine.lab.technique.cpu.memory.wrote(AT, 256)
            machine.state[cs.RIP], machine.state[cs.RSP] = AT, dice.choice([STACK, DATA + 0x800])
            machine.go(0.002)
        machine.end()


def test_the_entry_point_is_the_labs() -> None:
    """What `early` relies on: the guest begins at ENTRY."""
    machine = Machine(Bare, bytes.fromhex("bb2a000000 f4"))
    machine.go()
    assert (machine.state[cs.RBX], machine.state[cs.RIP]) == (42, ENTRY + 6)
    assert machine.lab.guest.physical.frames == PAGES
    machine.end()
