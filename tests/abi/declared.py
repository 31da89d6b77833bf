# SPDX-License-Identifier: GPL-2.0-or-later
"""What pvhv/abi declares, gathered for the tests: every structure, every constant, and walks over fields."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from construct import Array, Bytes

from pvhv.abi.errno import Errno
from pvhv.abi.io.ring import sring
from pvhv.abi.layout import CStruct, CUnion, size_of, uint32_t, uint64_t

# The modules of a guest's header, then what only the toolstack's side of Xen's headers has.
MODULES = (
    "arch_x86", "xen", "features", "elfnote", "event_channel", "sched", "vcpu", "version", "callback",
    "physdev", "memory", "grant_table", "io.ring", "io.console", "io.xs_wire", "io.xenbus",
    "io.protocols", "io.blkif", "control", "hvm",
)

# Constants of pvhv's own.
OURS = {
    "DOMU_MAX_ORDER", "E820_MAX", "E820_RAM", "E820_RESERVED", "MEMOP_EXTENT_SHIFT", "MEMOP_CMD_MASK",
    "SRING_HEADER_SIZE", "NR_GSIS", "NR_ISA_IRQS", "NR_PIRQS", "DM_OP_BUFS", "TRACE_EVENTS", "TRACE_EXTRA_BYTES",
    "EVTCHNOP_reset_cont",  # its header keeps it to the hypervisor
}
# Errors a guest never sees; Xen's headers keep them to the hypervisor.
HIDDEN_ERRORS = {Errno.EINTR, Errno.ERESTART}


def modules() -> Iterator[tuple[str, ModuleType]]:
    for name in MODULES:
        yield name, importlib.import_module(f"pvhv.abi.{name}")


def aggregates() -> dict[str, Any]:
    """Every structure and union with a name, by its C name; a ring type stands for all rings."""
    found: dict[str, Any] = {}
    for _, module in modules():
        for value in vars(module).values():
            if isinstance(value, (CStruct, CUnion)):
                found.setdefault(c_name(value), value)
    ring = sring("ring", uint64_t, uint32_t)
    found[c_name(ring)] = ring
    return found


def c_name(aggregate: Any) -> str:
    return str(f"{aggregate.kind} {aggregate.tag}" if aggregate.tag else aggregate.typedef)


def constants(skip_modules: tuple[str, ...] = ()) -> dict[str, int]:
    """Every constant, by the name C has for it."""
    found = {f"XEN_{error.name}": error.value for error in Errno if error not in HIDDEN_ERRORS}
    for module_name, module in modules():
        if module_name in skip_modules:
            continue
        for name, value in vars(module).items():
            if type(value) is int and re.match(r"[A-Z]", name) and name not in OURS:
                c = f"__{name}" if re.match(r"HYPERVISOR_[a-z]", name) else name
                found[f"__{c}__" if c == "XEN_LATEST_INTERFACE_VERSION" else c] = value
    return found


def fields(field: Any, path: str = "", offset: int = 0) -> Iterator[tuple[str, Any, int]]:
    """(path, type, offset) of every field, inner ones too, with the first element of each array of
    structures."""
    if isinstance(field, (CStruct, CUnion)):
        for member in field.fields:
            inner = f"{path}.{member.name}" if path else member.name
            yield inner, member.type, offset + member.offset
            yield from fields(member.type, inner, offset + member.offset)
    elif isinstance(field, Array) and isinstance(field.subcon, (CStruct, CUnion)):
        yield from fields(field.subcon, f"{path}[0]", offset)


def has_union(field: Any) -> bool:
    return isinstance(field, CUnion) or any(isinstance(inner, CUnion) for _, inner, _ in fields(field))


def values(field: Any, parsed: Any, path: str = "", offset: int = 0) -> Iterator[tuple[str, Any, int, int]]:
    """(path, value, offset, size) of every scalar and string in what construct parsed, all array elements."""
    if isinstance(field, (CStruct, CUnion)):
        for member in field.fields:
            inner = f"{path}.{member.name}"
            yield from values(member.type, parsed[member.name], inner, offset + member.offset)
    elif isinstance(field, Array):
        step = size_of(field.subcon)
        for i in range(field.count):
            yield from values(field.subcon, parsed[i], f"{path}[{i}]", offset + i * step)
    else:
        yield path, parsed, offset, field.count if isinstance(field, Bytes) else size_of(field)
