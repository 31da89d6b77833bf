# SPDX-License-Identifier: GPL-2.0-or-later
"""`bare`: no hypervisor. The baseline that everything else is compared with.

Nothing that happens is an exit. What pvhv does here is what the engine leaves undone of the processor, and the devices;
the nested tables underneath are how the engine is kept to the guest's memory, and stand for no hardware either.
"""

from __future__ import annotations

from typing import ClassVar

from pvhv.hvm import names
from pvhv.hvm.techniques.flushes import FlushesCounted


class Bare(FlushesCounted):
    """A machine of its own."""

    name: ClassVar[str] = names.BARE
    monitored = False
