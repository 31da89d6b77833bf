# SPDX-License-Identifier: GPL-2.0-or-later
"""The process in which the engine executes tasks: `python -m tests.engine.worker`, tasks on standard input.

An engine that is wrong may take its process with it, or overwrite its memory. So every few thousand tasks are a forked
child's, whose PCPU was made before the fork; what it found out lies in shared memory. The task that a child died of has
that as its outcome, and a new child goes on behind it.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tests.engine.records import DIED, OUTCOME_BYTES, Outcome, Task, unpack, unpack_task

Clock = Literal["wall", "virtual"]
ROOT = Path(__file__).parents[2]
PER_CHILD = 4096
_NONE = Outcome(0, 0, 0, 0, (0,) * 16, 0, (0, 0), (0,) * 6, 0, bytes(416), ())
_SECONDS = 300  # that one child may take: a task that hangs the engine itself ends by SIGALRM


def run(tasks: Sequence[Task], clock: Clock = "wall") -> list[Outcome]:
    """What the engine makes of each, on a pCPU of that clock (which decides what hooks there are at blocks)."""
    batch = struct.pack("<Q", len(tasks)) + b"".join(task.pack() for task in tasks)
    command = [sys.executable, "-m", "tests.engine.worker", clock]
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    done = subprocess.run(command, input=batch, stdout=pipe, stderr=quiet, cwd=ROOT, check=True)
    return [unpack(done.stdout, n) for n in range(len(tasks))]


def main() -> None:
    from tests.engine.bench import Bench

    (count,) = struct.unpack("<Q", sys.stdin.buffer.read(8))
    data = sys.stdin.buffer.read()
    shared = mmap.mmap(-1, 8 + count * OUTCOME_BYTES)
    done = memoryview(shared)[:8].cast("Q")
    bench = Bench("virtual" if sys.argv[1:] == ["virtual"] else "wall")
    while done[0] < count:
        first = done[0]
        pid = os.fork()
        if pid == 0:
            signal.alarm(_SECONDS)
            for n in range(first, min(first + PER_CHILD, count)):
                try:
                    outcome = bench.execute(unpack_task(data, n))
                except RuntimeError:  # the engine died and said so: this child has no other
                    os._exit(1)
                shared[8 + n * OUTCOME_BYTES : 8 + (n + 1) * OUTCOME_BYTES] = outcome.pack()
                done[0] = n + 1
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            n = done[0]
            number = DIED + (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
            shared[8 + n * OUTCOME_BYTES : 8 + (n + 1) * OUTCOME_BYTES] = _NONE._replace(kind=number).pack()
            done[0] = n + 1
    sys.stdout.buffer.write(shared[8:])


if __name__ == "__main__":
    main()
