# SPDX-License-Identifier: GPL-2.0-or-later
"""Where translated code checks for a stop: at the start of each block only, or inside it as well.

By default the engine checks after every memory access. A stop that is noticed there leaves an instruction half done,
and the instruction is executed again. So a guest that may be stopped from another thread needs checks at the start of
blocks only; breakpoints need the checks inside.

On the corrected engine this is set by a function; on the stock one by a bool in its structure, found by the fields
around it.

Invariant: a change applies to blocks that are translated afterwards. Read beside it: corrections/seam.toml;
find_no_exit_request in cpustate.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from pvhv.machine import cpustate as cs
from pvhv.machine import seam
from pvhv.machine.engine import Engine


class StopSwitch:
    """The switch of one engine."""

    def __init__(self, set_it: Callable[[bool], object]) -> None:
        self.at_blocks = set_it
        """Call with True to check only at the start of each block, with False to check inside it as well."""

    @classmethod
    def find(cls, engine: Engine) -> StopSwitch | None:
        """The switch of an engine; None if the stock engine's cannot be found."""
        if seam.corrected:
            return cls(lambda wanted: seam.stop_at_blocks(engine.handle, wanted))
        address = cs.find_no_exit_request(engine)
        if address is None:
            return None
        switch = ctypes.c_uint8.from_address(address)

        def set_it(wanted: bool) -> None:
            switch.value = wanted

        return cls(set_it)
