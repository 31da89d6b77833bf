# SPDX-License-Identifier: GPL-2.0-or-later
"""construct, ctypes and struct.Struct read and write the same bytes, whatever is in them."""

from __future__ import annotations

import ctypes
import importlib.util
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvhv.abi.layout import (
    c_uint,
    char,
    codec,
    cstruct,
    cunion,
    declaration,
    record,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
)

_spec = importlib.util.spec_from_file_location("declared", Path(__file__).with_name("declared.py"))
assert _spec and _spec.loader
declared = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(declared)

AGGREGATES = declared.aggregates()
SEEDS = st.integers(0, 2**32 - 1)


def reached(root: Any, path: str) -> Any:
    for step in path.lstrip(".").replace("[", ".[").split("."):
        root = root[int(step[1:-1])] if step.startswith("[") else getattr(root, step)
    return root


@pytest.mark.parametrize("name", AGGREGATES)
@given(seed=SEEDS)
@settings(max_examples=5, deadline=None)
def test_construct_and_ctypes_agree(name: str, seed: int) -> None:
    aggregate = AGGREGATES[name]
    data = random.Random(seed).randbytes(aggregate.size)
    parsed = aggregate.parse(data)
    filled = record(aggregate).from_buffer_copy(data)
    for path, value, offset, size in declared.values(aggregate, parsed):
        if isinstance(value, bytes):  # ctypes shows a string up to its first NUL; its bytes are what counts
            assert bytes(filled)[offset:offset + size] == value, path
        else:
            assert reached(filled, path) == value, path
            assert int.from_bytes(data[offset:offset + size], "little", signed=value < 0) == value, path


@pytest.mark.parametrize("name", [n for n, a in AGGREGATES.items() if not declared.has_union(a)])
@given(seed=SEEDS)
@settings(max_examples=5, deadline=None)
def test_struct_codec_agrees(name: str, seed: int) -> None:
    aggregate = AGGREGATES[name]
    fast = codec(aggregate)
    data = random.Random(seed).randbytes(aggregate.size)
    parsed = aggregate.parse(data)
    assert list(fast.unpack(data)) == [value for _, value, _, _ in declared.values(aggregate, parsed)]
    built = aggregate.build(parsed)
    assert fast.pack(*fast.unpack(data)) == built
    assert fast.unpack(built) == fast.unpack(data)


@pytest.mark.parametrize("name", AGGREGATES)
@given(seed=SEEDS)
@settings(max_examples=3, deadline=None)
def test_build_is_the_inverse_of_parse(name: str, seed: int) -> None:
    aggregate = AGGREGATES[name]
    parsed = aggregate.parse(random.Random(seed).randbytes(aggregate.size))
    built = aggregate.build(parsed)
    assert len(built) == aggregate.size == ctypes.sizeof(record(aggregate))
    # Padding, and what lies in the gaps of a union's widest member, is not carried: a second round changes
    # nothing.
    assert aggregate.build(aggregate.parse(built)) == built


def test_padding_is_c_s() -> None:
    mixed = cstruct("mixed", "a" / uint8_t, "b" / uint32_t, "c" / uint16_t, "d" / uint64_t, "e" / uint8_t)
    assert [(f.name, f.offset) for f in mixed.fields] == [("a", 0), ("b", 4), ("c", 8), ("d", 16), ("e", 24)]
    assert (mixed.size, mixed.alignment) == (32, 8)
    assert codec(mixed).pack(1, 2, 3, 4, 5) == mixed.build({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5})


def test_a_union_overlays_its_members() -> None:
    pair = cstruct(None, "x" / uint16_t, "y" / uint16_t)
    both = cstruct("both", "u" / cunion(None, "byte" / uint8_t, "pair" / pair))
    parsed = both.parse(b"\x01\x02\x03\x04")
    assert (parsed["u"]["byte"], parsed["u"]["pair"].x, parsed["u"]["pair"].y) == (1, 0x201, 0x403)
    assert both.build({"u": {"byte": 9}}) == b"\x09\0\0\0"
    written: Any = record(both)()
    written.u.pair.y = 0x403
    assert bytes(written) == b"\0\0\x03\x04"
    with pytest.raises(TypeError, match="union"):
        codec(both)


def test_a_record_says_what_it_is_in_c() -> None:
    named = cstruct("named", "text" / char[3], "list" / c_uint[2], "inner" / cstruct(None, "x" / uint8_t))
    assert record(named).__doc__ == declaration(named)
    assert declaration(named) == (
        "struct named {\n    char text[3];\n    unsigned int list[2];\n"
        "    struct {\n        uint8_t x;\n    } inner;\n};")
    assert record(named).abi is named  # type: ignore[union-attr]
    assert record(named) is record(named)
