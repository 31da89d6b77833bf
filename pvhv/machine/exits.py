# SPDX-License-Identifier: GPL-2.0-or-later
"""From the engine's callbacks to the hypervisor's handlers: the exit table, and the hooks that read it.

There are no layers in between: the hook itself calls the function that the hypervisor put into `on_syscall`,
`on_exception[vector]` and so on. So an exit is one ctypes callback and one Python call. A handler can be replaced at
any time between exits. An exception that a handler raises is kept and ends the run, because it cannot pass through the
engine's C frames.

The index in the exit table is the engine's number: n for `int n`, 0x100 + code for a #VMEXIT.

Invariant: when a handler is called, state[RIP] is at the instruction (behind it, for `int n` and `syscall`),
state[EFLAGS] is RFLAGS, and the guest continues with the values that the handler leaves there (except after cpuid, in
and out: RIP moves behind the instruction and the flags are kept, whatever the handler does).

Read beside it: the hooks of pacer_exits.h, which call these.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int, c_uint32
from functools import partial
from typing import Final

from pvhv.machine import cpustate as cs
from pvhv.machine import pacer as pace
from pvhv.machine import seam, svm
from pvhv.machine.cpustate import RIP
from pvhv.machine.hardware import Hardware
from pvhv.machine.x86 import DR7_DEFAULT

Handler = Callable[[], object]
IntHandler = Callable[[int], object]
# (port, size, is_write, value) -> the value read, anything but None for a write; None refuses.
IOHandler = Callable[[int, int, bool, int], "int | None"]
MayIO = Callable[[int, int], bool]

# Index of the faulting address in PCPU.vmcb.
FAULT_ADDRESS: Final = svm.EXITINFO2 // 8
EXCEPTION_0: Final = svm.EXIT_BASE + svm.VMEXIT_EXCEPTION
_DB, _UD, _GP = EXCEPTION_0 + svm.DB, EXCEPTION_0 + svm.UD, EXCEPTION_0 + svm.GP

_DR7_IO_DR0: Final = 0x400 | 1 | 2 << 16  # DR0 is an I/O breakpoint


class Unhandled(RuntimeError):
    """An exit without a handler."""


class ExceptionHandlers:
    """The type of `on_exception`: 32 handlers by vector, stored in the exit table."""

    def __init__(self, table: list[Handler]) -> None:
        self._table = table

    def __len__(self) -> int:
        return 32

    def __getitem__(self, vector: int) -> Handler:
        return self._table[EXCEPTION_0 + range(32)[vector]]

    def __setitem__(self, vector: int, handler: Handler) -> None:
        self._table[EXCEPTION_0 + range(32)[vector]] = handler


def refuse_all(port: int, size: int, is_write: bool, value: int) -> None:
    """Refuse every access: the default `on_io`."""


class Exits(Hardware):
    """The handlers of one pCPU, and the hooks that call them."""

    on_int: IntHandler
    """Called with n at `int n` (3 for int3), with RIP behind it."""
    on_exception: ExceptionHandlers
    on_cpuid: Handler
    """Called at a cpuid instruction, with RIP at it; sets RAX, RBX, RCX and RDX, and must not change RIP."""
    on_io: IOHandler
    """Called as (port, size, is_write, value); None refuses: #GP(0) at the instruction.

    For `in` it returns the value read; for `out` anything but None.  RIP is at the instruction,
    and nothing in the state may be changed: a refusal's handler is on_exception[13]."""
    on_may_io: MayIO
    """Called as (port, size) before INS or OUTS accesses memory; False refuses, as `on_io` does.

    Not on the stock engine, where INS has written zeroes when `on_io` refuses."""

    def _clear_exits(self) -> None:
        """Fill the exit table with functions that raise Unhandled."""
        self._failure: BaseException | None = None
        numbers = range(svm.EXIT_BASE + svm.VMEXIT_WATCH + 1)
        self._exit_table = [self._missing(f"#VMEXIT {n - svm.EXIT_BASE:#x}") for n in numbers]
        self._exit_table[:256] = [partial(self._software_interrupt, vector) for vector in range(256)]
        self.on_exception = ExceptionHandlers(self._exit_table)
        for vector in range(32):
            self.on_exception[vector] = self._missing(f"exception {vector}")
        self._unintercepted: IntHandler = lambda n: self._unhandled(f"exception {n}, which nobody intercepted,")
        self.on_int = lambda vector: self._unhandled(f"int {vector:#x}")
        self.on_cpuid = self._missing("cpuid")
        self.on_io = refuse_all
        self.on_may_io = lambda port, size: self.on_io is not refuse_all
        self._build_hot_hooks()
        self.on_syscall = self._missing("syscall")

    def _missing(self, what: str) -> Handler:
        return partial(self._unhandled, what)

    def _unhandled(self, what: str) -> None:
        raise Unhandled(f"no handler for {what} at RIP {self.state[RIP]:#x}")

    @property
    def on_syscall(self) -> Handler:
        """Called at a syscall instruction, with RIP behind it, RCX = RIP and R11 = RFLAGS, as the CPU leaves them.

        The handler sets CPL, segments and the RIP to continue at."""
        return self._syscall

    @on_syscall.setter
    def on_syscall(self, handler: Handler) -> None:
        self._syscall = handler
        self._set_syscall(handler)

    def on_fault(self, handler: IntHandler) -> None:
        """Set the handler of exceptions whose intercept is off; it gets the vector, with RIP at the instruction.

        The error code is in `aux` as for the others; the engine sets CR2."""
        self._unintercepted = handler

    def on_exit(self, code: int, handler: Handler) -> None:
        """Set the handler of any other #VMEXIT code (see svm.py); `state[INTERCEPT]` enables the exit."""
        self._exit_table[svm.EXIT_BASE + code] = handler

    # ---- in a handler ----------------------------------------------------------------------------

    def syscall_leaves(self, code: int, stack: int) -> None:
        """Set CS and SS to these two selectors after every syscall, as the sysret of a real hypervisor would. The
        hidden parts of both segments are kept."""
        self._words[pace.LEAVES_CS], self._words[pace.LEAVES_SS] = code, stack

    def undo_syscall(self) -> None:
        """In `on_syscall`, to raise an exception instead: set RIP, RCX and R11 back to their values before it."""
        state, words = self.state, self._words
        state[RIP] = words[pace.SYSCALL_RIP]
        state[cs.RCX], state[cs.R11] = words[pace.SYSCALL_RCX], words[pace.SYSCALL_R11]

    # ---- the hooks -------------------------------------------------------------------------------

    def _register_hooks(self, by_mode: bool, guard_code: bool) -> None:
        callbacks = pace.Callbacks(
            CFUNCTYPE(None, c_int)(self._exit_hook),
            CFUNCTYPE(None)(self._syscall_hook),
            CFUNCTYPE(None)(self._sysenter_hook),
            CFUNCTYPE(None)(self._int_6_hook),
            CFUNCTYPE(None)(self._cpuid_hook),
            CFUNCTYPE(c_uint32, c_uint32, c_int)(self._in_hook),
            CFUNCTYPE(None, c_uint32, c_int, c_uint32)(self._out_hook),
            CFUNCTYPE(c_uint32, c_uint32, c_int)(self._may_io_hook),
        )
        stop = not self.engine_stops
        self._pacer.hook(callbacks, count=self.virtual, stop=stop, by_mode=by_mode, guard=guard_code)

    def _build_hot_hooks(self) -> None:
        """Make the hooks of most exits. They are closures: a method call would cost a twentieth of an exit."""
        table, fail, syscall = self._exit_table, self._fail, self._missing("syscall")

        def exit_hook(number: int) -> None:
            try:
                table[number]()
            except BaseException as failure:
                fail(failure)

        def syscall_hook() -> None:
            try:
                syscall()
            except BaseException as failure:
                fail(failure)

        def set_syscall(handler: Handler) -> None:
            nonlocal syscall
            syscall = handler

        self._exit_hook, self._syscall_hook, self._set_syscall = exit_hook, syscall_hook, set_syscall

    def _fail(self, failure: BaseException) -> None:
        if self._failure is None:
            self._failure = failure
        self._end_run()

    def _software_interrupt(self, vector: int) -> None:
        aux = self.aux
        if aux[cs.EXCEPTION_IS_INT] or vector >= 32:
            aux[cs.EXCEPTION_IS_INT] = 0  # else the engine moves RIP at the next exit
            self.on_int(vector)
        else:
            aux[cs.OLD_EXCEPTION] = 0xFFFF_FFFF  # else the next one is a double fault
            self._unintercepted(vector)

    def _int_6_hook(self) -> None:
        """The engine's `int 6` stands for an undefined opcode that is not intercepted: treat it as #UD."""
        self.state[RIP] = self.state[cs.EXCEPTION_NEXT_RIP]
        self._exit_hook(svm.UD)

    def _sysenter_hook(self) -> None:
        """SYSENTER is #UD in 64-bit code on AMD; the engine itself would do nothing."""
        self.aux[cs.ERROR_CODE] = 0
        self._exit_hook(_UD)

    def _cpuid_hook(self) -> None:
        try:
            self.on_cpuid()
        except BaseException as failure:
            self._fail(failure)

    # ---- in and out: the engine checks no privilege, so the handler does --------------------------

    def _may_io_hook(self, port: int, size: int) -> int:
        try:
            return int(self.on_may_io(port, size))
        except BaseException as failure:
            self._fail(failure)
        return 1

    def _in_hook(self, port: int, size: int) -> int:
        try:
            value = self.on_io(port, size, False, 0)
            if value is not None:
                return value & 0xFFFF_FFFF
            self._refuse(port)
        except BaseException as failure:
            self._fail(failure)
        return 0

    def _out_hook(self, port: int, size: int, value: int) -> None:
        try:
            if self.on_io(port, size, True, value) is None:
                self._refuse(port)
        except BaseException as failure:
            self._fail(failure)

    def _refuse(self, port: int) -> None:
        """Let the in or out that is being executed raise #GP(0)."""
        if seam.corrected:
            seam.refuse_io(self._handle)
            return
        # The stock engine: the hook cannot leave the instruction.  But an I/O breakpoint on this very port makes
        # the engine raise #DB right behind it, before anything else of the block runs; there
        # the registers are put back, and the exit becomes #GP(0) at the instruction.
        state, table = self.state, self._exit_table
        registers = state[0 : RIP + 1].tolist()
        debug = table[_DB]

        def refused() -> None:
            table[_DB] = debug
            state[cs.DR7] = DR7_DEFAULT
            for n, value in enumerate(registers):
                state[n] = value
            self.aux[cs.ERROR_CODE] = 0
            table[_GP]()

        table[_DB] = refused
        state[cs.DR0], state[cs.DR7] = port, _DR7_IO_DR0
