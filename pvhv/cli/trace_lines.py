# SPDX-License-Identifier: GPL-2.0-or-later
"""Trace records as lines for people: time, who, what with its arguments by name, result, and where it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def line(found: dict[str, Any]) -> str:
    """Plain values as a line (several for a multicall)."""
    who = f"d{found['domid']}" + ("  " if found["vcpu"] is None else f"v{found['vcpu']}")
    where = f"  at {found.get('symbol') or format(found['rip'], '#x')}" if "rip" in found else ""
    head = f"{found['time'] / 1e9:14.9f} {who:5} "
    return head + WRITERS[found["kind"]](found) + where + _entries(found)


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
    if found["result"] is None:
        result = "" if found["name"] == "iret" else " ..."
    else:
        result = f" = -{found['error']}" if "error" in found else f" = {_number(found['result'])}"
    return f"{name}({inside}){result}"


def _entries(found: dict[str, Any]) -> str:
    entries = found.get("entries", [])
    lines = [f"\n{'':21}  | {_call_text(entry)}" for entry in entries]
    if len(entries) < found.get("count", 0) and entries:
        lines.append(f"\n{'':21}  | ... {found['count'] - len(entries)} more")
    return "".join(lines)


def _braces(values: Any) -> str:
    if isinstance(values, dict):
        return "{" + " ".join(f"{key}={_braces(value)}" for key, value in values.items()) + "}"
    if isinstance(values, list):
        return "[" + " ".join(map(_braces, values)) + "]"
    return _number(values) if isinstance(values, int) else repr(values)


def _number(value: Any) -> str:
    return f"{value:#x}" if isinstance(value, int) and abs(value) > 4095 else str(value)


def _write_exception(found: dict[str, Any]) -> str:
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


WRITERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "hypercall": _write_hypercall,
    "syscall": lambda found: f"syscall    {found['number']} (bounced to the guest's kernel)",
    "exception": _write_exception,
    "event": _write_event,
    "upcall": lambda _found: "upcall     the guest's event callback",
    "exit": lambda found: f"exit       {_reason(found)}",
    "callout": lambda found: f"callout    {_reason(found)}",
    "int": lambda found: f"exit       int {found['vector']:#x}",
    "cpuid": lambda found: f"exit       cpuid {found['leaf']:#x}",
    "io": lambda found: f"exit       {found['direction']} port {found['port']:#x} size {found['size']}",
}
