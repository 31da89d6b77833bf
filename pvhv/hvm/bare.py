# SPDX-License-Identifier: GPL-2.0-or-later
"""`bare`: no hypervisor. The baseline that everything else is compared with.

The engine has nothing but the guest's memory, from physical address 0 on, and the guest has the whole machine; nothing
that happens is an exit. What pvhv does here is what the engine leaves undone of the processor, and the devices.
"""

from __future__ import annotations

from typing import ClassVar

from pvhv.hvm.native import NativeTechnique


class Bare(NativeTechnique):
    """A machine of its own."""

    name: ClassVar[str] = "bare"
    own_machine: ClassVar[bool] = True
    monitored = False
