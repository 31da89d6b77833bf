# SPDX-License-Identifier: GPL-2.0-or-later
"""The yardsticks: the same guest code in an engine without a hypervisor, and the cost of an empty callback.

A `Bare` is a fresh engine of the published kind (unicorn as its authors build it: a yardstick must not change with what
is measured) over the same RAM, with the page tables that the domain builder made for a benchmark
kernel, CPL 1 and `no_exit_request` set (cpustate.py), but no AMD-V and no hooks. It enters the
kernel at `bare_entry(loop, count)`, which times the loop with rdtsc, as the kernel itself does when it runs as a guest,
and ends at a ud2, which stops an engine that has no hook for it.

An *eased* one looks for a stop as cheaply as the hypervisor's engines do on the wall clock (pacer_ease.h): that is the
same engine made faster, with no hypervisor behind it.

A *callback* is one round of the loop `int 0x20; dec; jnz` in such an engine with one hook: an empty ctypes function
for UC_HOOK_INTR, registered through the C API. It is measured from guest instruction to guest instruction, as are the
round trips that are expressed in it; so it includes the time the engine takes to leave translated code and to come
back. The row `callback_in_c` (rows.py) is the same with a C function; the difference is the time of ctypes and Python.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
from ctypes import CFUNCTYPE, c_int
from typing import Any

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as ours
from pvhv.machine import pacer
from pvhv.machine.ram import Ram


def _published() -> Any:
    """engine.py once more, on the library that the `unicorn` package carries."""
    spec = importlib.util.spec_from_file_location("published_engine", ours.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    chosen = os.environ.get("PVHV_ENGINE")
    os.environ["PVHV_ENGINE"] = "stock"
    try:
        spec.loader.exec_module(module)
    finally:
        del os.environ["PVHV_ENGINE"]
        if chosen is not None:
            os.environ["PVHV_ENGINE"] = chosen
    return module


uc = _published()
STOPPED_AT_UD2 = 10  # UC_ERR_INSN_INVALID


_SCHEDSTAT = "/proc/thread-self/schedstat"


def lost_ns() -> int:
    """For how many ns this thread was ready to run, and other processes ran; 0 where the host does not count that."""
    try:
        descriptor = os.open(_SCHEDSTAT, os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(descriptor, 64).split()[1])
    finally:
        os.close(descriptor)


def without(lost: float, took: float) -> float:
    """A time without what other processes took of it. If that is most of the time, some of it was before or after."""
    return took - lost if lost < took / 2 else took


class Context:
    """A saved copy of a published engine's CPU state, seen at `data`."""

    def __init__(self, engine: Any) -> None:
        pointer = ctypes.c_void_p()
        uc.check("uc_context_alloc", uc.uc_context_alloc(engine.handle, ctypes.byref(pointer)))
        self._engine, self._pointer = engine, pointer
        self.data = (pointer.value or 0) + uc.uc_context_size(engine.handle) - cs.STATE_BYTES

    def save(self) -> None:
        uc.check("uc_context_save", uc.uc_context_save(self._engine.handle, self._pointer))

    def restore(self) -> None:
        uc.check("uc_context_restore", uc.uc_context_restore(self._engine.handle, self._pointer))


class Bare:
    """A fresh engine on `ram` with the page tables at `cr3`; `initial` is a pCPU's saved context to begin with."""

    def __init__(self, ram: Ram, cr3: int, initial: bytes, entry: int) -> None:
        self.entry = entry
        self.engine = uc.Engine()
        self.engine.map(0, ram.size, ram.address)
        switch = cs.find_no_exit_request(self.engine)
        if switch is not None:
            ctypes.c_uint8.from_address(switch).value = 1
        self.context = Context(self.engine)
        self.context.save()
        ctypes.memmove(self.context.data, initial, len(initial))
        words = (ctypes.c_uint64 * (cs.STATE_BYTES // 8)).from_address(self.context.data)
        words[cs.HFLAGS] &= ~(cs.HF_SVME | cs.HF_GUEST)
        words[cs.CR3] = cr3
        words[cs.CR4] &= ~(1 << 2)  # TSD
        self.words = words

    def ease(self, ram: Ram) -> bool:
        """Have the engine's blocks eased; to be called before any is translated. Returns False if the CPU state is not
        found."""
        live = cs.find_live(self.engine)
        if live is None:
            return False
        self._pacer = pacer.Pacer(self.engine, ram, live, cs.ERROR_CODE * 4, None)
        words = self._pacer.words
        words[pacer.EMU_STOP], words[pacer.CTL] = pacer.address(uc.uc_emu_stop), pacer.address(uc.uc_ctl)
        self.engine.add_hook(uc.HOOK_BLOCK, pacer.address(pacer.library().pacer_ease), self._pacer.pointer)
        return True

    def run(self, loop: int, count: int) -> int:
        """Run `count` rounds of the loop at address `loop`. Returns ticks of the TSC."""
        engine, words = self.engine, self.words
        words[cs.RDI], words[cs.RSI], words[cs.RIP] = loop, count, self.entry
        self.context.restore()
        uc.uc_ctl(engine.handle, uc.CTL_FLUSH_TLB)
        address = self.entry
        while not (error := uc.uc_emu_start(engine.handle, address, 0, 0, 0)):
            address = engine.register(uc.REG_RIP)  # easing its first block stopped it
        if error != STOPPED_AT_UD2:
            raise uc.EngineError("the bare engine did not come to its end", error)
        return engine.register(uc.REGS_GENERAL[cs.RAX])

    def run_in_pieces(self, loop: int, count: int, period: float) -> int:
        """`run`, but stopped from another thread every `period` seconds and started again at once."""
        engine, words = self.engine, self.words
        words[cs.RDI], words[cs.RSI] = loop, count
        self.context.restore()
        uc.uc_ctl(engine.handle, uc.CTL_FLUSH_TLB)
        done = threading.Event()

        def stopper() -> None:
            while not done.wait(period):
                uc.uc_emu_stop(engine.handle)

        thread = threading.Thread(target=stopper, daemon=True)
        thread.start()
        address = self.entry
        while not (error := uc.uc_emu_start(engine.handle, address, 0, 0, 0)):
            address = engine.register(uc.REG_RIP)
        done.set()
        thread.join()
        if error != STOPPED_AT_UD2:
            raise uc.EngineError("the bare engine did not come to its end", error)
        return engine.register(uc.REGS_GENERAL[cs.RAX])

    def hook_python(self) -> None:
        """Hook exits by an empty ctypes callback."""
        self.engine.add_hook(uc.HOOK_INTR, CFUNCTYPE(None, c_int, c_int)(lambda engine, number: None))

    def hook_c(self) -> None:
        """Hook exits by a C function (it reads the TSC, since there is no function that does nothing)."""
        self.engine.add_hook(uc.HOOK_INTR, pacer.address(pacer.library().pacer_tsc))

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()
