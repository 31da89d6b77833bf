# SPDX-License-Identifier: GPL-2.0-or-later
"""Run random streams of instructions on the engine, to find those it cannot stand (tests/engine/streams.py makes them).

    python tools/fuzz_engine.py                        a million instructions, on every kind of pCPU
    python tools/fuzz_engine.py --instructions 1e7     ten million
    python tools/fuzz_engine.py --seed 5 --kind virtual

Exit status 1 with the seed, the stream's number and its bytes if the engine died, a guest was where no guest can be, or
memory changed that was not its own.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.engine.streams import KINDS, Ground, fuzz  # noqa: E402

A_SEED = 20_000  # instructions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instructions", type=float, default=1e6, help="how many, over all kinds")
    parser.add_argument("--seed", type=int, default=1, help="the first seed; each is good for some thousands")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this pCPU; may be repeated")
    options = parser.parse_args()
    kinds = options.kind or list(KINDS)
    streams = instructions = 0
    began = told = time.monotonic()

    def enough(ground: Ground) -> bool:
        return ground.instructions >= A_SEED

    for seed in itertools.count(options.seed):
        for kind in kinds:
            try:
                ground = fuzz(kind, seed, enough)
            except AssertionError as found:
                print(f"\n{found}", file=sys.stderr)
                return 1
            streams, instructions = streams + ground.streams, instructions + ground.instructions
            ground.close()
            now = time.monotonic()
            if now - told > 2:
                told = now
                print(f"\r{instructions:,} instructions, {streams:,} streams, {now - began:.0f} s", end="", flush=True)
        if instructions >= options.instructions:
            seeds = f"seeds {options.seed} to {seed}"
            print(f"\r{instructions:,} instructions in {streams:,} streams, {seeds}: nothing found")
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
