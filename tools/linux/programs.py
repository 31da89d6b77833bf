# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs for a stock Linux to run: each is a C file (and what is linked to it), compiled to a static x86-64 program.

The compiler is the one that builds the guest kernels (pvhv/build/zig.py), so the programs are the same everywhere. A
compiled program is kept in the user's cache, keyed on its text and the flags, so nothing is compiled twice. The C
library is musl, which zig builds from its sources the first time (half a minute, once).

A program reaches a guest as an `extra` of its initramfs: tools/linux/initramfs.py.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pvhv.build.cache import open_cache
from pvhv.build.zig import PINNED, BuildError, find_zig

FLAGS = (
    "-target", "x86_64-linux-musl", "-std=gnu11", "-O2", "-static", "-s", "-mno-avx", "-pthread",
    "-Wall", "-Wextra", "-Werror", "-fno-sanitize=undefined",
)  # fmt: skip


def build(source: Path, *flags: str, others: Sequence[Path] = ()) -> bytes:
    """The program made of one C file, or of several sources. Raises BuildError."""
    sources = {path.name: path.read_bytes() for path in (source, *others)}
    key = hashlib.sha256(b"\0".join(("\0".join((PINNED, *FLAGS, *flags)).encode(), *sources.values()))).hexdigest()
    with open_cache() as cache, tempfile.TemporaryDirectory(prefix="pvhv-program-") as scratch:
        if (made := cache.find("program", key)) is not None:
            return made.read_bytes()
        work = Path(scratch)
        for name, text in sources.items():
            (work / name).write_bytes(text)
        done = find_zig().cc([*FLAGS, *flags, *sources, "-o", "program"], cwd=work, caches=cache.zig, local=work)
        if done.status:
            raise BuildError(f"{source} does not compile:\n{done.text.strip()}")
        program = (work / "program").read_bytes()
        cache.keep("program", key, program)
        return program
