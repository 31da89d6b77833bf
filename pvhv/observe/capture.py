# SPDX-License-Identifier: GPL-2.0-or-later
"""A hypercall as it was asked and answered, with copies of what its arguments point to.

Everything about a hypercall's arguments comes from its spec. A guest's pointer may be wrong: what cannot be read is
left out. Of a batch only a few items are kept.

Read beside it: pvhv/core/traps/dispatch.py, which copies the same structures for the handlers.
"""

from __future__ import annotations

from ctypes import sizeof
from typing import TYPE_CHECKING, Any

from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.xen import (
    MULTICALL_ENTRY_CODEC,
    CONSOLEIO_write,
    HYPERVISOR_console_io,
    HYPERVISOR_mmu_update,
    HYPERVISOR_mmuext_op,
    HYPERVISOR_multicall,
)
from pvhv.core.calls.mmu_batch import MMU_UPDATE_PREEMPTED
from pvhv.core.errors import GuestFault
from pvhv.observe.record import HypercallRecord, Structure

if TYPE_CHECKING:
    from pvhv.core.vcpu import VCPU

ITEMS_KEPT = 8  # of a batch
ENTRIES_KEPT = 32  # of a multicall: as many as Linux makes of it
TEXT_KEPT = 256
MMU_BATCHES = frozenset((HYPERVISOR_mmu_update, HYPERVISOR_mmuext_op))
NAMED_BY_MEMORY = frozenset((HYPERVISOR_multicall, HYPERVISOR_mmuext_op))


def capture(
    vcpu: VCPU, number: int, registers: tuple[int, ...], nested: bool = False, copies: bool = True
) -> HypercallRecord:
    """Record a hypercall as it was asked, with copies of what its arguments point to. Without `copies`, only what is
    needed for its name, and for the names of a multicall's entries."""
    spec = HYPERCALLS.get(number)
    if spec is None:
        return HypercallRecord(number, registers, None, None, None)
    arguments = registers[: len(spec.args)]
    given: Structure | bytes | None = None
    entries: tuple[HypercallRecord, ...] = ()
    if not copies and number not in NAMED_BY_MEMORY:
        pass
    elif number == HYPERVISOR_console_io:
        if arguments[0] == CONSOLEIO_write:
            given = _read(vcpu, arguments[2], min(arguments[1] & 0xFFFF_FFFF, TEXT_KEPT))
    elif number == HYPERVISOR_multicall and not nested:
        given = _structure(vcpu, number, arguments)
        if given is not None:
            unpacked = [MULTICALL_ENTRY_CODEC.unpack(item) for item in given.items]
            entries = tuple(
                capture(vcpu, op, tuple(args), nested=True, copies=copies) for op, _result, *args in unpacked
            )
    else:
        given = _structure(vcpu, number, arguments)
    return HypercallRecord(number, arguments, given, None, None, entries)


def answer(vcpu: VCPU, call: HypercallRecord, result: int | None, copies: bool = True) -> HypercallRecord:
    """The same hypercall with its result, and copies of what it filled in."""
    if result is not None and result >> 63:
        result -= 1 << 64
    answered = None
    spec = HYPERCALLS.get(call.number)
    wanted = copies or call.number == HYPERVISOR_multicall
    if wanted and result is not None and result >= 0 and spec is not None:
        direction, _record, _batch = _kind(spec, call.arguments)
        if direction in ("out", "inout"):
            answered = _structure(vcpu, call.number, call.arguments)
    entries = call.entries
    if answered is not None and entries:
        results = [MULTICALL_ENTRY_CODEC.unpack(item)[1] for item in answered.items]
        entries = tuple(
            answer(vcpu, entry, value, copies) for entry, value in zip(entries, results, strict=False)
        )
        answered = None
    return call._replace(result=result, answered=answered, entries=entries)


def caller(vcpu: VCPU, rsp: int) -> int:
    """The address that the stub of this hypercall returns to, if the stub is like those of Xen's page and of Linux: it
    keeps rcx and r11 on the stack, below the return address."""
    words = _read(vcpu, rsp + 16, 8)
    return 0 if words is None else int.from_bytes(words, "little")


def put_aside(call: HypercallRecord, registers: tuple[int, ...]) -> HypercallRecord:
    """A hypercall that is continued later, with other arguments. Of a batch, the record has the part that was done."""
    if call.number == HYPERVISOR_multicall:
        done = (registers[0] - call.arguments[0]) // MULTICALL_ENTRY_CODEC.size
        return call._replace(entries=call.entries[:done])
    if call.number in MMU_BATCHES and isinstance(call.given, Structure):
        done = max(call.given.total - (registers[1] & ~MMU_UPDATE_PREEMPTED), 0)
        return call._replace(given=call.given._replace(items=call.given.items[:done], total=done))
    return call


def _kind(spec: Any, arguments: tuple[int, ...]) -> tuple[str, Any, bool]:
    """(direction, ctypes class, whether an array) of what a hypercall's pointer points to."""
    chooser = spec.index("cmd")
    if spec.commands is not None and chooser is not None:
        command = spec.commands.by_number.get(arguments[chooser] & spec.command_mask)
        if command is None or command.arg is None:
            return "none", None, False
        return command.direction, command.arg, command.batch
    return spec.direction, spec.arg, spec.batch


def _structure(vcpu: VCPU, number: int, arguments: tuple[int, ...]) -> Structure | None:
    spec = HYPERCALLS[number]
    _direction, record, batch = _kind(spec, arguments)
    pointer = spec.index("arg")
    if record is None or pointer is None or not arguments[pointer]:
        return None
    counter = spec.index("count")
    count = arguments[counter] & 0xFFFF_FFFF if batch and counter is not None else 1
    if number in MMU_BATCHES:
        count &= ~MMU_UPDATE_PREEMPTED
    size = sizeof(record)
    items = []
    kept = ENTRIES_KEPT if number == HYPERVISOR_multicall else ITEMS_KEPT
    for index in range(min(count, kept)):
        data = _read(vcpu, arguments[pointer] + index * size, size)
        if data is None:
            break
        items.append(data)
    return Structure(record, tuple(items), count) if items else None


def _read(vcpu: VCPU, address: int, size: int) -> bytes | None:
    try:
        return vcpu.memory.read(address, size)
    except GuestFault:
        return None
