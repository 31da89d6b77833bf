# SPDX-License-Identifier: GPL-2.0-or-later
"""The interface to libunicorn: raw ctypes, no wrapper object on any hot path.

The high-level `unicorn.Uc` class costs 0.3 to 2 us a callback and about 1 us a register; the C functions behind it cost
a tenth of that when called with converted arguments.  So this file loads the library (the one that pvhv/build made,
else the one that the installed `unicorn` package carries) and names the functions the machine uses.  An `Engine` is one
x86-64 CPU without policy.

Invariant: callbacks handed to `add_hook` live as long as the Engine (ctypes would otherwise
free the trampoline that the engine still calls).

It does not know where the CPU state lies (cpustate.py), what an exit means (exits.py), or
anything of Xen.  Read beside it: unicorn's include/unicorn/unicorn.h.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import mmap
import os
import platform
import sys
from ctypes import POINTER, byref, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Final, NamedTuple

ARCH_X86, MODE_64 = 4, 8
PROT_ALL = 7
HOOK_INTR, HOOK_INSN, HOOK_CODE, HOOK_BLOCK = 1, 2, 4, 8
HOOK_MEM_FETCH_PROT, HOOK_INSN_INVALID, HOOK_EDGE_GENERATED = 1 << 9, 1 << 14, 1 << 15
INSN_CPUID, INSN_IN, INSN_OUT, INSN_SYSCALL, INSN_SYSENTER = 113, 218, 500, 699, 700

# uc_reg_read/uc_reg_write numbers.
REG_CS, REG_DS, REG_ES, REG_FS, REG_GS, REG_SS = 11, 17, 28, 32, 33, 49
REG_RIP, REG_CR0, REG_CR2, REG_CR3, REG_CR4, REG_DR0, REG_DR7 = 41, 50, 52, 53, 54, 66, 73
REG_XMM0, REG_IDTR, REG_GDTR, REG_LDTR, REG_TR = 122, 242, 243, 244, 245
REG_MSR, REG_MXCSR, REG_FS_BASE, REG_GS_BASE, REG_RFLAGS = 248, 249, 250, 251, 253
# RAX RCX RDX RBX RSP RBP RSI RDI R8..R15: the order of the CPU state, in API numbers.
REGS_GENERAL = (35, 38, 40, 37, 44, 36, 43, 39, *range(106, 114))


def _control(kind: int, arguments: int, direction: int) -> int:
    return kind | arguments << 26 | direction << 30


CTL_USE_EXITS = _control(4, 1, 1)
CTL_CPU_MODEL = _control(7, 1, 1)
CTL_REQUEST_CACHE = _control(8, 2, 3)
CTL_REMOVE_CACHE = _control(9, 2, 1)
CTL_FLUSH_CODE = _control(10, 0, 1)
CTL_FLUSH_TLB = _control(11, 0, 1)
CTL_CODE_BUFFER = _control(13, 1, 1)

# Translated code is kept in a buffer of this size, reserved at once and committed as it fills.
CODE_BUFFER_BYTES = 128 << 20
BESIDES_BUFFER = 48 << 20  # what else an engine may want when it is made


def require_room(size: int, what: str) -> None:
    """Raises MemoryError if the host has too little address space left; the engine would end the process.
    """
    try:
        if hasattr(mmap, "MAP_ANONYMOUS"):
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
            mmap.mmap(-1, size, flags=flags).close()
    except OSError:
        raise MemoryError(f"the host has no address space for {what} (ulimit -v?)") from None


class EngineDied(RuntimeError):
    """The engine failed while it ran guest code; it has been replaced by a new one."""


class EngineError(RuntimeError):
    """A call into the engine failed, or guest code made the engine itself give up."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what}: {error_text(code)} (unicorn error {code})")
        self.code = code


def target(system: str | None = None, machine: str | None = None) -> str:
    """`<os>-<arch>` of a platform, this one by default: linux-x86_64, macos-arm64, windows-x86_64."""
    system = {"win32": "windows", "darwin": "macos"}.get(system or sys.platform, system or sys.platform)
    machine = (machine or platform.machine()).lower()
    return f"{system}-{ {'amd64': 'x86_64', 'aarch64': 'arm64'}.get(machine, machine) }"


def stock_library() -> Path:
    """The shared library inside the installed `unicorn` package (which is not imported)."""
    spec = importlib.util.find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the `unicorn` package is not installed: pip install 'unicorn>=2.1.4,<2.2'")
    pattern = {"win32": "unicorn*.dll", "darwin": "libunicorn*.dylib"}.get(sys.platform, "libunicorn.so*")
    for place in spec.submodule_search_locations:
        for path in sorted(Path(place, "lib").glob(pattern)):
            return path
    raise ImportError(f"no {pattern} in the unicorn package at {list(spec.submodule_search_locations)}")


_BUILT: Final = Path(__file__).parents[1] / "_built" / "engine"


def built_library() -> Path | None:
    """The corrected engine, where it was built for this machine."""
    return next(iter(sorted(_BUILT.joinpath(target()).glob("libunicorn.*"))), None)


def library_path() -> Path:
    """The library to load: ours if there is one, unless PVHV_ENGINE=stock says otherwise."""
    chosen = os.environ.get("PVHV_ENGINE", "")
    if chosen not in ("", "stock", "corrected"):
        raise ImportError(f"PVHV_ENGINE is 'stock' or 'corrected', not {chosen!r}")
    built = None if chosen == "stock" else built_library()
    if chosen == "corrected" and built is None:
        raise ImportError("PVHV_ENGINE=corrected, but no corrected engine is built here: python3 tools/dev.py build")
    return built or stock_library()


path: Final = str(library_path())
# CDLL drops the GIL around a call: right for a run, wasteful for the rest.
try:
    _running = ctypes.CDLL(path)
    _quick = ctypes.PyDLL(path)
except OSError as error:
    raise ImportError(f"the engine cannot be loaded ({error}): build it again (python3 tools/dev.py build)") from error


def _function(library: Any, name: str, *arguments: Any, result: Any = c_int) -> Any:
    function = library[name]
    function.argtypes, function.restype = arguments, result
    return function


def function(name: str, *arguments: Any, result: Any = c_int, guest_runs: bool = False) -> Any:
    """A function of the library by its name. A call keeps the GIL, unless guest code runs in it."""
    return _function(_running if guest_runs else _quick, name, *arguments, result=result)


# uc_ctl and uc_hook_add are variadic: only their fixed arguments are declared, the others are
# passed as explicit ctypes objects, so that libffi uses the variadic convention (macOS arm64).
uc_open = _function(_quick, "uc_open", c_int, c_int, POINTER(c_void_p))
uc_close = _function(_quick, "uc_close", c_void_p)
uc_ctl = _function(_quick, "uc_ctl", c_void_p, c_uint32)
uc_hook_add = _function(
    _quick, "uc_hook_add", c_void_p, POINTER(c_size_t), c_int, c_void_p, c_void_p, c_uint64, c_uint64
)
uc_hook_del = _function(_quick, "uc_hook_del", c_void_p, c_size_t)
uc_mem_map_ptr = _function(_quick, "uc_mem_map_ptr", c_void_p, c_uint64, c_uint64, c_uint32, c_void_p)
uc_reg_read = _function(_quick, "uc_reg_read", c_void_p, c_int, c_void_p)
uc_reg_write = _function(_quick, "uc_reg_write", c_void_p, c_int, c_void_p)
uc_context_alloc = _function(_quick, "uc_context_alloc", c_void_p, POINTER(c_void_p))
uc_context_free = _function(_quick, "uc_context_free", c_void_p)
uc_context_size = _function(_quick, "uc_context_size", c_void_p, result=c_size_t)
uc_context_save = _function(_quick, "uc_context_save", c_void_p, c_void_p)
uc_context_restore = _function(_quick, "uc_context_restore", c_void_p, c_void_p)
uc_context_reg_read = _function(_quick, "uc_context_reg_read", c_void_p, c_int, c_void_p)
uc_emu_start = _function(_running, "uc_emu_start", c_void_p, c_uint64, c_uint64, c_uint64, c_size_t)
uc_emu_stop = _function(_quick, "uc_emu_stop", c_void_p)
uc_strerror = _function(_quick, "uc_strerror", c_int, result=ctypes.c_char_p)
uc_version = _function(_quick, "uc_version", c_void_p, c_void_p, result=c_uint32)


# Whether the library is ours: only that has the functions of seam.py.
corrected: Final = hasattr(_quick, "pvhv_seam_version")


def description() -> str:
    """Which engine this is, as text for people."""
    numbers = ".".join(map(str, version()))
    return f"unicorn {numbers} with pvhv's corrections" if corrected else f"unicorn {numbers} as published: not safe"


def uncorrected() -> str | None:
    """A warning, as a sentence, for people who run on the stock engine; None on the corrected one."""
    if corrected:
        return None
    why = "PVHV_ENGINE=stock asks for it" if os.environ.get("PVHV_ENGINE") == "stock" else "no other is built here"
    return (
        f"running on the published unicorn ({why}): a guest can end this process or leave its domain, and "
        "floating-point exceptions, debug registers and some faults are wrong (docs/engine.md)"
    )


def error_text(code: int) -> str:
    return bytes(uc_strerror(code)).decode()


def version() -> tuple[int, int, int]:
    packed = uc_version(None, None)
    return packed >> 24 & 255, packed >> 16 & 255, packed >> 8 & 255


class _Hook(NamedTuple):
    kind: int
    address: int
    user_data: int
    begin: int
    end: int
    instruction: int | None


class Engine:
    """One emulated x86-64 CPU: `handle` for the raw functions above, and its slower verbs.

    It keeps a list of its memory and hooks, so that an engine that died can be replaced: `revived`.
    """

    def __init__(self, code_buffer: int = CODE_BUFFER_BYTES) -> None:
        """Raises MemoryError."""
        require_room(code_buffer + BESIDES_BUFFER, "another engine")
        handle = c_void_p()
        check("uc_open", uc_open(ARCH_X86, MODE_64, byref(handle)))
        assert handle.value is not None
        self.handle: int = handle.value
        self._keep: list[Any] = []
        self._maps: list[tuple[int, int, int]] = []
        self._hooks: dict[int, tuple[_Hook, int]] = {}  # by our number: what was asked for, the engine's own number
        self._numbers = itertools.count(1)
        self._code_buffer = code_buffer
        self._initialise()

    def _initialise(self) -> None:
        check("uc_ctl(code buffer)", uc_ctl(self.handle, CTL_CODE_BUFFER, c_uint32(self._code_buffer)))
        # Multi-exit mode with no exits: `until` is ignored, so its look-up at the end of every
        # run (a guest-visible page walk) never happens.
        check("uc_ctl(exits)", uc_ctl(self.handle, CTL_USE_EXITS, c_int(1)))
        uc_ctl(self.handle, CTL_FLUSH_TLB)  # any call: the engine initialises itself lazily

    def revived(self) -> None:
        """A new engine took the place of the one behind `handle`: map the memory and add the hooks again."""
        self._initialise()
        for area in self._maps:
            self._map(*area)
        for number, (hook, _) in self._hooks.items():
            self._hooks[number] = hook, self._hook(hook)

    def close(self) -> None:
        if self.handle:
            uc_close(self.handle)
            self.handle = 0
            self._keep.clear()

    def __del__(self) -> None:
        if getattr(self, "handle", 0) and uc_close is not None:
            self.close()

    def map(self, guest_physical: int, size: int, host_address: int) -> None:
        self._map(guest_physical, size, host_address)
        self._maps.append((guest_physical, size, host_address))

    def _map(self, guest_physical: int, size: int, host_address: int) -> None:
        check("uc_mem_map_ptr", uc_mem_map_ptr(self.handle, guest_physical, size, PROT_ALL, host_address))

    def add_hook(
        self, kind: int, callback: Any, user_data: int = 0, instruction: int | None = None, begin: int = 1, end: int = 0
    ) -> int:
        """Register a ctypes callback or a C function's address for some or all addresses; returns the hook's number."""
        address = callback if isinstance(callback, int) else ctypes.cast(callback, c_void_p).value
        assert address is not None
        hook = _Hook(kind, address, user_data, begin, end, instruction)
        number = next(self._numbers)
        self._hooks[number] = hook, self._hook(hook)
        if callback not in self._keep:
            self._keep.append(callback)
        return number

    def _hook(self, hook: _Hook) -> int:
        made = c_size_t()
        extra = () if hook.instruction is None else (c_int(hook.instruction),)
        code = uc_hook_add(
            self.handle, byref(made), hook.kind, hook.address, hook.user_data, hook.begin, hook.end, *extra
        )
        check(f"uc_hook_add({hook.kind})", code)
        return made.value

    def remove_hook(self, number: int) -> None:
        _, made = self._hooks.pop(number)
        check("uc_hook_del", uc_hook_del(self.handle, made))

    def register(self, number: int) -> int:
        value = (c_uint64 * 8)()
        check(f"uc_reg_read({number})", uc_reg_read(self.handle, number, value))
        return int(value[0])

    def set_register(self, number: int, *words: int) -> None:
        value = (c_uint64 * 8)(*words)
        check(f"uc_reg_write({number})", uc_reg_write(self.handle, number, value))


def check(what: str, code: int) -> None:
    if code:
        raise EngineError(what, code)
