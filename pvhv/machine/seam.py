# SPDX-License-Identifier: GPL-2.0-or-later
"""The corrected engine's own interface: what the stock one has to be searched for.

corrections/seam.c declares the functions; a number, SEAM_VERSION there and here, says that both mean the same.

Invariant: where `present`, every function named here is the library's and means what is said here. Elsewhere (the stock
engine) the machine finds what it can by looking (cpustate.py), or does without.
"""

from __future__ import annotations

from ctypes import c_char_p, c_int, c_uint32, c_void_p
from typing import Any, Final

from pvhv.machine import engine as uc

_VERSION: Final = 1


class SeamMismatch(ImportError):
    """The engine on disk was built for another version of pvhv."""


present: Final = uc.corrected


def _check() -> None:
    version = uc.function("pvhv_seam_version", result=c_uint32)()
    if version != _VERSION:
        raise SeamMismatch(
            f"{uc.path} is of another version of pvhv (its interface is {version}, ours {_VERSION}): "
            "build again with python3 tools/dev.py build, or install pvhv again"
        )


def _of_engine(name: str, *arguments: Any, result: Any = c_int) -> Any:
    """A function of seam.c; it may only be called where `present`."""
    return uc.function(name, c_void_p, *arguments, result=result) if present else None


if present:
    _check()

cpu_state = _of_engine("pvhv_cpu_state", result=c_void_p)
stop_at_blocks = _of_engine("pvhv_stop_at_blocks", c_int, result=None)


def build_id() -> str:
    """Which source and corrections the loaded engine was made of; "stock" for the published one."""
    return bytes(uc.function("pvhv_build_id", result=c_char_p)()).decode() if present else "stock"
