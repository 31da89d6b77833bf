# SPDX-License-Identifier: GPL-2.0-or-later
"""The few instructions a first-generation monitor has to decode: moves to and from control registers, CLTS, LMSW, SMSW,
INVLPG, and stores to page tables.

The processor of that time says that such an instruction was met, not which registers or address it names.

Invariant: an instruction that faults has changed nothing.
Read beside it: AMD's manual volume 3; pvhv/core/stores.py, which knows the stores.

Not modelled: stores in 32-bit code, with a segment base, or that core/stores.py does not know; SMSW to memory.
"""

from __future__ import annotations

from pvhv.core.stores import (
    OPERATIONS,
    REX_B,
    REX_R,
    Store,
    decode,
    effective_address,
    ones,
    set_part,
    subtract,
)
from pvhv.hvm.guestcpu import GuestCpu
from pvhv.hvm.memory import GuestException
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import DF, HFLAGS, RAX, RBX, RCX, RDI, RDX, RIP, RSI, ZF

LONGEST = 15
CLTS, GROUP_7, MOV_FROM_CR, MOV_TO_CR = 0x06, 0x01, 0x20, 0x22
SMSW, LMSW, INVLPG = 4, 6, 7
LMSW_BITS = 0xF
CR0_TS, CR0_PE = 8, 1


class Unknown(Exception):
    """Not one of them."""


def fetch(cpu: GuestCpu) -> bytes:
    """The instruction's bytes, and what follows as far as it can be read."""
    rip, user = cpu.rip, cpu.cpl == 3
    in_page = min(LONGEST, 4096 - rip % 4096)
    code = cpu.memory.fetch(rip, in_page, user=user)
    if in_page < LONGEST:
        try:
            code += cpu.memory.fetch(rip + in_page, LONGEST - in_page, user=user)
        except GuestException:
            pass  # it ends before, as the processor could fetch it
    return code


def carry_out(cpu: GuestCpu) -> None:
    """Execute the instruction at RIP. Raises GuestException, or Unknown."""
    code = fetch(cpu)
    if not _control(cpu, code):
        _store(cpu, code)


def _control(cpu: GuestCpu, bytes_there: bytes) -> bool:
    code = bytes_there + bytes(LONGEST)
    wide = bool(cpu.state[HFLAGS] & cs.HF_CS64)
    at = rex = 0
    locked = False
    while code[at] in (0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65) or (
        wide and code[at] & 0xF0 == 0x40
    ):
        rex = code[at] if wide and code[at] & 0xF0 == 0x40 else 0
        locked = locked or code[at] == 0xF0
        at += 1
    if code[at] != 0x0F or at + 2 > len(bytes_there):
        return False
    opcode, modrm = code[at + 1], code[at + 2]
    end = at + 3
    number = modrm >> 3 & 7
    register = modrm & 7 | (rex & REX_B) << 3
    if opcode == CLTS:
        end = at + 2
        cpu.cr0 = cpu.cr0 & ~CR0_TS
    elif opcode in (MOV_FROM_CR, MOV_TO_CR):
        number |= 8 if locked or rex & REX_R else 0
        if opcode == MOV_FROM_CR:
            cpu.state[register] = getattr(cpu, f"cr{number}")
        else:
            setattr(cpu, f"cr{number}", cpu.state[register] & ones(8 if wide else 4))
    elif opcode == GROUP_7 and number == INVLPG and modrm < 0xC0:
        _address, end, _relative = effective_address(code, at + 2, rex, cpu.state)  # the shadow is never out of date
    elif opcode == GROUP_7 and number == SMSW and modrm >= 0xC0:
        set_part(cpu.state, (register, 0), 8 if rex & 8 else 2 if 0x66 in code[:at] else 4, cpu.cr0 & 0xFFFF_FFFF)
    elif opcode == GROUP_7 and number == LMSW and modrm >= 0xC0:
        value = cpu.state[register] & LMSW_BITS
        cpu.cr0 = cpu.cr0 & ~LMSW_BITS | value | cpu.cr0 & CR0_PE
    else:
        return False
    cpu.rip += end
    return True


def _store(cpu: GuestCpu, code: bytes) -> None:
    state = cpu.state
    store = decode(code, cpu.rip, state) if state[HFLAGS] & cs.HF_CS64 else None
    if store is None:
        raise Unknown
    flags, size, operation = cpu.rflags, store.size, store.operation
    following = store.end
    if operation == "mov":
        _write(cpu, store.address, size, store.source)
    elif operation in ("stos", "movs"):
        following = _string(cpu, store, flags)
    elif operation == "cmpxchg8b":
        flags = _compare_pair(cpu, store, flags)
    else:
        old = _read(cpu, store.address, size)
        if operation == "cmpxchg":
            expected = state[RAX] & ones(size)
            _difference, flags = subtract(expected, old, 8 * size, flags)
            _write(cpu, store.address, size, store.source if old == expected else old)
            if old != expected:
                set_part(state, (RAX, 0), size, old)
        else:
            new, flags = OPERATIONS[operation](old, store.source, 8 * size, flags)
            _write(cpu, store.address, size, new)
            if operation in ("xchg", "xadd"):
                set_part(state, store.register, size, old)
    cpu.rflags = flags
    state[RIP] = following


def _compare_pair(cpu: GuestCpu, store: Store, flags: int) -> int:
    state, half = cpu.state, 4 * store.size
    mask = ones(store.size // 2)
    old = _read(cpu, store.address, store.size)
    if old == (state[RAX] & mask | (state[RDX] & mask) << half):
        _write(cpu, store.address, store.size, state[RBX] & mask | (state[RCX] & mask) << half)
        return flags | ZF
    _write(cpu, store.address, store.size, old)
    state[RAX], state[RDX] = old & mask, old >> half
    return flags & ~ZF


def _string(cpu: GuestCpu, store: Store, flags: int) -> int:
    """One round of stos or movs; where to go on."""
    state, size, mask = cpu.state, store.size, store.address_mask
    step = -size if flags & DF else size
    value = _read(cpu, state[RSI] & mask, size) if store.operation == "movs" else store.source
    _write(cpu, store.address, size, value)
    if store.operation == "movs":
        state[RSI] = state[RSI] + step & mask
    state[RDI] = state[RDI] + step & mask
    if store.repeated:
        state[RCX] = state[RCX] - 1 & mask
        if state[RCX]:
            return int(state[RIP])
    return store.end


def _read(cpu: GuestCpu, address: int, size: int) -> int:
    return int.from_bytes(cpu.memory.read(address, size, user=cpu.cpl == 3), "little")


def _write(cpu: GuestCpu, address: int, size: int, value: int) -> None:
    cpu.memory.write(address, (value & ones(size)).to_bytes(size, "little"), user=cpu.cpl == 3)
