# SPDX-License-Identifier: GPL-2.0-or-later
"""The corrected engine's own interface: functions for what has to be found by search in the stock engine.

corrections/seam.c defines the functions. SEAM_VERSION there must equal _VERSION here, so that both files match.

Invariant: if `corrected`, every function named here exists in the library. If not (the stock engine), they are None,
and the machine searches the engine's memory instead (cpustate.py), or does without.
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
        """A sentence: what failed, and where in the engine."""
        place, text = (bytes(field).decode(errors="replace") for field in (self.place, self.text))
        if not self.signal:
            return f"the engine gave up ({text}, at {place})"
        data = f", accessing {self.data:#x}" if self.signal in (signal.SIGSEGV, signal.SIGBUS) else ""
        return f"the engine died ({signal.Signals(self.signal).name} at {place}{data})"


def _of_engine(name: str, *arguments: Any, result: Any = c_int, guest_runs: bool = False) -> Any:
    """A function of seam.c or death.c; None unless `corrected`."""
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
    """Install death.c's signal handlers again, in case another library has replaced them."""
    if corrected:
        uc.function("pvhv_catch_signals", result=None)()


# What runs on an engine now, in words: death.c's last ones, should the process die.
_runs = ctypes.create_string_buffer(64)


def note_running(what: str) -> None:
    """Note what runs from now on; death.c writes it to the log if the process dies."""
    _runs.value = what.encode()[:63]


def tell_last_words(descriptor: int) -> None:
    """If the process dies by a signal, write a line to `descriptor` that says so, and what ran on the engine last."""
    if corrected:
        uc.function("pvhv_tell_last_words", c_int, c_void_p, result=None)(descriptor, ctypes.addressof(_runs))


def how_it_died() -> Death:
    """The cause of this thread's last run that returned DIED."""
    death = Death()
    uc.function("pvhv_how_it_died", POINTER(Death), result=None)(ctypes.byref(death))
    return death


def hits(engine: int) -> Iterator[tuple[int, int, int]]:
    """The watchpoints that were hit: (address, size, accesses)."""
    address, size, accesses = c_uint64(), c_uint64(), c_int()
    nth = 0
    while _watch_hit(engine, nth, ctypes.byref(address), ctypes.byref(size), ctypes.byref(accesses)):
        yield address.value, size.value, accesses.value
        nth += 1


def build_id() -> str:
    """An id of the source and corrections that the engine was built from; "stock" for the published one."""
    return bytes(uc.function("pvhv_build_id", result=c_char_p)()).decode() if corrected else "stock"
