# SPDX-License-Identifier: GPL-2.0-or-later
"""From the engine's callbacks to the hypervisor's handlers: the exit table, and the hooks that read it.

A hook is a closure over its handler, so an exit is one ctypes callback and one Python call; a
handler can be replaced at any time between exits.  What a handler raises is kept as `failure`
and ends the run, for an exception cannot travel through the engine's C frames.

Exits are found by the number the engine gives: n for `int n`, 0x100 + code for a #VMEXIT.

Invariant: when a handler is called, state[RIP] is at the instruction (behind it, for `int n` and
`syscall`), state[EFLAGS] is RFLAGS, and where the handler leaves them is how the guest resumes (cpuid, in and
out go on behind themselves, with the flags they had, whatever it says).

It does not know how a run is stopped (it is given a function), nor whether the state is live or a copy.
Read beside it: the hooks of pacer_exits.h, which call these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import RIP
from pvhv.machine.x86 import DR7_DEFAULT

Handler = Callable[[], object]
IntHandler = Callable[[int], object]
# (port, size, is_write, value) -> the value read, anything but None for a write; None refuses.
IOHandler = Callable[[int, int, bool, int], "int | None"]
MayIO = Callable[[int, int], bool]

EXCEPTION_0: Final = svm.EXIT_BASE + svm.VMEXIT_EXCEPTION
_DB, _UD, _GP = EXCEPTION_0 + svm.DB, EXCEPTION_0 + svm.UD, EXCEPTION_0 + svm.GP

_DR7_IO_DR0: Final = 0x400 | 1 | 2 << 16  # DR0 is an I/O breakpoint


class Unhandled(RuntimeError):
    """An exit for which the hypervisor has put no handler."""


class ExceptionHandlers:
    """`on_exception`: 32 handlers by vector, written through to the exit table."""

    def __init__(self, table: list[Handler]) -> None:
        self._table = table

    def __len__(self) -> int:
        return 32

    def __getitem__(self, vector: int) -> Handler:
        return self._table[EXCEPTION_0 + range(32)[vector]]

    def __setitem__(self, vector: int, handler: Handler) -> None:
        self._table[EXCEPTION_0 + range(32)[vector]] = handler


class Exits:
    """The handlers of one pCPU and the hooks that call them.

    The `*_hook` are for the engine; `handlers` and the `set_*` for pcpu.py.
    """

    failure: BaseException | None

    def __init__(
        self,
        state: memoryview,
        aux: memoryview,
        end_run: Callable[[], object],
        refuse_io: Callable[[], object] | None = None,
    ) -> None:
        def missing(what: str) -> Handler:
            def raise_unhandled() -> None:
                raise Unhandled(f"no handler for {what} at RIP {state[RIP]:#x}")

            return raise_unhandled

        self.failure = None
        self.on_may_io: MayIO = lambda port, size: on_io is not refuse_all
        self.on_fault: IntHandler = lambda vector: missing(f"exception {vector}, which nobody intercepted,")()
        numbers = range(svm.EXIT_BASE + svm.VMEXIT_WATCH + 1)
        self.table: Final[list[Handler]] = [missing(f"#VMEXIT {n - svm.EXIT_BASE:#x}") for n in numbers]
        self.on_exception: Final = ExceptionHandlers(self.table)
        table = self.table

        syscall: Handler = missing("syscall")
        on_int: IntHandler = lambda vector: missing(f"int {vector:#x}")()  # noqa: E731
        on_cpuid: Handler = missing("cpuid")
        refuse_all: IOHandler = lambda port, size, write, value: None  # noqa: E731
        on_io = refuse_all

        def fail(failure: BaseException) -> None:
            if self.failure is None:
                self.failure = failure
            end_run()

        # -- syscall --------------------------------------------------------------------------------
        def syscall_hook() -> None:
            try:
                syscall()
            except BaseException as failure:
                fail(failure)

        # -- exceptions, int n, and the intercepted instructions -----------------------------------------
        def exit_hook(number: int) -> None:
            try:
                table[number]()
            except BaseException as failure:
                fail(failure)

        def software_interrupt(vector: int) -> Handler:
            def handler() -> None:
                if aux[cs.EXCEPTION_IS_INT] or vector >= 32:
                    aux[cs.EXCEPTION_IS_INT] = 0  # else the engine moves RIP at the next exit
                    on_int(vector)
                else:
                    aux[cs.OLD_EXCEPTION] = 0xFFFF_FFFF  # else the next one is a double fault
                    self.on_fault(vector)

            return handler

        def int_6_hook() -> None:
            # The engine takes `int 6` for an undefined opcode that nobody intercepted.
            state[RIP] = state[cs.EXCEPTION_NEXT_RIP]
            exit_hook(svm.UD)

        def cpuid_hook() -> None:
            try:
                on_cpuid()
            except BaseException as failure:
                fail(failure)

        table[:256] = [software_interrupt(vector) for vector in range(256)]
        for vector in range(32):
            table[EXCEPTION_0 + vector] = missing(f"exception {vector}")

        # -- sysenter: the engine would do nothing; 64-bit code on AMD gets #UD ------------------------------
        def sysenter_hook() -> None:
            try:
                aux[cs.ERROR_CODE] = 0
                table[_UD]()
            except BaseException as failure:
                fail(failure)

        # -- in and out: the engine checks no privilege, so the handler does ---------------------------------
        def may_io_hook(port: int, size: int) -> int:
            try:
                return int(self.on_may_io(port, size))
            except BaseException as failure:
                fail(failure)
            return 1

        def refuse(port: int) -> None:
            if refuse_io is not None:
                refuse_io()
                return
            # The stock engine: the hook cannot leave the instruction.  But an I/O breakpoint on this very port makes
            # the engine raise #DB right behind it, before anything else of the block runs; there
            # the registers are put back, and the exit becomes #GP(0) at the instruction.
            registers = state[0 : RIP + 1].tolist()
            debug = table[_DB]

            def refused() -> None:
                table[_DB] = debug
                state[cs.DR7] = DR7_DEFAULT
                for n, value in enumerate(registers):
                    state[n] = value
                aux[cs.ERROR_CODE] = 0
                table[_GP]()

            table[_DB] = refused
            state[cs.DR0], state[cs.DR7] = port, _DR7_IO_DR0

        def in_hook(port: int, size: int) -> int:
            try:
                value = on_io(port, size, False, 0)
                if value is not None:
                    return value & 0xFFFF_FFFF
                refuse(port)
            except BaseException as failure:
                fail(failure)
            return 0

        def out_hook(port: int, size: int, value: int) -> None:
            try:
                if on_io(port, size, True, value) is None:
                    refuse(port)
            except BaseException as failure:
                fail(failure)

        # -- replacing handlers ------------------------------------------------------------------------------
        def handlers() -> tuple[Handler, IntHandler, Handler, IOHandler]:
            return syscall, on_int, on_cpuid, on_io

        def set_syscall(handler: Handler) -> None:
            nonlocal syscall
            syscall = handler

        def set_int(handler: IntHandler) -> None:
            nonlocal on_int
            on_int = handler

        def set_cpuid(handler: Handler) -> None:
            nonlocal on_cpuid
            on_cpuid = handler

        def set_io(handler: IOHandler) -> None:
            nonlocal on_io
            on_io = handler

        self.fail = fail
        self.syscall_hook, self.exit_hook, self.sysenter_hook = syscall_hook, exit_hook, sysenter_hook
        self.in_hook, self.out_hook, self.may_io_hook = in_hook, out_hook, may_io_hook
        self.cpuid_hook, self.int_6_hook = cpuid_hook, int_6_hook
        self.handlers = handlers
        self.set_syscall, self.set_int = set_syscall, set_int
        self.set_cpuid, self.set_io = set_cpuid, set_io
