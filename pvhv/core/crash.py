# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of a domain that crashed: the reason, its registers, its stack, its last hypercalls.

Addresses are numbers here; the toolstack has the kernel's symbols and adds names (pvhv.observe.symbols). For a fully
virtualized guest the report shows the registers and memory as the guest sees them, which `domain.hvm` provides.

Read beside it: __domain_crash in xen/common/domain.c, show_execution_state in xen/arch/x86/traps.c.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.core.errors import GuestFault
from pvhv.machine.cpustate import CR2, CS, EFLAGS, FS_BASE, GS_BASE, RBP, RIP, RSP, SS

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU

NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
ORDER = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
Word = Callable[[int], "int | None"]

STACK_WORDS = 32
FRAMES = 16


def describe(domain: Domain, vcpu: VCPU | None, reason: str) -> str:
    """The crash report, as text."""
    lines = [f"Domain {domain.domid} crashed: {reason}"]
    if vcpu is not None:
        lines += state_of(vcpu)
        lines += hypercalls(vcpu) if domain.hvm is None else []
    return "\n".join(lines)


def state_of(vcpu: VCPU) -> list[str]:
    """The lines about registers and stack."""
    full = vcpu.domain.hvm
    word: Word = partial(_word, vcpu) if full is None else full.word
    registers = _registers(vcpu) if full is None else full.registers()
    return registers + _stack(vcpu, word) + _frames(vcpu, word)


def _registers(vcpu: VCPU) -> list[str]:
    state = vcpu.state
    mode = "kernel" if vcpu.kernel_mode else "user"
    lines = [
        f"vCPU {vcpu.vcpu_id} in {mode} mode",
        f"rip {state[RIP]:016x}  cs {state[CS] & 0xFFFF:04x}  ss {state[SS] & 0xFFFF:04x}  rflags {state[EFLAGS]:08x}",
    ]
    lines += general_registers(state)
    lines.append(
        f"cr2 {state[CR2]:016x}  cr3 {vcpu.guest_table << 12:016x}  "
        f"fs  {state[FS_BASE]:016x}  gs  {state[GS_BASE]:016x}"
    )
    return lines


def general_registers(state: memoryview) -> list[str]:
    """RAX to R15, four a line."""
    values = {name: state[index] for index, name in enumerate(NAMES)}
    return ["  ".join(f"{name:3} {values[name]:016x}" for name in ORDER[at : at + 4]) for at in range(0, 16, 4)]


def _word(vcpu: VCPU, address: int) -> int | None:
    """A 64-bit word of the vCPU's memory by the tables of its current mode; None if it is not mapped."""
    root = vcpu.guest_table if vcpu.kernel_mode or not vcpu.guest_table_user else vcpu.guest_table_user
    if not root:
        return None
    try:
        return int.from_bytes(vcpu.domain.timeline.cpu.memory.read_through(root, address, 8), "little")
    except GuestFault:
        return None


def _stack(vcpu: VCPU, word_at: Word) -> list[str]:
    rsp = vcpu.state[RSP] & ~7
    words: list[int] = []
    while len(words) < STACK_WORDS and (word := word_at(rsp + 8 * len(words))) is not None:
        words.append(word)
    lines = ["Stack:"]
    for start in range(0, len(words), 4):
        lines.append("  " + " ".join(f"{word:016x}" for word in words[start : start + 4]))
    if not words:
        lines.append("  (rsp is not mapped)")
    return lines


def _frames(vcpu: VCPU, word_at: Word) -> list[str]:
    """The return addresses, found by the chain of frame pointers, if the kernel keeps one."""
    lines: list[str] = []
    frame = vcpu.state[RBP]
    while len(lines) < FRAMES and not frame & 7:
        following, address = word_at(frame), word_at(frame + 8)
        if following is None or not address:
            break
        lines.append(f"  called at {address:016x}")
        if following <= frame:  # the stack's first frame, or no chain at all
            break
        frame = following
    return ["Frames, by rbp:", *lines] if lines else []


def code_at(vcpu: VCPU) -> str:
    """The bytes at RIP of a paravirtual guest's vCPU, as text."""
    rip = vcpu.state[RIP]
    words = [] if vcpu.domain.hvm is not None else [_word(vcpu, rip + n) for n in (0, 8)]
    code = b"".join(word.to_bytes(8, "little") for word in words if word is not None)
    return f"code {code[:15].hex()}" if code else "its code cannot be read"


def hypercalls(vcpu: VCPU) -> list[str]:
    """The last hypercalls of a vCPU, as lines."""
    lines = ["Last hypercalls, the latest last:"]
    for number, after, first, second in vcpu.recent:
        spec = HYPERCALLS.get(number)
        name = spec.name if spec is not None else f"{number:#x}"
        shown = f"{first:#x}"
        if spec is not None and spec.commands is not None and spec.index("cmd") == 0:
            command = spec.commands.by_number.get(first & spec.command_mask)
            shown = command.full_name if command is not None else shown
        lines.append(f"  {name:20} {shown}, {second:#x}  at {after - 2:016x}")
    if not vcpu.recent:
        lines.append("  (none)")
    return lines
