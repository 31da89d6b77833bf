# SPDX-License-Identifier: GPL-2.0-or-later
"""Into the guest kernel and out of it, on the real engine: bounce frames, iret, and what is emulated.

The guests are a few instructions each (tests.core.lab); most end in a handler that shuts the domain down, so that the
test can look at the frame it was given and at the registers as they were then.
"""

from __future__ import annotations

import struct

import pytest

from pvhv.abi.arch_x86 import FLAT_KERNEL_SS
from pvhv.abi.callback import CALLBACKOP_register, CALLBACKOP_unregister, CALLBACKTYPE_nmi, CALLBACKTYPE_syscall32
from pvhv.abi.sched import SCHEDOP_block, SCHEDOP_shutdown
from pvhv.abi.vcpu import VCPUOP_initialise, VCPUOP_send_nmi, VCPUOP_up
from pvhv.abi.xen import (
    MMUEXT_NEW_USER_BASEPTR,
    HYPERVISOR_callback_op,
    HYPERVISOR_iret,
    HYPERVISOR_mmuext_op,
    HYPERVISOR_sched_op,
    HYPERVISOR_set_gdt,
    HYPERVISOR_set_trap_table,
    HYPERVISOR_stack_switch,
    HYPERVISOR_vcpu_op,
    HYPERVISOR_vm_assist,
    HYPERVISOR_xen_version,
)
from pvhv.core.domain import Domain
from pvhv.machine import seam
from pvhv.machine.cpustate import (
    R8,
    R9,
    RDX,
    RSP,
)
from tests.core import code as asm
from tests.core.code import Code
from tests.core.lab import (
    BASE,
    CODE,
    DATA,
    EVENT,
    FAILSAFE,
    HOLE,
    KERNEL_SP,
    PAGE,
    READ_ONLY,
    STACK_TOP,
    STOPPED,
    SYSCALL,
    VGCF_IN_KERNEL,
    Frame,
    Lab,
)
from tests.core.snippets import (
    AC,
    BREAKPOINT,
    CANONICAL_END,
    CF,
    DF,
    DIVIDE,
    DOMID_SELF,
    GP,
    ID,
    IF,
    KERNEL_CS,
    NP,
    NT,
    PF,
    RF,
    SS,
    TF,
    UD,
    USER_CODE,
    USER_CS32,
    USER_CS64,
    USER_SS,
    USER_STACK,
    VGCF_IN_SYSCALL,
    ZF,
    at_user,
    drop,
    gate,
    iret,
    kernel,
    mask,
    user,
)


# -- frames ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("instruction", "vector", "error_code"),
    [
        ("31 c9 f7 f1", DIVIDE, None),  # xor %ecx, %ecx; div %ecx
        ("0f 0b", UD, None),  # ud2
        ("f4", GP, 0),  # hlt
        ("8e d8", GP, 0x1230),  # mov %eax, %ds
        ("0f 01 10", GP, 0),  # lgdt (%rax)
        ("ff 20", PF, 0),  # jmp *(%rax): the read
    ],
)
def test_frames_of_kernel_exceptions(lab: Lab, instruction: str, vector: int, error_code: int | None) -> None:
    code = kernel().mov(asm.RCX, 0x1111).mov(asm.R11, 0x2222).mov(asm.RAX, 0x1230 if "8e d8" in instruction else HOLE)
    code.mov(asm.RSP, STACK_TOP - 24)
    start = code.here
    where = start + (2 if vector == DIVIDE else 0)
    frame = lab.trap(code.raw(instruction))
    assert frame == Frame(
        vector, 0x1111 if vector != DIVIDE else 0, 0x2222, error_code, where, KERNEL_CS, 1,
        frame.rflags, STACK_TOP - 24, FLAT_KERNEL_SS,
    )  # fmt: skip
    assert not frame.rflags & IF  # the mask, upside down


def test_the_stack_of_a_frame_is_aligned(lab: Lab) -> None:
    for less in range(0, 24, 8):
        for vector, instruction in ((UD, "0f 0b"), (GP, "f4")):
            domain = lab.domain(kernel().mov(asm.RSP, STACK_TOP - less).raw(instruction))
            lab.run(domain)
            assert lab.frame(domain.vcpus[0]).vector == vector
            top = domain.vcpus[0].state[RSP] + (64 if vector == GP else 56)
            assert top == (STACK_TOP - less) & ~15


def test_a_frame_across_two_pages(lab: Lab) -> None:
    for below in range(8, 72, 8):
        frame = lab.trap(kernel().mov(asm.RSP, DATA + PAGE + below).raw("f4"))
        assert (frame.vector, frame.error_code, frame.rsp) == (GP, 0, DATA + PAGE + below)


@pytest.mark.parametrize("stack", [HOLE + 64, READ_ONLY + 64, 0xFFFF_8000_0000_0100, CANONICAL_END, HOLE + PAGE + 16])
def test_a_stack_that_cannot_take_a_frame(lab: Lab, stack: int) -> None:
    assert "stack" in lab.crash(kernel().mov(asm.RSP, stack).raw("0f 0b"))


def test_an_exception_without_a_handler(lab: Lab) -> None:
    assert "vector 6" in lab.crash(kernel().raw("0f 0b"), handlers={UD: 0})
    assert "page fault" in lab.crash(kernel().mov(asm.RAX, HOLE).raw("8b 00"), handlers={PF: 0})


def test_flags_are_shown_and_what_a_handler_must_not_have_is_cleared(lab: Lab) -> None:
    shown = CF | ZF | DF | NT | AC | ID
    code = kernel().mov(asm.RAX, shown | 2).push(asm.RAX).raw("9d 0f 0b")  # popfq; ud2
    seen = Code(CODE + PAGE).raw("9c").pop(asm.R8).jmp(Lab.handler(UD))  # pushfq
    domain = lab.domain(code.raw(bytes(seen.at - code.here)).raw(bytes(seen.bytes)), handlers={UD: seen.at})
    lab.run(domain)
    assert lab.frame(domain.vcpus[0]).rflags == shown | RF | 2  # RF: it is a fault
    assert domain.vcpus[0].state[R8] == CF | ZF | DF | ID | IF | 2


@pytest.mark.parametrize(
    ("instruction", "error_code"),
    [
        ("8b 00", 0),  # mov (%rax), %eax
        ("89 00", 2),  # mov %eax, (%rax)
        ("ff e0", 0x10),  # jmp *%rax
    ],
)
def test_page_faults_of_the_kernel(lab: Lab, instruction: str, error_code: int) -> None:
    for address, present in ((HOLE + 0x123, 0), (READ_ONLY + 0x456, 1), (DATA + 0x800, 1)):
        if present and (error_code == 0 or (address < READ_ONLY) != (error_code == 0x10)):
            continue  # nothing wrong with that
        domain = lab.domain(kernel().mov(asm.RAX, address).raw(instruction))
        lab.run(domain)
        frame = lab.frame(domain.vcpus[0])
        assert (frame.vector, frame.error_code) == (PF, error_code | present)
        assert lab.hv.ram.words[(domain.vcpus[0].vcpu_info >> 3) + 2] == address  # vcpu_info.arch.cr2
        assert frame.rip == (address if error_code == 0x10 else CODE + 10)


# What a kernel can find out about its ring: instruction, %eax, the exception under Xen (which has it at CPL 3, as the
# corrected engine has) and on the stock engine, where it is at CPL 1.
RING: dict[str, tuple[str, int, object, object]] = {
    "mov %eax, %ss, of RPL 3": ("8e d0", 0xE02B, None, (GP, 0xE028)),
    "mov %eax, %ss, of RPL 1": ("8e d0", 0xE029, (GP, 0xE028), (GP, 0xE028)),
    "mov %eax, %ds": ("8e d8", 0xE02B, None, None),
    "lretq to what is behind it": ("50 48 8d 0d 03 00 00 00 51 48 cb", 0xE033, None, (GP, 0)),
    "iretq to what is behind it": (
        "89 c2 48 89 e0 68 2b e0 00 00 50 9c 52 48 8d 0d 03 00 00 00 51 48 cf", 0xE033, None, None,
    ),
    "a look at the GDT": ("48 b9 00 00 00 00 00 82 ff ff 8b 01", 0, (PF, 1), None),
    "a misaligned access under AC": ("9c 81 0c 24 00 00 04 00 9d 8b 44 24 01", 0, (17, 0), None),
}  # fmt: skip


@pytest.mark.parametrize("what", RING)
def test_a_kernel_finds_itself_at_cpl_3(lab: Lab, what: str) -> None:
    instruction, eax, corrected, stock = RING[what]
    frame = lab.trap(kernel().mov(asm.RAX, eax).mov(asm.RSP, STACK_TOP - 64).raw(instruction).ud2())
    found = None if frame.vector == UD else (frame.vector, frame.error_code)
    assert found == (corrected if seam.corrected else stock)


def test_frames_of_user_exceptions(lab: Lab) -> None:
    for instruction, vector, error_code in (
        ("0f 0b", UD, None),
        ("f4", GP, 0),
        ("a1 00 00 00 00 00 82 ff ff", PF, 5),  # mov 0xffff820000000000, %eax: the hypervisor's
        ("a1 00 10 00 00 41 00 00 00", PF, 4),  # mov 0x4100001000, %eax: nobody's
    ):
        frame = lab.trap(user(at_user().raw(instruction), rcx=7, r11=8))
        assert frame == Frame(
            vector, 7, 8, error_code, USER_CODE, USER_CS64, 0, 2 | IF | RF, USER_STACK, USER_SS
        )  # fmt: skip
    domain = lab.domain(user(at_user().raw("f4")))
    lab.run(domain)
    assert domain.vcpus[0].kernel_mode
    assert domain.vcpus[0].state[RSP] == KERNEL_SP - 64
    code = kernel().hypercall(HYPERVISOR_stack_switch, FLAT_KERNEL_SS, DATA + 0x1008)
    iret(code, USER_CODE).raw(bytes(USER_CODE - code.here)).ud2()
    domain = lab.domain(code)
    lab.run(domain)
    assert domain.vcpus[0].state[RSP] == DATA + 0x1000 - 56


@pytest.mark.parametrize("masks", [False, True])
def test_events_are_masked_where_the_trap_says_so(lab: Lab, masks: bool) -> None:
    domain = lab.domain(kernel().hypercall(HYPERVISOR_set_trap_table, DATA).ud2())
    gate(lab, domain, (UD, 4 if masks else 0, Lab.handler(UD)))
    mask(lab, domain, 0)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.mask, frame.rflags & IF) == (UD, 0, IF)
    assert mask(lab, domain) == masks


@pytest.mark.parametrize("masks", [False, True])
def test_an_upcall_comes_on_top_of_an_exception(lab: Lab, masks: bool) -> None:
    """Unless the exception masks events, its handler is interrupted before its first instruction."""
    # The vCPU's own store makes an event pending (movb $1, (%rax)): nothing looks at it before the next exit, the ud2.
    code = kernel().hypercall(HYPERVISOR_set_trap_table, DATA).load(asm.RAX, DATA + 0x100).raw("c6 00 01 0f 0b")
    domain = lab.domain(code)
    gate(lab, domain, (UD, 4 if masks else 0, Lab.handler(UD)))
    lab.poke(domain, DATA + 0x100, BASE + 20 * PAGE)  # SHARED_INFO: vcpu_info[0].evtchn_upcall_pending
    mask(lab, domain, 0)
    lab.run(domain)
    vcpu = domain.vcpus[0]
    frame = lab.frame(vcpu)
    if masks:
        assert frame.vector == UD
        return
    assert (frame.vector, frame.rip, frame.cs) == (EVENT, Lab.handler(UD), KERNEL_CS)
    below = [lab.word(domain, frame.rsp + 8 * n) for n in range(7)]
    assert below[2] == code.here - 2  # the exception's own frame
    assert mask(lab, domain) == 1


def test_an_upcall_comes_when_a_hypercall_returns(lab: Lab) -> None:
    code = kernel().load(asm.RAX, DATA).raw("c6 00 01").hypercall(HYPERVISOR_vm_assist, 0, 77)
    domain = lab.domain(code)
    lab.poke(domain, DATA, BASE + 20 * PAGE)
    mask(lab, domain, 0)
    lab.run(domain)
    vcpu = domain.vcpus[0]
    frame = lab.frame(vcpu)
    assert (frame.vector, frame.rip, frame.rcx, frame.r11) == (EVENT, code.here, code.here, frame.rflags)
    assert frame.rflags & IF


# -- int n -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("vector", "dpl", "in_user", "allowed"),
    [
        (0x81, 0, False, False),
        (0x81, 1, False, True),
        (0x81, 3, False, True),
        (0x81, 0, True, False),
        (0x81, 1, True, False),
        (0x81, 2, True, False),
        (0x81, 3, True, True),
        (PF, 0, False, False),
        (PF, 3, True, True),  # a software interrupt: without an error code, whatever the vector
        (0x80, 0, False, True),  # has a gate of its own in Xen's IDT: nobody looks at its DPL
        (0x80, 0, True, True),
    ],
)
def test_who_may_raise_a_software_interrupt(lab: Lab, vector: int, dpl: int, in_user: bool, allowed: bool) -> None:
    target = CODE + PAGE
    code = kernel().hypercall(HYPERVISOR_set_trap_table, DATA)
    if in_user:
        iret(code, USER_CODE)
        code.raw(bytes(USER_CODE - code.here))
    at = code.here
    code.raw(bytes((0xCD, vector)))
    instruction = bytes(code.bytes)
    domain = lab.domain(Code(CODE).raw(instruction))
    lab.write(domain, target, b"\xbb" + struct.pack("<I", 0x99) + bytes(Code(target + 5).jmp(Lab.handler(9) + 5).bytes))
    gate(lab, domain, (vector, dpl, target))
    lab.run(domain)
    vcpu = domain.vcpus[0]
    frame = lab.frame(vcpu)
    if allowed:
        assert (frame.vector, frame.rip, frame.error_code) == (0x99, at + 2, None)
    else:
        assert (frame.vector, frame.rip, frame.error_code) == (GP, at, vector << 3 | 2)
    assert frame.cs == (USER_CS64 if in_user else KERNEL_CS)


def test_software_interrupts_nobody_registered(lab: Lab) -> None:
    for vector in (0x20, 0x80, 0xFF):
        frame = lab.trap(kernel().raw(bytes((0xCD, vector))))
        assert (frame.vector, frame.error_code, frame.rip) == (GP, vector << 3 | 2, CODE)
        frame = lab.trap(user(at_user().raw(bytes((0xCD, vector)))))
        assert (frame.vector, frame.error_code, frame.rip) == (GP, vector << 3 | 2, USER_CODE)


def test_breakpoints_are_traps_for_everybody(lab: Lab) -> None:
    for code, where in ((kernel().raw("cc"), CODE), (user(at_user().raw("cc")), USER_CODE)):
        domain = lab.domain(code)
        domain.vcpus[0].trap_table[BREAKPOINT] = domain.vcpus[0].trap_table[BREAKPOINT]._replace(dpl=0)
        lab.run(domain)
        frame = lab.frame(domain.vcpus[0])
        assert (frame.vector, frame.rip) == (BREAKPOINT, where + 1)


# -- system calls ------------------------------------------------------------------------------------------------------
def test_a_system_call(lab: Lab) -> None:
    code = at_user().mov(asm.RDX, 99).raw("fd").mov(asm.RCX, 5).raw("0f 05")  # std; syscall
    domain = lab.domain(user(code, r11=0x77))
    lab.run(domain)
    state = domain.vcpus[0].state
    frame = lab.frame(domain.vcpus[0])
    assert frame == Frame(
        SYSCALL, code.here, 2 | IF | DF, None, code.here, USER_CS64, 0, 2 | IF | DF, USER_STACK, USER_SS
    )
    assert state[RDX] == 99
    assert mask(lab, domain) == 0


def test_a_system_call_clears_the_direction_flag_for_the_kernel(lab: Lab) -> None:
    """Xen's ABI: as if SYSCALL_MASK had DF and nothing else."""
    code = user(at_user().raw("fd 0f 05"))
    look = Code(CODE + PAGE).raw("9c").pop(asm.R8).jmp(Lab.handler(SYSCALL))
    data = bytearray(code.bytes)
    data[PAGE : PAGE + len(look.bytes)] = look.bytes
    domain = lab.domain(Code(CODE).raw(bytes(data)))
    domain.vcpus[0].syscall_callback_eip = look.at
    lab.run(domain)
    assert lab.frame(domain.vcpus[0]).rflags & DF
    assert not domain.vcpus[0].state[R8] & DF


def test_a_system_call_nobody_takes_is_an_invalid_opcode(lab: Lab) -> None:
    domain = lab.domain(user(at_user().raw("fd 0f 05")))
    domain.vcpus[0].syscall_callback_eip = 0
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, frame.cs) == (UD, USER_CODE + 1, USER_CS64)


def test_a_system_call_may_mask_events(lab: Lab) -> None:
    domain = lab.domain(user(at_user().raw("0f 05")))
    domain.vcpus[0].syscall_disables_events = True
    lab.run(domain)
    assert lab.frame(domain.vcpus[0]).mask == 0
    assert mask(lab, domain) == 1


def test_a_hypercall_from_user_mode_is_a_system_call(lab: Lab) -> None:
    frame = lab.trap(user(at_user().hypercall(HYPERVISOR_sched_op, SCHEDOP_shutdown, DATA)))
    assert frame.vector == SYSCALL


# -- iret --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [HYPERVISOR_xen_version, 63])
def test_a_hypercall_leaves_rcx_and_r11_as_sysret_wants_them(lab: Lab, number: int) -> None:
    code = kernel().raw("fd f9").mov(asm.RAX, number).mov(asm.RDI, 0).syscall()  # std; stc
    behind = code.here
    frame = lab.trap(code.ud2())
    # Real IF is set whatever the upcall mask makes the frame say.
    assert (frame.vector, frame.rcx, frame.r11) == (UD, behind, frame.rflags & ~RF | IF)
    assert frame.rflags & ~RF == 2 | DF | CF


def test_iret_restores_everything(lab: Lab) -> None:
    code = user(
        at_user().raw("9c").pop(asm.R8).ud2(),
        rflags=IF | CF | ID | 2,
        rax=0x12,
        rcx=0x34,
        r11=0x56,
        rsp=USER_STACK - 64,
    )
    domain = lab.domain(code)
    lab.run(domain)
    state = domain.vcpus[0].state
    frame = lab.frame(domain.vcpus[0])
    assert (frame.rcx, frame.r11, frame.rsp) == (0x34, 0x56, USER_STACK - 64)
    assert state[R8] == IF | CF | ID | 2
    frame = lab.trap(user(at_user().move(asm.RCX, asm.RAX).ud2(), rax=0xFEED_FACE_CAFE_BEEF))
    assert frame.rcx == 0xFEED_FACE_CAFE_BEEF


def test_iret_as_from_a_system_call(lab: Lab) -> None:
    frame = lab.trap(user(at_user().ud2(), flags=VGCF_IN_SYSCALL, rcx=1, r11=2))
    assert frame.rip == USER_CODE
    assert frame.rcx == USER_CODE  # as sysret leaves them


def test_iret_as_from_a_system_call_knows_flat_selectors_only(lab: Lab) -> None:
    """Xen's sysret looks at no selector but FLAT_USER_CS32, for which it takes EIP from ECX."""
    for cs, ss in ((0x33, 0x2B), (USER_SS, USER_CS64), (3, 3)):
        frame = lab.trap(user(at_user().ud2(), flags=VGCF_IN_SYSCALL, cs=cs, ss=ss))
        assert (frame.vector, frame.rip, frame.cs, frame.ss) == (UD, USER_CODE, USER_CS64, USER_SS)
    low = USER_CODE - BASE
    code = iret(kernel(), BASE + low, cs=USER_CS32, ss=0x2B, flags=VGCF_IN_SYSCALL)
    assert BASE + low > 0xFFFF_FFFF
    code.raw(bytes(USER_CODE - code.here)).ud2()
    domain = lab.domain(code, prepare=lambda domain: map_low(lab, domain))
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, frame.cs, frame.ss, frame.rcx) == (UD, low, USER_CS32, USER_SS, BASE + low)


def test_iret_as_from_a_system_call_is_an_iret_where_sysret_cannot_go(lab: Lab) -> None:
    frame = lab.trap(iret(kernel(), CANONICAL_END, flags=VGCF_IN_SYSCALL, cs=USER_SS))
    assert (frame.vector, frame.error_code, frame.rip, frame.cs) == (GP, USER_SS & ~3, CANONICAL_END, USER_SS)


def test_iret_within_the_kernel(lab: Lab) -> None:
    target = CODE + PAGE
    for cs in (KERNEL_CS, 0xE030, 0xE031, 0xE032):
        code = iret(kernel(), target, cs=cs, rsp=STACK_TOP - 128, ss=FLAT_KERNEL_SS, rflags=2)
        domain = lab.domain(code.raw(bytes(target - code.here)).ud2())
        lab.run(domain)
        frame = lab.frame(domain.vcpus[0])
        assert (frame.rip, frame.cs, frame.rsp, frame.mask) == (target, KERNEL_CS, STACK_TOP - 128, 1)


@pytest.mark.parametrize("interrupts", [0, IF])
def test_iret_sets_the_mask_by_the_flags(lab: Lab, interrupts: int) -> None:
    frame = lab.trap(user(at_user().ud2(), rflags=2 | interrupts))
    assert (frame.mask, frame.rflags) == (0 if interrupts else 1, 2 | interrupts | RF)


def test_iret_delivers_what_was_masked(lab: Lab) -> None:
    domain = lab.domain(user(at_user().ud2()))
    lab.hv.ram.bytes[domain.vcpus[0].vcpu_info] = 1
    mask(lab, domain, 1)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, frame.cs, frame.rsp) == (EVENT, USER_CODE, USER_CS64, USER_STACK)


def test_iret_cannot_have_flags_that_are_not_the_guests(lab: Lab) -> None:
    everything = 0xFFFF_FFFF_FFFF_FFFF & ~(TF | RF | NT | AC)
    domain = lab.domain(user(at_user().raw("9c").pop(asm.R8).raw("fa"), rflags=everything))  # cli
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert frame.vector == GP  # no IOPL
    assert domain.vcpus[0].state[R8] & 0xFFFF_FFFF_0003_B02A == 2  # IOPL, VM, reserved bits


def set_descriptors(lab: Lab, domain: Domain, descriptors: dict[int, int]) -> None:
    """A page for set_gdt(DATA, 512) that has them."""
    page = lab.mfn(domain, BASE + 60 * PAGE)
    for index, descriptor in descriptors.items():
        lab.hv.ram.words[page * 512 + index] = descriptor
    lab.poke(domain, DATA, page)
    drop(lab, domain, BASE + 60 * PAGE)


@pytest.mark.parametrize(
    ("cs", "ss", "vector", "error_code"),
    [
        (0x33, USER_SS, GP, 0x30),  # not in the GDT
        (3, USER_SS, GP, 0),
        (USER_CS64, 0x2B, GP, 0x28),
        (USER_SS, USER_SS, GP, 0xE028),  # data is no code
        (USER_CS64, USER_CS64, GP, 0xE030),  # nor the reverse
        (0xE00B, USER_SS, GP, 0xE008),  # Xen's own
        (0x7, USER_SS, GP, 0x4),  # there is no LDT
        (0x43, USER_SS, NP, 0x40),  # code that is not present
        (USER_CS64, 0x4B, SS, 0x48),  # data that is not present
    ],
)
def test_iret_with_selectors_it_cannot_have(lab: Lab, cs: int, ss: int, vector: int, error_code: int) -> None:
    """The fault is told as if it had happened where the iret went."""
    gdt = {8: 0x00AF_7A00_0000_FFFF, 9: 0x00CF_7200_0000_FFFF}
    code = kernel().hypercall(HYPERVISOR_set_gdt, DATA, 512)
    iret(code, USER_CODE, cs=cs, ss=ss, rsp=USER_STACK - 8, rcx=9)
    domain = lab.domain(code)
    set_descriptors(lab, domain, gdt)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.error_code, frame.rip) == (vector, error_code, USER_CODE)
    assert (frame.cs, frame.ss, frame.rsp, frame.rcx) == (cs | 3, ss | 3, USER_STACK - 8, 9)


def test_a_system_call_shows_flat_selectors_whatever_user_code_ran_on(lab: Lab) -> None:
    for instruction, expected in (("0f 0b", (UD, 0x33, 0x2B)), ("0f 05", (SYSCALL, USER_CS64, USER_SS))):
        code = kernel().hypercall(HYPERVISOR_set_gdt, DATA, 512)
        iret(code, USER_CODE, cs=0x33, ss=0x2B)
        domain = lab.domain(code.raw(bytes(USER_CODE - code.here)).raw(instruction))
        set_descriptors(lab, domain, {5: 0x00CF_F200_0000_FFFF, 6: 0x00AF_FA00_0000_FFFF})
        lab.run(domain)
        frame = lab.frame(domain.vcpus[0])
        assert (frame.vector, frame.cs, frame.ss) == expected


def test_iret_to_nowhere(lab: Lab) -> None:
    frame = lab.trap(iret(kernel(), CANONICAL_END))
    assert (frame.vector, frame.error_code, frame.rip, frame.cs) == (GP, 0, CANONICAL_END, USER_CS64)
    frame = lab.trap(iret(kernel(), HOLE))
    assert (frame.vector, frame.error_code, frame.rip) == (PF, 0x14, HOLE)
    frame = lab.trap(iret(kernel(), DATA))
    assert (frame.vector, frame.error_code, frame.rip) == (PF, 0x15, DATA)  # the kernel's


def test_iret_frames_that_cannot_be_read(lab: Lab) -> None:
    for stack in (HOLE, HOLE - 64, 0xFFFF_8000_0000_0000):
        assert "iret frame" in lab.crash(kernel().mov(asm.RSP, stack).mov(asm.RAX, HYPERVISOR_iret).syscall())


def test_iret_to_user_mode_without_user_page_tables(lab: Lab) -> None:
    code = kernel().hypercall(HYPERVISOR_mmuext_op, DATA, 1, 0, DOMID_SELF)
    domain = lab.domain(iret(code, USER_CODE))
    lab.write(domain, DATA, struct.pack("<I4xQQ", MMUEXT_NEW_USER_BASEPTR, 0, 0))
    lab.run(domain)
    assert domain.crash_report is not None and "user page table" in domain.crash_report


def test_user_code_of_32_bits(lab: Lab) -> None:
    # mov %eax, %ecx; dec %ecx (with 64 bits this is a prefix); ud2
    code = at_user().raw("89 c1 49 0f 0b")
    low = USER_CODE - BASE
    kernel_side = iret(kernel(), low, cs=USER_CS32, rax=0x1_0000_000A, rsp=USER_STACK - BASE)
    kernel_side.raw(bytes(USER_CODE - kernel_side.here)).raw(bytes(code.bytes))
    domain = lab.domain(kernel_side, prepare=lambda domain: map_low(lab, domain))
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.cs, frame.rip, frame.rcx) == (UD, USER_CS32, low + 3, 9)
    assert frame.rsp == USER_STACK - BASE


@pytest.mark.parametrize(
    ("descriptor", "rip", "allowed"),
    [
        (0x00CF_FA00_0000_FFFF, 0xFFFF_FFFF, True),  # 4 GiB in pages: the last offset there is
        (0x00CF_FA00_0000_FFFF, 0x1_0000_0000, False),
        (0x00CF_FA00_0000_FFFF, 0xFFFF_FFFF_0000_0000, False),
        (0x0040_FA00_0000_0FFF, 0x0FFF, True),  # bytes: one page
        (0x0040_FA00_0000_0FFF, 0x1000, False),
        (0x00C0_FA00_0000_0001, 0x1FFF, True),  # pages: two of them
        (0x00C0_FA00_0000_0001, 0x2000, False),
        (0x00A0_FA00_0000_0000, 0x2000, True),  # 64-bit code has no limit
    ],
)
def test_iret_beyond_the_limit_of_its_segment(lab: Lab, descriptor: int, rip: int, allowed: bool) -> None:
    """#GP(0), told as if it had happened where the iret went; what is allowed finds nothing mapped there."""
    code = kernel().hypercall(HYPERVISOR_set_gdt, DATA, 512)
    domain = lab.domain(iret(code, rip, cs=0x43))
    set_descriptors(lab, domain, {8: descriptor})
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.rip, frame.cs, frame.ss, frame.rsp) == (rip, 0x43, USER_SS, USER_STACK)
    assert (frame.vector, frame.error_code) == ((PF, 0x14) if allowed else (GP, 0))


def test_a_kernel_that_runs_32_bit_code_has_64_bit_handlers(lab: Lab) -> None:
    low = USER_CODE - BASE
    code = iret(kernel(), low, cs=USER_CS32 & ~3, rsp=KERNEL_SP - BASE, rflags=2)
    code.raw(bytes(USER_CODE - code.here)).raw("89 c1 49 0f 0b")
    handler = USER_CODE + PAGE  # mov $0x1234567890, %r8; hlt: with 32 bits it is no such thing
    code.raw(bytes(handler - code.here)).mov(asm.R8, 0x12_3456_7890).raw("f4")
    domain = lab.domain(code, handlers={UD: handler}, prepare=lambda domain: map_low(lab, domain))
    lab.run(domain)
    domain.vcpus[0].state[RSP] += BASE  # where the same memory is for `frame`
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, frame.cs) == (GP, handler + 10, KERNEL_CS)
    assert domain.vcpus[0].state[R8] == 0x12_3456_7890


def map_low(lab: Lab, domain: Domain) -> None:
    """Map from address 0 on what is mapped from BASE on."""
    _, l3, l2 = lab.mfns[domain.domid][:3]
    lab.hv.ram.words[l3 * 512] = l2 << 12 | 0x27


def test_system_calls_of_32_bits_have_an_entry_of_their_own(lab: Lab) -> None:
    low = USER_CODE - BASE
    for registered in (True, False):
        code = kernel()
        if registered:
            code.hypercall(HYPERVISOR_callback_op, CALLBACKOP_register, DATA)
        iret(code, low, cs=USER_CS32, rsp=USER_STACK - BASE)
        code.raw(bytes(USER_CODE - code.here)).raw("0f 05")
        domain = lab.domain(code, prepare=lambda domain: map_low(lab, domain))
        lab.write(domain, DATA, struct.pack("<HHIQ", CALLBACKTYPE_syscall32, 1, 0, Lab.handler(FAILSAFE)))
        lab.run(domain)
        frame = lab.frame(domain.vcpus[0])
        if registered:
            assert (frame.vector, frame.rip, frame.cs, mask(lab, domain)) == (FAILSAFE, low + 2, USER_CS32, 0)
        else:
            assert (frame.vector, frame.rip, frame.cs) == (UD, low, USER_CS32)


# -- NMIs --------------------------------------------------------------------------------------------------------------
def nmi_guest(lab: Lab, code: Code, handler: Code) -> Domain:
    full = code.raw(bytes(handler.at - code.here)).raw(bytes(handler.bytes))
    domain = lab.domain(full)
    lab.write(domain, DATA, struct.pack("<HHIQ", CALLBACKTYPE_nmi, 0, 0, handler.at))
    return domain


def test_an_nmi_comes_at_once_and_masks_events(lab: Lab) -> None:
    handler = Code(CODE + PAGE).raw("bb 02 00 00 00").jmp(Lab.handler(9) + 5)  # mov $2, %ebx
    code = kernel().hypercall(HYPERVISOR_callback_op, CALLBACKOP_register, DATA)
    code.hypercall(HYPERVISOR_vcpu_op, VCPUOP_send_nmi, 0, 0)
    after = code.here
    domain = nmi_guest(lab, code.ud2(), handler)
    mask(lab, domain, 0)
    lab.run(domain)
    frame = lab.frame(domain.vcpus[0])
    assert (frame.vector, frame.rip, frame.mask) == (2, after, 0)
    assert mask(lab, domain) == 1


def test_an_nmi_without_a_handler_is_lost(lab: Lab) -> None:
    code = kernel().hypercall(HYPERVISOR_vcpu_op, VCPUOP_send_nmi, 0, 0)
    code.hypercall(HYPERVISOR_callback_op, CALLBACKOP_register, DATA)
    frame_at = code.hypercall(HYPERVISOR_vm_assist, 0, 77).here
    handler = Code(CODE + PAGE).raw("bb 02 00 00 00").jmp(Lab.handler(9) + 5)
    domain = lab.domain(Code(CODE).raw(bytes(code.bytes)).ud2(), handlers={2: 0})
    lab.write(domain, handler.at, bytes(handler.bytes))
    lab.write(domain, DATA, struct.pack("<HHIQ", CALLBACKTYPE_nmi, 0, 0, handler.at))
    lab.run(domain)
    assert lab.frame(domain.vcpus[0])[:1] == (UD,)
    assert lab.frame(domain.vcpus[0]).rip == frame_at


def test_an_nmi_waits_until_the_handler_of_another_returns(lab: Lab) -> None:
    """The handler counts, raises another one if it is the first, looks whether it came, and returns."""
    handler = Code(CODE + PAGE)
    handler.inc(asm.R8).cmp(asm.R8, 1)
    raising = Code(0).hypercall(HYPERVISOR_vcpu_op, VCPUOP_send_nmi, 0, 0).inc(asm.R9)
    handler.jne(handler.here + 6 + len(raising.bytes)).raw(bytes(raising.bytes))
    # The bounce frame is rcx r11 rip cs rflags rsp ss: an iret frame wants rax r11 rcx flags below rip.
    handler.pop(asm.RCX).pop(asm.R11).mov(asm.RAX, 0).push(asm.RAX).push(asm.RCX).push(asm.R11).push(asm.RAX)
    handler.mov(asm.RAX, HYPERVISOR_iret).syscall()
    code = kernel().mov(asm.R8, 0).mov(asm.R9, 0).hypercall(HYPERVISOR_callback_op, CALLBACKOP_register, DATA)
    code.hypercall(HYPERVISOR_vcpu_op, VCPUOP_send_nmi, 0, 0).ud2()
    domain = nmi_guest(lab, code, handler)
    lab.run(domain)
    state = domain.vcpus[0].state
    assert lab.frame(domain.vcpus[0]).vector == UD
    assert (state[R8], state[R9]) == (2, 1)  # the second one came, and not inside the first


def test_taking_the_nmi_handler_back(lab: Lab) -> None:
    code = kernel().hypercall(HYPERVISOR_callback_op, CALLBACKOP_unregister, DATA)
    code.hypercall(HYPERVISOR_vcpu_op, VCPUOP_send_nmi, 0, 0).hypercall(HYPERVISOR_vm_assist, 0, 77).ud2()
    domain = lab.domain(code)
    lab.write(domain, DATA, struct.pack("<HH", CALLBACKTYPE_nmi, 0))
    lab.run(domain)
    assert lab.frame(domain.vcpus[0]).vector == UD


# -- a vCPU's first entry ----------------------------------------------------------------------------------------------
def first_entry(lab: Lab, cs: int, rip: int, ss: int = USER_SS) -> Frame:
    """A second vCPU begins in user mode with these; the frame it stops on."""
    code = kernel().hypercall(HYPERVISOR_vcpu_op, VCPUOP_initialise, 1, DATA)
    code.hypercall(HYPERVISOR_vcpu_op, VCPUOP_up, 1).hypercall(HYPERVISOR_sched_op, SCHEDOP_block)
    code.raw(bytes(USER_CODE - code.here)).raw("89 c1 49 0f 0b")  # mov %eax, %ecx; dec %ecx; ud2
    domain = lab.domain(code, vcpus=2, prepare=lambda domain: map_low(lab, domain))
    context = lab.context(domain, rip, vcpu_id=1)
    context.flags &= ~VGCF_IN_KERNEL
    context.user_regs.cs, context.user_regs.ss, context.user_regs.rsp = cs, ss, 0x1000
    context.user_regs.rax, context.kernel_sp = 10, KERNEL_SP - 256
    lab.write(domain, DATA, bytes(context))
    lab.run(domain)
    assert domain.shutdown_code == STOPPED, domain.crash_report
    return lab.frame(domain.vcpus[1])


def test_a_vcpu_may_begin_in_32_bit_code(lab: Lab) -> None:
    frame = first_entry(lab, USER_CS32, USER_CODE - BASE)
    assert (frame.vector, frame.cs, frame.rip, frame.rcx) == (UD, USER_CS32, USER_CODE - BASE + 3, 9)


def test_a_vcpu_that_cannot_begin_where_its_context_says_is_told_so(lab: Lab) -> None:
    frame = first_entry(lab, USER_CS32, USER_CODE)  # above 4 GiB
    assert (frame.vector, frame.error_code, frame.cs, frame.rip, frame.rsp) == (GP, 0, USER_CS32, USER_CODE, 0x1000)
    frame = first_entry(lab, 0x43, USER_CODE)  # it has no GDT
    assert (frame.vector, frame.error_code, frame.cs, frame.rip) == (GP, 0x40, 0x43, USER_CODE)
    frame = first_entry(lab, USER_CS64, USER_CODE, ss=0)
    assert (frame.vector, frame.error_code, frame.ss) == (GP, 0, 3)
