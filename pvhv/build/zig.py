# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiler: zig's C front end, found as a Python wheel and run with nothing of the machine around it.

The `ziglang` wheel carries clang, a linker and headers for every platform, so nobody needs a system
compiler, and everybody has the same one: the version is pinned exactly, in PINNED and in pyproject.toml,
and a test compares them.

Invariant: what zig prints into an output file depends on the inputs and the flags only.  The variables
through which a shell reaches a compiler (CPATH and its kin) are taken away, the clock is fixed, and zig's
own caches live where the caller says, never in HOME.

This module does not know what is compiled (objects.py), nor what has been compiled before (cache.py).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PINNED = "0.17.0"

# Variables by which a user's shell adds search paths or flags to a compiler.
_OUTSIDE_INFLUENCE = (
    "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "LIBRARY_PATH", "CFLAGS",
    "CPPFLAGS", "LDFLAGS", "NIX_CFLAGS_COMPILE", "NIX_LDFLAGS", "CCC_OVERRIDE_OPTIONS", "ZIG_LIB_DIR",
)  # fmt: skip


class BuildError(Exception):
    """Something could not be built; the message is meant for the person who asked, and says what to do."""


@dataclass(frozen=True)
class Outcome:
    """What one run of the compiler said."""

    status: int
    text: str


@dataclass(frozen=True)
class Zig:
    """A compiler that was found and has the version we pin."""

    executable: Path
    version: str

    @property
    def library(self) -> Path:
        """Where zig's own headers are; debug information must not name this place."""
        return self.executable.parent

    def cc(self, arguments: Sequence[str], *, cwd: Path, caches: Path, local: Path) -> Outcome:
        """Run `zig cc ARGUMENTS` in `cwd`; `caches` outlives this run, `local` need not."""
        environment = {k: v for k, v in os.environ.items() if k not in _OUTSIDE_INFLUENCE}
        environment |= {"ZIG_GLOBAL_CACHE_DIR": str(caches), "ZIG_LOCAL_CACHE_DIR": str(local)}
        environment |= {"SOURCE_DATE_EPOCH": "0", "LC_ALL": "C"}
        done = subprocess.run(
            [str(self.executable), "cc", *arguments],
            cwd=cwd, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout.decode("utf-8", "replace"))


def find_zig() -> Zig:
    """The pinned compiler, or a BuildError that says how to get it."""
    spec = importlib.util.find_spec("ziglang")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise BuildError(
            f"compiling needs zig {PINNED}, which comes as a Python package: pip install 'pvhv[build]'"
        )
    executable = Path(places[0]) / ("zig.exe" if os.name == "nt" else "zig")
    try:
        done = subprocess.run([str(executable), "version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{executable} does not run here ({error}): reinstall ziglang=={PINNED}") from error
    version = done.stdout.strip()
    if version != PINNED:
        raise BuildError(
            f"found zig {version}, but pvhv is built with exactly {PINNED}: pip install ziglang=={PINNED}"
        )
    return Zig(executable, version)
