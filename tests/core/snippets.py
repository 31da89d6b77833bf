# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of traps and emulation say to a Lab again and again: kernels and user code of a few instructions."""

from __future__ import annotations

import struct
from typing import Any

from pvhv.abi.arch_x86 import FLAT_KERNEL_CS
from pvhv.abi.xen import HYPERVISOR_iret
from pvhv.core.domain import Domain
from tests.core import code as asm
from tests.core.code import Code
from tests.core.lab import CODE, DATA, PAGE, USER_DATA, Lab

KERNEL_CS = FLAT_KERNEL_CS & ~3  # as frames from the kernel say it
USER_CS64, USER_SS, USER_CS32 = 0xE033, 0xE02B, 0xE023
USER_STACK = USER_DATA + 4 * PAGE
USER_CODE = CODE + 4 * PAGE
CF, ZF, TF, IF, DF, NT, RF, AC, ID = 1, 1 << 6, 1 << 8, 1 << 9, 1 << 10, 1 << 14, 1 << 16, 1 << 18, 1 << 21
DIVIDE, DEBUG, BREAKPOINT, OVERFLOW, UD, NM, TS, NP, SS, GP, PF = 0, 1, 3, 4, 6, 7, 10, 11, 12, 13, 14
CANONICAL_END = 0x8000_0000_0000_0000
DOMID_SELF = 0x7FF0
VGCF_IN_SYSCALL = 1 << 8


def kernel() -> Code:
    return Code(CODE)


def iret(
    code: Code,
    rip: int,
    cs: int = USER_CS64,
    rflags: int = 2 | IF,
    rsp: int = USER_STACK,
    ss: int = USER_SS,
    flags: int = 0,
    rcx: int = 0,
    r11: int = 0,
    rax: int = 0,
) -> Code:
    """Push the frame HYPERVISOR_iret takes, and make the call."""
    for value in (ss, rsp, rflags, cs, rip, flags, rcx, r11, rax):
        code.mov(asm.RAX, value).push(asm.RAX)
    return code.mov(asm.RAX, HYPERVISOR_iret).syscall()


def user(instructions: Code, **named: Any) -> Code:
    """A kernel that goes to user code, which stands behind it."""
    assert instructions.at == USER_CODE
    code = iret(kernel(), USER_CODE, **named)
    return code.raw(bytes(USER_CODE - code.here)).raw(bytes(instructions.bytes))


def at_user() -> Code:
    return Code(USER_CODE)


def gate(lab: Lab, domain: Domain, *rows: tuple[int, int, int]) -> None:
    """struct trap_info of (vector, flags, address) at DATA."""
    entries = [struct.pack("<BBHIQ", vector, flags, FLAT_KERNEL_CS, 0, address) for vector, flags, address in rows]
    lab.write(domain, DATA, b"".join(entries) + bytes(16))


def mask(lab: Lab, domain: Domain, value: int | None = None) -> int:
    at = domain.vcpus[0].vcpu_info + 1
    if value is not None:
        lab.hv.ram.bytes[at] = value
    return lab.hv.ram.bytes[at]


def drop(lab: Lab, domain: Domain, va: int) -> None:
    """Take a page out of the guest's mapping, so that its frame may become something else."""
    l1 = lab.mfns[domain.domid][3]
    address = l1 << 12 | (va >> 12 & 511) * 8
    assert lab.hv.pagetables.modify(address, 0, False, domain.domid, domain.domid)


def after(lab: Lab, code: Code, **named: Any) -> Any:
    """The state in which code that ends in ud2 came there."""
    domain = lab.domain(code.ud2(), **named)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert frame.vector == UD, frame
    return domain.vcpus[0].state
