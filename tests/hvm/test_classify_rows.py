# SPDX-License-Identifier: GPL-2.0-or-later
"""Every row at every ring against what the manuals say, worked out by hand: traps, and what untrapped code sees.

The addresses: the guest's GDT and IDT are pages 1 and 2 of its image at 1 MiB, the monitor's those behind 1.5 MiB.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from pvhv.hvm.classify import bench as bench_room
from pvhv.hvm.classify.bench import GUEST, MONITOR, RINGS, Bench, BenchError
from pvhv.hvm.classify.instructions import LISTED, PRIVILEGED, REGISTERS, ROWS, Row, image, rows_of
from pvhv.hvm.classify.row import assemble, listing
from pvhv.hvm.classify.verdict import INNOCUOUS, TRAPS, VIOLATES, Verdict, agrees, classify, marked
from pvhv.machine import cpustate as cs
from pvhv.machine.pcpu import CR4_PV, PCPU

GP0: Final = "#GP(0)"
UD: Final = "#UD"
INT80, INT82, SYSCALL = "int 0x80", "int 0x82", "syscall"

Seen = dict[str, int] | str

# For each row: ring 0, 1, 3, each an exception, an entry of the monitor, or registers; verdicts at rings 1 and 3.
LISTED_EXPECTED: Final[dict[str, tuple[Seen, Seen, Seen, Verdict, Verdict]]] = {
    # The monitor's GDT has 21 entries, its IDT 256 of 16 bytes.
    "SGDT": ({"rax": 0x6F, "rbx": 0x101000}, *({"rax": 21 * 8 - 1, "rbx": 0x181000},) * 2, VIOLATES, VIOLATES),
    "SIDT": ({"rax": 0x82F, "rbx": 0x102000}, *({"rax": 0xFFF, "rbx": 0x182000},) * 2, VIOLATES, VIOLATES),
    "SLDT": ({"rax": 0x40}, {"rax": 0x70}, {"rax": 0x70}, VIOLATES, VIOLATES),
    "STR": ({"rax": 0x50}, {"rax": 0x80}, {"rax": 0x80}, VIOLATES, VIOLATES),
    # PG AM NE ET TS MP PE; the monitor's has WP and no TS.
    "SMSW": ({"rax": 0x8004003B}, *({"rax": 0x80050033},) * 2, VIOLATES, VIOLATES),
    "PUSHF": ({"rax": 0}, {"rax": 0x200}, {"rax": 0x200}, VIOLATES, VIOLATES),
    "POPF": ({"rax": 0x3000}, {"rax": 0x200}, {"rax": 0x200}, VIOLATES, VIOLATES),
    # Bits 13 and 14 of the access rights are the DPL.
    "LAR": (
        {"rax": 0xC09300, "rbx": 1}, {"rax": 0xC0B300, "rbx": 1}, {"rax": 0xC0F300, "rbx": 1}, VIOLATES, VIOLATES,
    ),
    "LSL": (
        {"rax": 0x67, "rbx": 1, "rdx": 0}, *({"rax": 0, "rbx": 0, "rdx": 1},) * 2, VIOLATES, VIOLATES,
    ),
    "VERR": ({"rax": 1, "rbx": 0}, *({"rax": 1, "rbx": 1},) * 2, VIOLATES, VIOLATES),
    "VERW": ({"rax": 1, "rbx": 0}, *({"rax": 1, "rbx": 1},) * 2, VIOLATES, VIOLATES),
    # RPL 1 > DPL 0 is #GP(selector without RPL); with the DPL raised to 1 or 3 it is allowed.
    "POP": ("#GP(0x10)", {"rcx": 0, "rdx": 0x11}, {"rcx": 0, "rdx": 0x11}, VIOLATES, VIOLATES),
    "POP SS (32-bit)": ({"rax": 1}, "#GP(0x10)", "#GP(0x10)", TRAPS, TRAPS),
    "POP SS": (UD, UD, UD, INNOCUOUS, INNOCUOUS),
    "PUSH": ({"rax": 0x10}, {"rax": 0x10}, {"rax": 0x10}, INNOCUOUS, INNOCUOUS),
    "PUSH CS (32-bit)": ({"rax": 0x18}, {"rax": 0x19}, {"rax": 0x1B}, VIOLATES, VIOLATES),
    "PUSH CS": (UD, UD, UD, INNOCUOUS, INNOCUOUS),
    "CALL": ({"rax": 8}, {"rax": 9}, {"rax": 0xB}, VIOLATES, VIOLATES),
    "CALL (32-bit)": ({"rax": 0x18}, {"rax": 0x19}, {"rax": 0x1B}, VIOLATES, VIOLATES),
    "CALL ptr16:32": (UD, UD, UD, INNOCUOUS, INNOCUOUS),
    "JMP": ({"rax": 8}, {"rax": 9}, {"rax": 0xB}, VIOLATES, VIOLATES),
    "JMP (32-bit)": ({"rax": 0x18}, {"rax": 0x19}, {"rax": 0x1B}, VIOLATES, VIOLATES),
    "JMP ptr16:32": (UD, UD, UD, INNOCUOUS, INNOCUOUS),
    # A gate's error code: vector * 8, and 2 for "in the IDT".
    "INT n": ({"rcx": 0x80}, "#GP(0x402)", "#GP(0x402)", TRAPS, TRAPS),
    "INT n, open gate": ({"rcx": 0x82}, INT82, INT82, TRAPS, TRAPS),
    # Four words pushed; a return to the same ring takes two and goes on 16 bytes lower: -0x100 + 0x10.
    "RET": ({"rax": 0, "rbx": 0x21}, {"rax": 2**64 - 0xF0, "rbx": 0x21}, "#GP(0x20)", VIOLATES, TRAPS),
    "RET to its own ring": ({"rax": 1}, "#GP(0x8)", "#GP(0x8)", TRAPS, TRAPS),
    "RET to ring 3": (
        {"rax": 0, "rbx": 0x3B}, {"rax": 0, "rbx": 0x3B}, {"rax": 2**64 - 0xF0, "rbx": 0x3B}, INNOCUOUS, VIOLATES,
    ),
    "MOV": ({"rax": 8}, {"rax": 9}, {"rax": 0xB}, VIOLATES, VIOLATES),
    "MOV to FS": ("#GP(0x10)", {"rcx": 0, "rdx": 0x11}, {"rcx": 0, "rdx": 0x11}, VIOLATES, VIOLATES),
    "MOV to SS": ({"rax": 1}, "#GP(0x10)", "#GP(0x10)", TRAPS, TRAPS),
}  # fmt: skip
# What the rows of the other list see at ring 0; outside, all is #GP(0) but what follows.
PRIVILEGED_AT_RING_0: Final[dict[str, Seen]] = {
    **{name: {"rax": 1} for name in "CLI STI HLT LGDT LIDT LLDT LTR INVLPG WBINVD INVD IN OUT RDTSC RDTSCP".split()},
    **{name: {"rax": 1} for name in ("MOV CR3", "MOV CR4", "MOV CR8")},
    "MOV from CR0": {"rax": 0x8005003B}, "MOV to CR0": {"rax": 0x8005003B}, "LMSW": {"rax": 0x8005003B},
    "CLTS": {"rax": 0x80050033}, "MOV CR2": {"rbx": 0x1234000}, "MOV DR": {"rbx": 0x1234},
    **{name: {"rax": 0x1234, "rdx": 0} for name in ("RDMSR", "WRMSR", "SWAPGS")}, "SYSRET": {"rax": 0x3B},
}  # fmt: skip
OTHERS_EXPECTED: Final[dict[str, tuple[Seen, Seen, Seen, Verdict, Verdict]]] = {
    **{name: (seen, GP0, GP0, TRAPS, TRAPS) for name, seen in PRIVILEGED_AT_RING_0.items()},
    "IRET": ({"rax": 1}, "#GP(0x8)", "#GP(0x8)", TRAPS, TRAPS),
    "IRET to ring 3": ({"rax": 0x3000}, {"rax": 0x200}, {"rax": 0x200}, VIOLATES, VIOLATES),
    "CPUID": ({"rax": 1}, {"rax": 1}, {"rax": 1}, INNOCUOUS, INNOCUOUS),
    "SYSCALL": ({"rcx": 0x100}, SYSCALL, SYSCALL, TRAPS, TRAPS),
    "SYSENTER": (UD, UD, UD, INNOCUOUS, INNOCUOUS),
}
EXPECTED: Final = LISTED_EXPECTED | OTHERS_EXPECTED

THE_TABLE: Final = "SGDT SIDT SLDT SMSW PUSHF POPF LAR LSL VERR VERW POP PUSH CALL JMP INT-n RET STR MOV"


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.close()


def row_named(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def test_the_whole_table_is_there_and_every_row_is_expected() -> None:
    assert {row.about for row in LISTED} == {name.replace("-", " ") for name in THE_TABLE.split()}
    assert all(row.listed for row in LISTED) and not any(row.listed for row in PRIVILEGED)
    assert [row.name for row in LISTED if row.name not in LISTED_EXPECTED] == []
    assert sorted(row.name for row in ROWS) == sorted(EXPECTED), "names are unique"


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("name", EXPECTED)
def test_a_row_at_a_ring(bench: Bench, name: str, ring: int) -> None:
    expected = EXPECTED[name][RINGS.index(ring)]
    outcome = bench.run(row_named(name), ring)
    if isinstance(expected, dict):
        assert (outcome.exception, outcome.entered) == ("", "")
        assert {register: outcome.registers[register] for register in expected} == expected
    elif expected.startswith("#"):
        assert (outcome.exception, outcome.entered) == (expected, "")
        # On its own machine the guest's handler goes on; under a monitor the trap is the end.
        assert bool(outcome.registers) == (ring == 0)
    else:
        assert (outcome.exception, outcome.entered, outcome.registers) == ("", expected, {})


@pytest.mark.parametrize("name", EXPECTED)
def test_the_verdict(bench: Bench, name: str) -> None:
    (judgement,) = classify([row_named(name)], bench=bench)
    *_, ring1, ring3 = EXPECTED[name]
    assert judgement.verdicts == {1: ring1, 3: ring3}
    worst = next(verdict for verdict in (VIOLATES, TRAPS, INNOCUOUS) if verdict in (ring1, ring3))
    assert judgement.verdict == worst
    assert marked(row_named(name), 1, bench) == (ring1 == VIOLATES)


@pytest.mark.parametrize("name", EXPECTED)
def test_wants_is_what_its_own_machine_shows(bench: Bench, name: str) -> None:
    row = row_named(name)
    assert set(row.wants) <= set(REGISTERS) and row.wants
    expected = EXPECTED[name][0]
    if isinstance(expected, dict):
        assert image(row, GUEST).wants.items() <= expected.items()
    assert agrees(row, bench.run(row, 0))


def test_ring_2_is_as_good_as_any(bench: Bench) -> None:
    assert bench.run(row_named("MOV"), 2).registers["rax"] == 0xA
    assert bench.run(row_named("CLI"), 2).exception == GP0


def test_the_monitors_tsd_is_what_stops_rdtsc(bench: Bench) -> None:
    assert bench.run(row_named("RDTSC"), 1).exception == GP0
    assert bench.state[cs.CR4] & 4
    assert bench.run(row_named("RDTSC"), 0).registers["rax"] == 1
    assert bench.state[cs.CR4] == CR4_PV


def test_a_row_leaves_nothing_for_the_next(bench: Bench) -> None:
    ways = [(row, ring) for row in ROWS for ring in RINGS]
    forward = [bench.run(row, ring) for row, ring in ways]
    backward = [bench.run(row, ring) for row, ring in reversed(ways)]
    assert forward == backward[::-1]


@pytest.mark.parametrize("kind", [{"copy_state": True}, {"clock": "virtual", "block_stops": True}], ids=str)
def test_however_the_engine_is_driven(bench: Bench, kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_room, "PCPU", functools.partial(PCPU, **kind))
    other = Bench()
    try:
        assert [bench.run(row, ring) for row in ROWS for ring in RINGS] == [
            other.run(row, ring) for row in ROWS for ring in RINGS
        ]
    finally:
        other.close()


def test_a_row_whose_own_machine_disagrees_is_an_error_not_a_verdict(bench: Bench) -> None:
    wrong = dataclasses.replace(row_named("STR"), wants={"rax": 0x51})
    with pytest.raises(BenchError, match="TR 0x50, which the row does not want"):
        classify([wrong], bench=bench)
    astray = dataclasses.replace(row_named("STR"), body="fa  cli\n* 0f00c8  str eax")
    with pytest.raises(BenchError, match="not the row's instruction"):
        bench.run(astray, 1)


def test_the_image_runs_wherever_it_is_loaded() -> None:
    row = row_named("SGDT")
    low, high = image(row, 0x10_0000), image(row, 0x7000_0000)
    assert high.wants["rbx"] - low.wants["rbx"] == 0x7000_0000 - 0x10_0000
    assert high.body - high.base == low.body - low.base and len(low.data) == 6 * 4096
    assert image(row, 0x10_0000, b"\xf4").data[low.ending - low.base] == 0xF4
    for bad in (0, 0x10_0001, 0x8000_0000):
        with pytest.raises(ValueError, match="below 2 GiB"):
            image(row, bad)
    assert MONITOR % 4096 == 0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_bytes_are_the_assembly_beside_them(row: Row) -> None:
    capstone = pytest.importorskip("capstone")
    for text, mode in ((row.before, 64), (row.body, row.mode)):
        lines = [line for line in listing(text) if line.bytes]
        decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64 if mode == 64 else capstone.CS_MODE_32)
        for line in lines:
            if mode == 64 and line.marked and row.name in ("POP SS", "PUSH CS", "CALL ptr16:32", "JMP ptr16:32"):
                continue  # no such instruction, which is the row's point
            code, _ = assemble([line], 0, dict.fromkeys(LABELS, 0x1234))
            (decoded,) = decoder.disasm(code, 0)
            said = f"{decoded.mnemonic} {decoded.op_str}"
            assert decoded.size == len(code)
            assert plain(said) == plain(re.sub(rf"\b({'|'.join(LABELS)})\b", "0x1234", line.assembly)), said


LABELS: Final = ("there", "gdt", "idt", "entry")


def plain(text: str) -> str:
    """Without what the two ways of writing differ in: sizes told twice, `far`, blanks."""
    text = re.sub(r"^l(jmp|call)", r"\1", text)
    text = re.sub(r"\b(([qdf]?word|byte) )?ptr|\bfar\b|\s", "", text)
    return text.replace("0x18,0x1234", "0x18:0x1234")


def test_marks_are_by_address() -> None:
    lines = listing("6a08  push 8\n* 90  nop\nthere:\n68{there}  push there")
    code, places = assemble(lines, 0x1000, {})
    assert code == bytes.fromhex("6a08 90 68 03100000") and places == [0x1002]
    with pytest.raises(ValueError, match="no bytes"):
        listing("what is this")


@pytest.mark.parametrize(("name", "found"), [("ret", 3), ("RET to ring 3", 1), ("mov", 3), ("int N", 2)])
def test_rows_by_name(name: str, found: int) -> None:
    assert len(rows_of(name)) == found
