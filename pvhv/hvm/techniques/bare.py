# SPDX-License-Identifier: GPL-2.0-or-later
"""`bare`: no hypervisor. The baseline that everything else is compared with.

There are no exits. pvhv only does what the engine leaves undone of the processor, and the devices. The nested tables
below confine the engine to the guest's memory; they represent no hardware.
"""

from __future__ import annotations

from typing import ClassVar

from pvhv.hvm import names
from pvhv.hvm.techniques.flushes import FlushesCounted


class Bare(FlushesCounted):
    """The guest runs as on a machine of its own."""

    name: ClassVar[str] = names.BARE
    monitored = False
