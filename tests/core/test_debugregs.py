# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's breakpoints, set by hypercall: they fire for the vCPU that set them, in user code as well, and no other."""

from __future__ import annotations

import pytest

from pvhv.abi.xen import HYPERVISOR_get_debugreg, HYPERVISOR_set_debugreg
from pvhv.machine import seam
from pvhv.machine.cpustate import R8
from tests.core import code as asm
from tests.core.code import Code
from tests.core.lab import CODE, DATA, PAGE, USER_DATA, Lab
from tests.core.snippets import DEBUG, RF, TF, UD, USER_CODE, at_user, iret, kernel, user

pytestmark = pytest.mark.skipif(not seam.corrected, reason="the stock engine has no breakpoints")

DR6_NONE, DR7_NONE = 0xFFFF_0FF0, 0x400
WRITE, ACCESS, EIGHT = 1, 3, 2


def dr7(n: int, kind: int, length: int) -> int:
    return DR7_NONE | 1 << 2 * n | (length << 2 | kind) << 16 + 4 * n


def arming(code: Code, n: int, address: int, bits: int) -> Code:
    code.hypercall(HYPERVISOR_set_debugreg, n, address)
    return code.hypercall(HYPERVISOR_set_debugreg, 7, bits)


def test_a_write_of_the_kernel(lab: Lab) -> None:
    code = arming(kernel(), 2, DATA + 8, dr7(2, WRITE, EIGHT)).load(asm.RAX, DATA + 8).store(DATA, asm.RAX)
    code.store(DATA + 12 & ~7, asm.RAX)
    domain = lab.domain(code.raw("90 0f0b"))
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, frame.rflags & RF) == (DEBUG, code.here - 3, 0)
    assert domain.vcpus[0].debugreg[6] == DR6_NONE | 4


def test_a_read_of_user_code(lab: Lab) -> None:
    first = arming(kernel(), 0, USER_DATA, dr7(0, ACCESS, EIGHT))
    code = iret(first, USER_CODE)
    code.raw(bytes(USER_CODE - code.here)).raw(bytes(at_user().load(asm.RAX, USER_DATA).ud2().bytes))
    domain = lab.domain(code)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, frame.cs & 3) == (DEBUG, USER_CODE + 13, 3)


@pytest.mark.parametrize("passed", [False, True])
def test_an_instruction_of_user_code_and_the_way_past_it(lab: Lab, passed: bool) -> None:
    first = arming(kernel(), 1, USER_CODE, dr7(1, 0, 0))
    code = iret(first, USER_CODE, rflags=2 | 0x200 | (RF if passed else 0))
    code.raw(bytes(USER_CODE - code.here)).raw("90 0f0b")
    domain = lab.domain(code)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip) == ((UD, USER_CODE + 1) if passed else (DEBUG, USER_CODE))
    assert domain.vcpus[0].debugreg[6] == DR6_NONE | (0 if passed else 2)
    assert bool(frame.rflags & RF) == passed  # of the fault that ud2 is; the breakpoint's own frame has none


def test_a_breakpoint_in_code_that_was_executed_before(lab: Lab) -> None:
    code = kernel().mov(asm.R8, 0)
    again = code.here
    code.inc(asm.R8)
    arming(code, 3, again, dr7(3, 0, 0)).jmp(again)
    domain = lab.domain(code)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, domain.vcpus[0].state[R8]) == (DEBUG, again, 1)


def test_a_step_says_so(lab: Lab) -> None:
    domain = lab.domain(user(at_user().raw("90 0f0b"), rflags=2 | TF))
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, domain.vcpus[0].debugreg[6]) == (DEBUG, USER_CODE + 1, DR6_NONE | 1 << 14)


def test_it_is_the_vcpus_own(lab: Lab) -> None:
    """Two domains write to the same address, slice by slice; one has a breakpoint there, which comes and goes."""
    watcher = arming(kernel(), 0, DATA + 8, dr7(0, WRITE, EIGHT)).mov(asm.RCX, 300_000)
    wait = watcher.here
    watcher.raw("48ffc9").jne(wait).store(DATA + 8, asm.RCX).ud2()
    other = kernel().mov(asm.RCX, 300_000)
    write = other.here
    other.store(DATA + 8, asm.RCX).raw("48ffc9").jne(write).ud2()
    domains = [lab.domain(watcher), lab.domain(other)]
    lab.run(*domains)
    frames = [lab.frame(domain.vcpus[0]) for domain in domains]
    assert [(frame.vector, frame.rip) for frame in frames] == [(DEBUG, watcher.here - 2), (UD, other.here - 2)]


def test_taken_back_it_fires_no_more(lab: Lab) -> None:
    code = arming(kernel(), 0, DATA, dr7(0, WRITE, EIGHT)).hypercall(HYPERVISOR_set_debugreg, 7, 0)
    code.store(DATA, asm.RAX)
    arming(code, 0, DATA, dr7(0, WRITE, EIGHT)).hypercall(HYPERVISOR_set_debugreg, 0, DATA + PAGE)
    code.store(DATA, asm.RAX).hypercall(HYPERVISOR_get_debugreg, 7)
    frame = lab.trap(code.ud2())
    assert (frame.vector, frame.rip) == (UD, code.here - 2)


def test_nobody_is_left_with_those_of_a_domain_that_is_gone(lab: Lab) -> None:
    first = lab.domain(arming(kernel(), 0, DATA, dr7(0, WRITE, EIGHT)).ud2())
    lab.run(first)
    lab.hv.destroy(first)
    code = kernel().store(DATA, asm.RAX)
    frame = lab.trap(code.ud2())
    assert (frame.vector, frame.rip) == (UD, code.here - 2)
    assert CODE <= frame.rip
