# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done for a guest kernel that executes privileged instructions, and its segments, on the real engine.

The guests are a few instructions each (tests.core.lab); most end in a handler that shuts the domain down, so that the
test can look at the frame it was given and at the registers as they were then.
"""

from __future__ import annotations

import struct

import pytest

from pvhv.abi.arch_x86 import FLAT_KERNEL_SS
from pvhv.abi.xen import (
    MMUEXT_SET_LDT,
    HYPERVISOR_fpu_taskswitch,
    HYPERVISOR_mmuext_op,
    HYPERVISOR_set_segment_base,
)
from pvhv.core.domain import Domain
from pvhv.machine.cpustate import (
    GS_BASE,
    R8,
    R9,
    R10,
    RDX,
    RIP,
)
from tests.core import code as asm
from tests.core.code import Code
from tests.core.lab import (
    BASE,
    CODE,
    DATA,
    HOLE,
    PAGE,
    STACK_TOP,
    USER_DATA,
    Lab,
)
from tests.core.snippets import (
    CANONICAL_END,
    DOMID_SELF,
    GP,
    KERNEL_CS,
    NM,
    PF,
    UD,
    USER_CODE,
    after,
    at_user,
    iret,
    kernel,
    mask,
    user,
)


# -- privileged instructions -------------------------------------------------------------------------------------------
def test_control_registers(lab: Lab) -> None:
    # mov %cr0, %r8; mov %cr3, %r9; mov %cr4, %r10
    domain = lab.domain(kernel().raw("41 0f 20 c0 41 0f 20 d9 41 0f 20 e2").ud2())
    lab.run(domain)
    state = domain.vcpus[0].state
    assert (state[R8], state[R9], state[R10]) == (0x8005_0033, lab.mfns[domain.domid][0] << 12, 0x660)
    state = after(lab, kernel().mov(asm.RAX, 0x1234_5678).raw("0f 22 d0 41 0f 20 d0"))  # mov to and from cr2
    assert state[R8] == 0x1234_5678
    state = after(
        lab, kernel().mov(asm.RAX, 0xFFFF_FFFF).raw("0f 22 e0 41 0f 20 e0")
    )  # cr4: TSD and DE are the guest's
    assert state[R8] == 0x660 | 0xC
    for register in ("0f 22 c0", "44 0f 22 c0"):  # cr0 without paging; cr8
        frame = lab.trap(kernel().mov(asm.RAX, 0).raw(register))
        assert (frame.vector, frame.error_code, frame.rip) == (GP, 0, CODE + 10)


def test_user_code_has_no_privileges(lab: Lab) -> None:
    for instruction in (
        "0f 20 c0", "0f 22 d8", "0f 06", "0f 09", "0f 30", "0f 32", "fa", "fb", "0f 21 c0", "0f 23 c8", "0f 01 f8",
        "0f 00 d8",
    ):  # fmt: skip
        frame = lab.trap(user(at_user().raw(instruction)))
        assert (frame.vector, frame.error_code, frame.rip) == (GP, 0, USER_CODE)


def test_instructions_xen_does_not_emulate(lab: Lab) -> None:
    for instruction in ("f4", "0f 01 38", "0f 01 f8", "0f 01 10", "0f 01 18", "0f 00 d8", "0f 33", "0f 07"):
        # hlt, invlpg, swapgs, lgdt, lidt, ltr, rdpmc, sysret
        frame = lab.trap(kernel().mov(asm.RAX, DATA).raw(instruction))
        assert (frame.vector, frame.rip) in ((GP, CODE + 10), (UD, CODE + 10)), instruction


def test_interrupt_flag_instructions_need_iopl_and_do_nothing(lab: Lab) -> None:
    frame = lab.trap(kernel().raw("fa"))
    assert (frame.vector, frame.error_code, frame.rip) == (GP, 0, CODE)
    domain = lab.domain(kernel().raw("fa 0f 0b"), rflags=2 | 1 << 12)
    mask(lab, domain, 0)
    lab.run(domain)
    assert lab.frame(domain.vcpus[0]).vector == UD
    assert mask(lab, domain) == 0


def test_machine_check_and_power_registers(lab: Lab) -> None:
    """Two banks of a virtual machine check, in which nothing happened; registers of power are void."""
    ones = 0xFFFF_FFFF_FFFF_FFFF
    values = {0x179: 2, 0x17A: 0, 0x17B: 0, 0x400: ones, 0x401: 0, 0x402: 0, 0x403: 0, 0x404: ones, 0x405: 0, 0x408: 0}
    values |= {0x47F: 0, 0x280: 0, 0x8B: 0, 0xC001_0015: 0, 0xC001_001F: 0, 0xC001_0062: 0, 0xC001_1029: 2}

    def write(msr: int) -> Code:
        return kernel().mov(asm.RAX, 5).mov(asm.RDX, 0).mov(asm.RCX, msr).raw("0f 30")

    def read(msr: int, before: Code | None = None) -> int:
        code = (before or kernel()).mov(asm.RCX, msr).mov(asm.RAX, 1).mov(asm.RDX, 1).raw("0f 32")
        state = after(lab, code.move(asm.R8, asm.RAX))
        return int(state[R8] | state[RDX] << 32)

    assert {msr: read(msr) for msr in values} == values
    for msr in (0x179, 0x17B, 0x280, 0x400, 0x408, 0xC001_001F, 0xC001_0015, 0xC001_0062, 0xC001_1029):
        assert read(msr, write(msr)) == values[msr], hex(msr)
    after(lab, write(0xE7))  # APERF's companion may be written, not read
    assert read(0x17A, write(0x17A)) == 5  # MCG_STATUS keeps what it is given
    for msr in (0x401, 0x402, 0x407, 0x4D0, 0x8B):
        assert lab.trap(write(msr)).vector == GP, hex(msr)


def test_msrs(lab: Lab) -> None:
    def wrmsr(code: Code, msr: int, value: int) -> Code:
        return code.mov(asm.RCX, msr).mov(asm.RAX, value & 0xFFFF_FFFF).mov(asm.RDX, value >> 32).raw("0f 30")

    for msr in (0xC000_0100, 0xC000_0101, 0xC000_0102):  # FS, GS and the user's GS base
        value = 0x1234_5678_9ABC
        state = after(
            lab, wrmsr(kernel(), msr, value).mov(asm.RAX, 0).mov(asm.RDX, 0).raw("0f 32").move(asm.R8, asm.RAX)
        )
        assert (state[R8], state[RDX]) == (value & 0xFFFF_FFFF, value >> 32)
        assert lab.trap(wrmsr(kernel(), msr, CANONICAL_END)).vector == GP
    state = after(lab, kernel().mov(asm.RCX, 0xC000_0080).raw("0f 32").move(asm.R8, asm.RAX))
    efer = state[R8]
    assert efer & 0xD01 == 0xD01
    after(lab, wrmsr(kernel(), 0xC000_0080, efer))  # it may be written back
    for msr, value in ((0xC000_0080, efer ^ 0x800), (0x1B, 0), (0x4000_0000, 0), (0x12345, 0), (0x10, 0)):
        frame = lab.trap(wrmsr(kernel(), msr, value))
        assert (frame.vector, frame.error_code) == (GP, 0), hex(msr)
    state = after(lab, kernel().mov(asm.RCX, 0x4000_0000).raw("0f 32").move(asm.R8, asm.RAX))
    assert state[R8] == 0  # Xen's, which tells nothing
    for msr in (0x12345, 0x4000_0001, 0xC001_0114):
        assert lab.trap(kernel().mov(asm.RCX, msr).raw("0f 32")).vector == GP


def test_debug_registers(lab: Lab) -> None:
    code = kernel().mov(asm.RAX, DATA).raw("0f 23 c8 41 0f 21 c8")  # mov %rax, %db1; mov %db1, %r8
    state = after(lab, code.raw("41 0f 21 f1 41 0f 21 fa"))  # mov %db6, %r9; mov %db7, %r10
    assert (state[R8], state[R9], state[R10]) == (DATA, 0xFFFF_0FF0, 0x400)
    for value, register in ((0xFFFF_8000_0000_0000, "0f 23 c8"), (1 << 13, "0f 23 f8"), (1 << 32, "0f 23 f0")):
        frame = lab.trap(kernel().mov(asm.RAX, value).raw(register))
        assert (frame.vector, frame.error_code) == (GP, 0)


def test_forced_emulation(lab: Lab) -> None:
    forced = "0f 0b 78 65 6e 0f a2"  # ud2; .ascii "xen"; cpuid
    for code in (kernel(), at_user()):
        code.mov(asm.RAX, 0x4000_0000).raw(forced).move(asm.R8, asm.RBX).ud2()
        domain = lab.domain(user(code) if code.at == USER_CODE else code)
        lab.run(domain)
        assert lab.frame(domain.vcpus[0]).rip == code.here - 2
        assert domain.vcpus[0].state[R8].to_bytes(4, "little") == b"XenV"
    frame = lab.trap(kernel().raw("0f 0b 78 65 6e 0f 31"))  # nothing but cpuid
    assert (frame.vector, frame.rip) == (UD, CODE)


@pytest.mark.parametrize("there", [2, 4, 5, 6])
def test_forced_emulation_at_the_end_of_what_is_there(lab: Lab, there: int) -> None:
    """Xen reads the signature, then the instruction, and what it cannot read is a page fault."""
    end = HOLE
    code = iret(kernel(), end - there, cs=KERNEL_CS, ss=FLAT_KERNEL_SS, rsp=STACK_TOP - 256)

    def executable(domain: Domain) -> None:
        lab.hv.ram.words[lab.mfns[domain.domid][3] * 512 + (HOLE - PAGE - BASE >> 12)] = (
            lab.mfns[domain.domid][1 + (HOLE - PAGE - BASE >> 12)] << 12 | 0x21
        )

    domain = lab.domain(code, prepare=executable)
    lab.hv.ram.bytes[(at := lab.mfns[domain.domid][HOLE - BASE >> 12] * PAGE + PAGE) - there : at] = bytes.fromhex(
        "0f0b78656e0fa2"
    )[:there]
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.error_code, frame.rip) == (PF, 0, end - there)
    assert lab.hv.ram.words[(domain.vcpus[0].vcpu_info >> 3) + 2] == end


def test_no_device_exceptions(lab: Lab) -> None:
    fpu = "0f 28 c1"  # movaps %xmm1, %xmm0
    frame = lab.trap(kernel().hypercall(HYPERVISOR_fpu_taskswitch, 1).raw(fpu))
    assert frame.vector == NM
    state = after(lab, kernel().hypercall(HYPERVISOR_fpu_taskswitch, 1).raw("0f 06").raw(fpu))  # clts
    assert state[RIP]
    state = after(
        lab, kernel().hypercall(HYPERVISOR_fpu_taskswitch, 1).hypercall(HYPERVISOR_fpu_taskswitch, 0).raw(fpu)
    )
    code = kernel().mov(asm.RAX, 0x8005_003B).raw("0f 22 c0")  # mov %rax, %cr0 with TS
    at = code.here
    frame = lab.trap(code.raw(fpu))
    assert (frame.vector, frame.rip) == (NM, at)
    # Xen clears TS as it tells the guest: the handler may use the FPU.
    domain = lab.domain(kernel().hypercall(HYPERVISOR_fpu_taskswitch, 1).raw(fpu))
    lab.run(domain)
    assert not domain.vcpus[0].ts
    code = kernel().hypercall(HYPERVISOR_fpu_taskswitch, 1)
    iret(code, USER_CODE)
    frame = lab.trap(code.raw(bytes(USER_CODE - code.here)).raw(fpu))
    assert (frame.vector, frame.rip) == (NM, USER_CODE)


@pytest.mark.parametrize("timeline", ["lab", ""])
def test_the_time_stamp_counter_can_be_kept_from_user_code(lab: Lab, timeline: str) -> None:
    clock = lab.hv.timeline(timeline) if timeline else lab.hv.wall
    denied = kernel().mov(asm.RAX, 0x4).raw("0f 22 e0").raw("0f 31")  # mov %rax, %cr4 with TSD; rdtsc
    after(lab, kernel().raw(bytes(denied.bytes)), timeline=clock)  # the kernel may
    frame = lab.trap(iret_to_rdtsc(denied), timeline=clock)
    assert (frame.vector, frame.error_code, frame.rip) == (GP, 0, USER_CODE)
    frame = lab.trap(iret_to_rdtsc(kernel()), timeline=clock)
    assert (frame.vector, frame.rip) == (UD, USER_CODE + 2)


def iret_to_rdtsc(code: Code) -> Code:
    iret(code, USER_CODE)
    return code.raw(bytes(USER_CODE - code.here)).raw("0f 31 0f 0b")  # rdtsc; ud2


@pytest.mark.parametrize("allowed", [True, False])
def test_ports_by_a_bitmap_whose_next_byte_is_not_there(lab: Lab, allowed: bool) -> None:
    """What cannot be read allows nothing; what can be does."""
    code = iret(kernel(), USER_CODE)
    port = 0x3F8 if allowed else 0x3FC
    code.raw(bytes(USER_CODE - code.here)).mov(asm.RDX, port).raw("ed 0f 0b")  # in (%dx), %eax; ud2
    domain = lab.domain(code)
    domain.vcpus[0].iobmp, domain.vcpus[0].iobmp_limit = HOLE - 0x80, 0x10000  # up to port 0x3ff
    lab.write(domain, HOLE - 0x80, bytes(0x80))
    lab.run(domain)
    assert lab.frame(domain.vcpus[0]).vector == UD
    domain = lab.domain(code)
    domain.vcpus[0].iobmp, domain.vcpus[0].iobmp_limit = HOLE - 0x80, 0x10000
    lab.write(domain, HOLE - 0x80, bytes(0x7F) + (b"\xf0" if allowed else b"\x10"))
    lab.run(domain)
    assert lab.frame(domain.vcpus[0]).vector == (UD if allowed else GP)


# -- segments ----------------------------------------------------------------------------------------------------------
def test_gs_bases_change_with_the_mode(lab: Lab) -> None:
    kernel_base, user_base = DATA + 0x100, USER_DATA + 0x200
    code = kernel().hypercall(HYPERVISOR_set_segment_base, 2, kernel_base)
    code.hypercall(HYPERVISOR_set_segment_base, 1, user_base)
    code.raw("65 4c 8b 04 25 00 00 00 00").push(asm.R8)  # mov %gs:0, %r8
    code.pop(asm.R9)
    iret(code, USER_CODE)
    code.raw(bytes(USER_CODE - code.here)).raw("65 4c 8b 14 25 00 00 00 00").ud2()  # mov %gs:0, %r10
    domain = lab.domain(code)
    lab.poke(domain, kernel_base, 0x111)
    lab.poke(domain, user_base, 0x222)
    lab.run(domain)
    state = domain.vcpus[0].state
    assert lab.frame(domain.vcpus[0]).rip == USER_CODE + 9
    assert (state[R8], state[R10], state[GS_BASE]) == (0x111, 0x222, kernel_base)
    assert domain.vcpus[0].gs_base_user == user_base


def test_fs_base_is_one_for_both_modes(lab: Lab) -> None:
    code = kernel().hypercall(HYPERVISOR_set_segment_base, 0, USER_DATA + 8)
    iret(code, USER_CODE)
    code.raw(bytes(USER_CODE - code.here)).raw("64 4c 8b 14 25 00 00 00 00").ud2()  # mov %fs:0, %r10
    domain = lab.domain(code)
    lab.poke(domain, USER_DATA + 8, 0x333)
    lab.run(domain)
    assert domain.vcpus[0].state[R10] == 0x333


@pytest.mark.parametrize(("which", "base"), [(0, CANONICAL_END), (1, CANONICAL_END), (2, CANONICAL_END), (4, 0)])
def test_segment_bases_refused(lab: Lab, which: int, base: int) -> None:
    state = after(lab, kernel().hypercall(HYPERVISOR_set_segment_base, which, base).move(asm.R8, asm.RAX))
    assert state[R8] == (1 << 64) - 22


def ldt_guest(lab: Lab, code: Code, descriptor: int, read_only: bool = True, entries: int = 8) -> Domain:
    """An LDT at page 60 whose entry 1 is `descriptor`."""
    table = BASE + 60 * PAGE
    domain = lab.domain(code)
    lab.poke(domain, table + 8, descriptor)
    lab.write(domain, DATA, struct.pack("<I4xQQ", MMUEXT_SET_LDT, table, entries))
    if read_only:
        l1 = lab.mfns[domain.domid][3]
        slot = l1 * 512 + (table >> 12 & 511)
        entry = lab.hv.ram.words[slot] & ~2
        assert lab.hv.pagetables.modify(slot * 8, entry, False, domain.domid, domain.domid)
    return domain


LDT_DATA = 0x40C0_F200_0100_FFFF  # base 0x40000100, DPL 3
LOAD_FS = "b8 0f 00 00 00 8e e0"  # mov $0xf, %eax; mov %eax, %fs


@pytest.mark.parametrize("in_user", [False, True])
def test_a_selector_of_the_ldt(lab: Lab, in_user: bool) -> None:
    """Its page is mapped when it is first used, be it by user code."""
    code = kernel().hypercall(HYPERVISOR_mmuext_op, DATA, 1, 0, DOMID_SELF)
    if in_user:
        iret(code, USER_CODE)
        code.raw(bytes(USER_CODE - code.here))
    code.raw(LOAD_FS).raw("8c e1").ud2()  # mov %fs, %ecx
    domain = ldt_guest(lab, code, LDT_DATA)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rcx) == (UD, 0xF)


def test_an_ldt_that_may_not_be_one(lab: Lab) -> None:
    table = BASE + 60 * PAGE
    code = kernel().hypercall(HYPERVISOR_mmuext_op, DATA, 1, 0, DOMID_SELF)
    at = code.here
    bytes_of = bytes(code.raw(LOAD_FS).bytes)
    # A system descriptor; a page that is still writable: the fault is told as one of the guest's own table.
    for descriptor, read_only in ((0x0000_8900_0000_0000, True), (LDT_DATA, False)):
        domain = ldt_guest(lab, Code(CODE).raw(bytes_of), descriptor, read_only)
        lab.run(domain)
        frame = lab.frame(domain.vcpus[0])
        assert (frame.vector, frame.rip) == (PF, at + 5)
        assert lab.hv.ram.words[(domain.vcpus[0].vcpu_info >> 3) + 2] == table + 8
    domain = ldt_guest(lab, Code(CODE).raw(bytes_of), LDT_DATA, entries=1)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.error_code) == (GP, 0xC)  # beyond the limit


def test_nobody_reads_or_writes_where_descriptors_are_mapped(lab: Lab) -> None:
    """The LDT's place in slot 260 is for the CPU: user code faults there, again and again if it must."""
    ldt_at = 0xFFFF_8200_0001_0000
    code = kernel().hypercall(HYPERVISOR_mmuext_op, DATA, 1, 0, DOMID_SELF)
    iret(code, USER_CODE)
    code.raw(bytes(USER_CODE - code.here)).raw(LOAD_FS).mov(asm.RAX, ldt_at)
    at = code.here
    domain = ldt_guest(lab, code.raw("8b 00"), LDT_DATA)  # mov (%rax), %eax
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, frame.error_code) == (PF, at, 5)
    code = kernel().hypercall(HYPERVISOR_mmuext_op, DATA, 1, 0, DOMID_SELF).raw(LOAD_FS).mov(asm.RAX, ldt_at)
    at = code.here
    domain = ldt_guest(lab, code.raw("89 00"), LDT_DATA)  # mov %eax, (%rax)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, frame.error_code) == (PF, at, 3)


def test_the_m2p_can_be_read_by_the_kernel_only(lab: Lab) -> None:
    m2p = 0xFFFF_8000_0000_0000
    domain = lab.domain(None)
    mfn = lab.mfns[domain.domid][9]
    lab.hv.destroy(domain)
    domain = lab.domain(kernel().load(asm.R8, m2p + 8 * mfn).mov(asm.RAX, m2p).raw("89 00"))
    mine = lab.mfns[domain.domid]
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.error_code) == (PF, 3)
    assert mfn not in mine or domain.vcpus[0].state[R8] == mine.index(mfn)
    frame = lab.trap(user(at_user().mov(asm.RAX, m2p).raw("8b 00")))
    assert (frame.vector, frame.error_code, frame.rip) == (PF, 4, USER_CODE + 10)
