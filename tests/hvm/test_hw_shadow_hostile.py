# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that make no sense, under hw-shadow: what they do to their tables and control registers harms nobody else.

Each program is a random row of the instructions that a monitor of the first generation has to do with, on addresses of
page tables, descriptors and holes. It may halt, run on, or be ended; it may not find a bug of ours, nor a way to the
hypervisor's memory, and all frames come back.
"""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from pvhv.abi.xen import DOMID_XEN
from pvhv.hvm.techniques.hw_shadow import HwShadow
from pvhv.machine.cpustate import RIP, RSP
from tests.hvm.hw_lab import (
    CODE,
    CR0,
    CR4,
    DATA,
    GDT,
    HANDLERS,
    HAS_CODE,
    IDT,
    L1,
    L2,
    L3,
    L4,
    NX,
    PAGES,
    RW,
    STACK,
    TABLE,
    TSS,
    US,
    A,
    D,
    HwLab,
    P,
)

SNIPPETS = [
    "0f20c0", "0f20d8", "0f20e0", "0f22c0", "0f22d8", "0f22e0", "440f22c0", "440f20c0", "0f20d0", "0f22d0",  # MOV CR
    "0f06", "0f01f0", "0f01e0", "0f0133", "0f013b", "0f01f8",  # clts lmsw smsw lmsw[m] invlpg swapgs
    "0fa2", "0f32", "0f30", "ec", "ee", "6c", "f36f", "fb", "fa", "9c", "9d", "f4",
    "488b03", "488903", "8803", "668903", "f348ab", "f348a5", "48ab", "f048010b", "f00fc10b", "f00fb10b", "f0480fc70b",
    "0f1103", "48ff03", "ff33", "8f03", "ffd3", "480fab03", "dd1b",
    "48cf", "0f05", "480f07", "cd80", "cc", "0f0b", "8ed0", "8ed8", "0f00d0", "0f00d8", "0f011b", "0f0113", "48cb",
]  # fmt: skip
VALUES = [
    0, 1, L1, L1 + 0x30 * 8, L1 + 0x20 * 8, L2, L3, L4, L4 + 8, GDT, IDT, TSS, STACK, CODE, DATA, DATA + 0xFFC,
    0x1FF000, 0x200000, 1 << 63, (1 << 64) - 1, 0xC000_0080, 0xC000_0082, 0x174, 0x10, CR0, CR0 & ~(1 << 16), CR0 | 8,
    CR4, DATA | TABLE | D, DATA | P | A, L1 | TABLE | D, L4 | TABLE, L3 | TABLE, TABLE | D | 0x80, 1 << 40 | TABLE,
    0x60, 0xF4, 0x3F8, 0xFEE0_0000, 0xFFFF_8000_0000_0000, 0x10_0000 | TABLE | D,
]  # fmt: skip
FLAGS = [TABLE | D, TABLE | D, TABLE, P | RW, P | RW | US, P | RW | A | D | NX]
RETURN = bytes.fromhex("48ff0424 48cf")  # behind the instruction's first byte: inc [rsp]; iretq


def program(choose: random.Random) -> bytes:
    code = b""
    for _ in range(25):
        register = choose.choice([0, 1, 2, 3, 5, 6, 7])
        code += bytes([0x48, 0xB8 + register]) + struct.pack("<Q", choose.choice(VALUES))
        for _ in range(choose.randrange(1, 5)):
            usual = choose.random() < 0.93
            code += bytes.fromhex(choose.choice(SNIPPETS)) if usual else choose.randbytes(choose.randrange(1, 6))
    return code + b"\xf4"


@pytest.mark.parametrize("seed", range(30))
def test_a_kernel_that_makes_no_sense(seed: int) -> None:
    choose = random.Random(seed)
    lab = HwLab(HwShadow, (lambda page: choose.choice(FLAGS) if page >= DATA else TABLE | D) if seed & 1 else None)
    hypervisor, guest = lab.hypervisor, lab.guest
    bugs: list[Any] = []
    hypervisor.bug = lambda *what: bugs.append(what)  # type: ignore[method-assign]
    lab.technique.cpu.memory.write(CODE + 0x100, program(choose))
    if choose.random() < 0.6:
        for vector in range(32):
            lab.physical.write(HANDLERS + vector * 16, (b"\x48\x83\xc4\x08" if vector in HAS_CODE else b"") + RETURN)
    lab.state[RIP], lab.state[RSP] = CODE + 0x100, STACK
    own = set(guest.physical.mfns) | set(guest.domain.hypervisor_frames)
    others = [mfn for mfn, owner in enumerate(hypervisor.frames.owner) if owner == DOMID_XEN and mfn not in own]
    before = [bytes(hypervisor.ram.frame(mfn)) for mfn in others]
    start = guest.pcpu.executed
    hypervisor.activity.wake(guest.vcpu)
    hypervisor.run_until(
        lambda: guest.vcpu.blocked or not guest.domain.runs or guest.pcpu.executed > start + 3000, timeout_s=2
    )
    assert not bugs
    shadow = lab.technique.shadow
    for gfn, slots in shadow.pages.leaves.items():
        for slot in slots:
            entry = hypervisor.ram.words[slot]
            assert (entry & 0xF_FFFF_F000) >> 12 == (guest.physical.mfns[gfn] if gfn < PAGES else shadow.ones)
    assert [bytes(hypervisor.ram.frame(mfn)) for mfn in others] == before
    lab.close()
    assert not guest.domain.hypervisor_frames
