# SPDX-License-Identifier: GPL-2.0-or-later
"""The corrected engine's own interface: what the stock one has to be searched for.

corrections/seam.c declares the functions; a number, SEAM_VERSION there and here, says that both mean the same.

Invariant: where `corrected`, every function named here is the library's and means what is said here. Elsewhere (the
stock engine) the machine finds what it can by looking (cpustate.py), or does without.
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from typing import Any, Final

from pvhv.machine import engine as uc

_VERSION: Final = 3


class SeamMismatch(ImportError):
    """The engine on disk was built for another version of pvhv."""


corrected: Final = uc.corrected


def _check() -> None:
    version = uc.function("pvhv_seam_version", result=c_uint32)()
    if version != _VERSION:
        raise SeamMismatch(
            f"{uc.path} is of another version of pvhv (its interface is {version}, ours {_VERSION}): "
            "build again with python3 tools/dev.py build, or install pvhv again"
        )


class Death(ctypes.Structure):
    """struct death of corrections/death.c: how an engine died."""

    _fields_ = [
        ("signal", c_uint32),
        ("address", c_uint64),
        ("data", c_uint64),
        ("place", ctypes.c_char * 64),
        ("text", ctypes.c_char * 176),
    ]

    def said(self) -> str:
        """In words: what failed, and where in the engine."""
        place, text = (bytes(field).decode(errors="replace") for field in (self.place, self.text))
        if not self.signal:
            return f"the engine gave up ({text}, at {place})"
        data = f", accessing {self.data:#x}" if self.signal in (signal.SIGSEGV, signal.SIGBUS) else ""
        return f"the engine died ({signal.Signals(self.signal).name} at {place}{data})"


def _of_engine(name: str, *arguments: Any, result: Any = c_int, guest_runs: bool = False) -> Any:
    """A function of seam.c or death.c; it may only be called where `corrected`."""
    if not corrected:
        return None
    return uc.function(name, c_void_p, *arguments, result=result, guest_runs=guest_runs)


if corrected:
    _check()

cpu_state = _of_engine("pvhv_cpu_state", result=c_void_p)
stop_at_blocks = _of_engine("pvhv_stop_at_blocks", c_int, result=None)
watch_words = _of_engine("pvhv_watch_words", c_void_p, c_void_p, c_void_p, result=None)
limit_blocks = _of_engine("pvhv_limit_blocks", c_uint32, result=None)
flush_page = _of_engine("pvhv_flush_page", c_uint64, result=None)
forget_code = _of_engine("pvhv_forget_code", c_uint64, result=None)
keep_features = _of_engine("pvhv_keep_features", POINTER(c_uint32), POINTER(c_uint32), result=None)
ask_before_io = _of_engine("pvhv_ask_before_io", c_void_p, c_void_p, result=None)
refuse_io = _of_engine("pvhv_refuse_io", result=None)
debug_registers = _of_engine("pvhv_debug_registers", result=None)
watch = _of_engine("pvhv_watch", c_uint64, c_uint64, c_int)
watch_nothing = _of_engine("pvhv_watch_nothing", result=None)
_watch_hit = _of_engine("pvhv_watch_hit", c_int, POINTER(c_uint64), POINTER(c_uint64), POINTER(c_int))
return_to_host = _of_engine("pvhv_return_to_host", c_uint32, c_uint64, result=None)
run = _of_engine("pvhv_run", c_uint64, guest_runs=True)
reopen = _of_engine("pvhv_reopen")
fail_here = _of_engine("pvhv_fail")  # as the callback of a hook, with how as its data: a signal, or 0

DIED: Final = 1000  # what `run` returns, beside unicorn's errors


def catch_signals() -> None:
    """Have the signals of a dying engine come to death.c, also where others have put handlers since."""
    if corrected:
        uc.function("pvhv_catch_signals", result=None)()


# What runs on an engine now, in words: death.c's last ones, should the process die.
_runs = ctypes.create_string_buffer(64)


def note_running(what: str) -> None:
    """Say what runs from now on, for whoever reads the log of a process that died."""
    _runs.value = what.encode()[:63]


def tell_last_words(descriptor: int) -> None:
    """Have a process that dies by a signal say so in a line there, and what ran on the engine last."""
    if corrected:
        uc.function("pvhv_tell_last_words", c_int, c_void_p, result=None)(descriptor, ctypes.addressof(_runs))


def how_it_died() -> Death:
    """What this thread's last run that returned DIED died of."""
    death = Death()
    uc.function("pvhv_how_it_died", POINTER(Death), result=None)(ctypes.byref(death))
    return death


def hits(engine: int) -> Iterator[tuple[int, int, int]]:
    """What was hit of what is watched: address, size, accesses."""
    address, size, accesses = c_uint64(), c_uint64(), c_int()
    nth = 0
    while _watch_hit(engine, nth, ctypes.byref(address), ctypes.byref(size), ctypes.byref(accesses)):
        yield address.value, size.value, accesses.value
        nth += 1


def build_id() -> str:
    """Which source and corrections the loaded engine was made of; "stock" for the published one."""
    return bytes(uc.function("pvhv_build_id", result=c_char_p)()).decode() if corrected else "stock"
