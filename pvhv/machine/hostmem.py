# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading our own process's memory without crashing on a bad pointer.

The live CPU state is found by following pointers through a structure whose layout is not public.  Some of the words
tried are not pointers, so they are not dereferenced: the host's kernel is asked to copy the bytes, and fails if nothing
is mapped there.

Invariant: `read_safely` never faults; it returns the bytes, or None.

Not modelled: Linux is tested; macOS (vm_read_overwrite) and Windows (ReadProcessMemory) are
written from their documentation.  Elsewhere None is always returned, and a pCPU works on
saved contexts instead of the live state.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from ctypes import c_size_t, c_uint32, c_uint64, c_void_p

Reader = Callable[[int, int], bytes | None]


def _linux() -> Reader:
    libc = ctypes.CDLL(None, use_errno=True)
    call = libc.process_vm_readv
    call.restype = ctypes.c_ssize_t

    class IOVector(ctypes.Structure):
        _fields_ = [("base", c_void_p), ("length", c_size_t)]

    def read(address: int, size: int) -> bytes | None:
        buffer = ctypes.create_string_buffer(size)
        local = IOVector(ctypes.addressof(buffer), size)
        remote = IOVector(address, size)
        got = call(os.getpid(), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
        if got == size:
            return buffer.raw
        return from_proc(address, size) if got < 0 and ctypes.get_errno() != 14 else None  # 14: EFAULT

    def from_proc(address: int, size: int) -> bytes | None:
        # Some sandboxes forbid the system call but not the file.
        try:
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                memory.seek(address)
                data = memory.read(size)
        except (OSError, OverflowError, ValueError):
            return None
        return data if len(data) == size else None

    return read


def _macos() -> Reader:
    library = ctypes.CDLL(None)
    task = c_uint32.in_dll(library, "mach_task_self_").value
    call = library.vm_read_overwrite
    call.argtypes = [c_uint32, c_uint64, c_uint64, c_uint64, c_void_p]

    def read(address: int, size: int) -> bytes | None:
        buffer, got = ctypes.create_string_buffer(size), c_uint64()
        code = call(task, address, size, ctypes.addressof(buffer), ctypes.addressof(got))
        return buffer.raw if code == 0 and got.value == size else None

    return read


def _windows() -> Reader:
    kernel32 = getattr(ctypes, "WinDLL")("kernel32")  # noqa: B009 (mypy: Windows only)
    kernel32.GetCurrentProcess.restype = c_void_p
    call = kernel32.ReadProcessMemory
    call.argtypes = [c_void_p, c_void_p, c_void_p, c_size_t, c_void_p]

    def read(address: int, size: int) -> bytes | None:
        buffer, got = ctypes.create_string_buffer(size), c_size_t()
        done = call(kernel32.GetCurrentProcess(), address, buffer, size, ctypes.addressof(got))
        return buffer.raw if done and got.value == size else None

    return read


def reader() -> Reader:
    """The function by which this host reads its own memory safely."""
    makers = {"linux": _linux, "darwin": _macos, "win32": _windows}
    try:
        return makers[sys.platform]()
    except (KeyError, OSError, AttributeError, ValueError):
        return lambda address, size: None


read_safely = reader()
