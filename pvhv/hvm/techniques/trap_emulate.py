# SPDX-License-Identifier: GPL-2.0-or-later
"""`trap-emulate`: the classic virtual machine monitor, on a processor that was not made for it.

The guest's kernel is deprivileged. Every instruction that the processor refuses there traps and is emulated, one exit
for each. A sensitive instruction that does not trap is executed as it is: it shows the kernel the monitor's state
instead of the guest's, or has no effect (POPF). A kernel that relies on such an instruction fails under this technique.
`pvhv classify` lists these instructions.

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
