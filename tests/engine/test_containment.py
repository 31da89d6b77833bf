# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing that is translated or executed ends the process, or reaches further than its domain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.machine import svm
from pvhv.machine.cpustate import ERROR_CODE, RAX, RBX, RIP
from tests.machine.lab import CODE, DATA, USER_CODE, USER_DATA, Done, Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def outcome(lab: Lab, code: str, cpl: int) -> int | None:
    """The vector that `code`, followed by a syscall, raises at its first byte; None if it gets to the syscall."""
    seen: list[int] = []

    def handler(vector: int) -> None:
        seen.append(vector)
        raise Done

    for vector in range(32):
        lab.pcpu.on_exception[vector] = lambda vector=vector: handler(vector)  # type: ignore[misc]
    at = lab.put(code + "0f05", CODE if cpl == 1 else USER_CODE)
    lab.state[RAX], lab.state[RBX] = 1, DATA if cpl == 1 else USER_DATA
    lab.run(at, cpl)
    if not seen:
        return None
    assert lab.state[RIP] == at and lab.aux[ERROR_CODE] == 0
    return seen[0]


# LOCK BT, BTS, BTR, BTC of a register; of a register by a constant; with REX.W; and what has no locked form at all.
UNLOCKABLE = (
    "f00fa3c0 f00fabc0 f00fb3c3 f00fbbd8 f00fbae005 f00fbae805 f00fbaf005 f00fbaf805 f0480fa3c0 f0480fabc0 "
    "f00fa303 f00fba2305 f08903 f08b03 f090 f03903 f0833b01 f001c0 f0480303 f0ff33 f00fc7f0 f00f0b"
).split()
LOCKED = (
    "f00103 f0480903 f0833301 f0f613 f0f71b f0ff03 f0fe0b f00fab03 f00fba2b05 f00fb10b f00fc10b f08703 f00fc70b"
).split()


@pytest.mark.parametrize("cpl", [1, 3])
@pytest.mark.parametrize("code", UNLOCKABLE)
def test_lock_on_what_cannot_take_it_is_an_undefined_opcode(lab: Lab, code: str, cpl: int) -> None:
    assert outcome(lab, code, cpl) == svm.UD


@pytest.mark.parametrize("code", LOCKED)
def test_lock_on_what_takes_it_is_executed(lab: Lab, code: str) -> None:
    assert outcome(lab, code, 3) is None


@pytest.mark.parametrize("reg", range(1, 8))
def test_only_the_first_form_of_8f_is_pop(lab: Lab, reg: int) -> None:
    assert outcome(lab, f"8f{0xC0 | reg << 3:02x}", 3) == svm.UD
