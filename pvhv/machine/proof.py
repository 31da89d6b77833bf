# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the engine, made before the first guest runs on a pCPU.

A few instructions raise known faults, make known exits and leave known flags. If an exit does not come as exits.py
expects it (code, RIP, error code, address, flags, state after it), no guest can run correctly, and `EngineUnsupported`
names that exit.

The same code finds out whether a stop from another thread is safe: asked for in the middle of a block, it must take
effect at the block's end, not after a memory access.

Invariant: the pCPU is left reset, with no translation or TLB entry of the proof's.
"""

from __future__ import annotations

from typing import Final

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import pacer as pace
from pvhv.machine import svm
from pvhv.machine.cpustate import AUX_HFLAGS, EFLAGS, R11, RAX, RBX, RCX, RDX, RIP, EngineUnsupported
from pvhv.machine.exits import IOHandler, Unhandled
from pvhv.machine.running import Running

_NOWHERE: Final = 0x7F12_3456_7000
_READ_TSC: Final = bytes.fromhex("0f31 0f05")

# (instruction, what must be seen of it): kind, error code, flags (or None), what it is.
_STEPS: Final = [
    ("4829d8", None, "sub rax, rbx"),
    ("488901", ("exception", svm.PF, svm.PFEC_WRITE), "a write to an unmapped address"),
    ("48ffc0", None, "inc rax"),
    ("0f0b", ("exception", svm.UD, 0), "ud2"),
    ("cd80", ("int", 0x80, 0), "int 0x80"),
    ("cc", ("int", 3, 0), "int3"),
    ("0fa2", ("cpuid", 0, 0), "cpuid"),
    ("f4", ("exception", svm.GP, 0), "hlt at CPL 1"),
    ("b828000000", None, "mov eax, 0x28"),
    ("8ed8", ("exception", svm.GP, 0x28), "a selector beyond the GDT"),
    ("b85a000000", None, "mov eax, 0x5a"),
    ("ec", ("exception", svm.GP, 0), "a refused in"),
    ("ee", ("exception", svm.GP, 0), "a refused out"),
    ("66ed", ("in", 2, 0), "in ax, dx"),
    ("0f05", ("syscall", 0, 0), "syscall"),
]


def prove(pcpu: Running) -> bool:
    """Raise known faults; True if the engine's own stop is safe between threads."""
    private = pcpu._private
    handlers = pcpu.on_syscall, pcpu.on_int, pcpu.on_cpuid, pcpu.on_io
    table = list(pcpu._exit_table)
    try:
        _prove_exits(pcpu)
        safe = _prove_stops(pcpu)
        pcpu._pacer.ease_if_possible()
        return safe
    except (Unhandled, uc.EngineError) as failure:
        raise EngineUnsupported(f"code with known exits met another: {failure}") from failure
    finally:
        pcpu.on_syscall, pcpu.on_int, pcpu.on_cpuid, pcpu.on_io = handlers
        pcpu._exit_table[:] = table
        private.code[:] = bytes(len(private.code))
        uc.uc_ctl(pcpu._handle, uc.CTL_FLUSH_CODE)
        pcpu._reset()
        pcpu.flush_tlb()


def _prove_exits(pcpu: Running) -> None:
    state, aux, private = pcpu.state, pcpu.aux, pcpu._private
    base = private.code_address
    seen: list[tuple[str, int, int]] = []
    places: list[int] = []
    lengths = [len(bytes.fromhex(code)) for code, _, _ in _STEPS]
    starts = [base + sum(lengths[:n]) for n in range(len(lengths))]
    length_at = dict(zip(starts, lengths, strict=True))
    flags: list[int] = []

    def note(kind: str, detail: int, error: int) -> None:
        seen.append((kind, detail, error))
        places.append(state[RIP])
        flags.append(state[EFLAGS])

    def exception(vector: int) -> None:
        note("exception", vector, aux[cs.ERROR_CODE])
        if vector == svm.PF and pcpu.vmcb[svm.EXITINFO2 // 8] != _NOWHERE:
            raise EngineUnsupported("EXITINFO2 of a #PF is not the faulting address")
        if aux[cs.OLD_EXCEPTION] != 0xFFFF_FFFF:
            raise EngineUnsupported("old_exception is not -1 after an intercepted exception")
        if vector == svm.UD:
            state[RAX], state[RDX] = 0x1234, 0x66
        state[RIP] += length_at.get(state[RIP], 1)

    def interrupt(vector: int) -> None:
        note("int", vector, 0)
        places[-1] -= length_at[starts[4]] if vector == 0x80 else 1

    def cpuid() -> None:
        note("cpuid", 0, 0)

    def port_io(port: int, size: int, is_write: bool, value: int) -> int | None:
        if port != 0x66 or (is_write and (size, value) != (1, 0x5A)):
            raise EngineUnsupported("the port or value of an in or out is not what the guest gave")
        if size == 2:
            note("in", 2, 0)
            return 0xABCD
        return None

    def syscall() -> None:
        note("syscall", 0, 0)
        places[-1] -= 2
        if state[RCX] != state[RIP] or state[R11] != state[EFLAGS]:
            raise EngineUnsupported("RCX and R11 are not RIP and RFLAGS after a syscall")
        pcpu.stop()

    for vector in range(32):
        pcpu.on_exception[vector] = lambda vector=vector: exception(vector)  # type: ignore[misc]
    pcpu.on_int, pcpu.on_cpuid, pcpu.on_io, pcpu.on_syscall = interrupt, cpuid, port_io, syscall
    code = bytes.fromhex("".join(code for code, _, _ in _STEPS))
    private.code[: len(code)] = code
    pcpu._reset()
    state[RAX], state[RBX], state[RCX], state[RDX] = 1, 2, _NOWHERE, 0x66
    state[RIP] = base
    pcpu.flush_tlb()
    pcpu.run()

    expected = [(what, start, name) for start, (_, what, name) in zip(starts, _STEPS, strict=True) if what]
    for n, (what, start, name) in enumerate(expected):
        if n >= len(seen) or seen[n] != what or places[n] != start:
            got = f"{seen[n]} at {places[n] - base:+#x}" if n < len(seen) else "nothing"
            raise EngineUnsupported(f"{name} must come as {what} at {start - base:+#x}, and came as {got}")
    after_sub = cs.CF | cs.PF | cs.AF | cs.SF  # 1 - 2
    if flags[0] & cs.ARITHMETIC_FLAGS != after_sub:
        raise EngineUnsupported(f"RFLAGS after 1 - 2 are {flags[0]:#x} at a fault")
    after_inc = cs.CF | cs.ZF | cs.AF | cs.PF  # inc leaves CF
    if flags[1] & cs.ARITHMETIC_FLAGS != after_inc:
        raise EngineUnsupported(f"RFLAGS after inc of -1 are {flags[1]:#x} at a fault")
    if state[RAX] != 0xABCD or state[RDX] != 0x66:
        raise EngineUnsupported(f"in returned {state[RAX]:#x} to the guest")
    if aux[AUX_HFLAGS] & cs.HF_CPL != 1:
        raise EngineUnsupported("CPL did not stay 1")


def _prove_stops(pcpu: Running) -> bool:
    """Whether a stop that is asked for inside a block takes effect at the block's end."""
    state, private = pcpu.state, pcpu._private
    # in al, dx; inc qword [rbx]; jmp +0; (next block) syscall
    code = bytes.fromhex("ec 48ff03 eb00 0f05")
    at = 0x800
    private.code[at : at + len(code)] = code

    def port_io(port: int, size: int, is_write: bool, value: int) -> int:
        # What another thread would do at this moment.
        uc.uc_emu_stop(pcpu._handle)
        pcpu._words[pace.STOP] = 1
        return 0

    pcpu.on_syscall = pcpu.stop
    # The first run translates it, and eases its blocks (pacer_ease.h); the second is stopped.
    handlers: list[IOHandler] = [lambda port, size, is_write, value: 0, port_io]
    for pcpu.on_io in handlers:
        pcpu._reset()
        private.data[0] = 0
        state[RBX], state[RIP] = private.data_address, private.code_address + at
        pcpu.flush_tlb()
        pcpu.run()
    return state[RIP] == private.code_address + at + 6 and private.data[0] == 1
