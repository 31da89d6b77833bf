# SPDX-License-Identifier: GPL-2.0-or-later
"""`hw-nested`: hardware assistance with nested paging, on the engine's own AMD-V.

The guest keeps its page tables, its control registers and its exceptions to itself. Its exits are those of hardware.py,
and nested page faults at guest-physical pages that the nested tables do not map yet.

Read beside it: AMD's manual volume 2, 15.25 (nested paging); npt.py.
"""

from __future__ import annotations

from typing import ClassVar

from pvhv.hvm import names
from pvhv.hvm.techniques.flushes import FlushesCounted
from pvhv.hvm.techniques.hardware import HardwareAssisted


class HwNested(FlushesCounted, HardwareAssisted):
    """AMD-V with NPT."""

    name: ClassVar[str] = names.HW_NESTED
    counted = FlushesCounted.counted | {"nested_fills"}

    def first_touch(self, gpa: int) -> None:
        self.counts.exit("NPF", f"{gpa:#x}")
        self.counts.add("nested_fills")
