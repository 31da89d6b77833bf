# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of a trace, decoded into plain values, for a script or for pvhv.cli.trace_lines.

This module knows no hypercall: names of arguments, commands and fields, directions and errors come from the spec in
pvhv.abi. So every hypercall that has a spec can be traced.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from pvhv.abi.errno import Errno
from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.core.events.ports import STATE_NAMES, Status
from pvhv.core.sched.runstate import NAMES as RUNSTATES
from pvhv.hvm.names import IDE
from pvhv.images.image import SECTOR_SIZE
from pvhv.machine.svm import PFEC_FETCH, PFEC_PRESENT, PFEC_RESERVED, PFEC_USER, PFEC_WRITE
from pvhv.machine.x86 import PAGE_FAULT
from pvhv.observe.naming import exception_name, hypercall_name, operation_name
from pvhv.observe.record import HypercallRecord, Record, Structure, SystemCall
from pvhv.observe.symbols import Symbols
from pvhv.observe.syscall_names import Table, error_name

STUBS = ("xen_hypercall", "hypercall_page")  # functions of a guest's that only make a hypercall, for whoever calls them
WITHOUT_PLACE = frozenset({"device", "event", "running", "switch"})
PAGE_FAULT_BITS = (
    (PFEC_PRESENT, "protection"),
    (PFEC_WRITE, "write"),
    (PFEC_USER, "user"),
    (PFEC_RESERVED, "reserved"),
    (PFEC_FETCH, "fetch"),
)


def plain(record: Record, symbols: Symbols | None = None, syscalls: Table | None = None) -> dict[str, Any]:
    """A record as plain values. `syscalls` has the names of the guest kernel's system calls."""
    found: dict[str, Any] = {
        "time": record.time,
        "domid": record.domid,
        "vcpu": record.vcpu if record.vcpu >= 0 else None,
        "kind": record.kind,
    }
    if record.spent:
        found["spent"] = record.spent
    if record.call:
        found["call"], found["depth"] = record.call, record.depth
    if record.kind not in WITHOUT_PLACE:
        found["rip"] = record.rip
        found["mode"] = "kernel" if record.kernel else "user"
        if symbols is not None and (name := symbols.find(record.rip)):
            found["symbol"] = f"{name[0]}+{name[1]:#x}"
            if record.kind == "hypercall" and name[0].startswith(STUBS) and (by := symbols.find(record.data[0].above)):
                found["caller"] = f"{by[0]}+{by[1]:#x}"
    found |= READERS[record.kind](*record.data)
    if syscalls is not None and record.kind in ("syscall", "return"):
        found["name"] = syscalls.name(found["abi"], found["number"])
    return found


# -- hypercalls ----------------------------------------------------------------------------------------------
def _hypercall(call: HypercallRecord) -> dict[str, Any]:
    spec = HYPERCALLS.get(call.number)
    found: dict[str, Any] = {"number": call.number, "name": hypercall_name(call.number)}
    if spec is not None:
        chooser = spec.index("cmd")
        if spec.commands is not None and chooser is not None:
            command = spec.commands.by_number.get(call.arguments[chooser] & spec.command_mask)
            found["command"] = command.name if command else call.arguments[chooser]
        found["arguments"] = {arg.name: value for arg, value in zip(spec.args, call.arguments, strict=False)}
    else:
        found["arguments"] = {f"arg{index}": value for index, value in enumerate(call.arguments)}
    if isinstance(call.given, bytes):
        found["text"] = call.given.decode("utf-8", "replace")
    elif call.given is not None and not call.entries:
        found["in"] = _items(call.given, spec)
        found["count"] = call.given.total
    if call.answered is not None:
        found["out"] = _items(call.answered, spec)
    found["result"] = call.result
    if call.result is not None and -4096 < call.result < 0:
        found["error"] = _errno(-call.result)
    if call.landed is not None:
        found["landed"] = call.landed._asdict()
    if call.entries:
        found["entries"] = [_hypercall(entry) for entry in call.entries]
        found["count"] = call.given.total if isinstance(call.given, Structure) else len(call.entries)
    return found


def _items(structure: Structure, spec: Any) -> list[dict[str, Any]]:
    items = []
    for data in structure.items:
        values = values_of(structure.record.from_buffer_copy(data))
        if spec is not None and spec.command_field and spec.commands is not None:
            command = spec.commands.by_number.get(values[spec.command_field])
            values[spec.command_field] = command.name if command else values[spec.command_field]
        items.append(values)
    return items


def values_of(record: Any) -> dict[str, Any]:
    """A ctypes record as plain values; of a union every member is shown, since nothing says which one counts."""
    found: dict[str, Any] = {}
    for name, _kind in record._fields_:
        if name.startswith("_pad") or name == "pad":
            continue
        found[name] = _value(getattr(record, name))
    return found


def _value(value: Any) -> Any:
    if isinstance(value, (ctypes.Structure, ctypes.Union)):
        return values_of(value)
    if isinstance(value, ctypes.Array):
        return [_value(item) for item in value[:16]]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


# -- the rest ------------------------------------------------------------------------------------------------
def _fault(vector: int, code: int, address: int, outcome: str) -> dict[str, Any]:
    found = {"vector": vector, "name": exception_name(vector), "error_code": code, "outcome": outcome}
    if vector == PAGE_FAULT:
        found["address"] = address
        found["access"] = [word for bit, word in PAGE_FAULT_BITS if code & bit]
    return found


def _event(port: int, state: int, status: tuple[int, ...]) -> dict[str, Any]:
    told = Status(*status)
    found = {"port": port, "type": STATE_NAMES[state]}
    if found["type"] == "interdomain":
        found |= {"from_domid": told.domid, "from_port": told.port}
    elif found["type"] == "virq":
        found["virq"] = told.virq
    return found


def _device(
    disk: str, ring: int, operation: int, status: int, sector: int, parts: int, sectors: int, id_: int, model: str
) -> dict[str, Any]:
    found = {"disk": disk, "model": model, "name": operation_name(operation), "operation": operation, "id": id_}
    found |= {"blocks": parts} if model == IDE else {"ring": ring, "segments": parts}
    return found | {"sector": sector, "bytes": sectors * SECTOR_SIZE, "status": status}


def _return(call: SystemCall) -> dict[str, Any]:
    found = call._asdict()
    found["exits"] = [{"kind": kind, "name": name, "count": count} for kind, name, count in call.exits]
    error = None if call.result is None else error_name(call.result)
    if error is not None:
        found["error"] = error
    return found


def _errno(number: int) -> str:
    return Errno(number).name if number in Errno.__members__.values() else str(-number)


READERS: dict[str, Callable[..., dict[str, Any]]] = {
    "hypercall": _hypercall,
    "syscall": lambda number, registers, abi: {"number": number, "arguments": list(registers), "abi": abi},
    "fault": _fault,
    "event": _event,
    "upcall": dict,
    "exit": lambda reason, detail: {"reason": reason, "detail": detail},
    "callout": lambda reason, detail: {"reason": reason, "detail": detail},
    "int": lambda vector, rax: {"vector": vector, "rax": rax},
    "cpuid": lambda leaf: {"leaf": leaf},
    "io": lambda port, size, is_write, value: {
        "port": port,
        "size": size,
        "direction": "out" if is_write else "in",
        "value": value,
    },
    "device": _device,
    "running": lambda state: {"then": RUNSTATES[state]},
    "switch": lambda what: {"what": what},
    "return": _return,
}
