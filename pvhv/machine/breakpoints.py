# SPDX-License-Identifier: GPL-2.0-or-later
"""To be called at an address, or at code that is new: for a hypervisor that does some of a deprivileged kernel's
instructions itself, and for whoever only looks.

None of it can be seen by the guest: a breakpoint is a hook in the translation of one address, not an int3 in memory. It
ends the run before the instruction, and `on_break` is called when the engine has returned, so that there code may be
forgotten, which no handler of an exit may do.

It does not know who set a breakpoint, or what for. Read beside it: debug.py, which has breakpoints that come and go;
pacer_code.h; pvhv/hvm/monitor/translator.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_uint64
from functools import partial

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import pacer as pace
from pvhv.machine.exits import Exits, Handler
from pvhv.machine.features import Features
from pvhv.machine.ram import Ram


class Breakpoints(Exits):
    """The breakpoints of one pCPU."""

    def __init__(self, ram: Ram, virtual: bool, features: Features) -> None:
        super().__init__(ram, virtual, features)
        self.on_break: Handler = lambda: None

    def on_address(self, va: int, handler: Handler) -> None:
        """Call `handler` before the instruction at `va`, wherever that is mapped: to look, not to change anything.

        It is no exit, and costs nothing elsewhere. The instruction must begin its block (be called or jumped to)."""
        here = partial(self._look, handler)
        self._engine.add_hook(uc.HOOK_CODE, CFUNCTYPE(None)(here), begin=va, end=va)

    def on_translated(self, handler: Callable[[int, int], object]) -> None:
        """Call `handler` with the address and bytes of each block that the engine translates, before it is run.

        No guest code may be forgotten there; `pause` lets `on_break` do so before anything else is executed."""

        def translated(_engine: object, block: int, _before: object, _data: object) -> None:
            made = (c_uint64 * 2).from_address(block)
            self._look(handler, made[0], made[1] >> 16 & 0xFFFF)  # struct uc_tb: pc; icount, size

        kind = CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
        self._engine.add_hook(uc.HOOK_EDGE_GENERATED, kind(translated))

    def _look(self, handler: Callable[..., object], *arguments: int) -> None:
        """Call what looks on, in mid-run: an engine that dies meanwhile cannot be left."""
        words = self._words
        words[pace.IN_PYTHON] += 1
        try:
            handler(*arguments)
        except BaseException as failure:
            self._fail(failure)
        words[pace.IN_PYTHON] -= 1

    def break_at(self, va: int, user: bool = False) -> None:
        """Stop before the instruction at `va` whenever that is reached at CPL 1 (`user`: CPL 3), and call `on_break`,
        which does it and leaves RIP where the guest goes on. Code translated before keeps what it has until it is
        forgotten. Needs `block_stops`."""
        self._pacer.break_at(va, 3 if user else 1)

    def pause(self) -> None:
        """Have `on_break` called before the next block is run."""
        self._words[pace.BROKEN] = pace.IS_BROKEN
        self._words[pace.LIMIT] = 0

    def pass_once(self) -> None:
        """In `on_break`: let the guest execute the instruction at RIP itself this time."""
        self._words[pace.BROKEN] = self.state[cs.RIP]
