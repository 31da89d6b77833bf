# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python side of pacer.c: finding the built library, and its block of shared memory.

The pacer is the only native code of the host.  Wheels carry it built for each platform under
pvhv/_built/pacer/<os>-<arch>/; a source tree gets it from the builder.  pacer.c explains what it does; this file
mirrors its `struct pacer` word by word.

Invariant: `Pacer.words` and the C structure are the same memory for the life of a Pacer.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from ctypes import c_uint32, c_uint64, c_void_p
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from pvhv.machine import engine as uc
from pvhv.machine import seam
from pvhv.machine.ram import Ram

# Indices of Pacer.words, in the order of struct pacer.
EXECUTED, LIMIT, STOP, GOAL, LAST, NEW_PC, NEW_SIZE, NEW_COUNT = range(8)
CONTEXT, STATE, RAM, RAM_BYTES, ERROR_CODE_OFFSET, EMU_STOP, CTL, CONTEXT_SAVE, CONTEXT_RESTORE = range(8, 17)
ENGINE, REG_READ, REGISTERS = range(17, 20)
ON_EXIT, ON_SYSCALL, ON_SYSENTER, ON_INVALID, ON_CPUID, ON_IN, ON_OUT, WINDOW, EXECUTED_USER = range(20, 29)
SYSCALL_RCX, SYSCALL_R11, BROKEN, STEP, EASED, FLAG, FLUSH, KEEPS_CPL, ENTERED_MODE, BLOCKS = range(29, 39)
CORRECTED, SYSCALL_RIP, IN_PYTHON, GUARDED, ESCAPED = range(39, 44)
ENTERED_CR0, ENTERED_CR3, ENTERED_CR4, ENTERED_EFER, ENTERED_GDT, ENTERED_GDT_LIMIT = range(44, 50)
ENTERED_LDT, ENTERED_LDT_LIMIT, ENTERED_IDT, ENTERED_IDT_LIMIT, ENTERED_TR, USER_ROOT, ON_MAY_IO = range(50, 57)
LEAVES_CS, LEAVES_SS = range(57, 59)
_TABLE_AT: Final = 512
_TABLE_BYTES: Final = 24 << 15

NO_LIMIT: Final = (1 << 64) - 1
IS_BROKEN: Final = (1 << 64) - 1
STEP_WANTED, STEP_BEGUN, STEP_LEFT = 1, 2, 3

# Changes with struct pacer and the functions' arguments, there and here.
_LAYOUT: Final = 16

_HOW_TO_BUILD: Final = "From a source tree run: python3 tools/dev.py build"
_BUILT: Final = Path(__file__).parents[1] / "_built" / "pacer"


class PacerMissing(RuntimeError):
    """The pacer is not built for this platform."""


def library_name(target_name: str) -> str:
    """The file name of the library on a platform."""
    return "pacer." + {"windows": "dll", "macos": "dylib"}.get(target_name.split("-")[0], "so")


def find() -> Path:
    """The path of the built pacer for this platform. Raises PacerMissing."""
    name = uc.target()
    path = _BUILT / name / library_name(name)
    if not path.exists():
        raise PacerMissing(f"the pacer is not built for {name} (looked for {path}). {_HOW_TO_BUILD}")
    return path


_library: Any = None


def library() -> Any:
    """The loaded library. Raises PacerMissing."""
    global _library
    if _library is None:
        path = find()
        loaded = ctypes.PyDLL(str(path))
        if loaded.pacer_layout() != _LAYOUT:
            raise PacerMissing(f"{path} is of another version of pvhv. {_HOW_TO_BUILD}")
        loaded.pacer_tsc.restype = c_uint64
        loaded.pacer_flush_tlb.restype = loaded.pacer_begin.restype = None
        loaded.pacer_end.restype = c_uint64
        loaded.pacer_length.restype = c_uint32
        _library = loaded
    return _library


def address(function: Any) -> int:
    """The address of a foreign function."""
    value = ctypes.cast(function, c_void_p).value
    assert value is not None
    return value


class Callbacks(NamedTuple):
    """What the pacer calls at an exit: ctypes callbacks, in the order of struct pacer (but for the last)."""

    exit: Any
    syscall: Any
    sysenter: Any
    invalid: Any
    cpuid: Any
    io_in: Any
    io_out: Any
    may_io: Any


class Pacer:
    """One pCPU's pacer memory, the hooks that use it, and its calls."""

    flush_tlb: Callable[[], object]
    begin: Callable[[], object]
    end: Callable[[], int]

    def __init__(
        self, engine: uc.Engine, ram: Ram, state: int, error_code_offset: int, context: int | None
    ) -> None:
        """`state` is the address of the CPU state, in the engine or, if `context` is given, in that context."""
        self._engine = engine
        memory = mmap.mmap(-1, _TABLE_AT + _TABLE_BYTES)  # committed as blocks are met
        self.pointer: Final = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        words = self.words = memoryview(memory)[:_TABLE_AT].cast("Q")
        words[LIMIT] = words[GOAL] = NO_LIMIT
        words[STATE], words[RAM], words[RAM_BYTES] = state, ram.address, ram.size
        words[ERROR_CODE_OFFSET], words[CONTEXT] = error_code_offset, context or 0
        words[EMU_STOP], words[CTL] = address(uc.uc_emu_stop), address(uc.uc_ctl)
        words[CONTEXT_SAVE], words[CONTEXT_RESTORE] = address(uc.uc_context_save), address(uc.uc_context_restore)
        words[ENGINE], words[CORRECTED] = engine.handle, uc.corrected
        words[REG_READ] = address(uc.uc_context_reg_read if context else uc.uc_reg_read)
        words[REGISTERS] = context or engine.handle
        for name in ("flush_tlb", "begin", "end"):
            setattr(self, name, partial(library()[f"pacer_{name}"], c_void_p(self.pointer)))
        self._at_blocks = self._block_function = 0  # the hook at blocks, and what it calls: one of
        self._easing = self._stop = 0  # these on the wall clock

    def address_of(self, word: int) -> int:
        """The address of one of `words`."""
        return self.pointer + 8 * word

    def have_io_asked_for(self) -> None:
        """Let INS and OUTS call pacer_may_io before they access memory. (The corrected engine.)"""
        seam.ask_before_io(self._engine.handle, address(library().pacer_may_io), self.pointer)

    def ease_if_possible(self) -> None:
        """After some blocks were run: if none of them could be eased (pacer_ease.h), remove the hook."""
        if self._easing and not self.words[EASED]:
            self._easing = 0
            self.stop_blocks(False)

    def break_at(self, va: int, cpl: int | None) -> int:
        """Add a breakpoint for code at CPL 1, at 3, or (None) at any: the run ends before the instruction at `va`, with
        words[BROKEN] set. Returns the hook."""
        return self._engine.add_hook(uc.HOOK_CODE, self._break[cpl], self.pointer, begin=va, end=va)

    def stop_blocks(self, wanted: bool) -> None:
        """Let the pacer stop the guest at the beginning of a block, as `hook` does with `stop`; or end that."""
        self._hook_blocks(self._stop if wanted else self._easing)

    def _hook_blocks(self, function: int) -> None:
        if self._at_blocks:
            self._engine.remove_hook(self._at_blocks)
        self._at_blocks = self._engine.add_hook(uc.HOOK_BLOCK, function, self.pointer) if function else 0
        self._block_function = function
        self.words[BLOCKS] = 0

    def forget_blocks(self) -> None:
        """Reset the stock engine's list of blocks translated under our hook (see translations.py)."""
        self._hook_blocks(self._block_function)

    def hook(self, callbacks: Callbacks, *, count: bool, stop: bool, by_mode: bool, guard: bool) -> None:
        """Add the pacer's hooks. Exits call `callbacks`. `count`: count instructions at blocks, with `by_mode` also
        those of users apart. `stop`: only check for stops at blocks. `guard`: write-protect translated pages in the
        nested tables. Where the stock engine checks for stops itself, that check is made cheaper (pacer_ease.h).

        (A stop is `words[STOP] = 1`, then `words[LIMIT] = 0`.)
        """
        engine, lib = self._engine, library()
        self._keep = callbacks
        self._stop = address(lib.pacer_stop)
        for n, callback in enumerate(callbacks[:-1]):
            self.words[ON_EXIT + n] = address(callback)
        self.words[ON_MAY_IO] = address(callbacks.may_io)
        if count:
            self._hook_blocks(address(lib.pacer_block_by_mode if by_mode else lib.pacer_block))
            engine.add_hook(uc.HOOK_EDGE_GENERATED, address(lib.pacer_translated), self.pointer)
        elif stop:
            self.stop_blocks(True)
        elif not uc.corrected and not self.words[CONTEXT]:
            self._easing = address(lib.pacer_ease)
            self.stop_blocks(False)
        if guard:
            engine.add_hook(uc.HOOK_EDGE_GENERATED, address(lib.pacer_guard_code), self.pointer)
        self._break: dict[int | None, int] = {
            1: address(lib.pacer_break), 3: address(lib.pacer_break_user), None: address(lib.pacer_break_all)
        }  # fmt: skip
        # syscall first: a pending stop skips instruction hooks behind the first.
        for function, instruction in (
            (lib.pacer_syscall, uc.INSN_SYSCALL),
            (lib.pacer_sysenter, uc.INSN_SYSENTER),
            (lib.pacer_cpuid, uc.INSN_CPUID),
            (lib.pacer_in, uc.INSN_IN),
            (lib.pacer_out, uc.INSN_OUT),
        ):
            engine.add_hook(uc.HOOK_INSN, address(function), self.pointer, instruction)
        engine.add_hook(uc.HOOK_INTR, address(lib.pacer_exit), self.pointer)
        engine.add_hook(uc.HOOK_INSN_INVALID, address(lib.pacer_invalid), self.pointer)
