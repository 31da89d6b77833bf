# SPDX-License-Identifier: GPL-2.0-or-later
"""Where translated code looks for a stop: at the start of each block, or in its middle as well.

Stock behaviour is to look behind every memory access. A stop that is seen there leaves an instruction half done, and it
is done again; so whoever may be stopped from another thread wants the first, and breakpoints need the second.

On the corrected engine this is a function; on the stock one a bool in its own structure, found by its neighbours.

Invariant: it holds for what is translated from then on. Read beside it: corrections/seam.toml; find_no_exit_request in
cpustate.py.
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
        """Look only at the start of each block, or not only."""

    @classmethod
    def find(cls, engine: Engine) -> StopSwitch | None:
        """None where the stock engine's cannot be found."""
        if seam.corrected:
            return cls(lambda wanted: seam.stop_at_blocks(engine.handle, wanted))
        address = cs.find_no_exit_request(engine)
        if address is None:
            return None
        switch = ctypes.c_uint8.from_address(address)

        def set_it(wanted: bool) -> None:
            switch.value = wanted

        return cls(set_it)
