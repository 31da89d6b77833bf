# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulator against the engine: one instruction, executed by the one and by the other from the same state, leaves
the same registers, flags and memory, or raises the same exception."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pvhv.hvm.cpu.memory import GuestException, PageFault
from pvhv.hvm.emulator import decode
from pvhv.hvm.emulator.emulate import Emulator, Unknown
from pvhv.hvm.techniques.bare import Bare
from pvhv.hvm.techniques.hw_shadow import Outside
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import AF, ARITHMETIC_FLAGS, CF, DF, EFLAGS, PF, RBX, RCX, RDI, RIP, RSI, RSP, SF, ZF
from tests.hvm.hw_lab import CODE, DATA, GDT, STACK, HwLab

AT = CODE + 0x800
OF = cs.OF
BASE = DATA + 0x800
LIMIT_IN_FLAGS = 0xF_0000  # the engine keeps the descriptor's whole word
PAGES = (DATA, DATA + 0x1000, STACK - 0x1000, GDT)

# -- instructions: bytes with one memory operand [rbx], and which flags the manuals leave undefined --
_sizes = ("", "66", "48")
TEMPLATES: list[tuple[str, int]] = []
for _number, _name in enumerate(("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")):
    _undefined = AF if _name in ("or", "and", "xor") else 0
    for _form in range(4):
        TEMPLATES += [(f"{size if _form & 1 else ''}{8 * _number + _form:02x}03", _undefined) for size in _sizes]
    TEMPLATES += [(f"80{8 * _number + 3:02x}I", _undefined), (f"81{8 * _number + 3:02x}IIII", _undefined)]
    TEMPLATES += [(f"4881{8 * _number + 3:02x}IIII", _undefined), (f"6683{8 * _number + 3:02x}I", _undefined)]
for _size in _sizes:
    TEMPLATES += [(f"{_size}f713", 0), (f"{_size}f71b", 0), (f"{_size}ff03", 0), (f"{_size}ff0b", 0)]
    TEMPLATES += [(f"{_size}8903", 0), (f"{_size}8b03", 0), (f"{_size}8703", 0)]
    TEMPLATES.append((f"{_size}c703" + ("II" if _size == "66" else "IIII"), 0))
    TEMPLATES += [(f"{_size}0fb103", 0), (f"{_size}0fc103", 0), (f"f0{_size}0fb10b", 0), (f"{_size}8503", AF)]
    TEMPLATES += [(f"{_size}0fb603", 0), (f"{_size}0fbe03", 0)]
    for _opcode in ("a3", "ab", "b3", "bb"):
        TEMPLATES.append((f"{_size}0f{_opcode}03", OF | SF | AF | PF))
    for _modrm in ("23", "2b", "33", "3b"):
        TEMPLATES.append((f"{_size}0fba{_modrm}I", OF | SF | AF | PF))
TEMPLATES += [(code, 0) for code in (
    "f613", "f61b", "fe03", "fe0b", "8803", "8a03", "8603", "c603I", "0fb003", "0fc003", "0fc70b", "480fc70b",
    "480fc303",
    "0fb703", "480fbf03", "486303", "8823", "8a3b", "408833", "4c8903", "4d8903", "8f03", "ff33", "66ff33", "668f03",
    *(f"0f9{n:x}03" for n in range(16)),
    "0f1103", "0f1003", "0f2903", "0f2803", "660f7f03", "f30f7f0b", "660fd603", "660f7e03", "66480f7e03", "f20f1103",
    "f30f110b", "0f1303", "0f1703", "f30f6f03", "0f2b03", "66440fe703", "660f6e03", "f30f7e03", "f20f1003", "f30f1003",
    "0f1603", "0f1203",
    "a4", "a5", "48a5", "66a5", "aa", "ab", "48ab", "f3a4", "f348a5", "f3aa", "f366ab", "f3ab", "67f3aa",
    "50", "54", "58", "5c", "4153", "6aI", "68IIII", "6650", "8f442408", "ff742408", "c9",
    "e810000000", "e8f0ffffff", "ffd6", "ff23", "ff13", "ffe6", "c3", "c21000", "eb10", "e9f0ffffff",
    "9c", "9d", "669c", "669d", "fa", "fb", "0fa0", "0fa8", "8ce0", "488ce8", "8c23", "668cd0",
)]  # fmt: skip


@pytest.fixture(scope="module")
def lab() -> HwLab:
    return HwLab(Bare)


def clean(code: str, immediate: bytes) -> bytes:
    """`I` is a byte of the immediate."""
    out, n = "", 0
    for letter in code:
        if letter == "I":
            out += f"{immediate[n]:02x}"
            n += 1
        else:
            out += letter
    return bytes.fromhex(out)


class Case:
    """A state to begin from; what each of the two makes of it."""

    def __init__(self, lab: HwLab, code: bytes) -> None:
        self.lab, self.code = lab, code
        self.pcpu, self.state, self.physical = lab.guest.pcpu, lab.state, lab.physical

    def memory(self) -> list[bytes]:
        return [self.physical.read(page, 4096) for page in PAGES]

    def both(self) -> tuple[Any, Any]:
        lab, state = self.lab, self.state
        lab.technique.cpu.memory.write(AT - 64, b"\xf4" * 128)
        lab.technique.cpu.memory.write(AT, self.code + b"\xf4" * 4)
        state[RIP] = AT
        saved, before = bytes(self.pcpu.save()), self.memory()
        lab.resume()
        if 0x16000 <= state[RIP] < 0x17000:  # a handler: the frame tells; its own traces do not count
            vector = state[RBX]
            state_of_engine: Any = (vector, lab.frame()[0] if vector in (10, 11, 12, 13, 14) else None)
        else:
            state_of_engine = self.outcome(state[RIP] - 1)
        self.pcpu.load(saved)
        for page, data in zip(PAGES, before, strict=True):
            lab.technique.cpu.memory.write(page, data)
        cpu = lab.technique.cpu
        try:
            Emulator(cpu, Outside(lab.technique)).execute(decode.fetch(cpu))
        except GuestException as exception:
            assert self.memory() == before and state[RIP] == AT
            code = exception.code if exception.vector in (10, 11, 12, 13, 14) else None
            return state_of_engine, (exception.vector, code)
        return state_of_engine, self.outcome(state[RIP])

    def outcome(self, rip: int) -> tuple[Any, ...]:
        state = self.state
        vectors = [state[824 // 8 + 8 * n + half] for n in range(2) for half in range(2)]
        cpu = self.lab.technique.cpu
        segments: list[Any] = [cpu.segment(register) for register in range(cs.ES, cs.GS + 1, 3)]
        segments = [
            segment._replace(flags=segment.flags & ~LIMIT_IN_FLAGS) if segment.selector & ~3 else segment.selector
            for segment in segments
        ]
        return state[0:16].tolist(), rip, state[EFLAGS], vectors, segments, self.memory()


def prepare(lab: HwLab, values: list[int], flags: int, memory: bytes) -> None:
    state = lab.state
    for n in range(16):
        state[n] = values[n]
    state[RBX], state[RSI], state[RDI], state[RSP] = BASE, DATA + 0x420, DATA + 0x600, STACK - 0x200
    state[RCX] = values[1] % 9
    state[cs.RBP] = STACK - 0x180
    for n in range(2):
        state[824 // 8 + 8 * n], state[824 // 8 + 8 * n + 1] = values[n + 2], values[n + 4]
    state[EFLAGS] = 2 | flags & (ARITHMETIC_FLAGS | DF)
    for page in PAGES[:3]:
        lab.technique.cpu.memory.write(page, (memory * 256)[:4096])
    for at in (BASE, STACK - 0x200):  # where control may go
        lab.technique.cpu.memory.write(at, (AT + 16).to_bytes(8, "little"))


special = st.sampled_from([0, 1, 0x7F, 0x80, 0x8000_0000, 1 << 63, (1 << 64) - 1])
words = st.one_of(st.integers(0, (1 << 64) - 1), special)


@settings(max_examples=1200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    template=st.sampled_from(TEMPLATES),
    values=st.lists(words, min_size=16, max_size=16),
    flags=st.integers(0, 0xFFF),
    memory=st.binary(min_size=16, max_size=16),
    immediate=st.binary(min_size=4, max_size=4),
)
def test_like_the_engine(
    lab: HwLab, template: tuple[str, int], values: list[int], flags: int, memory: bytes, immediate: bytes
) -> None:
    text, undefined = template
    code = clean(text, immediate)
    if any(opcode in text for opcode in ("0fa3", "0fab", "0fb3", "0fbb")):
        values[0] &= 0x7FF  # the bit string's offset: within the page
    prepare(lab, values, flags, memory)
    if "ffd6" in text or "ffe6" in text:
        lab.state[RSI] = AT + 16
    engine, emulated = Case(lab, code).both()
    if len(engine) == 2:
        assert engine == emulated, text
        return
    for n, what in enumerate(("registers", "rip", "flags", "xmm", "segments", "memory")):
        first, second = engine[n], emulated[n]
        if what == "flags":
            first, second = first & ~undefined, second & ~undefined
        assert first == second, (text, what)


SELECTORS = [0, 1, 3, 8, 0x0B, 0x10, 0x11, 0x13, 0x1B, 0x18, 0x23, 0x20, 0x28, 0x30, 0x38, 0x40, 0x14, 0xFFF8]


@pytest.mark.parametrize("code", ["8ed8", "8ec0", "8ee0", "8ee8", "8ed0", "50 0fa1", "50 0fa9", "0f02d0", "480f03d0",
                                  "0f00e0", "0f00e8", "0f00d0", "660f03d0"])  # fmt: skip
def test_selectors_like_the_engine(lab: HwLab, code: str) -> None:
    """Loads of segment registers and questions about selectors, for good and bad ones."""
    pushes = code.startswith("50")
    for selector in SELECTORS:
        if code == "8ed0" and selector in (1, 3):
            continue  # null, with an RPL that is not CPL: #GP in the manuals, and nothing in the engine
        prepare(lab, [selector] * 16, ZF, bytes(16))
        if pushes:
            lab.technique.cpu.memory.write(lab.state[RSP], selector.to_bytes(8, "little"))
        engine, emulated = Case(lab, bytes.fromhex(code.removeprefix("50 "))).both()
        assert engine == emulated, (code, hex(selector))
    lab.run("66b81000 8ed0 31c0 8ed8 8ec0 8ee0 8ee8".replace(" ", ""))


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("code", ["48cb", "ff2b", "ff1b", "48ff2b"])
def test_far_transfers_like_the_engine(lab: HwLab, code: str, selector: int) -> None:
    """RETF, and far JMP and CALL through memory, within ring 0 or refused."""
    if selector & 3 and code == "48cb":
        return  # to an outer ring, where HLT cannot end it
    if code == "48ff2b" or selector & ~3 == 0x28:
        return  # a TSS is a task switch, which long mode does not have
    prepare(lab, [7] * 16, 0, bytes(16))
    memory = lab.technique.cpu.memory
    memory.write(lab.state[RSP], (AT + 16).to_bytes(8, "little") + selector.to_bytes(8, "little"))
    memory.write(BASE, (AT + 16).to_bytes(4, "little") + selector.to_bytes(2, "little"))
    engine, emulated = Case(lab, bytes.fromhex(code)).both()
    assert engine == emulated


@pytest.mark.parametrize("flags", [0, 0x200, CF | ZF, 0x3200, 0x4000, 0x24_0ED5])
def test_iret_like_the_engine(lab: HwLab, flags: int) -> None:
    for selector, stack in ((8, 0x10), (8, 0), (8, 0x18), (0x10, 0x10), (0, 0), (0x38, 0x10), (8, 0x13)):
        prepare(lab, [7] * 16, 0, bytes(16))
        frame = (AT + 16, selector, flags & ~0x200, STACK - 0x300, stack)
        lab.technique.cpu.memory.write(lab.state[RSP], b"".join(word.to_bytes(8, "little") for word in frame))
        engine, emulated = Case(lab, b"\x48\xcf").both()
        assert engine == emulated, (hex(selector), hex(stack))
    lab.run("66b810008ed0")


# -- by hand -----------------------------------------------------------------------------------------------------------
def test_a_fault_has_no_effect(lab: HwLab) -> None:
    """Stores of several pages, pushes and read-modify-writes that cannot be done leave everything. (What reads before
    it writes faults as a read, as in the engine.)"""
    cpu = lab.technique.cpu
    page = DATA + 0x10000
    lab.set_entry(page, 0)
    lab.guest.pcpu.flush_tlb()
    state = lab.state
    for code, registers, error in (
        ("48890b", {"rbx": page - 4}, 2), ("48010b", {"rbx": page - 4}, 0), ("50", {"rsp": page + 4}, 2),
        ("8f03", {"rbx": page, "rsp": DATA}, 2), ("480fc70b", {"rbx": page}, 0), ("e800000000", {"rsp": page + 4}, 2),
        ("8703", {"rbx": page}, 0), ("48ab", {"rdi": page - 4}, 2),
    ):  # fmt: skip
        prepare(lab, [5] * 16, 0, bytes(range(16)))
        cpu.memory.write(AT, bytes.fromhex(code))
        state[RIP] = AT
        for name, value in registers.items():
            state[getattr(cs, name.upper())] = value
        before, memory = state[0:18].tolist(), [lab.physical.read(at, 4096) for at in (page - 0x1000, DATA)]
        with pytest.raises(PageFault) as fault:
            Emulator(cpu, Outside(lab.technique)).execute(decode.fetch(cpu))
        assert fault.value.va & ~0xFFF == page and fault.value.code == error, code
        assert state[0:18].tolist() == before
        assert [lab.physical.read(at, 4096) for at in (page - 0x1000, DATA)] == memory


def test_a_repeated_store_that_faults_has_done_what_it_counted(lab: HwLab) -> None:
    """REP STOSQ, three of whose five words fit: RCX and RDI say so, and it can go on."""
    cpu, state, page = lab.technique.cpu, lab.state, DATA + 0x10000
    lab.set_entry(page, 0)
    lab.physical.write(page - 0x1000, bytes(4096))
    cpu.memory.write(AT, bytes.fromhex("f348ab"))
    state[RIP], state[RDI], state[RCX], state[0], state[EFLAGS] = AT, page - 24, 5, 7, 2
    emulator = Emulator(cpu, Outside(lab.technique))
    emulator.execute(decode.fetch(cpu))  # it stops where the page ends, with RIP where it was
    with pytest.raises(PageFault):
        emulator.execute(decode.fetch(cpu))
    assert (state[RCX], state[RDI], state[RIP]) == (2, page, AT)
    assert lab.physical.read(page - 32, 32) == bytes(8) + (7).to_bytes(8, "little") * 3


def test_what_it_does_not_know(lab: HwLab) -> None:
    cpu = lab.technique.cpu
    for code in ("d903", "0fae03", "c10305", "0f7f03", "0f6f03"):
        cpu.memory.write(AT, bytes.fromhex(code))
        lab.state[RIP] = AT
        with pytest.raises(Unknown):
            Emulator(cpu, Outside(lab.technique)).execute(decode.fetch(cpu))
