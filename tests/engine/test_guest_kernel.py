# SPDX-License-Identifier: GPL-2.0-or-later
"""CPL 3 as a guest's kernel: its own page tables, its own translations, and nothing else that tells it from a user.

The flag is set from outside and no instruction changes it. A page that is mapped otherwise in the users' tables is
another for each, though the TLB knows both; a supervisor's page is nobody's, but the processor finds descriptors there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import seam, svm
from pvhv.machine.cpustate import EFLAGS, ERROR_CODE, HFLAGS, RAX, RBX, RCX, RIP
from pvhv.machine.paging import PTE_NX, PTE_PRESENT, PTE_RW, PTE_USER
from pvhv.machine.rings import KERNEL, MODE, USER
from tests.machine.lab import DATA, STACK, USER_CODE, USER_DATA, Done, Lab

pytestmark = pytest.mark.skipif(not seam.corrected, reason="the stock engine has no such thing")

GDT = DATA + 0x3000
CODE3, DATA3 = 0x0B, 0x13
DESCRIPTORS = (0, 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF, 0x00AF_9B00_0000_FFFF)
USERS_TABLES = 0x10_000  # a copy of the kernel's, in which USER_DATA is the page behind it
FIRST, SECOND = 0x1111, 0x2222
TO_SYSCALL = "0f05"
READ = "488b03"  # mov (%rbx), %rax


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    words = made.ram.words
    for n, descriptor in enumerate(DESCRIPTORS):
        words[GDT // 8 + n] = descriptor
    made.pcpu.set_gdtr(GDT, len(DESCRIPTORS) * 8 - 1)
    made.map(STACK & ~0xFFF, PTE_PRESENT | PTE_RW | PTE_USER | PTE_NX)
    users = USERS_TABLES >> 12
    for n in range(4):
        words[(users + n) << 9 : (users + n + 1) << 9] = words[(1 + n) << 9 : (2 + n) << 9]
    for n in range(3):
        words[(users + n) << 9] = (users + n + 1) << 12 | PTE_PRESENT | PTE_RW | PTE_USER
    words[((users + 3) << 9) + (USER_DATA >> 12)] = USER_DATA + 4096 | PTE_PRESENT | PTE_USER | PTE_RW | PTE_NX
    words[USER_DATA // 8], words[USER_DATA // 8 + 512] = FIRST, SECOND
    made.pcpu.set_user_tables(USERS_TABLES)
    yield made
    made.close()


def run(lab: Lab, code: str, mode: int) -> tuple[int, int, int] | None:
    """The first exception's vector, error code and place in `code`; None if the syscall behind it was reached."""
    seen: list[tuple[int, int, int]] = []

    def handler(vector: int) -> None:
        seen.append((vector, lab.aux[ERROR_CODE], lab.state[RIP] - at))
        raise Done

    for vector in range(32):
        lab.pcpu.on_exception[vector] = lambda vector=vector: handler(vector)  # type: ignore[misc]
    at = lab.put(code + TO_SYSCALL, USER_CODE)
    lab.pcpu.load_flat_segments(CODE3, DATA3, 3)
    lab.state[HFLAGS] = lab.state[HFLAGS] & ~MODE | mode
    lab.state[RIP], lab.state[cs.RSP] = at, STACK
    lab.resume()
    assert lab.state[HFLAGS] & MODE == mode
    return seen[0] if seen else None


def test_each_has_its_own_tables_and_what_is_known_of_them(lab: Lab) -> None:
    lab.state[RBX] = USER_DATA
    for mode, value in ((KERNEL, FIRST), (USER, SECOND)) * 3:
        assert run(lab, READ, mode) is None
        assert lab.state[RAX] == value


def test_a_page_that_only_one_of_them_has(lab: Lab) -> None:
    words, page = lab.ram.words, USER_DATA + 0x2000
    lab.state[RBX] = page
    assert run(lab, READ, KERNEL) is None
    words[((USERS_TABLES >> 12) + 3 << 9) + (page >> 12)] = 0
    assert run(lab, READ, USER) == (svm.PF, 4, 0)
    assert run(lab, READ, KERNEL) is None


@pytest.mark.parametrize("mode", [KERNEL, USER])
def test_a_supervisors_page_is_neithers(lab: Lab, mode: int) -> None:
    """Though the processor reads descriptors there, and the TLB knows the page then."""
    lab.state[RBX], lab.state[RCX] = GDT, DATA3
    assert run(lab, "8ed9" + READ, mode) == (svm.PF, 5, 2)  # mov %ecx, %ds first
    assert lab.state[cs.DS] == DATA3
    assert run(lab, "48c70300000000", mode) == (svm.PF, 7, 0)
    assert run(lab, "ffe3", mode) == (svm.PF, 0x15, GDT - USER_CODE)  # jmp *%rbx
    assert run(lab, "f4", mode) == (svm.GP, 0, 0)  # hlt


@pytest.mark.parametrize("mode", [KERNEL, USER])
def test_no_way_of_changing_segments_changes_it(lab: Lab, mode: int) -> None:
    far_return = f"6a{CODE3:02x} 488d0503000000 50 48cb"  # push; lea of what is behind; push; lretq
    interrupt_return = f"4889e0 6a{DATA3:02x} 50 9c 6a{CODE3:02x} 488d0503000000 50 48cf"
    stack = f"b9{DATA3:02x}000000 8ed1"  # mov to %ecx; mov %ecx, %ss
    assert run(lab, (far_return + interrupt_return + stack).replace(" ", ""), mode) is None
    lab.state[EFLAGS] |= cs.AC
    lab.state[RBX] = USER_DATA + 1
    assert run(lab, READ, mode) == (17, 0, 0)
    lab.state[EFLAGS] &= ~cs.AC


def test_one_page_is_forgotten_for_both(lab: Lab) -> None:
    words = lab.ram.words
    lab.state[RBX] = USER_DATA
    run(lab, READ, KERNEL), run(lab, READ, USER)
    for tables in (1, USERS_TABLES >> 12):
        words[(tables + 3 << 9) + (USER_DATA >> 12)] = USER_DATA + 0x2000 | PTE_PRESENT | PTE_USER | PTE_RW | PTE_NX
    words[(USER_DATA + 0x2000) // 8] = 0x3333
    lab.pcpu.flush_page(USER_DATA)
    for mode in (KERNEL, USER):
        assert run(lab, READ, mode) is None
        assert lab.state[RAX] == 0x3333
