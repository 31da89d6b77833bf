# SPDX-License-Identifier: GPL-2.0-or-later
"""`trap-emulate`: the classic virtual machine monitor, on a processor that was not made for it.

The guest's kernel is deprivileged, and everything that the processor refuses to it traps and is emulated, one exit for
each instruction. What does not trap is executed, and tells the kernel things that are not true of its machine, or
leaves undone what it was told to do (POPF); a kernel that relies on such an instruction goes wrong here, and this
technique does nothing about it. `pvhv classify` says which these are.

Read beside it: monitor.py; Popek and Goldberg, "Formal requirements for virtualizable third generation architectures"
(1974).
"""

from __future__ import annotations

from typing import ClassVar

from pvhv.hvm import names
from pvhv.hvm.monitor.monitor import SoftwareMonitor


class TrapEmulate(SoftwareMonitor):
    """Trap and emulate."""

    name: ClassVar[str] = names.TRAP_EMULATE
