# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast pvhv is, as ratios that hold from host to host.

    python tools/bench.py                  everything: a table (about five minutes, of which Linux takes three)
    python tools/bench.py --only exits     one group, or a row of it; may be repeated
    python tools/bench.py --json           the same as JSON, on standard output
    python tools/bench.py --smoke          every measurement once and briefly, to see that it works
    python tools/bench.py --profile        where the time of a stock Linux's boot goes; --profile operations: of a
                                           system call, a fork, a page fault …; --profile loops: of computing;
                                           --profile disk: of reading and writing a disk

Each round trip is compared with an empty callback, each compute loop with a bare engine, both in the same run,
within milliseconds of each other; tools/benchmark/bare.py defines the two. A figure is the median of seven samples,
a sample the shortest (of compute loops, the middle one) of a few tries on either side. A stock Linux is compared with
itself in QEMU, and with real Xen; tools/benchmark/linux_rows.py and disk_rows.py say how.
With --check, exit status 1 says that a target was missed.

The kernels are guest_kernel/bench/, as built by `python3 tools/dev.py build`, and what tools/fetch_linux.py fetched.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.benchmark import cli, disk_rows, linux_rows, profile, report  # noqa: E402
from tools.benchmark.guests import Failed  # noqa: E402
from tools.benchmark.rows import EXITS, LOOPS, PAIR, SMOKE, Bench, Effort, Row  # noqa: E402

KERNELS = ROOT / "pvhv" / "_built" / "kernels"
GROUPS: dict[str, tuple[str, ...]] = {
    "unit": ("callback", "callback_in_c"),
    "wall": (*(f"wall_{name}" for name in ("compute", *LOOPS)), "wall_shared", "bare_stopped", "bare_eased"),
    "virtual": tuple(f"virtual_{name}" for name in ("compute", *LOOPS)),
    "exits": tuple(EXITS),
    "pair": tuple(PAIR),
    "create": ("create_warm", "create_cold"),
    "domains": ("list_20", "echo_20", "memory_20"),
    linux_rows.GROUP: linux_rows.ROWS,
    disk_rows.GROUP: disk_rows.ROWS,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help=f"one of {', '.join(GROUPS)}, or a row's name")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--smoke", action="store_true", help="briefly; the figures mean nothing")
    parser.add_argument(
        "--profile", nargs="?", const=profile.KINDS[0], choices=profile.KINDS, help="where a stock Linux's time goes"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--kernels", type=Path, default=KERNELS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    wanted = arguments.only or list(GROUPS)
    known = {*GROUPS, *(row for rows in GROUPS.values() for row in rows)}
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(sorted(known))}")
    if not (arguments.kernels / "bench-exits").is_file():
        print("the benchmark kernels are not built: python3 tools/dev.py build", file=sys.stderr)
        return 2
    effort = SMOKE if arguments.smoke else Effort()
    try:
        if arguments.profile:
            return profile.show(arguments.profile, as_json=arguments.json)
        rows = measure(arguments.kernels, effort, wanted)
    except Failed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    if arguments.json:
        print(report.as_json(rows, effort.samples))
    else:
        report.show(rows, effort.samples)
    return int(arguments.check and any(row.met is False for row in rows))


def measure(kernels: Path, effort: Effort, wanted: Sequence[str]) -> list[Row]:
    """The groups that hold a wanted row; of them, the wanted rows."""
    rows: list[Row] = []
    with Bench(kernels, effort) as bench:
        measurements: dict[str, Callable[[], list[Row]]] = {
            "unit": bench.unit,
            "wall": lambda: bench.compute("wall") + bench.shared() + bench.stopped() + bench.eased(),
            "virtual": lambda: bench.compute("virtual"),
            "exits": bench.exits,
            "pair": bench.pair,
            "create": lambda: cli.rows("create", effort),
            "domains": lambda: cli.rows("domains", effort),
            linux_rows.GROUP: lambda: linux_rows.rows(
                bench, lambda name: linux_rows.GROUP in wanted or name in wanted
            ),
            disk_rows.GROUP: lambda: disk_rows.rows(effort, lambda name: disk_rows.GROUP in wanted or name in wanted),
        }
        for group, names in GROUPS.items():
            if group in wanted or set(names) & set(wanted):
                report.progress(f"bench: {group} ...")
                rows += [row for row in measurements[group]() if group in wanted or row.name in wanted]
    return rows


if __name__ == "__main__":
    sys.exit(main())
