# SPDX-License-Identifier: GPL-2.0-or-later
"""User code runs on the user L4, and nothing else: what only the kernel's L4 maps is not there for it, U bits or not.

Both L4s map the same in their lower halves. The kernel's has one more slot, and the user's another; both lead to pages
that have the U bit at every level.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pvhv.abi.xen import MMUEXT_NEW_USER_BASEPTR, HYPERVISOR_mmuext_op
from pvhv.core.domain import Domain
from pvhv.core.mm.pte import ACCESSED, PRESENT, RW, USER
from tests.core import code as asm
from tests.core.code import Code
from tests.core.lab import CODE, DATA, L3, L4, USER_DATA, USER_L4, Frame, Lab
from tests.core.snippets import BREAKPOINT, DOMID_SELF, PF, UD, USER_CODE, iret, kernel

KERNELS_SLOT, USERS_SLOT = 300, 301


def seen_through(slot: int, address: int) -> int:
    """Where a page of the lower half is seen again."""
    return 0xFFFF << 48 | slot << 39 | address & (1 << 39) - 1


KERNELS, USERS = seen_through(KERNELS_SLOT, USER_DATA), seen_through(USERS_SLOT, USER_DATA)
PFEC_WRITE, PFEC_USER, PFEC_FETCH = 2, 4, 16


def add_slots(lab: Lab) -> Callable[[Domain], None]:
    """One more slot for each L4."""

    def prepare(domain: Domain) -> None:
        mfns, words = lab.mfns[domain.domid], lab.hv.ram.words
        link = mfns[L3] << 12 | PRESENT | RW | USER | ACCESSED
        words[mfns[L4] * 512 + KERNELS_SLOT] = link
        words[mfns[USER_L4] * 512 + USERS_SLOT] = link

    return prepare


def trap(lab: Lab, kernel_first: Code, then_user: Code) -> Frame:
    """Run kernel code, then user code, up to an exception."""
    iret(kernel_first, USER_CODE)
    kernel_first.raw(bytes(USER_CODE - kernel_first.here)).raw(bytes(then_user.bytes))
    return lab.trap(kernel_first, prepare=add_slots(lab))


def read(code: Code, address: int) -> Code:
    return code.load(asm.RAX, address)


def write(code: Code, address: int) -> Code:
    return code.store(address, asm.RAX)


def fetch(code: Code, address: int) -> Code:
    return code.mov(asm.RAX, address).raw("ff e0")


@pytest.mark.parametrize(("access", "error_code"), [(read, 0), (write, PFEC_WRITE), (fetch, PFEC_FETCH)])
def test_user_code_has_not_what_only_the_kernels_l4_maps(
    lab: Lab, access: Callable[[Code, int], Code], error_code: int
) -> None:
    known = write(read(kernel(), KERNELS), KERNELS)  # the kernel has it, and the TLB knows it
    frame = trap(lab, known, access(Code(USER_CODE), KERNELS).ud2())
    assert (frame.vector, frame.error_code) == (PF, PFEC_USER | error_code)


@pytest.mark.parametrize("access", [read, write])
def test_user_code_has_what_only_its_own_l4_maps(lab: Lab, access: Callable[[Code, int], Code]) -> None:
    assert trap(lab, kernel(), access(Code(USER_CODE), USERS).ud2()).vector == UD


@pytest.mark.parametrize(("access", "error_code"), [(read, 0), (write, PFEC_WRITE)])
def test_the_kernel_has_not_what_only_the_users_l4_maps(
    lab: Lab, access: Callable[[Code, int], Code], error_code: int
) -> None:
    """Though the TLB knows it: user code that was there before comes back by a breakpoint, and the kernel looks."""
    code = iret(kernel(), USER_CODE)
    code.raw(bytes(USER_CODE - code.here)).raw(bytes(read(Code(USER_CODE), USERS).raw("cc").ud2().bytes))
    back = access(Code(CODE + 0x3000), USERS).ud2()
    domain = lab.domain(code, prepare=add_slots(lab), handlers={BREAKPOINT: back.at})
    lab.write(domain, back.at, bytes(back.bytes))
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.error_code) == (PF, error_code)


def test_another_user_l4_is_what_user_code_runs_on_from_then_on(lab: Lab) -> None:
    """The kernel makes its own L4 its users' as well: now they have what it has."""

    def prepare(domain: Domain) -> None:
        add_slots(lab)(domain)
        request = MMUEXT_NEW_USER_BASEPTR.to_bytes(8, "little") + lab.mfns[domain.domid][L4].to_bytes(8, "little")
        lab.write(domain, DATA, request + bytes(8))

    first = kernel().hypercall(HYPERVISOR_mmuext_op, DATA, 1, 0, DOMID_SELF)
    iret(first, USER_CODE)
    first.raw(bytes(USER_CODE - first.here)).raw(bytes(read(read(Code(USER_CODE), KERNELS), USERS).ud2().bytes))
    domain = lab.domain(first, prepare=prepare)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.error_code) == (PF, PFEC_USER) and frame.rip > USER_CODE + 10  # the second read


def test_a_kernel_that_falls_to_cpl_3_finds_no_tables_that_are_not_its_users(lab: Lab) -> None:
    """Without a user L4 there is nothing at CPL 3, and a kernel's own iretq goes on at CPL 1 all the same."""

    def prepare(domain: Domain) -> None:
        lab.write(domain, DATA, MMUEXT_NEW_USER_BASEPTR.to_bytes(8, "little") + bytes(16))

    code = kernel().hypercall(HYPERVISOR_mmuext_op, DATA, 1, 0, DOMID_SELF)
    # mov %ss, %ecx; mov %rsp, %rax; push %rcx; push %rax; pushf; mov %cs, %ecx; push %rcx; lea 3(%rip), %rax; push %rax
    # iretq
    code.raw("8c d1 48 89 e0 51 50 9c 8c c9 51 48 8d 05 03 00 00 00 50 48 cf").load(asm.R9, KERNELS).ud2()
    domain = lab.domain(code, prepare=lambda domain: (add_slots(lab)(domain), prepare(domain))[1])
    lab.run(domain)
    assert lab.frame(domain.vcpus[0]).vector == UD
