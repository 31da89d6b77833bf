# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of a physical CPU: an engine over RAM, a few private pages, a view of the CPU state, and the pacer.

The other files of a pCPU (pcpu.py lists them) have subclasses of this class. It creates the parts, and tells two
properties that depend on the engine:

  - `live`: `state` is the engine's own memory; else it is a copy, exchanged around each run and exit;
  - `engine_stops`: the engine's own stop is safe from another thread; else the pacer stops the guest.

It does not know what the state means, nor what an exit is for. Read beside it: cpustate.py, pacer.py, seam.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_uint32
from functools import partial
from typing import Final

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import pacer as pace
from pvhv.machine import seam
from pvhv.machine.features import VENDOR, Features
from pvhv.machine.private import Private
from pvhv.machine.ram import Ram
from pvhv.machine.stops import StopSwitch
from pvhv.machine.watch import Watch


class Hardware:
    """One engine on one Ram, for one clock.

    `state` (64-bit words) and `aux` (32-bit words) view the CPU state, by cpustate's names;
    `vmcb` views the VMCB.  They are the same objects for the life of the PCPU.
    """

    def __init__(self, ram: Ram, virtual: bool, features: Features) -> None:
        self.ram: Final = ram
        self.virtual: Final = virtual
        self._features = features

    def _assemble(self, copy_state: bool, block_stops: bool) -> None:
        engine = self._engine = uc.Engine()
        self._handle = engine.handle
        engine.map(0, self.ram.size, self.ram.address)
        self.watch = Watch(engine)
        self._private = Private(engine, self.ram)
        self.vmcb = self._private.vmcb
        self.msr_permissions = self._private.msr_permissions

        cs.check_layout(engine)
        live = None if copy_state else seam.cpu_state(engine.handle) if seam.corrected else cs.find_live(engine)
        self.live = live is not None
        context = self._context = None if live is not None else cs.Context(engine)
        if context is not None:
            context.save()
        address = live if context is None else context.data
        assert address is not None
        raw = memoryview((ctypes.c_char * cs.STATE_BYTES).from_address(address)).cast("B")
        self.state = raw.cast("Q")
        self.aux = raw.cast("I")
        self._saved = raw[: cs.SAVED_BYTES]
        self._fpu = raw[cs.FPU_BEGIN : cs.SAVED_BYTES]

        switch = self._switch = None if block_stops else StopSwitch.find(engine)
        if switch is not None:
            switch.at_blocks(True)
        # Whether a stop from another thread is safe as the engine does it; else the pacer stops us.
        self.engine_stops = switch is not None and not self.virtual

        pointer = context.pointer if context is not None else None
        self._pacer = pace.Pacer(engine, self.ram, address, cs.ERROR_CODE * 4, pointer)
        self._words = self._pacer.words
        self.enter_engine = self._starter()

    def _starter(self) -> Callable[[int], int]:
        """The function that runs guest code from an address and returns the engine's error code."""
        handle = self._handle
        if not seam.corrected:
            return lambda rip: int(uc.uc_emu_start(handle, rip, 0, 0, 0))
        seam.catch_signals()
        seam.keep_features(handle, (c_uint32 * 3)(*VENDOR), (c_uint32 * len(self._features))(*self._features))
        seam.watch_words(handle, *map(self._pacer.address_of, (pace.STOP, pace.IN_PYTHON, pace.USER_ROOT)))
        self._pacer.have_io_asked_for()
        return partial(seam.run, handle)

    def _end_run(self) -> None:
        """Stop the running guest before its next block."""
        words = self._words
        words[pace.STOP] = 1
        words[pace.LIMIT] = 0
        if self.engine_stops:
            uc.uc_emu_stop(self._handle)

    def _on_engine(self, call: Callable[..., None]) -> None:
        """Make a call that works on the engine's own state, even if `state` is a copy."""
        context = self._context
        if context is None:
            call(self._handle)
        else:
            context.restore()
            call(self._handle)
            context.save()
