# SPDX-License-Identifier: GPL-2.0-or-later
"""CPL changes only as the processor changes it, and nobody reaches memory with more rights than theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import EFLAGS, ERROR_CODE, R11, RAX, RBX, RCX, RIP, RSP
from tests.machine.lab import CODE, DATA, USER_CODE, USER_DATA, Done, Lab

GDT = DATA + 0x3000
# Selectors in it: code and data of each ring, 64- and 32-bit code.
KERNEL_CODE, KERNEL_DATA, USER64, USER_DATA_SELECTOR = 0x09, 0x11, 0x1B, 0x23
RING0_CODE, RING0_DATA = 0x30, 0x38
DESCRIPTORS = (
    0, 0x00AF_BB00_0000_FFFF, 0x00CF_B300_0000_FFFF, 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF,
    0x00CF_FB00_0000_FFFF, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF,
)  # fmt: skip


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    for n, descriptor in enumerate(DESCRIPTORS):
        made.ram.words[GDT // 8 + n] = descriptor
    made.pcpu.set_gdtr(GDT, len(DESCRIPTORS) * 8 - 1)
    yield made
    made.close()


def enter(lab: Lab, cpl: int) -> None:
    """Segments as code at `cpl` has them."""
    code, stack = (KERNEL_CODE, KERNEL_DATA) if cpl == 1 else (USER64, USER_DATA_SELECTOR)
    lab.pcpu.load_flat_segments(code, stack, cpl)


def run(lab: Lab, code: str, cpl: int) -> tuple[int, int, int] | None:
    """The first exception's vector, error code and RIP within `code`; None if it got to a syscall behind it."""
    seen: list[tuple[int, int, int]] = []

    def handler(vector: int) -> None:
        seen.append((vector, lab.aux[ERROR_CODE], lab.state[RIP] - at))
        raise Done

    for vector in range(32):
        lab.pcpu.on_exception[vector] = lambda vector=vector: handler(vector)  # type: ignore[misc]
    enter(lab, cpl)
    at = lab.put(code + "0f05", CODE if cpl == 1 else USER_CODE)
    lab.run(at, cpl)
    return seen[0] if seen else None


def cpl_of(lab: Lab) -> int:
    return lab.state[cs.HFLAGS] & 3


@pytest.mark.parametrize("cpl", [1, 3])
@pytest.mark.parametrize("selector", [0, 1, 2, 3])
@pytest.mark.parametrize("code", ["8ed0", "488ed0", "8e13", "0fb213", "480fb213"])
def test_a_null_selector_in_ss_is_a_general_protection_fault(lab: Lab, code: str, selector: int, cpl: int) -> None:
    lab.state[RAX] = selector
    lab.state[RBX] = where = DATA if cpl == 1 else USER_DATA
    for n in range(4):  # lss reads the selector behind an offset of 2, 4 or 8 bytes
        lab.ram.words[where // 8 + n] = selector * 0x0001_0001_0001_0001
    assert run(lab, code, cpl) == (svm.GP, 0, 0)
    assert cpl_of(lab) == cpl


@pytest.mark.parametrize("cpl", [1, 3])
@pytest.mark.parametrize("selector", [RING0_DATA, RING0_DATA | 1, KERNEL_DATA, USER_DATA_SELECTOR, RING0_CODE])
def test_no_selector_in_ss_changes_the_ring(lab: Lab, selector: int, cpl: int) -> None:
    lab.state[RAX] = selector
    own = KERNEL_DATA if cpl == 1 else USER_DATA_SELECTOR
    assert run(lab, "8ed0", cpl) == (None if selector == own else (svm.GP, selector & ~3, 0))
    assert cpl_of(lab) == cpl


def push_frame(lab: Lab, cpl: int, *words: int, size: int = 8) -> None:
    """An IRET's or RETF's frame on the stack of `cpl`."""
    at = (DATA if cpl == 1 else USER_DATA) + 0x800
    lab.state[RSP] = at
    for n, word in enumerate(words):
        lab.ram.bytes[at + n * size : at + (n + 1) * size] = word.to_bytes(size, "little")


@pytest.mark.parametrize("cpl", [1, 3])
def test_iret_never_enters_virtual_8086_mode(lab: Lab, cpl: int) -> None:
    own = (KERNEL_CODE, KERNEL_DATA) if cpl == 1 else (USER64, USER_DATA_SELECTOR)
    behind = (CODE if cpl == 1 else USER_CODE) + 1
    push_frame(lab, cpl, behind, own[0], 0x2_0202, 0x1234, own[1], size=4)
    assert run(lab, "cf", cpl) is None
    assert cpl_of(lab) == cpl and not lab.state[EFLAGS] & cs.VM


@pytest.mark.parametrize("code", ["48cf", "48cb", "cf", "cb"])
def test_no_return_leads_inwards(lab: Lab, code: str) -> None:
    size = 8 if code.startswith("48") else 4
    words = [CODE, RING0_CODE, 0x202, DATA, RING0_DATA] if "cf" in code else [CODE, RING0_CODE, DATA, RING0_DATA]
    push_frame(lab, 1, *words, size=size)
    assert run(lab, code, 1) == (svm.GP, RING0_CODE, 0)
    push_frame(lab, 3, *[CODE, KERNEL_CODE, *words[2:]], size=size)
    assert run(lab, code, 3) == (svm.GP, KERNEL_CODE & ~3, 0)


def far_pointer(lab: Lab, offset: int, selector: int) -> None:
    lab.state[RBX] = USER_DATA
    lab.ram.words[USER_DATA // 8] = offset | selector << 32


@pytest.mark.parametrize("prefix", ["", "66"])
def test_a_users_far_call_cannot_write_where_only_its_kernel_may(lab: Lab, prefix: str) -> None:
    far_pointer(lab, USER_CODE + 0x100, USER64)
    lab.put("0f05", USER_CODE + 0x100)
    lab.state[RSP] = DATA + 0x808
    before = lab.ram.bytes[DATA + 0x700 : DATA + 0x810].tobytes()
    outcome = run(lab, prefix + "ff1b", 3)
    assert outcome == (svm.PF, 7, 0) or (prefix and outcome is not None)  # present, a write, a user's
    assert lab.ram.bytes[DATA + 0x700 : DATA + 0x810].tobytes() == before


@pytest.mark.parametrize("code", ["48cb", "cb", "66cb", "48cf", "cf", "66cf", "ca0800"])
def test_a_users_return_cannot_read_what_only_its_kernel_may(lab: Lab, code: str) -> None:
    lab.ram.words[DATA // 8 + 0x100] = USER_CODE
    lab.state[RSP] = DATA + 0x800
    assert run(lab, code, 3) == (svm.PF, 5, 0)


@pytest.mark.parametrize("cpl", [1, 3])
@pytest.mark.parametrize("code", ["0f34", "660f34", "480f34", "0f35", "480f35"])
def test_sysenter_and_sysexit_are_undefined(lab: Lab, code: str, cpl: int) -> None:
    lab.state[EFLAGS] |= cs.TF
    assert run(lab, code, cpl) == (svm.UD, 0, 0)


@pytest.mark.parametrize("code", ["0f05", "660f05", "480f05", "f20f05", "66666666660f05"])
def test_a_system_call_is_as_long_as_it_is(lab: Lab, code: str) -> None:
    went: list[int] = []

    def syscall() -> None:
        went.append(lab.state[RCX])
        if len(went) == 1:
            lab.state[RIP] = USER_CODE + 0x200  # as a kernel's entry would be
        else:
            raise Done

    lab.pcpu.on_syscall = syscall
    lab.put("48ffc0 0f05", USER_CODE + 0x200)
    lab.state[RAX] = 0
    enter(lab, 3)
    at = lab.put(code, USER_CODE)
    lab.run(at, 3)
    assert went == [at + len(code) // 2, USER_CODE + 0x205] and lab.state[RAX] == 1


def test_a_system_call_that_is_refused_is_as_if_it_had_not_been(lab: Lab) -> None:
    seen: list[int] = []

    def syscall() -> None:
        lab.pcpu.undo_syscall()
        seen.extend((lab.state[RIP], lab.state[RCX], lab.state[R11]))
        raise Done

    lab.pcpu.on_syscall = syscall
    lab.state[RCX], lab.state[R11] = 5, 6
    enter(lab, 3)
    at = lab.put("90 66660f05", USER_CODE)
    lab.run(at, 3)
    assert seen == [at + 1, 5, 6]
