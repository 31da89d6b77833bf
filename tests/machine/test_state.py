# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPU state: flags, contexts, TLB, translated code, and what happens where it is not where we think."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from pvhv.machine import cpustate as cs
from pvhv.machine import pcpu as pcpu_module
from pvhv.machine import seam, svm
from pvhv.machine.cpustate import CR3, EFLAGS, R12, RAX, RBX, RCX, RIP, RSP, EngineUnsupported
from pvhv.machine.paging import PTE_NX, PTE_PRESENT, PTE_RW
from pvhv.machine.private import BASE
from pvhv.machine.ram import Ram
from tests.machine.lab import CODE, DATA, HOLE, KINDS, STACK, Done, Lab


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    made = Lab(request.param)
    yield made
    made.close()


# ---- flags --------------------------------------------------------------------------------------------

# add adc sub sbb cmp and test xor inc dec neg shl shr sar imul bt stc cmc clc, of several sizes
ARITHMETIC = (
    "4801d8 29d8 10d8 4819d8 6639d8 21d8 4885d8 30c0 ffc0 66ffc8 48f7d8 48c1e003 d1e8 48c1f805 480fafc3 "
    "480fbae003 f9 f5 f8 00d8 11d8 4829d8 fec0 48ffc8".split()
)  # fmt: skip


def test_flags_at_exits_are_what_pushf_would_have_pushed(lab: Lab) -> None:
    seen: list[int] = []

    def note(length: int) -> None:
        seen.append(lab.state[EFLAGS])
        lab.state[RIP] += length

    def port_io(port: int, size: int, is_write: bool, value: int) -> int:
        note(0)
        return 0

    lab.pcpu.on_exception[svm.UD] = lambda: note(2)
    lab.pcpu.on_cpuid = lambda: note(0)
    lab.pcpu.on_io = port_io
    lab.pcpu.on_syscall = lambda: note(0) if len(seen) % 6 != 5 else lab.finish()
    dice = random.Random(5)
    for _ in range(60):
        first, second = dice.choice(ARITHMETIC), dice.choice(ARITHMETIC)
        lab.state[RAX], lab.state[RBX] = dice.choice([0, 1, 1 << 63, dice.getrandbits(64)]), dice.getrandbits(64)
        lab.state[RSP] = STACK
        seen.clear()
        # op; op; ud2; pushf; syscall; pushf; op; cpuid; pushf; op; in al,dx; pushf; op; out dx,al; pushf; syscall
        middle = f"{first} 0fa2 9c {second} ec 9c {second} ee 9c"
        lab.run(lab.put(f"{first} {second} 0f0b 9c 0f05 9c {middle} 0f05"))
        pushed = [lab.ram.words[STACK // 8 - n] for n in (1, 2, 3, 4, 5)]
        assert seen == [pushed[0] | cs.RF, *pushed[1:]], (first, second)  # ud2 is a fault
        assert pushed[0] == pushed[1]
        assert lab.state[cs.R11] == lab.state[EFLAGS] == pushed[4]


@pytest.mark.parametrize("middle", ["0fa2", "ec", "ee"])  # cpuid, in, out
def test_an_exit_in_mid_block_leaves_the_flags_where_the_rest_of_the_block_looks_for_them(
    lab: Lab, middle: str
) -> None:
    lab.pcpu.on_cpuid = lambda: None
    lab.pcpu.on_io = lambda port, size, is_write, value: 0
    flags = (cs.CF, cs.ZF, cs.SF, cs.OF, cs.PF)
    dice = random.Random(6)
    for operation in ARITHMETIC * 3:
        lab.state[RAX], lab.state[RBX] = dice.choice([0, 1, 1 << 63, dice.getrandbits(64)]), dice.getrandbits(64)
        lab.state[RSP] = STACK
        # operation; the exit; setc r8b; setz r9b; sets r10b; seto r12b; setp r13b; pushf; syscall
        conditions = "410f92c0 410f94c1 410f98c2 410f90c4 410f9ac5"
        lab.run(lab.put(f"{operation} {middle} {conditions} 9c 0f05"))
        pushed = lab.ram.words[STACK // 8 - 1]
        told = [lab.state[register] & 0xFF for register in (cs.R8, cs.R9, cs.R10, R12, cs.R13)]
        assert told == [int(bool(pushed & flag)) for flag in flags], operation


@pytest.mark.parametrize("code", ["0f0b", "488b09", "cd80", "cc", "cd06", "0f34", "0f05"])
def test_flags_are_whole_at_every_kind_of_exit(lab: Lab, code: str) -> None:
    """ud2, a page fault, int 0x80, int3, int 6, sysenter, syscall: the handler sees and sets all of them."""
    seen: list[int] = []
    length = len(bytes.fromhex(code))

    def exit_(*_vector: int) -> None:
        seen.append(lab.state[EFLAGS])
        lab.state[EFLAGS] = 2 | cs.ZF | cs.OF
        lab.state[RIP] = CODE + 2 + length  # behind it

    lab.pcpu.on_exception[svm.UD] = lab.pcpu.on_exception[svm.PF] = lab.pcpu.on_int = exit_
    lab.pcpu.on_syscall = lambda: exit_() if not seen else lab.finish()
    lab.state[RCX] = HOLE
    # stc; std; the exit; pushf; syscall
    lab.run(lab.put(f"f9 fd {code} 9c 0f05"))
    assert [flags & ~cs.RF for flags in seen] == [2 | cs.CF | cs.DF]
    assert code in ("0f0b", "488b09", "0f34") or not seen[0] & cs.RF
    assert lab.ram.words[STACK // 8 - 1] == lab.state[EFLAGS] == 2 | cs.ZF | cs.OF


def test_flags_set_in_a_handler_reach_the_guest(lab: Lab) -> None:
    wanted = [0x2 | n for n in (0, 0x8D5, 0x400, 0x40, 0x801, 0x8D5 | 0x400, 0x40000, 0x3202)]
    for value in wanted:
        lab.state[RSP] = STACK
        lab.state[EFLAGS] = value  # between runs
        count = 0

        def exit_(value: int = value) -> None:
            nonlocal count
            assert lab.state[EFLAGS] == value
            lab.state[EFLAGS] = value ^ 0x411
            count += 1
            if count == 2:
                raise Done

        def undefined(value: int = value) -> None:
            assert lab.state[EFLAGS] == (value ^ 0x411) | cs.RF
            lab.state[EFLAGS] = value
            lab.state[RIP] += 2

        lab.pcpu.on_syscall = exit_
        lab.pcpu.on_exception[svm.UD] = undefined
        # pushf; syscall; pushf; ud2; pushf; syscall
        lab.run(lab.put("9c 0f05 9c 0f0b 9c 0f05"))
        assert [lab.ram.words[STACK // 8 - n] for n in (1, 2, 3)] == [value, value ^ 0x411, value]
        assert lab.state[EFLAGS] == value ^ 0x411  # as the last handler left them
    lab.state[EFLAGS] = 2


def test_flags_survive_a_stop(lab: Lab) -> None:
    # stc; jmp +0; adc rax,0; clc; jmp +0; adc rax,0 ; loop back
    code = lab.put("f9 eb00 4883d000 f8 eb00 4883d000 49ffc4 ebed")
    lab.state[RIP] = code
    for n in range(300):
        if lab.pcpu.virtual:
            lab.pcpu.run(1 + n % 5)
        else:
            lab.pcpu.run_wall(time.monotonic_ns() + 20_000)
    assert 0 <= lab.state[RAX] - lab.state[R12] <= 1 and lab.state[R12] > 10


def test_direction_flag(lab: Lab) -> None:
    lab.state[cs.RDI], lab.state[RCX], lab.state[RAX] = DATA + 80, 3, 7
    lab.state[EFLAGS] = 0x402
    lab.run(lab.put("f348ab 0f05"))  # rep stosq, downwards
    assert lab.ram.words[DATA // 8 + 7 : DATA // 8 + 12].tolist() == [0, 7, 7, 7, 0]
    assert lab.state[EFLAGS] & 0x400


# ---- contexts -------------------------------------------------------------------------------------------


def test_a_context_is_the_whole_vcpu(lab: Lab) -> None:
    pcpu, state = lab.pcpu, lab.state
    # movq xmm0,rax; movq xmm15,rbx; fld1; fldpi; ldmxcsr [rcx]; add rax,rbx; syscall
    lab.put("66480f6ec0 664c0f6efb d9e8 d9eb 0fae11 4801d8 0f05")
    # movq rax,xmm0; movq rbx,xmm15; fstp [rcx]; fstp [rcx+8]; stmxcsr [rcx+16]; pushf; syscall
    save_code = lab.put("66480f7ec0 664c0f7efb dd19 dd5908 0fae5910 9c 0f05", CODE + 4096)
    state[RAX], state[RBX], state[RCX], state[RSP] = 1 << 63, 1 << 63 | 5, DATA, STACK
    state[cs.FS_BASE] = 0x1234_5678_9ABC
    pcpu.set_segment(cs.DS, 0x2B, 0, 0xFFFFF, 0xCFF300)
    lab.ram.words[DATA // 8] = 0x7F80
    pcpu.set_ts(False)
    lab.run()
    context = pcpu.save()
    assert context == pcpu.save() and len(context) == cs.SAVED_BYTES
    flags = state[EFLAGS]

    pcpu.load(pcpu.initial)
    assert pcpu.save() == pcpu.initial
    lab.state[CR3] = 0x1000
    lab.run(lab.put("d9ee 660fefc0 450f57ff 31c0 0f05", CODE + 8192))  # other values everywhere
    pcpu.load(context)
    assert pcpu.save() == context
    assert state[cs.FS_BASE] == 0x1234_5678_9ABC and state[cs.DS] == 0x2B
    assert state[EFLAGS] == flags and flags & 0x801 == 0x801
    state[RAX], state[RBX], state[RCX] = 0, 0, DATA  # syscall took RCX
    lab.run(save_code)
    words = lab.ram.words[DATA // 8 : DATA // 8 + 3].tolist()
    assert (state[RAX], state[RBX]) == (1 << 63, 1 << 63 | 5)
    assert words == [0x400921FB54442D18, 0x3FF0000000000000, 0x7F80]
    assert lab.ram.words[STACK // 8 - 1] & 0x8D5 == flags & 0x8D5


def test_fpu_state_alone(lab: Lab) -> None:
    pcpu, state = lab.pcpu, lab.state
    put, get = lab.put("66480f6ec0 0f05"), lab.put("66480f7ec0 0f05", CODE + 4096)
    state[RAX] = 0x1111
    lab.run(put)
    ours = pcpu.fpu_save()
    state[RAX] = 0x2222
    lab.run(put)
    pcpu.fpu_load(ours)
    state[RBX] = 0x3333
    lab.run(get)
    assert (state[RAX], state[RBX]) == (0x1111, 0x3333)


def test_contexts_move_between_pcpus_of_one_clock() -> None:
    ram = Ram(512)
    one, other = Lab("wall", ram), Lab("wall", ram)
    one.state[RAX] = 41
    one.run(one.put("48ffc0 0f05 48ffc0 0f05"))
    other.pcpu.forget_code(CODE >> 12)
    other.pcpu.load(one.pcpu.save())
    other.run(CODE + 5)
    assert other.state[RAX] == 43
    one.close()
    other.close()


# ---- TLB --------------------------------------------------------------------------------------------------


def test_flushing_shows_new_tables(lab: Lab) -> None:
    entry = 4 * 512 + (HOLE >> 12)
    lab.ram.words[DATA // 8], lab.ram.words[DATA // 8 + 512] = 1, 2
    lab.state[RBX] = HOLE
    read = lab.put("488b03 0f05")
    lab.ram.words[entry] = DATA | PTE_PRESENT | PTE_RW | PTE_NX
    for flush in (lab.pcpu.flush_tlb, lambda: lab.pcpu.flush_page(HOLE), lambda: lab.pcpu.load_cr3(0x1000)):
        lab.run(read)
        assert lab.state[RAX] == 1
        lab.ram.words[entry] += 4096
        flush()
        lab.run(read)
        assert lab.state[RAX] == 2
        lab.ram.words[entry] -= 4096
        flush()


def test_load_flushes_when_cr3_changes(lab: Lab) -> None:
    words = lab.ram.words
    words[8 * 512 : 9 * 512] = words[1 * 512 : 2 * 512]  # another L4, with its own way down
    for level in range(3):
        words[(9 + level) * 512 : (10 + level) * 512] = words[(2 + level) * 512 : (3 + level) * 512]
    words[8 * 512], words[9 * 512], words[10 * 512] = 9 << 12 | 7, 10 << 12 | 7, 11 << 12 | 7
    words[11 * 512 + (DATA >> 12)] += 4096
    words[DATA // 8], words[DATA // 8 + 512] = 1, 2
    lab.state[RBX] = DATA
    lab.run(lab.put("488b03 0f05"))
    here = lab.pcpu.save()
    lab.state[CR3] = 0x8000
    there = lab.pcpu.save()
    for _ in range(3):
        for context, value in ((here, 1), (there, 2)):
            lab.pcpu.load(context)
            lab.run()
            assert lab.state[RAX] == value


# ---- translated code ----------------------------------------------------------------------------------------


def test_forget_code_shows_what_the_host_wrote(lab: Lab) -> None:
    lab.run(lab.put("b801000000 0f05"))
    assert lab.state[RAX] == 1
    lab.ram.bytes[CODE + 1] = 2
    lab.pcpu.forget_code(CODE >> 12)
    lab.run()
    assert lab.state[RAX] == 2


def test_forget_code_works_in_a_handler_and_on_the_running_block(lab: Lab) -> None:
    count = 0

    def syscall() -> None:
        nonlocal count
        count += 1
        lab.ram.bytes[CODE + 1] = count  # of the block we are in
        lab.pcpu.forget_code(CODE >> 12)
        if count == 200:
            raise Done

    lab.pcpu.on_syscall = syscall
    # 1: mov eax,imm; add rbx,rax; syscall; jmp 1b
    lab.run(lab.put("b800000000 4801c3 0f05 ebf4"))
    assert lab.state[RBX] == sum(range(200))


def test_forget_code_leaves_the_guest_no_window(lab: Lab) -> None:
    """Neither a translation of the private map, nor a changed privilege, address space or flag."""
    before = lab.pcpu.save()
    for mfn in (0, DATA >> 12, CODE >> 12):
        lab.pcpu.forget_code(mfn)
    assert lab.pcpu.save() == before
    faults: list[int] = []

    def page_fault() -> None:
        faults.append(lab.address_of_fault())
        lab.state[RIP] += 3

    lab.pcpu.on_exception[svm.PF] = page_fault
    lab.state[EFLAGS] = cs.AC | 2
    lab.put("488b03 488b01 0f05")
    lab.state[RBX], lab.state[RCX] = 0, BASE
    lab.pcpu.forget_code(0)
    lab.run()
    assert faults == [0, BASE]


def test_each_engine_forgets_for_itself() -> None:
    ram = Ram(512)
    labs = [Lab("wall", ram), Lab("virtual", ram)]
    for each in labs:
        each.run(each.put("b801000000 0f05"))
    ram.bytes[CODE + 1] = 2
    for each in labs:
        each.pcpu.forget_code(CODE >> 12)
        each.run()
        assert each.state[RAX] == 2
        each.close()


def test_guests_see_their_own_stores_to_code(lab: Lab) -> None:
    # mov byte [rbx+1],9 where rbx is the next page's code; call it; syscall
    lab.put("b801000000 c3", CODE + 4096)
    lab.state[RBX] = CODE + 4096
    lab.run(lab.put("ffd3 c6430109 ffd3 0f05"))
    assert lab.state[RAX] == 9


# ---- engines that are not as we know them ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["CR2", "CR3", "FS", "GDT", "DR0", "EFER", "CC_SRC", "ERROR_CODE", "VM_VMCB", "INTERCEPT_EXCEPTIONS"]
)
def test_a_misplaced_register_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = getattr(cs, name) + (1 if name != "FS" else 3)
    monkeypatch.setattr(cs, name, moved)
    if name == "FS":
        monkeypatch.setattr(cs, "FS_BASE", moved + 1)
    with pytest.raises(EngineUnsupported, match="cannot carry pvhv"):
        pcpu_module.PCPU(Ram(16))


def test_without_safe_reads_it_works_on_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seam, "corrected", False)
    monkeypatch.setattr(cs, "read_safely", lambda address, size: None)
    lab = Lab("wall")
    assert not lab.pcpu.live and not lab.pcpu.engine_stops
    lab.run(lab.put("48ffc0 0f05"))
    assert lab.state[RAX] == 1
    lab.close()


def test_a_switch_that_does_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seam, "corrected", False)
    real = cs.find_no_exit_request
    # the bool before it: first_tb, which the engine sets by itself at each start
    monkeypatch.setattr(cs, "find_no_exit_request", lambda engine: (real(engine) or 0) - 1)
    lab = Lab("wall")
    assert lab.pcpu.live and not lab.pcpu.engine_stops
    lab.run(lab.put("48ffc0 0f05"))
    assert lab.state[RAX] == 1
    lab.close()


def test_here_everything_is_found() -> None:
    """On the platform that is tested, no fallback is in use."""
    wall, virtual = Lab("wall"), Lab("virtual")
    assert wall.pcpu.live and wall.pcpu.engine_stops
    assert virtual.pcpu.live
    wall.close()
    virtual.close()
