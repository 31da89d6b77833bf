# SPDX-License-Identifier: GPL-2.0-or-later
"""That the proof would see it: privilege that comes without an exit, a case that does not end, a difference anywhere.

The faults are planted by the bench's own handlers, for a corrected engine has none to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pvhv.machine import svm
from tests.engine import bench, judge, opcode_map, processor
from tests.engine import records as r
from tests.engine.compare import difference
from tests.engine.records import Outcome, Task

needs_processor = pytest.mark.skipif(not processor.is_native(), reason="needs Linux on x86-64, to ask the processor")


@pytest.fixture(scope="module")
def machine() -> Iterator[bench.Bench]:
    made = bench.Bench()
    yield made
    made.pcpu.close()


def nop(cpl: int = 3) -> Task:
    return replace(opcode_map.task(b"", 1, 0x90, None, False), cpl=cpl)


def execute(machine: bench.Bench, task: Task) -> Outcome:
    return machine.execute(r.unpack_task(task.pack(), 0))


def planted(machine: bench.Bench, change: Callable[[], None], cpl: int) -> int:
    """How the task ends whose fault is answered by `change`."""
    usual = machine.pcpu.on_exception[svm.GP]

    def fault() -> None:
        usual()
        change()

    machine.pcpu.on_exception[svm.GP] = fault
    try:
        return execute(machine, nop(cpl)).kind
    finally:
        machine.pcpu.on_exception[svm.GP] = usual


@pytest.mark.parametrize("cpl", [1, 3])
def test_a_lower_ring_is_a_breach(machine: bench.Bench, cpl: int) -> None:
    assert planted(machine, lambda: machine.pcpu.set_cpl(cpl - 1), cpl) == r.BREACH
    assert execute(machine, nop(cpl)).kind == svm.GP  # and nothing of it is left


@pytest.mark.parametrize("name", bench.WATCHED)
def test_what_no_guest_may_change_is_a_breach(machine: bench.Bench, name: str) -> None:
    def change() -> None:
        machine.state[bench.WATCHED[name]] ^= 1 << 4

    kind = planted(machine, change, 1)
    assert kind == r.BREACH + r.BREACHES.index("a ring that is not CS's") + 1 + list(bench.WATCHED).index(name)
    assert execute(machine, nop(1)).kind == svm.GP


def test_a_fall_outwards_is_told(machine: bench.Bench) -> None:
    task = nop(1)
    usual = execute(machine, task)
    fallen = usual._replace(selectors=(0, 0x33, 0x2B, 0, 0, 0))
    assert judge.verdict(task, usual, None) is None
    assert judge.verdict(task, fallen, None) == "falls to ring 3"
    assert judge.verdict(replace(task, name="64 cpl1 iret64 outwards"), fallen, None) is None


def test_every_part_of_an_outcome_is_compared(machine: bench.Bench) -> None:
    task = nop()
    right = execute(machine, task)
    assert right.ended and difference(task, right, right) is None
    fx = bytearray(right.fx)
    fx[24] ^= 0x21
    wrong = {
        "another r9": right._replace(regs=(*right.regs[:9], 1, *right.regs[10:])),
        "another CF OF": right._replace(rflags=right.rflags ^ 0x801),
        "another gs": right._replace(selectors=(*right.selectors[:5], 0x2B)),
        "another fs.base": right._replace(bases=(1, right.bases[1])),
        "another mxcsr:IE+PE": right._replace(fx=bytes(fx)),
        "another st": right._replace(fx=right.fx[:41] + b"\x55" + right.fx[42:]),
        "another xmm": right._replace(fx=right.fx[:-1] + b"\x55"),
        "another memory": right._replace(changes=1, changed=((0x800, 5),)),
        "ends #UD, not #GP(0x0) behind it (1)": right._replace(kind=6, rip=r.CODE + r.AT),
        "ends #GP(0x0) behind it (2), not #GP(0x0) behind it (1)": right._replace(rip=right.rip + 1),
    }
    assert {line: difference(task, outcome, right) for line, outcome in wrong.items()} == {line: line for line in wrong}


def test_undefined_flags_are_not_compared(machine: bench.Bench) -> None:
    task = opcode_map.task(b"\x48", 0x0F, 0xAF, 0xC2, False)  # imul: of the six only CF and OF are defined
    right = execute(machine, task)
    assert difference(task, right._replace(rflags=right.rflags ^ 0xD4), right) is None
    assert difference(task, right._replace(rflags=right.rflags ^ 0x801), right) == "another CF OF"


@needs_processor
def test_the_processor_is_not_stopped_by_a_case(tmp_path: Path) -> None:
    """Endless ones, system calls, single steps, flags and segments that stay: the next case is as the first."""
    cases = {
        "ebfe": r.ENDLESS, "b83c000000 0f05": r.SYSCALL, "31c0 cd80": r.INT80, "cc": 3, "0f0b": 6, "31c0 f7f0": 0,
        "fd 9c 810c2400404400 9d": 13, "b82b000000 8ed8 8ec0 8ee0": 13, "0f28442401": 13,
    }  # fmt: skip
    usual = nop()
    tasks = [usual]
    for code in cases:
        tasks += [replace(usual, code=bytes.fromhex(code)), usual]
    outcomes = processor.run(tasks, tmp_path)
    assert [o.kind for o in outcomes[1::2]] == list(cases.values())
    assert all(o == outcomes[0] for o in outcomes[::2])
