# SPDX-License-Identifier: GPL-2.0-or-later
"""From a `syscall` instruction to a handler, and back.

Copy-in, copy-out, errno, continuation and the list of recent calls are done here, in one place; a handler holds only
its decision. There are two kinds:

    @handles(EVTCHNOP.send)                 one command of a multiplexed hypercall: `op` was copied in, and is copied
    def send(vcpu, op): ...                 out again if the command's direction says so

    @hypercall(HYPERCALLS[26])              a whole hypercall: gets its arguments as plain u64
    def mmuext_op(vcpu, uops, count, pdone, foreigndom): ...

Both return the result (None is 0), raise HypercallError, or raise Continue to be called again with other arguments
after all vCPUs have had a chance to run; a continued hypercall executes its `syscall` again, as in Xen.

A tail follows every hypercall: events that became pending while the guest's mask is clear are delivered before the
guest's next instruction.

Read beside it: xen/arch/x86/pv/hypercall.c, xen/common/multicall.c, hypercall_create_continuation.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import sizeof
from typing import Any

from pvhv.abi.errno import Errno
from pvhv.abi.spec import Command, Hypercall
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import R8, R9, R10, RAX, RDI, RDX, RIP, RSI
from pvhv.machine.x86 import MASK64

Handler = Callable[..., "int | None"]
Call = Callable[..., int]

HANDLERS: dict[Command | Hypercall, Handler] = {}

NEG_ENOSYS = -int(Errno.ENOSYS)
NEG_EFAULT = -int(Errno.EFAULT)

# Where a PV64 hypercall's arguments are (arch-x86/xen-x86_64.h).
ARGUMENTS = (RDI, RSI, RDX, R10, R8, R9)


class Continue(Exception):
    """Call the hypercall again with these arguments, after other vCPUs have had a chance to run."""

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        self.arguments = arguments


def handles(command: Command) -> Callable[[Handler], Handler]:
    """Register the handler of one command."""

    def register(handler: Handler) -> Handler:
        assert command not in HANDLERS, f"{command.name} has two handlers"
        HANDLERS[command] = handler
        return handler

    return register


def hypercall(spec: Hypercall) -> Callable[[Handler], Handler]:
    """Register the handler of a whole hypercall."""

    def register(handler: Handler) -> Handler:
        assert spec not in HANDLERS, f"{spec.name} has two handlers"
        HANDLERS[spec] = handler
        return handler

    return register


def unimplemented(vcpu: VCPU, *arguments: int) -> int:
    """Answer -ENOSYS: the number has no handler."""
    return NEG_ENOSYS


def command_row(command: Command) -> Call:
    """Make the function for one command: it copies the structure in, calls the handler, and copies out."""
    handler = HANDLERS.get(command)
    if handler is None:
        return refusal(command)
    record = command.arg
    if record is None:

        def bare(vcpu: VCPU, address: int, *extra: int) -> int:
            return handler(vcpu, address, *extra) or 0

        return bare
    size = sizeof(record)
    load = record.from_buffer_copy
    copies_in = command.direction in ("in", "inout")
    copies_out = command.direction in ("out", "inout")

    def call(vcpu: VCPU, address: int, *extra: int) -> int:
        op: Any = load(vcpu.memory.read(address, size)) if copies_in else record()
        result = handler(vcpu, op, *extra) or 0
        if copies_out:
            vcpu.memory.write(address, bytes(op))
        return result

    return call


def multiplexer(spec: Hypercall) -> Call:
    """Make the function for a hypercall with commands: `cmd` chooses one, `arg` points to its structure."""
    rows = {command.number: command_row(command) for command in spec.commands or ()}
    chooses, points = spec.index("cmd"), spec.index("arg")
    assert chooses == 0 and points == len(spec.args) - 1, f"{spec.name} does not take (cmd, ..., arg)"
    mask = MASK64 if spec.args[0].ctype == "unsigned long" else 0xFFFF_FFFF
    if points == 2:  # vcpu_op(cmd, vcpuid, arg)

        def three(vcpu: VCPU, cmd: int, extra: int, address: int) -> int:
            row = rows.get(cmd & mask)
            return NEG_ENOSYS if row is None else row(vcpu, address, extra)

        return three

    def two(vcpu: VCPU, cmd: int, address: int) -> int:
        row = rows.get(cmd & mask)
        return NEG_ENOSYS if row is None else row(vcpu, address)

    return two


def build_calls(table: dict[int, Hypercall]) -> tuple[list[Call], list[int]]:
    """A list of 64 functions by hypercall number, and a list of how many arguments each takes."""
    calls: list[Call] = [unimplemented] * 64
    arity = [0] * 64
    for number, spec in table.items():
        handler = HANDLERS.get(spec)
        arity[number] = len(spec.args)
        if handler is not None:
            calls[number] = handler  # type: ignore[assignment]  # handlers of whole hypercalls return int
        elif not spec.implemented:
            calls[number] = refusal(spec)
        elif spec.commands is not None:
            calls[number] = multiplexer(spec)
    return calls, arity


def refusal(spec: Command | Hypercall) -> Call:
    """Make the function that always answers with one error; if Xen reads the argument first, so does the function."""
    result = -int(spec.answer or Errno.ENOSYS)
    if not spec.reads_first:
        return lambda vcpu, *arguments: result
    size = sizeof(spec.arg)

    def reads(vcpu: VCPU, address: int, *extra: int) -> int:
        vcpu.memory.read(address, size)
        return result

    return reads


def continue_by_registers(state: memoryview, number: int, arguments: tuple[int, ...]) -> None:
    """Set the registers so that the guest executes the `syscall` before RIP again, with other arguments."""
    for register, value in zip(ARGUMENTS, arguments, strict=False):
        state[register] = value & MASK64
    state[RAX] = number
    state[RIP] = state[RIP] - 2 & MASK64
