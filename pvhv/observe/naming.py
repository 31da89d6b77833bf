# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of what is in a trace: hypercalls with their commands, exceptions.

A thing has the same name in lines, filters, summaries and pictures: `sched_op.block`, `page_fault`.
"""

from __future__ import annotations

from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.io.blkif import (
    BLKIF_OP_DISCARD,
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER,
)
from pvhv.observe.record import HypercallRecord, Record, Structure

EXCEPTIONS = (
    "divide_error", "debug", "nmi", "int3", "overflow", "bounds", "invalid_opcode", "no_device", "double_fault",
    "coprocessor_overrun", "invalid_tss", "segment_not_present", "stack_fault", "general_protection", "page_fault",
    "reserved", "fpu_error", "alignment_check", "machine_check", "simd_error",
)  # fmt: skip

OPERATIONS = {
    BLKIF_OP_READ: "read", BLKIF_OP_WRITE: "write", BLKIF_OP_WRITE_BARRIER: "barrier",
    BLKIF_OP_FLUSH_DISKCACHE: "flush", BLKIF_OP_DISCARD: "discard",
}  # fmt: skip


def exception_name(vector: int) -> str:
    """The name of an exception, by its vector."""
    return EXCEPTIONS[vector] if vector < len(EXCEPTIONS) else f"exception_{vector}"


def hypercall_name(number: int) -> str:
    """The name of a hypercall, without its command."""
    spec = HYPERCALLS.get(number)
    return spec.name if spec is not None else f"hypercall {number}"


def commands_of(call: HypercallRecord) -> set[int]:
    """The numbers of a hypercall's commands: of most hypercalls one, of a batch those of all its entries."""
    spec = HYPERCALLS.get(call.number)
    if spec is None or spec.commands is None:
        return set()
    chooser = spec.index("cmd")
    if chooser is not None:
        return {call.arguments[chooser] & spec.command_mask}
    if spec.command_field and isinstance(call.given, Structure):
        at = getattr(call.given.record, spec.command_field)
        return {int.from_bytes(item[at.offset : at.offset + at.size], "little") for item in call.given.items}
    return set()


def call_name(call: HypercallRecord) -> str:
    """The name of a hypercall, with its command if there is just one, and it has a name."""
    name, numbers = hypercall_name(call.number), commands_of(call)
    if len(numbers) != 1:
        return name
    commands = HYPERCALLS[call.number].commands
    command = commands.by_number.get(numbers.pop()) if commands is not None else None
    return f"{name}.{command.name}" if command is not None else name


def name_of(record: Record) -> str:
    """The name of a record. Empty for system calls, whose names are the guest kernel's, and for kinds that need no
    name."""
    match record.kind:
        case "hypercall":
            return call_name(record.data[0])
        case "fault":
            return exception_name(record.data[0])
        case "int":
            return f"{record.data[0]:#x}"
        case "cpuid":
            return f"{record.data[0]:#x}"
        case "io":
            port, _size, is_write, _value = record.data
            return f"{'out' if is_write else 'in'} {port:#x}"
        case "exit" | "callout":
            return str(record.data[0])
        case "device":
            return f"{record.data[0]} {operation_name(record.data[2])}"
    return ""


def operation_name(operation: int) -> str:
    """The name of an operation of a block device, or its number."""
    return OPERATIONS.get(operation, f"operation {operation}")
