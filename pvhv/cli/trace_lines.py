# SPDX-License-Identifier: GPL-2.0-or-later
"""Trace records as lines for people: time, vCPU, kind, name and arguments, result, and where it came from.

The kind is a word that `--kind` takes. The lines of a followed system call have its number in this trace. They stand
below its first line, indented further while a handler interrupts the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def line(found: dict[str, Any]) -> str:
    """Plain values as a line (several for a multicall)."""
    who = f"d{found['domid']}" + ("  " if found["vcpu"] is None else f"v{found['vcpu']}")
    place = found.get("caller") or found.get("symbol") or format(found.get("rip", 0), "#x")
    where = f"  at {place}" if "rip" in found else ""
    head = f"{found['time'] / 1e9:14.9f} {who:5} "
    if "call" in found:
        head += f"#{found['call']:<4} " + "| " * found["depth"]
    return head + WRITERS[found["kind"]](found) + where + _entries(found, len(head))


def duration(ns: int) -> str:
    """A time in ns as text, with a unit."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 1000)):
        if ns >= size:
            return f"{ns / size:.3f} {unit}"
    return f"{ns} ns"


def _write_hypercall(found: dict[str, Any]) -> str:
    return f"hypercall  {_call_text(found)}"


def _call_text(found: dict[str, Any]) -> str:
    name = found["name"] + (f".{found['command']}" if "command" in found else "")
    if "text" in found:
        inside = repr(found["text"])
    elif "in" in found:
        more = found["count"] - len(found["in"])
        shown = found["out"] if "out" in found and len(found["out"]) == len(found["in"]) else found["in"]
        inside = ", ".join(_braces(item) for item in shown) + (f", ... {more} more" if more > 0 else "")
    elif "entries" in found:
        inside = f"{found['count']} calls"
    else:
        inside = ", ".join(
            f"{key}={_number(value)}" for key, value in found["arguments"].items() if key != "cmd"
        )
    if "landed" in found:
        result = f" to user mode at {found['landed']['rip']:#x}, rax {_number(found['landed']['rax'])}"
    elif found["result"] is None:
        result = "" if found["name"] == "iret" else " ..."
    else:
        result = f" = -{found['error']}" if "error" in found else f" = {_number(found['result'])}"
    return f"{name}({inside}){result}"


def _entries(found: dict[str, Any], margin: int) -> str:
    entries = found.get("entries", [])
    lines = [f"\n{'':{margin}} | {_call_text(entry)}" for entry in entries]
    if len(entries) < found.get("count", 0) and entries:
        lines.append(f"\n{'':{margin}} | ... {found['count'] - len(entries)} more")
    return "".join(lines)


def _braces(values: Any) -> str:
    if isinstance(values, dict):
        return "{" + " ".join(f"{key}={_braces(value)}" for key, value in values.items()) + "}"
    if isinstance(values, list):
        return "[" + " ".join(map(_braces, values)) + "]"
    return _number(values) if isinstance(values, int) else repr(values)


def _number(value: Any) -> str:
    return f"{value:#x}" if isinstance(value, int) and abs(value) > 4095 else str(value)


def _write_fault(found: dict[str, Any]) -> str:
    what = f"fault      {found['name']}"
    if "address" in found:
        what += f" {found['address']:#x} {'|'.join(found['access']) or 'read'}"
    elif found["error_code"]:
        what += f" error {found['error_code']:#x}"
    return f"{what}, {found['outcome']}"


def _write_event(found: dict[str, Any]) -> str:
    origin = {
        "interdomain": f" from d{found.get('from_domid')} port {found.get('from_port')}",
        "virq": f" virq {found.get('virq')}",
    }.get(found["type"], "")
    return f"event      port {found['port']} {found['type']}{origin}"


def _reason(found: dict[str, Any]) -> str:
    return f"{found['reason']}  {found['detail']}" if found["detail"] else str(found["reason"])


REGISTERS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


def _write_syscall(found: dict[str, Any]) -> str:
    name = found.get("name", f"syscall_{found['number']}")
    given = zip(REGISTERS[:3], found["arguments"], strict=False)  # how many it takes is its own business
    return f"syscall    {name}({' '.join(f'{register}={_number(value)}' for register, value in given)})"


def _write_device(found: dict[str, Any]) -> str:
    ring = f" ring {found['ring']}" if "ring" in found else ""
    where = f"{found['disk']}{ring} #{found['id']}"
    parts, of = (found["blocks"], "block") if "blocks" in found else (found["segments"], "segment")
    plural = "" if parts == 1 else "s"
    what = f"{found['name']} sector {found['sector']}, {found['bytes']} bytes in {parts} {of}{plural}"
    failed = {0: "", -1: " = error", -2: " = not supported"}.get(found["status"], f" = {found['status']}")
    return f"device     {where}: {what}{failed}, {duration(found.get('spent', 0))}"


def _write_running(found: dict[str, Any]) -> str:
    if found["then"] == "running":
        return "running    has the processor"
    return f"running    had it for {duration(found.get('spent', 0))}, then {found['then']}"


def _write_switch(found: dict[str, Any]) -> str:
    return "switched out: another task has the vCPU" if found["what"] == "out" else "back"


def _write_return(found: dict[str, Any]) -> str:
    name = found.get("name", f"syscall_{found['number']}")
    ends = {
        "returned": f" = -{found['error']}" if "error" in found else f" = {_number(found['result'] or 0)}",
        "restarts": ", to be made again",
        "elsewhere": f" went on elsewhere, at {found['landed']:#x}",
        "lost": " was lost sight of",
        "unfinished": " <unfinished>",
    }
    took = [duration(found["time"] - found["began"])]
    if found["spent"]:
        took.append(f"{duration(found['spent'])} in the hypervisor")
    if found["away"]:
        took.append(f"{duration(found['away'])} switched out")
    return f"return     {name}{ends[found['how']]}: {', '.join(took)}; {_exits(found['exits'])}"


def _exits(exits: list[dict[str, Any]]) -> str:
    """The exits of a system call, the most frequent first."""
    parts: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
    for exit_ in exits:
        kind, name = exit_["kind"], exit_["name"]
        word = name if kind in ("hypercall", "fault") else " ".join(filter(None, (kind, name)))
        parts[kind not in ("event", "upcall")].append((exit_["count"], word))
    total = sum(count for count, _word in parts[True])
    listed = [
        ", ".join(f"{count} {word}" for count, word in sorted(part, key=lambda each: -each[0]))
        for part in parts.values()
        if part
    ]
    return f"{total} exit{'s' if total != 1 else ''}: {'; '.join(listed)}"


WRITERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "hypercall": _write_hypercall,
    "syscall": _write_syscall,
    "fault": _write_fault,
    "event": _write_event,
    "upcall": lambda _found: "upcall     the guest's event callback",
    "exit": lambda found: f"exit       {_reason(found)}",
    "callout": lambda found: f"callout    {_reason(found)}",
    "int": lambda found: f"int        {found['vector']:#x}",
    "cpuid": lambda found: f"cpuid      {found['leaf']:#x}",
    "io": lambda found: f"io         {found['direction']} port {found['port']:#x} size {found['size']}",
    "device": _write_device,
    "running": _write_running,
    "switch": _write_switch,
    "return": _write_return,
}
