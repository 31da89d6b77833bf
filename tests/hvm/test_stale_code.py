# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that changes its code executes the new code: whatever mapping the store went through, in every technique.

The engine translates code and does not notice every store to what it translated; a binary translator keeps copies of
its own. Each program here calls code, changes it, and calls it again; it counts what it got, and halts.

The code that changes is at CODE_PAGE: `mov eax, n; ret`, whose n is what is changed. It is mapped once more at ALIAS.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

import pytest

from pvhv.hvm.techniques.registry import TECHNIQUES
from pvhv.machine import cpustate as cs
from tests.hvm.hw_lab import CODE, DATA, L1, NX, RW, TABLE, D, HwLab

CODE_PAGE, ALIAS, OTHER = DATA + 0x4000, DATA + 0x1_0000, DATA + 0x5000
RETURNS = "b8{:08x}c3"
AT = CODE + 0x100


def le(value: int) -> str:
    return struct.pack("<I", value).hex()


def call(address: int) -> str:
    """mov ebx, address; call rbx"""
    return f"bb{le(address)} ffd3"


def store(address: int, value: int) -> str:
    """mov dword [address], value"""
    return f"c70425{le(address)}{le(value)}"


COLLECT = "4101c0 41d1e0"  # add r8d, eax; shl r8d, 1


def returns(value: int) -> bytes:
    return b"\xb8" + struct.pack("<I", value) + b"\xc3"


class Lab(HwLab):
    """The alias is mapped as `alias_flags` say, the code itself by `code_flags`."""

    def go(self, code: str, alias_flags: int = TABLE | D, code_flags: int = TABLE | D) -> None:
        self.technique.cpu.memory.write(CODE_PAGE, returns(1))
        self.technique.cpu.memory.write(OTHER, returns(3))
        self.set_entry(ALIAS, CODE_PAGE | alias_flags)
        self.set_entry(CODE_PAGE, CODE_PAGE | code_flags)
        self.run("0f20d8 0f22d8" + code, r8=0)

    @property
    def result(self) -> int:
        return self.state[cs.R8]


@pytest.fixture(params=TECHNIQUES)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    made = Lab(TECHNIQUES[request.param])
    yield made
    made.close()


def collected(*values: int) -> int:
    total = 0
    for value in values:
        total = (total + value) * 2
    return total


READ_ONLY = TABLE & ~RW


@pytest.mark.parametrize(
    ("through", "alias_flags", "code_flags"),
    [
        (CODE_PAGE, TABLE | D, TABLE | D),
        (ALIAS, TABLE | D, TABLE | D),
        (ALIAS, TABLE | D | NX, TABLE | D),
        (ALIAS, TABLE | D | NX, READ_ONLY | D),  # a JIT's two views
        (ALIAS, TABLE, READ_ONLY),  # nothing is dirty yet
    ],
    ids=["itself", "writable", "not-executable", "two-views", "clean"],
)
def test_a_store(lab: Lab, through: int, alias_flags: int, code_flags: int) -> None:
    """Four times, as what guards a page may lose patience."""
    code = call(CODE_PAGE) + COLLECT
    for value in range(2, 8):
        code += store(through + 1, value) + call(CODE_PAGE) + COLLECT
    lab.go(code, alias_flags, code_flags)
    assert lab.result == collected(1, 2, 3, 4, 5, 6, 7)


def test_all_sizes_and_kinds_of_stores(lab: Lab) -> None:
    """A byte; eight bytes over the instruction; a string move; xchg; an atomic add; sixteen bytes by SSE."""
    whole = int.from_bytes(returns(9).ljust(8, b"\x90"), "little")
    code = call(CODE_PAGE) + COLLECT
    code += f"c60425{le(ALIAS + 1)}05" + call(CODE_PAGE) + COLLECT
    code += f"48b8{struct.pack('<Q', whole).hex()} 48890425{le(ALIAS)}" + call(CODE_PAGE) + COLLECT
    code += f"be{le(OTHER)} bf{le(ALIAS)} b906000000 f3a4" + call(CODE_PAGE) + COLLECT
    code += f"b807000000 870425{le(ALIAS + 1)}" + call(CODE_PAGE) + COLLECT
    code += f"f0830425{le(ALIAS + 1)}02" + call(CODE_PAGE) + COLLECT
    code += f"0f100425{le(OTHER)} 0f110425{le(ALIAS)}" + call(CODE_PAGE) + COLLECT
    lab.go(code, TABLE | D | NX)
    assert lab.result == collected(1, 5, 9, 3, 7, 9, 3)


def test_a_page_whose_mapping_changes(lab: Lab) -> None:
    """The same address, another frame; with INVLPG, with a new CR3, and back."""
    entry = L1 + (CODE_PAGE >> 12) * 8
    code = call(CODE_PAGE) + COLLECT
    code += store(entry, OTHER | TABLE | D) + f"0f013c25{le(CODE_PAGE)}" + call(CODE_PAGE) + COLLECT
    code += store(entry, CODE_PAGE | TABLE | D) + "0f20d8 0f22d8" + call(CODE_PAGE) + COLLECT
    lab.go(code)
    assert lab.result == collected(1, 3, 1)


def test_a_frame_that_is_recycled(lab: Lab) -> None:
    """Code, then data through a mapping that is not executable, then other code: the way of every process's pages."""
    entry = L1 + (CODE_PAGE >> 12) * 8
    invlpg = f"0f013c25{le(CODE_PAGE)}"
    code = call(CODE_PAGE) + COLLECT
    for value in range(4, 20):
        code += f"c70425{le(entry)}00000000" + invlpg  # nobody's
        code += store(ALIAS + 1, value)
        code += store(entry, CODE_PAGE | READ_ONLY) + invlpg + call(CODE_PAGE) + COLLECT
    lab.go(code, TABLE | D | NX)
    assert lab.result == collected(1, *range(4, 20)) & 0xFFFF_FFFF


def test_the_block_that_runs(lab: Lab) -> None:
    """A store to an instruction that follows in the same block: what is executed is the new one, as AMD promises."""
    at = AT + len(bytes.fromhex("0f20d8 0f22d8"))
    code = f"c60425{le(at + 9)}2a b807000000" + COLLECT  # the byte after b8
    lab.go(code)
    assert lab.result == collected(42)


def test_a_loop_that_counts_by_rewriting_itself(lab: Lab) -> None:
    at = AT + len(bytes.fromhex("0f20d8 0f22d8"))
    # mov ecx, 100; 1: inc byte [at + 16]; mov al, 0; movzx eax, al; add r8d, eax; dec ecx; jnz 1b
    code = f"b964000000 fe0425{le(at + 13)} b000 0fb6c0 4101c0 ffc9 75ed"
    lab.go(code)
    assert lab.result == sum(range(1, 101))


def test_what_a_device_or_the_monitor_writes(lab: Lab) -> None:
    lab.go(call(CODE_PAGE) + COLLECT)
    for value in (11, 12, 13):
        lab.technique.cpu.memory.write(ALIAS + 1, struct.pack("<I", value))
        lab.run(call(CODE_PAGE) + COLLECT, r8=0)
        assert lab.result == collected(value)


def test_code_that_begins_on_one_page_and_ends_on_the_next(lab: Lab) -> None:
    across = OTHER - 3  # the last bytes of CODE_PAGE, the first of OTHER
    lab.go("90")
    lab.technique.cpu.memory.write(across, returns(1))
    code = call(across) + COLLECT
    for value in (0x0200_0001, 0x0300_0001, 0x0400_0001):
        code += f"c60425{le(OTHER + 1)}{value >> 24:02x}" + call(across) + COLLECT
    lab.run(code, r8=0)
    assert lab.result == collected(1, 0x0200_0001, 0x0300_0001, 0x0400_0001) & 0xFFFF_FFFF


@pytest.mark.parametrize("seed", range(6))
def test_at_random(lab: Lab, seed: int) -> None:
    """Eight functions on four pages, each page mapped three ways; stores, remappings and calls as they come."""
    dice = random.Random(seed)
    frames = [DATA + 0x6000 + n * 0x1000 for n in range(4)]
    views = [[DATA + 0x2_0000 + (n * 3 + view) * 0x1000 for view in range(3)] for n in range(4)]
    content: dict[int, int] = {}  # (frame + offset) -> what is returned there
    shown: dict[int, int] = {}  # page -> frame
    write: Callable[[int, bytes], object] = lab.technique.cpu.memory.write
    for n, frame in enumerate(frames):
        for offset in (0, 0x800):
            content[frame + offset] = n + 1
            write(frame + offset, returns(n + 1))
        for page, flags in zip(views[n], (TABLE | D, TABLE | D | NX, READ_ONLY | D), strict=True):
            shown[page] = frame
            lab.set_entry(page, frame | flags)
    kinds = {page: view for pages in views for view, page in enumerate(pages)}
    expected: list[int] = []
    code = "0f20d8 0f22d8"
    for _ in range(60):
        page, offset = dice.choice(list(shown)), dice.choice([0, 0x800])
        action = dice.random()
        if action < 0.45 and kinds[page] != 1:
            code += call(page + offset) + COLLECT
            expected.append(content[shown[page] + offset])
        elif action < 0.85 and kinds[page] != 2:
            value = dice.randrange(256)
            code += store(page + offset + 1, value)
            content[shown[page] + offset] = value
        elif action >= 0.85:
            shown[page] = dice.choice(frames)
            flags = (TABLE | D, TABLE | D | NX, READ_ONLY | D)[kinds[page]]
            entry = L1 + (page >> 12) * 8
            code += store(entry, shown[page] | flags & 0xFFFF_FFFF) + f"0f013c25{le(page)}"
    lab.run(code, at=DATA + 0x8_0000, r8=0)
    assert lab.result == collected(*expected) & 0xFFFF_FFFF
