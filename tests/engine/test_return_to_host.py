# SPDX-License-Identifier: GPL-2.0-or-later
"""A #VMEXIT can return to the host that executed VMRUN, with its state, as the processor does it."""

from __future__ import annotations

from pvhv.machine import cpustate as cs
from pvhv.machine import seam, svm
from pvhv.machine.cpustate import EFLAGS, HFLAGS, RAX, RBX, RIP, RSP
from tests.machine.lab import CODE, CR3, DATA, Lab

VMCB, HOST_SAVE = DATA + 0x1000, DATA + 0x2000  # machine addresses: the lab maps one to one
GUEST = CODE + 0x800
# Of a VMCB's state save area: where CS, SS, EFER, CR4, CR3, CR0, RFLAGS, RIP, RSP, RAX are (AMD's manual, appendix B).
SAVE_CS, SAVE_SS, SAVE_EFER, SAVE_CR4, SAVE_CR3, SAVE_CR0 = 0x410, 0x420, 0x4D0, 0x548, 0x550, 0x558
SAVE_RFLAGS, SAVE_RIP, SAVE_RSP, SAVE_RAX = 0x570, 0x578, 0x5D8, 0x5F8
CODE64, DATA32 = 0x29B, 0xC93  # attributes, packed as the VMCB has them


def test_a_guest_that_halts_returns_to_its_host() -> None:
    lab = Lab("wall")
    pcpu, state = lab.pcpu, lab.state

    def put(offset: int, value: int) -> None:
        lab.ram.words[(VMCB + offset) // 8] = value

    lab.put("48c7c077000000 f9 f4", GUEST)  # mov rax, 0x77; stc; hlt
    lab.ram.words[(VMCB + 8) // 8] = 0
    lab.ram.bytes[VMCB + 0xC : VMCB + 0x10] = svm.intercept_bit(svm.VMEXIT_HLT).to_bytes(8, "little")[:4]
    lab.ram.bytes[VMCB + 0x10 : VMCB + 0x14] = (1).to_bytes(4, "little")  # VMRUN, which must be intercepted
    put(0x58, 1)  # an ASID
    put(SAVE_CS, CODE64 << 16 | 8 | 0xFFFF_FFFF << 32)
    put(SAVE_SS, DATA32 << 16 | 16 | 0xFFFF_FFFF << 32)
    for offset, value in (
        (SAVE_EFER, state[cs.EFER]), (SAVE_CR4, state[cs.CR4]), (SAVE_CR3, CR3), (SAVE_CR0, state[cs.CR0]),
        (SAVE_RFLAGS, 2), (SAVE_RIP, GUEST), (SAVE_RSP, DATA + 0x3000), (SAVE_RAX, 1),
    ):  # fmt: skip
        put(offset, value)

    exits: list[tuple[int, int]] = []

    def halt() -> None:
        exits.append((state[RAX], state[RIP]))
        seam.return_to_host(pcpu._handle, svm.VMEXIT_HLT, 0)

    pcpu.on_exit(svm.VMEXIT_HLT, halt)
    pcpu.load_flat_segments(8, 16, 0)
    state[HFLAGS] = state[HFLAGS] & ~cs.HF_GUEST & ~3
    pcpu._engine.set_register(248, 0xC001_0117, HOST_SAVE)  # VM_HSAVE_PA, by the API's MSR
    state[RAX], state[RBX], state[RSP] = VMCB, 5, DATA + 0x4000
    at = lab.put("f8 0f01d8 48ffc3 9c 5a 0f05")  # clc; vmrun; inc rbx; pushf; pop rdx; syscall
    lab.pcpu.on_syscall = lab.finish
    state[RIP] = at
    lab.resume()
    assert exits == [(0x77, GUEST + 8)]
    assert (state[RAX], state[RBX], state[RSP]) == (VMCB, 6, DATA + 0x4000)  # the host's own
    assert not state[cs.RDX] & cs.CF and state[EFLAGS] & 2  # its flags, too: the guest had set CF
    assert lab.ram.words[(VMCB + SAVE_RAX) // 8] == 0x77 and lab.ram.words[(VMCB + SAVE_RFLAGS) // 8] & cs.CF
    assert lab.ram.words[(VMCB + svm.EXITCODE) // 8] == svm.VMEXIT_HLT
    assert not state[HFLAGS] & cs.HF_GUEST
    lab.close()
