# SPDX-License-Identifier: GPL-2.0-or-later
"""Stores to page tables: each instruction against the engine itself, and each entry against mmu_update.

Everything runs on the engine: a guest executes one instruction at CODE on the page at TARGET. That page is once a
writable one, where the engine carries the instruction out, and once an L1 table mapped read-only, where we do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from pvhv.abi.arch_x86 import MACH2PHYS_VIRT_START
from pvhv.abi.xen import VMASST_TYPE_writable_pagetables
from pvhv.core.mm.frames import L1, L2, NONE, WRITABLE
from pvhv.core.mm.guestmem import GuestMemory
from pvhv.core.mm.pte import ACCESSED, ADDRESS, DIRTY, NX, PAT_PSE, PRESENT, PWT, RW, USER
from pvhv.core.mm.stores import decode
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import AF, CF, DF, EFLAGS, FS_BASE, OF, PF, RIP, RSP, SF, TF, ZF
from pvhv.machine.svm import UD
from tests.core.code import RAX, RBP, RBX, RCX, RDI, RDX, RSI, Code
from tests.core.guests import BASE
from tests.core.pv import DATA, PIN_L1, PIN_L2, Bench, fixed_up, link, page

STACK = BASE + 9 * 4096
CODE, TARGET, BEHIND, SOURCE = (BASE + pfn * 4096 for pfn in (20, 22, 23, 24))
HANDLER = 0x800  # in the page of CODE: an END for each vector
END = "0f0b"
MIDDLE = TARGET + 0x800
REGISTERS = tuple(register for register in range(16) if register != RSP)
SPECIAL = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1)
FLAGS = (0, PRESENT, PRESENT | USER, PRESENT | RW, DATA, DATA | RW, DATA | PWT, DATA | PAT_PSE, PAT_PSE | RW,
         DATA | 0x200, DATA | PWT | 1 << 62)  # fmt: skip
WHOLE = (1 << 64) - 1


class Done(Exception):
    """The instruction is over."""


class Stores(Bench):
    """A guest with an L1 table of its own, mapped read-only at TARGET, and with the assist."""

    def __init__(self) -> None:
        super().__init__()
        self.g.set_assists(1 << VMASST_TYPE_writable_pagetables)
        self.code, self.plain = self.mfn(self.g, 20), self.mfn(self.g, 22)
        for vector in (1, 14, 32):
            self.place(Code(CODE + HANDLER + vector * 16).raw(END))
        for vector in (1, 14):
            self.vcpu.trap_table[vector] = self.vcpu.trap_table[vector]._replace(address=CODE + HANDLER + vector * 16)
        self.vcpu.event_callback_eip = CODE + HANDLER + 32 * 16
        self.set_entry(self.g, 20, self.code << 12 | PRESENT | ACCESSED)
        self.l1_table = self.table()
        assert self.ext(PIN_L1, self.l1_table) == 0
        self.show(self.l1_table)

    def place(self, code: Code) -> None:
        """Put code where the guest executes it."""
        at = (self.code << 12) + code.at - CODE
        self.ram.bytes[at : at + len(code.bytes)] = bytes(code.bytes)
        self.cpu.pcpu.forget_code(self.code)

    def show(self, mfn: int, flags: int = 0) -> None:
        """Map a frame at TARGET."""
        self.set_entry(self.g, 22, page(mfn, DATA | DIRTY | flags))

    def execute(self, code: str, registers: dict[int, int], flags: int = 0) -> int | None:
        """Execute it; the vector of the exception that came, if one did."""
        self.enter(self.vcpu)
        state, pcpu = self.cpu.state, self.cpu.pcpu
        self.place(Code(CODE).raw(code).raw(END))
        for register in REGISTERS:
            state[register] = registers.get(register, 0)
        state[RSP], state[RIP] = STACK, CODE
        state[EFLAGS] = flags | 0x202

        def done() -> None:
            raise Done

        usual, pcpu.on_exception[UD] = pcpu.on_exception[UD], done
        try:
            pcpu.run()
        except Done:
            pass
        finally:
            pcpu.on_exception[UD] = usual
        vector, odd = divmod(state[RIP] - CODE - HANDLER, 16)
        if vector < 0:
            assert state[RIP] == CODE + len(bytes.fromhex(code))
            return None
        assert not odd
        return int(vector)

    def outcome(self) -> tuple[list[int], int]:
        """Registers and flags."""
        return [self.cpu.state[register] for register in REGISTERS], self.cpu.state[EFLAGS]

    def store(self, value: int, index: int = 0) -> int | None:
        """mov of a whole entry."""
        return self.execute("48 89 37", {RDI: TARGET + index * 8, RSI: value})

    @property
    def fault_address(self) -> int:
        """CR2 as the guest sees it."""
        return int(self.ram.words[self.vcpu.vcpu_info + 16 >> 3])


@pytest.fixture
def bench() -> Iterator[Stores]:
    bench = Stores()
    yield bench
    assert not bench.hv.bugs
    bench.balanced()


# -- instructions --------------------------------------------------------------------------------------------------
def sizes(byte: str, wide: str) -> list[str]:
    """One instruction on one (with and without REX), two, four and eight bytes."""
    return [byte, "40" + byte, "66" + wide, wide, "48" + wide]


MODRM = "37"  # (%rdi), %rsi; on bytes without REX it is %dh
PLAIN = [
    *sizes("88" + MODRM, "89" + MODRM),
    *("c607a5", "66c7075aa5", "c707efbeadde", "48c707efbeadde"),
    *("0fc337", "480fc337"),
    *sizes("86" + MODRM, "87" + MODRM),
    *(each for n in range(7) for each in sizes(f"{8 * n:02x}" + MODRM, f"{8 * n + 1:02x}" + MODRM)),
    *(each for n in range(0x07, 0x38, 8) for each in (f"80{n:02x}81", f"6681{n:02x}0180", f"81{n:02x}ffffff7f")),
    *(each for n in range(0x07, 0x38, 8) for each in (f"4881{n:02x}000000f0", f"83{n:02x}ff", f"4883{n:02x}7f")),
    *(each for n in (0x17, 0x1F) for each in sizes(f"f6{n:02x}", f"f7{n:02x}")),
    *(each for n in (0x07, 0x0F) for each in sizes(f"fe{n:02x}", f"ff{n:02x}")),
    *sizes("0fc037", "0fc137"),
    *("f04801" + MODRM, "f0480fc1" + MODRM, "f0" + "48ff0f", "2e480937", "f2f04887" + MODRM),
]  # fmt: skip
COMPARING = [*sizes("0fb0" + MODRM, "0fb1" + MODRM), "f0480fb1" + MODRM, "0fc70f", "f00fc70f"]
BITS = [
    *(prefix + opcode + MODRM for prefix in ("66", "", "48", "f048") for opcode in ("0fab", "0fb3", "0fbb")),
    *(prefix + "0fba" + bit for prefix in ("66", "", "48", "f048") for bit in ("2f00", "2f1f", "2fff", "3708", "3fff")),
]  # fmt: skip
STRINGS = [
    *(prefix + each for prefix in ("", "f3", "f2") for each in ("aa", "66ab", "ab", "48ab", "a4", "66a5", "a5", "48a5"))
]
ADDRESSED = [
    ("48a3" + MIDDLE.to_bytes(8, "little").hex(), {}),  # movabs
    ("a2" + MIDDLE.to_bytes(8, "little").hex(), {}),
    ("4889b7f8ffffff", {}),  # -8(%rdi)
    ("4887770c", {RDI: MIDDLE - 4}),  # 12(%rdi)
    ("480134cf", {RCX: 5}),  # (%rdi,%rcx,8)
    ("4a8974c710", {8: 1 << 64 - 3}),  # 16(%rdi,%r8,8)
    ("4889742500", {RBP: MIDDLE}),  # 0(%rbp) by a SIB byte without index
    ("49893424", {12: MIDDLE}),
    ("49897500", {13: MIDDLE}),
    ("4b89742d08", {13: MIDDLE // 2}),  # 8(%r13,%r13)
    ("4889342d" + "00000000", {RBP: MIDDLE}),  # no base
    ("4889342dfcffffff", {RBP: MIDDLE + 12}),
    ("488935" + (MIDDLE - CODE - 7).to_bytes(4, "little").hex(), {}),  # relative to RIP
    ("48c705" + (MIDDLE - CODE - 11).to_bytes(4, "little").hex() + "78563412", {}),
    ("480fba2d" + (MIDDLE - CODE - 9).to_bytes(4, "little").hex() + "11", {}),
    ("4c0118", {RAX: MIDDLE}),
    ("440fb133", {RBX: MIDDLE}),
    ("418837", {15: MIDDLE}),
]


def both(bench: Stores, code: str, registers: dict[int, int], flags: int, unsure: int = 0) -> None:
    """Execute it on memory and on a table of the same contents, and compare what is left."""
    words = [randomly.choice((randomly.getrandbits(64), randomly.choice(SPECIAL))) for _ in range(512)]
    middle = (MIDDLE - TARGET) // 8
    if 0 <= registers.get(-1, -1):
        words[middle] = registers.pop(-1)
    found = []
    for mfn, rights in ((bench.plain, RW), (bench.l1_table, 0)):
        bench.show(mfn, rights)
        bench.fill(mfn, dict(enumerate(words)))
        assert bench.execute(code, registers, flags) is None, (code, rights)
        values, after = bench.outcome()
        found.append((values, after & ~unsure, bench.ram.words[mfn << 9 : (mfn + 1) << 9].tolist()))
    assert found[0] == found[1], f"{code} of {registers}, flags {flags:#x}: {found[0][1]:#x}, not {found[1][1]:#x}"


randomly = random.Random()


def some_registers() -> dict[int, int]:
    values = {n: randomly.choice((randomly.getrandbits(64), randomly.choice(SPECIAL))) for n in REGISTERS}
    return values | {RDI: MIDDLE}


def some_flags(those: int = CF | PF | AF | ZF | SF | OF) -> int:
    return randomly.getrandbits(12) & those


@pytest.fixture
def unchecked(bench: Stores, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    """Entries of any kind are accepted as they are, and hold nothing; the random numbers are the same every time."""
    randomly.seed(20)
    monkeypatch.setattr("pvhv.core.mm.l1tables.adjust", lambda entry: entry)
    for name in ("get_l1_entry", "put_l1_entry"):
        monkeypatch.setattr(bench.hv.pagetables, name, lambda *arguments: None)
    monkeypatch.setattr(bench, "set_entry", lambda *arguments: remap(bench, *arguments))
    yield bench
    monkeypatch.undo()
    bench.fill(bench.l1_table, {})
    remap(bench, bench.g, 22, page(bench.l1_table, DATA | DIRTY))


def remap(bench: Stores, _domain: object, pfn: int, entry: int) -> None:
    """Change one mapping behind the hypervisor's back."""
    bench.ram.words[bench.entry_address(bench.g, pfn) >> 3] = entry | USER
    bench.cpu.flush()


@pytest.mark.parametrize("instructions", [PLAIN[:70], PLAIN[70:]], ids=["first", "second"])
def test_what_an_instruction_does(unchecked: Stores, instructions: list[str]) -> None:
    for code in instructions:
        for _ in range(8):
            both(unchecked, code, some_registers(), some_flags())


def test_comparing_instructions(unchecked: Stores) -> None:
    for code in COMPARING:
        for _ in range(16):
            registers = some_registers()
            old = randomly.choice((randomly.getrandbits(64), randomly.choice(SPECIAL)))
            if randomly.random() < 0.5:
                registers[RAX] = randomly.choice((old, old & 0xFFFF_FFFF))
                registers[RDX] = old >> 32
            if code == "0fb137":
                # Where it stores, the engine clears the upper half of a 32-bit accumulator; processors leave it.
                registers[RAX] &= 0xFFFF_FFFF
            both(unchecked, code, registers | {-1: old}, some_flags())


def test_bits(unchecked: Stores) -> None:
    """A bit in a register may be far from the operand; only CF and ZF are defined."""
    for code in BITS:
        for _ in range(8):
            registers = some_registers()
            registers[RSI] = randomly.randrange(-14000, 14000) & WHOLE
            both(unchecked, code, registers, some_flags(), unsure=OF | SF | AF | PF)


def test_strings(unchecked: Stores) -> None:
    for code in STRINGS:
        for _ in range(8):
            registers = some_registers() | {RSI: SOURCE + 0x800, RCX: randomly.randrange(1, 20)}
            both(unchecked, code, registers, some_flags(CF | ZF | OF | DF))


@pytest.mark.parametrize("code,registers", ADDRESSED, ids=[code for code, _ in ADDRESSED])
def test_addresses(unchecked: Stores, code: str, registers: dict[int, int]) -> None:
    both(unchecked, code, some_registers() | registers, some_flags(), unsure=OF | SF | AF | PF)


def test_cmpxchg16b(bench: Stores) -> None:
    """It loads what it finds, but stores more than an entry."""
    assert bench.execute("480fc70f", {RDI: TARGET, RAX: 1}, ZF) is None
    assert not bench.outcome()[1] & ZF
    assert bench.cpu.state[RAX] == 0
    assert bench.execute("480fc70f", {RDI: TARGET}) == 14


NO_STORES = """66 48 0f 0f0b 89 4889 c707ffffff 0fba2f 48a300000000 89c7 8307 0fc707 0fba2700 8b07 82370100 f607aa ff17
67 666666666666666666666666666666""".split()


@pytest.mark.parametrize("code", ["", *NO_STORES])
def test_no_store(code: str) -> None:
    assert decode(bytes.fromhex(code), 0, memoryview(bytes(8 * 16)).cast("Q")) is None


def test_rex_counts_only_before_the_opcode() -> None:
    state = memoryview(bytearray(8 * 16)).cast("Q")
    for code, size in (("66 48 89 37", 8), ("48 66 89 37", 2), ("48 f0 01 37", 4)):
        store = decode(bytes.fromhex(code), 0, state)
        assert store is not None
        assert store.size == size


def test_addresses_of_32_bits() -> None:
    state = memoryview(bytearray(8 * 16)).cast("Q")
    state[RDI], state[RCX] = 0x1_0000_1000, 2
    store = decode(bytes.fromhex("67 89 77 f0"), 0, state)
    assert store is not None
    assert store.address == 0xFF0
    assert store.end == 4


# -- what is accepted ----------------------------------------------------------------------------------------------
def test_only_with_the_assist(bench: Stores) -> None:
    mfn = bench.mfn(bench.g, 30)
    bench.g.set_assists(0)
    assert bench.store(page(mfn)) == 14
    bench.g.set_assists(1 << VMASST_TYPE_writable_pagetables)
    assert bench.store(page(mfn)) is None


def test_an_entry_holds_its_frame(bench: Stores) -> None:
    first, second = bench.unmap(30), bench.unmap(31)
    refs = bench.frames.refs[first]
    assert bench.store(page(first, DATA | RW)) is None
    assert bench.word(bench.l1_table, 0) == fixed_up(page(first, DATA | RW))
    assert (bench.type(first), bench.frames.refs[first]) == (WRITABLE, refs + 1)
    assert bench.execute("480fba3701", {RDI: TARGET}) is None  # btr $1: read-only
    assert (bench.type(first), bench.frames.refs[first]) == (NONE, refs + 1)
    assert bench.store(page(second)) is None
    assert bench.frames.refs[first] == refs
    assert bench.store(0) is None
    assert bench.frames.refs[second] == refs


def test_a_refused_store_is_the_fault_it_was(bench: Stores) -> None:
    entry = page(bench.l2, DATA | RW)  # a page table, writable
    assert bench.store(entry, 7) == 14
    frame = bench.cpu.memory.read_words(bench.cpu.state[RSP], 8)
    assert (frame[2], frame[3], bench.fault_address) == (3, CODE, TARGET + 7 * 8)
    assert (bench.word(bench.l1_table, 7), bench.cpu.state[RSI]) == (0, entry)
    assert bench.execute("48 87 37", {RDI: TARGET, RSI: entry}, CF | ZF) == 14
    assert bench.cpu.state[RSI] == entry
    assert bench.cpu.state[EFLAGS] & (CF | ZF) == CF | ZF


def test_what_mmu_update_accepts(bench: Stores) -> None:
    """An entry in place of none is accepted by a store if it is by mmu_update."""
    other = bench.guest(48)
    frames = [bench.unmap(30), bench.mfn(bench.g, 31), bench.l1, bench.l4, bench.l1_table, bench.code,
              bench.mfn(other, 30), 0, bench.hv.ram.frames - 1, bench.hv.ram.frames, ADDRESS >> 12]  # fmt: skip
    accepted = 0
    for mfn in frames:
        for flags in FLAGS:
            entry = mfn << 12 | flags
            by_call = bench.update(bench.l1_table, 3, entry)
            assert by_call or bench.update(bench.l1_table, 3, 0) == 0
            assert (bench.store(entry, 3) is None) == (by_call == 0), hex(entry)
            assert bench.word(bench.l1_table, 3) == (0 if by_call else fixed_up(entry))
            assert bench.store(0, 3) is None
            accepted += not by_call
    assert 20 < accepted < 100
    bench.balanced()


def test_a_frame_of_another_domain(bench: Stores) -> None:
    """All of a new entry is checked, even what has not changed."""
    other = bench.guest(48)
    address, entry = bench.l1_table << 12, page(bench.mfn(other, 30))
    assert bench.hv.pagetables.modify(address, entry, False, bench.g.domid, other.domid)
    assert bench.execute("480fba2f06", {RDI: TARGET}) == 14  # bts $6
    assert bench.update(bench.l1_table, 0, entry | DIRTY) == 0
    assert bench.store(0) is None
    assert bench.store(entry) == 14


def test_parts_of_entries(bench: Stores) -> None:
    mfn = bench.mfn(bench.g, 30)
    entry = fixed_up(page(mfn))
    assert bench.execute("8937", {RDI: TARGET + 4, RSI: entry >> 32}) is None
    assert bench.execute("8937", {RDI: TARGET, RSI: entry & 0xFFFF_FFFF}) is None
    assert bench.word(bench.l1_table, 0) == entry
    assert bench.execute("c60700", {RDI: TARGET}) is None  # movb $0
    assert bench.word(bench.l1_table, 0) == entry & ~0xFF


def test_not_aligned(bench: Stores) -> None:
    for code, offset in (("488937", 4), ("488937", 1), ("8937", 2), ("668937", 7), ("488937", 4092)):
        assert bench.execute(code, {RDI: TARGET + offset}) == 14, (code, offset)
    assert bench.execute("8937", {RDI: TARGET + 4092}) is None


def test_over_the_edge_of_the_table(bench: Stores) -> None:
    """The fault is at the first byte of the table, but that is not where the store begins."""
    before = BASE + 21 * 4096 + 4092
    assert bench.execute("488937", {RDI: before, RSI: WHOLE}) == 14
    assert bench.word(bench.l1_table, 0) == 0


def test_nothing_changes(bench: Stores) -> None:
    """An instruction that leaves what was there is not looked at further."""
    other = bench.guest(48)
    entry = page(bench.mfn(other, 30))
    assert bench.hv.pagetables.modify(bench.l1_table << 12, entry, False, bench.g.domid, other.domid)
    assert bench.execute("480fba2f00", {RDI: TARGET}) is None  # bts $0
    assert bench.outcome()[1] & CF
    assert bench.execute("48830f00", {RDI: TARGET + 1}) is None  # or $0, not aligned
    assert bench.store(entry) == 14  # a plain mov is
    assert bench.store(0) is None


def test_other_pages(bench: Stores) -> None:
    """Upper tables, pages that are no tables (any more), and tables mapped by others fault."""
    upper = bench.table({0: link(bench.l1_table)})
    assert bench.ext(PIN_L2, upper) == 0
    assert bench.type(upper) == L2
    bench.show(upper)
    assert bench.store(0) == 14
    bench.show(bench.mfn(bench.g, 30))
    assert bench.store(0) == 14
    bench.show(bench.l1_table)
    assert bench.type(bench.l1_table) == L1
    assert bench.store(0) is None


def test_faults_that_no_store_makes(bench: Stores) -> None:
    vcpu: VCPU = bench.vcpu
    bench.enter(vcpu)
    fault = bench.hv.exits[False].writable_page_tables.page_fault
    bench.cpu.state[RIP] = CODE
    bench.place(Code(CODE).raw("488937"))
    assert not fault(vcpu, TARGET, 3 | 8)  # a reserved bit
    assert not fault(vcpu, TARGET, 3 | 16)  # an instruction fetch


def test_addresses_have_no_segment(bench: Stores) -> None:
    """As in Xen: a store relative to FS finds another page than the one that faulted."""
    bench.enter(bench.vcpu)
    bench.cpu.state[FS_BASE] = 0x10_0000
    assert bench.execute("64488937", {RDI: TARGET - 0x10_0000}) == 14
    bench.cpu.state[FS_BASE] = 0
    assert bench.execute("64488937", {RDI: TARGET}) is None


def test_reading_for_the_guest(bench: Stores) -> None:
    """movs from where the hypervisor reads nothing for a guest faults there."""
    assert bench.execute("48a5", {RDI: TARGET, RSI: MACH2PHYS_VIRT_START}) == 14
    assert bench.fault_address == MACH2PHYS_VIRT_START
    frame = bench.cpu.memory.read_words(bench.cpu.state[RSP], 8)
    assert (frame[2], frame[3]) == (0, CODE)


def test_single_steps(bench: Stores) -> None:
    assert bench.execute("488937", {RDI: TARGET}, TF) == 1
    frame = bench.cpu.memory.read_words(bench.cpu.state[RSP], 7)
    assert (frame[2], frame[4] & TF) == (CODE + 3, TF)


def test_events_are_delivered(bench: Stores) -> None:
    info = bench.vcpu.vcpu_info
    bench.ram.bytes[info], bench.ram.bytes[info + 1] = 1, 0
    assert bench.store(0) == 32
    bench.ram.bytes[info], bench.ram.bytes[info + 1] = 0, 1
    assert bench.cpu.memory.read_words(bench.cpu.state[RSP], 7)[2] == CODE + 3


def test_a_mapping_changes(bench: Stores) -> None:
    """The guest sees a changed mapping after it flushed; code of a frame that was written is made anew."""
    memory: GuestMemory = bench.cpu.memory
    own = bench.l1
    bench.show(own)  # the guest's own mapping
    a, b = bench.mfn(bench.g, 30), bench.mfn(bench.g, 31)
    bench.ram.words[b << 9] = 77
    index = BASE >> 12 & 511
    assert bench.store(page(b, DATA | RW), index + 30) is None
    bench.cpu.flush()
    assert memory.read(BASE + 30 * 4096, 1) == b"\x4d"
    assert bench.store(page(a, PRESENT | ACCESSED), index + 30) is None  # executable now
    assert bench.frames.code[a]
    assert bench.store(page(a, DATA | RW | NX), index + 30) is None
