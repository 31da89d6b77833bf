# SPDX-License-Identifier: GPL-2.0-or-later
"""The teaching kernel on bare hardware: what it has only there.  QEMU's two PCs stand for the hardware.

That it is a real native kernel is mostly said by test_guest.py, which it passes on the same machine.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import capstone
import pytest
from elftools.elf.elffile import ELFFile

from pvhv.toolstack.kernel_files import find_kernel
from tests.guest.machines import PROMPT, QemuMachine, QemuTerminal

KERNEL_BASE = 0xFFFF_FFFF_8000_0000

PC, Q35 = QemuMachine("pc"), QemuMachine("q35")
both = pytest.mark.parametrize("machine", [PC, Q35], ids=lambda machine: machine.machine)


@pytest.fixture
def terminal() -> Iterator[QemuTerminal]:
    with PC.start() as made:
        yield made


@pytest.fixture(scope="module")
def image() -> ELFFile:
    return ELFFile(BytesIO(find_kernel("guest-native", Path.cwd(), "a test").read_bytes()))


# -- how it is loaded, and what it is made of ------------------------------------------------------------------


def test_the_note_leads_to_code_and_every_segment_lies_where_it_is_linked(image: ELFFile) -> None:
    segments = list(image.iter_segments())
    (note,) = (note for s in segments if s["p_type"] == "PT_NOTE" for note in s.iter_notes())
    assert (note["n_name"], note["n_type"]) == ("Xen", 18)  # PHYS32_ENTRY
    entry = int.from_bytes(note["n_descdata"], "little")
    loaded = [s for s in segments if s["p_type"] == "PT_LOAD"]
    assert [s["p_flags"] for s in loaded] == [5, 4, 6]  # r-x r-- rw-: nothing is both written and run
    assert all(s["p_vaddr"] - s["p_paddr"] == KERNEL_BASE for s in loaded)
    assert 0 <= entry - loaded[0]["p_paddr"] < loaded[0]["p_filesz"]


SILENT = re.compile(
    r"(pushfq?|popfq?|sgdt|sidt|sldt|str|smsw|lar|lsl|verr|verw|retfq?|lcall)( |$)"
    r"|(l?call|l?jmp) ptr|push [cdefgs]s|mov .*, [cdefgs]s$"  # through a far pointer; of a selector
)


CODES = "9c 9d 0f0106 0f010e 0f00c0 0f00c8 0f01e0 0f02c1 0f03c1 0f00e0 0f00e8 cb cf48cb ff18 ff28 0fa8 8cc8 8cd1 8c1e"


@pytest.mark.parametrize("code", CODES.split())
def test_the_next_test_would_find(code: str) -> None:
    decoded = list(capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64).disasm(bytes.fromhex(code), 0))
    assert decoded and SILENT.match(f"{decoded[-1].mnemonic} {decoded[-1].op_str}")


def test_no_instruction_whose_answer_depends_on_the_ring_and_that_does_not_trap(image: ELFFile) -> None:
    """Robin and Irvine's list.  A monitor that runs this kernel in an outer ring and watches for faults sees
    everything that the kernel asks the machine."""
    text = image.get_section_by_name(".text")
    symbols = {s.name: s["st_value"] for s in image.get_section_by_name(".symtab").iter_symbols()}
    start, end = text["sh_addr"], text["sh_addr"] + text["sh_size"]
    pieces = [
        (start, symbols["_start"], capstone.CS_MODE_64),
        (symbols["_start"], symbols["long_mode"], capstone.CS_MODE_32),
        (symbols["long_mode"], end, capstone.CS_MODE_64),
    ]
    found, decoded = [], 0
    for low, high, mode in pieces:
        code = text.data()[low - start : high - start]
        for instruction in capstone.Cs(capstone.CS_ARCH_X86, mode).disasm(code, low):
            decoded += instruction.size
            if SILENT.match(f"{instruction.mnemonic} {instruction.op_str}"):
                found.append(f"{instruction.address:x}: {instruction.mnemonic} {instruction.op_str}")
    assert decoded == text["sh_size"]  # all was looked at
    assert found == []


def test_no_page_is_both_written_and_run_and_none_of_the_kernel_is_the_users(terminal: QemuTerminal) -> None:
    # One line a page: "VIRTUAL: PHYSICAL XGPDACTUW", with X for "not executable" and - for what is not so.
    pages = re.findall(r"^([0-9a-f]{16}): ([0-9a-f]{16}) (.{9})", terminal.monitor("info tlb"), re.MULTILINE)
    assert len(pages) > 300
    assert [page for page in pages if page[2][-1] == "W" and page[2][0] != "X"] == []
    assert {"U" in flags for address, _, flags in pages if address < "ffff"} == {True}
    assert {"U" in flags for address, _, flags in pages if address >= "ffff"} == {False}
    # What may not be written where the image is mapped may not be written through the physmap either.
    constant = {physical for address, physical, flags in pages if address >= "ffffffff8" and flags[-1] != "W"}
    assert constant
    assert not any(physical in constant and flags[-1] == "W" for _, physical, flags in pages)
    # Slots 260 and 509 of the level 4 table are somebody else's.
    assert {int(address, 16) >> 39 & 511 for address, *_ in pages} == {0, 272, 511}


# -- interrupts and time ---------------------------------------------------------------------------------------


@pytest.fixture
def counted() -> Iterator[QemuTerminal]:
    """A machine on which a busy host makes no more interrupts and no fewer."""
    with QemuMachine("pc", "virtual").start() as made:
        yield made


def interrupts(terminal: QemuTerminal, line: int) -> int:
    """How many the interrupt controller has taken on a line, the firmware's among them."""
    counted = re.search(rf"isa-i8259:.*?^ {line}: (\d+)", terminal.monitor("info irq"), re.MULTILINE | re.DOTALL)
    return int(counted[1]) if counted else 0


def test_an_idle_system_is_not_interrupted(counted: QemuTerminal) -> None:
    time.sleep(0.2)  # a last slice that nobody needs any more may end
    before = [interrupts(counted, line) for line in range(16)]
    time.sleep(1)
    assert [interrupts(counted, line) for line in range(16)] == before


def test_a_busy_process_alone_is_not_interrupted(counted: QemuTerminal) -> None:
    before = interrupts(counted, 0)
    counted.type("spin 1\n")
    counted.wait(lambda screen: screen.endswith("turns\n" + PROMPT))
    assert interrupts(counted, 0) - before <= 3


def test_a_long_sleep_is_slept_in_the_longest_pieces_the_timer_has(counted: QemuTerminal) -> None:
    time.sleep(0.2)
    before = interrupts(counted, 0)
    counted.type("sleep 1\n")
    counted.see("sleep 1\n" + PROMPT)
    assert 20 <= interrupts(counted, 0) - before <= 24  # 50 ms each, and what the programs' turns need


@pytest.mark.parametrize(
    ("set_to", "shown"),
    [
        ("2024-02-29T23:59:30", r"2024-02-29 23:59:[3-5]\d|2024-03-01 00:00:\d\d"),
        ("2000-03-01T00:00:00", r"2000-03-01 00:00:\d\d"),
        ("1999-12-31T12:00:00", r"1999-12-31 12:00:\d\d"),
        ("2026-11-21T00:30:00", r"2026-11-21 00:30:\d\d"),
    ],
)
def test_the_date_is_that_of_the_clock_with_the_battery(set_to: str, shown: str) -> None:
    with PC.start("-rtc", f"base={set_to}") as terminal:
        terminal.type("date\nexit\n")
        (date,) = terminal.end().answers["date"]
    assert re.fullmatch(rf"({shown}) UTC", date)


def test_the_guests_second_is_ours() -> None:
    with PC.start() as terminal:
        started = time.monotonic()
        terminal.type("sleep 2\n")
        terminal.see("sleep 2\n" + PROMPT)
        assert 1.8 < time.monotonic() - started < 8


# -- memory ----------------------------------------------------------------------------------------------------


def test_memory_on_both_sides_of_the_hole_below_4_gib_is_used() -> None:
    outcome = PC.shell("free", "usertest heap", memory=4500)
    assert 4499 * 1024 <= int(outcome.answers["free"][1].split()[0]) <= 4500 * 1024
    assert outcome.lines.count("usertest: ok") == 1


def test_too_little_memory_is_said() -> None:
    with PC.start(memory=3, prompt=False) as terminal:
        outcome = terminal.end()
    assert outcome.ending == "crash"
    assert re.search(r"^panic: \d+ KiB of memory are not enough$", outcome.output, re.MULTILINE)


# -- the end ---------------------------------------------------------------------------------------------------


@both
def test_power_off_is_acpis(machine: QemuMachine) -> None:
    with machine.start(cmdline="") as terminal:
        terminal.type("poweroff\n")
        assert terminal.end().ending == "power button"


@both
def test_a_reboot_boots_again(machine: QemuMachine) -> None:
    with machine.start(cmdline="") as terminal:
        terminal.type("reboot\n")
        terminal.wait(lambda screen: screen.count("guest_kernel (native)") == 2 and screen.endswith(PROMPT))
        terminal.type("echo again\n")
        terminal.see("again\n" + PROMPT)


def test_a_crash_stays_on_the_screen(image: ELFFile) -> None:
    with PC.start(cmdline="nodebug-exit debug-exits") as terminal:  # neither is the word
        terminal.type("crash\n")
        terminal.see("Halted.\n")
        time.sleep(0.3)
        assert terminal.process.poll() is None
        assert "HLT=1" in terminal.monitor("info registers")
        (stack,) = re.findall(r"^stack:(.*)$", terminal.screen(), re.MULTILINE)
    name = namer(image)
    assert [name(int(address, 16)) for address in stack.split()] == ["sys_shutdown", "syscall", "trap", "trap_common"]


def namer(image: ELFFile) -> Callable[[int], str]:
    table = image.get_section_by_name(".symtab").iter_symbols()
    symbols = sorted((s["st_value"], s.name) for s in table if s["st_shndx"] != "SHN_ABS")
    return lambda address: max(symbol for symbol in symbols if symbol[0] <= address)[1]


def test_an_nmi_is_nobodys_fault(terminal: QemuTerminal) -> None:
    terminal.type("spin\n")  # it comes in user mode, most likely, and must not be blamed on the process
    terminal.see("spin\n")
    time.sleep(0.3)
    terminal.monitor("nmi")
    outcome = terminal.end()
    assert outcome.ending == "crash"
    assert "Oops: NMI in the kernel (vector 2, " in outcome.output


def test_what_needs_xen_says_so() -> None:
    assert PC.answer("xs ls") == ["xs: this machine has no xenstore: it is not a guest of Xen's"]
    assert PC.answer("cat /dev/xen") == ["cat: /dev/xen: no such file"]
