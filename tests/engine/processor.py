# SPDX-License-Identifier: GPL-2.0-or-later
"""The processor's side of the proof: processor.c, compiled by the pinned zig and given batches of tasks.

It does not know what is compared: it is the one that is right (but for what the kernel does for user code: differences
of that kind are rows in differences.toml like any other).
"""

from __future__ import annotations

import io
import platform
import struct
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pvhv.build.cache import open_cache
from pvhv.build.objects import Image, Source, Workshop
from pvhv.build.progress import Progress
from pvhv.build.zig import find_zig
from tests.engine.records import Outcome, Task, unpack

ROOT = Path(__file__).parents[2]
TARGET = ("-target", "x86_64-linux-musl")
FLAGS = (
    "-std=gnu11", "-O2", "-g0", "-ffreestanding", "-fno-sanitize=undefined", "-fno-stack-protector", "-fno-pic",
    "-mno-avx", "-Wall", "-Wextra",
)  # fmt: skip


def is_native() -> bool:
    """Whether this machine's processor can be asked."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def is_right() -> bool:
    """Whether its answers are what the engine is held to: the guest's CPUID says AMD, and Intel's differ in places."""
    return is_native() and vendor() == "AuthenticAMD"


@cache
def build() -> bytes:
    """The compiled runner."""
    source = Source("tests/engine/processor.c", (*TARGET, *FLAGS), ())
    image = Image("the processor's runner", (source,), (*TARGET, "-nostdlib", "-static", "-s"))
    with open_cache() as store:
        workshop = Workshop(ROOT, find_zig(), store, Progress("", io.StringIO()))
        linked = workshop.link([image], workshop.compile([source]))
        workshop.check()
        return linked[image].read_bytes()


@cache
def vendor() -> str:
    """AuthenticAMD or GenuineIntel, as the kernel says."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("vendor_id"):
            return line.split(":")[1].strip()
    return "unknown"


def run(tasks: Sequence[Task], directory: Path) -> list[Outcome]:
    """What the processor makes of each, at CPL 3. The runner is put into `directory`."""
    program = directory / "processor"
    if not program.exists():
        program.write_bytes(build())
        program.chmod(0o755)
    batch = struct.pack("<Q", len(tasks)) + b"".join(task.pack() for task in tasks)
    done = subprocess.run([program], input=batch, stdout=subprocess.PIPE, check=True)
    return [unpack(done.stdout, n) for n in range(len(tasks))]
