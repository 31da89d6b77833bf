# SPDX-License-Identifier: GPL-2.0-or-later
"""Every kind of exit, on every kind of pCPU: where RIP is, what the handler is told, and how the guest goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import seam, svm
from pvhv.machine.cpustate import EFLAGS, ERROR_CODE, RAX, RBX, RCX, RDI, RDX, RIP, RSI
from pvhv.machine.paging import PTE_NX, PTE_PRESENT, PTE_RW, PTE_USER
from pvhv.machine.pcpu import Unhandled
from tests.machine.lab import CODE, DATA, HOLE, KINDS, STACK, USER_CODE, USER_DATA, Done, Lab


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    made = Lab(request.param)
    yield made
    made.close()


def expect(lab: Lab, code: str, vector: int, error: int = 0, at: int = 0, cpl: int = 1) -> None:
    """`code` must raise `vector` with `error`, RIP at byte `at` of it."""
    seen: list[Any] = []

    def handler(which: int) -> Any:
        def note() -> None:
            seen.append((which, lab.aux[ERROR_CODE], lab.state[RIP]))
            raise Done

        return note

    for n in range(32):
        lab.pcpu.on_exception[n] = handler(n)
    place = lab.put(code, CODE if cpl == 1 else USER_CODE)
    lab.run(place, cpl)
    assert seen == [(vector, error, place + at)]
    assert lab.aux[cs.OLD_EXCEPTION] == 0xFFFF_FFFF
    assert lab.state[cs.HFLAGS] & 3 == cpl


@pytest.mark.parametrize("cpl", [1, 3])
def test_faults(lab: Lab, cpl: int) -> None:
    user = 4 if cpl == 3 else 0
    lab.state[RBX] = HOLE
    expect(lab, "90 488b03", svm.PF, user, 1, cpl)
    assert lab.address_of_fault() == HOLE
    expect(lab, "90 488903", svm.PF, user | 2, 1, cpl)
    expect(lab, "90 ffe3", svm.PF, user | 16, 0 - CODE + HOLE if cpl == 1 else HOLE - USER_CODE, cpl)
    lab.state[RBX] = USER_CODE
    expect(lab, "90 488903", svm.PF, user | 3, 1, cpl)  # read-only, and CR0.WP holds at CPL 1 as well
    lab.state[RBX] = USER_DATA
    expect(lab, "90 ffe3", svm.PF, user | 16 | 1, USER_DATA - (CODE if cpl == 1 else USER_CODE), cpl)  # NX
    lab.state[RBX] = 1 << 63
    expect(lab, "90 488b03", svm.GP, 0, 1, cpl)  # not canonical
    lab.state[RBX] = 0
    expect(lab, "90 48f7f3", svm.DE, 0, 1, cpl)
    expect(lab, "90 0f0b", svm.UD, 0, 1, cpl)
    if not seam.corrected:
        expect(lab, "90 f1", svm.UD, 0, 1, cpl)  # (elsewhere it is #DB: tests/engine/test_traps.py)
    expect(lab, "90 0f34", svm.UD, 0, 1, cpl)  # sysenter, as 64-bit code on AMD sees it


def test_user_code_cannot_reach_supervisor_pages(lab: Lab) -> None:
    lab.state[RBX] = DATA
    expect(lab, "488b03", svm.PF, 5, 0, 3)
    expect(lab, "488903", svm.PF, 7, 0, 3)


# cli sti hlt; mov cr0,rax; mov rax,cr3; lgdt lidt invlpg [rbx]; ltr ax; rdmsr wrmsr clts wbinvd swapgs sysret; mov dr0
PRIVILEGED = (
    "fa fb f4 0f22c0 0f20d8 0f0113 0f011b 0f013b 0f00d8 0f32 0f30 0f06 0f09 0f01f8 480f07 0f23c0".split()
)  # fmt: skip


@pytest.mark.parametrize("cpl", [1, 3])
def test_privileged_instructions_are_general_protection_faults(lab: Lab, cpl: int) -> None:
    lab.state[RBX] = USER_DATA
    for code in PRIVILEGED:
        expect(lab, "90" + code, svm.GP, 0, 1, cpl)


def test_time_stamp_counter(lab: Lab) -> None:
    if lab.pcpu.virtual:
        expect(lab, "90 0f31", svm.GP, 0, 1)
        expect(lab, "90 0f01f9", svm.UD if seam.corrected else svm.GP, 0, 1, 3)  # rdtscp, which CPUID hides
        return
    before = lab.pcpu.read_tsc()
    lab.run(lab.put("0f31 0f05"))
    after = lab.pcpu.read_tsc()
    assert before <= lab.state[RDX] << 32 | lab.state[RAX] <= after
    assert 10_000 < lab.pcpu.tsc_khz < 10_000_000


def test_software_interrupts(lab: Lab) -> None:
    seen: list[tuple[int, int]] = []
    lab.pcpu.on_int = lambda vector: seen.append((vector, lab.state[RIP] - CODE))
    faults: list[int] = []

    def fault() -> None:
        faults.append(lab.state[RIP] - CODE)
        lab.state[RIP] += 2

    lab.pcpu.on_exception[svm.UD] = fault
    # int 0x80, int3, int 6 (which the engine confuses with #UD), ud2, int 0x20, ud2, syscall
    lab.run(lab.put("cd80 cc cd06 0f0b cd20 0f0b 0f05"))
    assert seen == [(0x80, 2), (3, 3), (6, 5), (0x20, 9)]
    assert faults == [5, 9]


def test_syscall_resumes_where_it_is_told(lab: Lab) -> None:
    places: list[int] = []

    def syscall() -> None:
        places.append(lab.state[RIP] - CODE)
        if len(places) == 1:
            lab.state[RIP] = CODE + 6
        elif len(places) == 3:
            raise Done

    lab.pcpu.on_syscall = syscall
    # inc rax; syscall -> +6; 5: nop; 6: syscall; inc rbx; syscall
    lab.run(lab.put("48ffc0 0f05 90 0f05 48ffc3 0f05"))
    assert places == [5, 8, 13]
    assert (lab.state[RAX], lab.state[RBX]) == (1, 1)


def test_syscall_leaves_rcx_and_r11_as_the_cpu_does(lab: Lab) -> None:
    seen: list[tuple[int, ...]] = []

    def syscall() -> None:
        state = lab.state
        seen.append((state[RIP], state[RCX], state[cs.R11], state[EFLAGS]))
        if len(seen) == 2:
            raise Done

    lab.pcpu.on_syscall = syscall
    lab.state[RAX], lab.state[EFLAGS] = 1 << 63, 2 | cs.IF | cs.RF
    # add rax,rax (to 0, with carry and overflow); syscall; std; syscall
    lab.run(lab.put("4801c0 0f05 fd 0f05"))
    flags = 2 | cs.IF | cs.CF | cs.PF | cs.ZF | cs.OF
    assert seen == [(CODE + 5, CODE + 5, flags, flags), (CODE + 8, CODE + 8, flags | cs.DF, flags | cs.DF)]


def test_syscall_may_change_privilege_stack_and_registers(lab: Lab) -> None:
    calls: list[int] = []

    def syscall() -> None:
        state = lab.state
        calls.append(state[cs.HFLAGS] & 3)
        if len(calls) == 1:  # user to kernel
            lab.pcpu.set_cpl(1)
            state[RIP], state[cs.RSP], state[RAX] = CODE, STACK, 77
        else:
            raise Done

    lab.pcpu.on_syscall = syscall
    lab.put("50 0f05")  # push rax; syscall
    lab.run(lab.put("0f05", USER_CODE), 3)
    assert calls == [3, 1]
    assert lab.ram.words[STACK // 8 - 1] == 77


def test_cpuid(lab: Lab) -> None:
    def cpuid() -> None:
        assert lab.state[RIP] == CODE + 3
        assert (lab.state[RAX], lab.state[RCX]) == (0x4000_0000, 9)
        lab.state[RAX], lab.state[RBX], lab.state[RCX], lab.state[RDX] = 1, 2, 3, 4

    lab.pcpu.on_cpuid = cpuid
    lab.state[RAX], lab.state[RCX] = 0x3FFF_FFFF, 9
    # inc rax; cpuid; rex.w cpuid would be as good; inc rdx; mov rsi,rcx (which syscall takes); syscall
    lab.run(lab.put("48ffc0 0fa2 48ffc2 4889ce 0f05"))
    assert [lab.state[register] for register in (RAX, RBX, RSI, RDX)] == [1, 2, 3, 5]


def test_port_io_completed(lab: Lab) -> None:
    seen: list[tuple[int, int, bool, int]] = []

    def port_io(port: int, size: int, is_write: bool, value: int) -> int:
        seen.append((port, size, is_write, value))
        return 0x1122_3344

    lab.pcpu.on_io = port_io
    lab.state[RAX], lab.state[RDX] = 0xAAAA_AAAA_BBBB_BBBB, 0x3F8
    # in al,dx; out dx,ax; in eax,0x60; out 0x80,eax; syscall
    lab.run(lab.put("ec 66ef e560 e780 0f05"))
    assert seen == [(0x3F8, 1, False, 0), (0x3F8, 2, True, 0xBB44), (0x60, 4, False, 0), (0x80, 4, True, 0x1122_3344)]
    assert lab.state[RAX] == 0x1122_3344


def test_port_io_refused_leaves_everything_as_it_was(lab: Lab) -> None:
    lab.pcpu.on_io = lambda port, size, is_write, value: None
    for code in ("ec", "66ed", "e560", "ee", "e780", "6e", "f36e"):  # in, out, outsb, rep outsb
        for n in range(16):
            if n != cs.RSP:
                lab.state[n] = 0x1111_1111_1111 * n
        lab.state[RSI], lab.state[RDI], lab.state[RCX] = DATA, DATA, 3
        lab.state[EFLAGS] = 0x8D5 | 2
        before = lab.state[0:16].tolist()
        expect(lab, "90" + code + "48ffc0", svm.GP, 0, 1)
        assert lab.state[0:16].tolist() == before
        assert lab.state[EFLAGS] & ~cs.RF == 0x8D5 | 2
        assert lab.state[cs.DR7] == 0x400


def test_a_refused_in_may_be_completed_by_the_fault_handler(lab: Lab) -> None:
    def general_protection() -> None:
        lab.state[RAX] = 0xFF
        lab.state[RIP] += 1

    lab.pcpu.on_exception[svm.GP] = general_protection
    debug = lab.pcpu.on_exception[svm.DB]
    lab.state[RCX] = 50
    # 1: in al,dx; inc rbx; dec ecx; jnz 1b; syscall
    lab.run(lab.put("ec 48ffc3 ffc9 75f8 0f05"))
    assert (lab.state[RAX], lab.state[RBX]) == (0xFF, 50)
    assert lab.pcpu.on_exception[svm.DB] is debug


def test_task_switched_flag(lab: Lab) -> None:
    lab.pcpu.set_ts(True)
    expect(lab, "90 66480f6ec0", svm.NM, 0, 1)  # movq xmm0, rax
    expect(lab, "90 d9e8", svm.NM, 0, 1)  # fld1

    def not_present() -> None:
        lab.pcpu.set_ts(False)

    lab.pcpu.on_exception[svm.NM] = not_present
    lab.state[RAX] = 0x55
    lab.run(lab.put("66480f6ec0 66480f7ec3 0f05"))  # movq xmm0,rax; movq rbx,xmm0
    assert lab.state[RBX] == 0x55


@pytest.mark.parametrize(
    ("code", "set_up"),
    [("0f05", "on_syscall"), ("0f0b", "exception"), ("cd80", "on_int"), ("cd06", "on_int"), ("0fa2", "on_cpuid"),
     ("ec", "on_io"), ("ee", "on_io"), ("0f34", "exception")],
)  # fmt: skip
def test_what_a_handler_raises_comes_out_of_run(lab: Lab, code: str, set_up: str) -> None:
    def boom(*_: object) -> None:
        raise ZeroDivisionError("of the handler's")

    def wrong(*_: object) -> None:
        raise AssertionError("the run went on")

    pcpu = lab.pcpu
    pcpu.on_syscall = wrong
    if set_up == "exception":
        pcpu.on_exception[svm.UD] = boom
    else:
        setattr(pcpu, set_up, boom)
    # what follows the instruction, a jump into nowhere, must not become an exit of its own
    lab.state[RIP] = lab.put(code + "eb00 0f05")
    with pytest.raises(ZeroDivisionError):
        pcpu.run()
    assert not pcpu.stop_pending
    pcpu.on_syscall = lab.finish
    lab.run(lab.put("48ffc0 0f05"))  # and the pCPU is as good as before


def test_an_exit_without_a_handler_says_so(lab: Lab) -> None:
    lab.state[RIP] = lab.put("90 0f0b")
    with pytest.raises(Unhandled, match="exception 6 at RIP 0x100001"):
        lab.pcpu.run()
    lab.state[RIP] = lab.put("cd80")
    with pytest.raises(Unhandled, match="int 0x80"):
        lab.pcpu.run()


def test_handlers_are_a_list_of_32(lab: Lab) -> None:
    handlers = lab.pcpu.on_exception
    assert len(handlers) == 32
    handlers[31] = handlers[0]
    assert handlers[-1] is handlers[0]
    with pytest.raises(IndexError):
        handlers[32]
    with pytest.raises(IndexError):
        handlers[32] = lab.finish


def test_a_guest_that_faults_for_ever_can_be_stopped(lab: Lab) -> None:
    faults = 0

    def page_fault() -> None:
        nonlocal faults
        faults += 1
        if faults == 50:
            lab.pcpu.stop()

    lab.pcpu.on_exception[svm.PF] = page_fault
    lab.state[RIP] = HOLE
    lab.pcpu.run()
    assert faults == 50 and lab.state[RIP] == HOLE


def test_segments_load_from_the_guests_own_table(lab: Lab) -> None:
    descriptor = 0x00CF_D300_0000_FFFF | 0x1234 << 16  # writable data, DPL 2: of use at CPL 1, not at CPL 3
    lab.ram.words[DATA // 8 + 4] = descriptor
    lab.pcpu.set_gdtr(DATA, 0x27)
    # mov eax,0x23; mov ds,eax; mov gs,eax; mov rbx,gs:[rcx]; syscall
    lab.state[RCX] = DATA - 0x1234
    lab.ram.words[DATA // 8] = 0xFEED
    lab.run(lab.put("b822000000 8ed8 8ee8 65488b19 0f05"))
    assert lab.state[cs.DS] == lab.state[cs.GS] == 0x22
    assert lab.state[cs.GS_BASE] == 0x1234
    assert lab.state[RBX] == 0xFEED
    expect(lab, "b82b000000 8ed8", svm.GP, 0x28, 5)  # beyond the limit
    lab.pcpu.set_ldtr(8, DATA, 0x27)
    lab.run(lab.put("b826000000 8ec0 0f05"))  # index 4 of the LDT
    assert lab.state[cs.ES] == 0x26


def test_pages_outside_ram_stop_the_engine_not_the_process(lab: Lab) -> None:
    from pvhv.machine.engine import EngineError

    lab.ram.words[4 * 512 + (HOLE >> 12)] = 0xFFFF_F000 | PTE_PRESENT | PTE_RW | PTE_USER | PTE_NX
    lab.state[RBX] = HOLE
    lab.state[RIP] = lab.put("488b03 0f05")
    with pytest.raises(EngineError):
        lab.pcpu.run()


def test_an_iretq_to_itself_leaves_the_kernel_where_it_is_if_that_is_wanted(lab: Lab) -> None:
    gdt = DATA + 0x1000
    lab.ram.words[gdt // 8 + 5], lab.ram.words[gdt // 8 + 6] = 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF
    lab.pcpu.set_gdtr(gdt, 0x37)
    faults: list[int] = []

    def page_fault() -> None:
        faults.append(lab.state[cs.HFLAGS] & 3)
        lab.state[cs.HFLAGS] = lab.state[cs.HFLAGS] & ~3 | 1

    lab.pcpu.on_exception[svm.PF] = page_fault
    lab.pcpu.on_exception[svm.UD] = lambda: lab.state.__setitem__(RIP, lab.state[RIP] + 2)
    # ud2; then, twice: push $0x33; push of what rsp was; pushfq; push $0x2b; push of what is behind it; iretq; inc rdx
    to_itself = "4889e0 6a33 50 9c 6a2b 488d0d03000000 51 48cf 48ffc2"
    code = lab.put(f"0f0b {to_itself} {to_itself} 0f05")
    for wanted, known in ((False, 2), (True, 2 if seam.corrected else 0)):  # (the corrected engine has no such kernels)
        if wanted:
            lab.pcpu.keep_kernel_cpl()
        faults.clear()
        lab.state[RDX], lab.state[cs.RSP] = 0, STACK
        lab.run(code)
        assert (lab.state[RDX], lab.state[cs.RSP], lab.state[cs.HFLAGS] & 3) == (2, STACK, 1)
        assert faults == [3] * known


def test_the_tlb_is_flushed_once_before_the_guest_goes_on(lab: Lab) -> None:
    entry = 4 * 512 + (HOLE >> 12)
    lab.ram.words[DATA // 8], lab.ram.words[DATA // 8 + 512] = 1, 2
    lab.ram.words[entry] = DATA | PTE_PRESENT | PTE_RW | PTE_NX
    flush = [False, True]

    def invalid() -> None:
        lab.ram.words[entry] = DATA + 4096 | PTE_PRESENT | PTE_RW | PTE_NX
        if flush.pop():
            lab.pcpu.flush_on_entry()
            lab.pcpu.flush_on_entry()
        lab.state[RIP] += 2

    lab.pcpu.on_exception[svm.UD] = invalid
    lab.state[RBX] = HOLE
    lab.run(lab.put("488b03 0f0b 488b13 0f0b 488b33 0f05"))
    assert (lab.state[RAX], lab.state[RDX], lab.state[RSI]) == (1, 2, 2)
    lab.ram.words[entry] = DATA | PTE_PRESENT | PTE_RW | PTE_NX
    flush[:] = [True, False]
    lab.pcpu.flush_on_entry()
    lab.run(CODE)
    assert (lab.state[RAX], lab.state[RDX], lab.state[RSI]) == (1, 1, 2)
