# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls at an address, or when a block is translated: for a monitor that carries out some of a deprivileged kernel's
instructions, and for observers.

The guest cannot notice a breakpoint: it is a hook in the translation of one address, not an int3 in memory. It ends the
run before the instruction. `on_break` is called after the engine has returned, so it may call `forget_code`, which the
handler of an exit must not.

It does not know who set a breakpoint, or why. Read beside it: debug.py, which has breakpoints that come and go;
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
        """Call `handler` before the instruction at `va`, in any address space; it must not change anything.

        This is no exit, and costs nothing at other addresses. The instruction must begin its block (be the target of a
        call or jump)."""
        here = partial(self._look, handler)
        self._engine.add_hook(uc.HOOK_CODE, CFUNCTYPE(None)(here), begin=va, end=va)

    def on_translated(self, handler: Callable[[int, int], object]) -> None:
        """Call `handler` with the address and bytes of each block that the engine translates, before it is run.

        `handler` must not call `forget_code`; it can call `pause`, and `on_break` can, before anything else is
        executed."""

        def translated(_engine: object, block: int, _before: object, _data: object) -> None:
            made = (c_uint64 * 2).from_address(block)
            self._look(handler, made[0], made[1] >> 16 & 0xFFFF)  # struct uc_tb: pc; icount, size

        kind = CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
        self._engine.add_hook(uc.HOOK_EDGE_GENERATED, kind(translated))

    def _look(self, handler: Callable[..., object], *arguments: int) -> None:
        """Call an observer during a run; while it runs, an engine that dies cannot be replaced."""
        words = self._words
        words[pace.IN_PYTHON] += 1
        try:
            handler(*arguments)
        except BaseException as failure:
            self._fail(failure)
        words[pace.IN_PYTHON] -= 1

    def break_at(self, va: int, user: bool = False) -> None:
        """Stop before the instruction at `va` whenever it is reached at CPL 1 (`user`: CPL 3), and call `on_break`,
        which carries out the instruction and sets RIP. Code that is translated already gets the breakpoint only after
        `forget_code`. Needs `block_stops`."""
        self._pacer.break_at(va, 3 if user else 1)

    def pause(self) -> None:
        """Call `on_break` before the next block is run."""
        self._words[pace.BROKEN] = pace.IS_BROKEN
        self._words[pace.LIMIT] = 0

    def pass_once(self) -> None:
        """In `on_break`: let the guest execute the instruction at RIP itself this time."""
        self._words[pace.BROKEN] = self.state[cs.RIP]
