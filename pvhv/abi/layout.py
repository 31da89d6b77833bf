# SPDX-License-Identifier: GPL-2.0-or-later
"""Declaring the C structures of Xen's public headers, and what is derived from a declaration.

A structure is declared once, as a construct ``Struct``: construct's own operators name the fields
(``"port" / evtchn_port_t``, ``"args" / xen_ulong_t[6]``), and :func:`cstruct` adds what C adds silently,
the padding of natural alignment.  From that one declaration come

* ``record(s)``: a ctypes class, whose instances handlers read and write by field name;
* ``codec(s)``: a ``struct.Struct`` for structures without unions, the fast way on hot paths;
* ``leaves(s)`` and ``declaration(s)``: offsets and C text, for documents, the guest's header and tests.

Invariant: all of them put every field at the same offset.  ctypes computes its own offsets, so a difference is found
when the module is imported.

This file supports x86-64 only (8-byte ``long`` and pointers, little-endian), and does not know what a structure means.
Read beside it: xen/include/public/arch-x86/xen.h, for what a guest handle is.
"""

from __future__ import annotations

import ctypes
import struct as _struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

from construct import Array, Bytes, Construct, FormatField, Padding, Renamed, Struct

Record = ctypes.Structure | ctypes.Union
RecordType = type[ctypes.Structure] | type[ctypes.Union]


class Scalar(FormatField):  # type: ignore[misc]
    """A number in memory: construct's field with a C name, a ctypes type and a struct format."""

    def __init__(self, cname: str, ctype: Any, code: str, base: str | None = None, doc: str = "") -> None:
        super().__init__("<", code)
        self.cname, self.ctype, self.code, self.base, self.doc = cname, ctype, code, base, doc


class Char(Scalar):
    """C's ``char``: an array of it is a string of bytes, not a list of numbers."""

    def __getitem__(self, count: int) -> Any:
        field = Bytes(count)
        field.count, field.subcon = count, self
        return field


@dataclass(frozen=True)
class Field:
    name: str
    type: Any
    offset: int


class _Aggregate:
    """What a structure and a union have in common: a C name, fields at offsets, a size and an alignment."""

    kind: str
    tag: str | None
    typedef: str | None
    is_array: bool
    fields: tuple[Field, ...]
    size: int
    alignment: int
    record: RecordType | None
    c_fields: dict[str, str]
    doc: str

    def describe(self, tag: str | None, typedef: str | None, fields: tuple[Field, ...], size: int,
                 alignment: int) -> None:
        self.tag, self.typedef, self.fields, self.size, self.alignment = tag, typedef, fields, size, alignment
        self.record, self.c_fields, self.is_array, self.doc = None, {}, False, ""


class CStruct(Struct, _Aggregate):  # type: ignore[misc]
    kind = "struct"


class CUnion(Construct, _Aggregate):  # type: ignore[misc]
    """A C union: parsing shows every member, building takes the widest member that is given."""

    kind = "union"

    def _parse(self, stream: Any, context: Any, path: Any) -> dict[str, Any]:
        data = stream.read(self.size)
        return {field.name: field.type._parsereport(BytesIO(data), context, path) for field in self.fields}

    def _build(self, obj: Any, stream: Any, context: Any, path: Any) -> Any:
        given = [field for field in self.fields if obj and field.name in obj]
        data = b""
        if given:
            widest = max(given, key=lambda field: size_of(field.type))
            data = widest.type.build(obj[widest.name])
        stream.write(data.ljust(self.size, b"\0"))
        return obj

    def _sizeof(self, context: Any, path: Any) -> int:
        return self.size


def _bare(field: Any) -> Any:
    while isinstance(field, Renamed):
        field = field.subcon
    return field


def _array(field: Any) -> tuple[Any, int] | None:
    """(element, count) when the type is an array (of characters too), else None."""
    return (field.subcon, field.count) if isinstance(field, (Array, Bytes)) else None


def size_of(field: Any) -> int:
    return field.size if isinstance(field, (CStruct, CUnion)) else cast(int, field.sizeof())


def alignment_of(field: Any) -> int:
    array = _array(field)
    if array:
        return alignment_of(array[0])
    return field.alignment if isinstance(field, (CStruct, CUnion)) else cast(int, field.sizeof())


def _up(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _default_typedef(tag: str | None, typedef: str | None) -> str | None:
    return f"{tag}_t" if typedef == "" and tag else typedef or None


def cstruct(tag: str | None, *declared: Any, typedef: str | None = "", c_fields: dict[str, str] | None = None,
            doc: str = "") -> CStruct:
    """A C structure from named fields.  ``tag`` is Xen's; None for a structure without one, inside another.

    ``typedef`` is the tag with ``_t`` by default, None where Xen has none.  ``c_fields`` replaces the C text of a
    field.
    """
    fields: list[Field] = []
    subcons: list[Any] = []
    offset, alignment = 0, 1
    for item in declared:
        bare = _bare(item)
        start = _up(offset, alignment_of(bare))
        if start > offset:
            subcons.append(Padding(start - offset))
        subcons.append(item)
        fields.append(Field(item.name, bare, start))
        offset = start + size_of(bare)
        alignment = max(alignment, alignment_of(bare))
    size = _up(offset, alignment)
    if size > offset:
        subcons.append(Padding(size - offset))
    made = CStruct(*subcons)
    made.describe(tag, _default_typedef(tag, typedef), tuple(fields), size, alignment)
    made.c_fields, made.doc = c_fields or {}, doc
    return made


def cunion(tag: str | None, *declared: Any, typedef: str | None = "") -> CUnion:
    """A C union from named members."""
    fields = tuple(Field(item.name, _bare(item), 0) for item in declared)
    alignment = max(alignment_of(field.type) for field in fields)
    made = CUnion()
    made.describe(tag, _default_typedef(tag, typedef), fields,
                  _up(max(size_of(field.type) for field in fields), alignment), alignment)
    return made


def carray(typedef: str, field: Any) -> CStruct:
    """A typedef of an array (``typedef char xen_extraversion_t[16]``): a record of the one given field."""
    made = cstruct(None, field)
    made.typedef, made.is_array = typedef, True
    return made


def typedef(cname: str, base: Scalar, doc: str = "") -> Scalar:
    return Scalar(cname, base.ctype, base.code, base.cname, doc)


def handle(cname: str) -> Scalar:
    """XEN_GUEST_HANDLE(cname): a guest's pointer of eight bytes, kept as a number."""
    return Scalar(f"XEN_GUEST_HANDLE({cname})", ctypes.c_uint64, "Q")


uint8_t = Scalar("uint8_t", ctypes.c_uint8, "B")
uint16_t = Scalar("uint16_t", ctypes.c_uint16, "H")
uint32_t = Scalar("uint32_t", ctypes.c_uint32, "L")
uint64_t = Scalar("uint64_t", ctypes.c_uint64, "Q")
int8_t = Scalar("int8_t", ctypes.c_int8, "b")
int16_t = Scalar("int16_t", ctypes.c_int16, "h")
int32_t = Scalar("int32_t", ctypes.c_int32, "l")
int64_t = Scalar("int64_t", ctypes.c_int64, "q")
c_int = Scalar("int", ctypes.c_int32, "l")
c_uint = Scalar("unsigned int", ctypes.c_uint32, "L")
c_ulong = Scalar("unsigned long", ctypes.c_uint64, "Q")
uchar = Scalar("unsigned char", ctypes.c_uint8, "B")
char = Char("char", ctypes.c_char, "B")


# ---------------------------------------------------------------- what is derived

def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_") if part)


def _ctype(field: Any, name: str) -> Any:
    array = _array(field)
    if array:
        return _ctype(array[0], name) * array[1]
    return record(field, name) if isinstance(field, (CStruct, CUnion)) else field.ctype


def record(aggregate: Any, name: str = "") -> RecordType:
    """The ctypes class of a structure or union.  Made once; its ``abi`` attribute leads back to the
    declaration."""
    if aggregate.record is not None:
        return cast(RecordType, aggregate.record)
    # The typedef names an array type; a tag names the rest; a nameless one is called after its place.
    cname = _camel(aggregate.tag or (aggregate.typedef or "").removesuffix("_t")) or name or "Nameless"
    base: Any = ctypes.Structure if aggregate.kind == "struct" else ctypes.Union
    made = type(cname, (base,), {
        "_fields_": [(f.name, _ctype(f.type, f"{cname}{_camel(f.name)}")) for f in aggregate.fields],
        "abi": aggregate,
        "__doc__": declaration(aggregate),
    })
    if ctypes.sizeof(made) != aggregate.size:
        raise TypeError(f"{cname}: ctypes says {ctypes.sizeof(made)} bytes, the declaration {aggregate.size}")
    for field in aggregate.fields:
        if getattr(made, field.name).offset != field.offset:
            raise TypeError(f"{cname}.{field.name}: ctypes and the declaration disagree about its offset")
    aggregate.record = made
    return cast(RecordType, made)


def _format(field: Any) -> str:
    array = _array(field)
    if array:
        element, count = array
        return f"{count}s" if element is char else _format(element) * count
    if isinstance(field, CUnion):
        raise TypeError("a union has no single struct format; use record()")
    if not isinstance(field, CStruct):
        return cast(str, field.code)
    parts, offset = [], 0
    for member in field.fields:
        parts += ["x" * (member.offset - offset), _format(member.type)]
        offset = member.offset + size_of(member.type)
    return "".join(parts) + "x" * (field.size - offset)


def codec(aggregate: Any) -> _struct.Struct:
    """The ``struct.Struct`` of a structure without unions; nested structures and arrays are flattened."""
    made = _struct.Struct("<" + _format(aggregate))
    if made.size != aggregate.size:
        raise TypeError(f"{aggregate.tag}: codec of {made.size} bytes for a structure of {aggregate.size}")
    return made


def leaves(field: Any, path: str = "", offset: int = 0) -> Iterator[tuple[str, Any, int]]:
    """(path, type, offset) of every scalar and string. For an array of structures, only the first element is listed."""
    if isinstance(field, (CStruct, CUnion)):
        for member in field.fields:
            inner = f"{path}.{member.name}" if path else member.name
            yield from leaves(member.type, inner, offset + member.offset)
        return
    array = _array(field)
    if array and isinstance(array[0], (CStruct, CUnion)):
        yield from leaves(array[0], f"{path}[0]", offset)
    else:
        yield path, field, offset


def c_type(field: Any) -> tuple[str, str]:
    """The C spelling of a type that has a name, as (before, after) the declared name."""
    array = _array(field)
    if array:
        before, after = c_type(array[0])
        return before, f"[{array[1] or ''}]{after}"
    if isinstance(field, (CStruct, CUnion)):
        return (f"{field.kind} {field.tag}" if field.tag else field.typedef or ""), ""
    return field.cname, ""


def _members(aggregate: Any, indent: str) -> Iterator[str]:
    for field in aggregate.fields:
        if field.name in aggregate.c_fields:
            yield f"{indent}{aggregate.c_fields[field.name]}"
            continue
        element = field.type
        array = _array(element)
        inner = array[0] if array else element
        if isinstance(inner, (CStruct, CUnion)) and not inner.tag and not inner.typedef:
            yield f"{indent}{inner.kind} {{"
            yield from _members(inner, indent + "    ")
            yield f"{indent}}} {field.name}{f'[{array[1]}]' if array else ''};"
        else:
            before, after = c_type(element)
            yield f"{indent}{before} {field.name}{after};"


def declaration(aggregate: Any) -> str:
    """The C declaration of a structure or union."""
    if aggregate.is_array:
        field = aggregate.fields[0]
        before, after = c_type(field.type)
        return f"typedef {before} {aggregate.typedef}{after};"
    head = f"{aggregate.kind} {aggregate.tag} {{" if aggregate.tag else f"{aggregate.kind} {{"
    return "\n".join([head, *_members(aggregate, "    "), "};"])
