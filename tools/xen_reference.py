# SPDX-License-Identifier: GPL-2.0-or-later
"""Run kernels on a real Xen: as PV domains of Debian's Xen 4.17, in a QEMU without acceleration.

    .venv/bin/python tools/xen_reference.py run hello test-iret build/my-kernel
    .venv/bin/python tools/xen_reference.py run --vcpus 2 --memory 128 --cmdline "seed=3 dice=1" hostile-dice
    .venv/bin/python tools/xen_reference.py run my.cfg
    .venv/bin/python tools/xen_reference.py compare hello build/my-kernel      and what differs from it on pvhv

A kernel is a file, a directory's name under guest_kernel/tests, or a domain file for xl. All run one after the other
in one boot of the machine (15 s, then about 3 s for each). When a kernel ends, its console, how it ended, and what Xen
itself said are printed. The exit status is 0 when every one of them powered off with no "FAIL" in its last line.

A kernel called hostile-… runs beside the domain `hostile-victim`, as in tests/guest/test_hostile_kernels.py, and
gets the same facts on its command line, except `xen` and `m2p`, which are not known there.

    .venv/bin/python tools/xen_reference.py record               of new and changed test kernels

writes what Xen says into tests/reference/verdicts.json, which the tests compare pvhv with.

    .venv/bin/python tools/xen_reference.py record-disks         what xl does with disks, and what stands in xenstore

writes that into tests/reference/disks.txt: by a Linux with Debian's xen-blkfront, over Debian's xen-blkback.

The packages it needs are fetched once by apt (120 MB; root is not needed, and the system's own packages are not
changed) into the user's cache; `fetch` looks for newer ones. Needs Debian or what is made of it, and the
project's .venv as `tools/dev.py test` makes it.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pvhv.toolstack.errors import ToolstackError  # noqa: E402
from tools.linux.deb import BadPackage  # noqa: E402
from tools.reference import cases, disks, machine, ours, parts, verdicts  # noqa: E402
from tools.reference.given import Wishes, job_for  # noqa: E402
from tools.reference.jobs import Job  # noqa: E402
from tools.reference.machine import Outcome  # noqa: E402

INTERRUPTED = 130
MOST_LINES = 40  # of Xen's, for one domain


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run kernels, and print what became of them")
    compare = verbs.add_parser("compare", help="run kernels on pvhv as well, and print what differs")
    for verb in (run, compare):
        verb.add_argument("kernels", nargs="+", metavar="KERNEL")
        verb.add_argument("--vcpus", type=int, metavar="N", help="of each domain (default: what it says, or 1)")
        verb.add_argument("--memory", type=int, metavar="MIB", help="of each domain (default: what it says)")
        verb.add_argument("--cmdline", default="", help="the command line of each domain")
        verb.add_argument("--ramdisk", type=Path, metavar="FILE", help="the ramdisk of each domain")
        verb.add_argument("--seconds", type=int, default=60, metavar="N", help="the time that each domain has (60)")
        verb.add_argument("--cpu", default=machine.CPU, help=f"QEMU's -cpu ({machine.CPU})")
    run.add_argument("--quiet", action="store_true", help="do not print what Xen itself says")
    record = verbs.add_parser("record", help="write into the tree what Xen says of test kernels")
    record.add_argument("kernels", nargs="*", metavar="NAME", help="test kernels (default: all that need it)")
    record.add_argument("--all", action="store_true", help="record those as well whose verdict is up to date")
    verbs.add_parser("record-disks", help="write into the tree what xl does with disks")
    verbs.add_parser("fetch", help="fetch Xen, QEMU and the other packages, or newer ones")
    given = parser.parse_args(arguments)
    try:
        if given.verb == "fetch":
            for what, version in parts.fetch(parts.place_of_parts(), say).versions.items():
                print(f"{what}: {version}")
            return 0
        verb = {"run": run_them, "compare": compare_them, "record": record_them, "record-disks": record_disks}
        return verb[given.verb](given)
    except (BadPackage, ToolstackError, ValueError) as error:
        say(f"xen_reference: {error}")
    except OSError as error:
        say(f"xen_reference: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except KeyboardInterrupt:
        say("xen_reference: interrupted")
        return INTERRUPTED
    return 1


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def jobs_of(given: argparse.Namespace) -> list[Job]:
    """What the command line wants run."""
    wishes = Wishes(given.vcpus, given.memory, given.cmdline, given.ramdisk, given.seconds)
    return [job_for(kernel, wishes) for kernel in given.kernels]


def run_them(given: argparse.Namespace) -> int:
    """`run`: its exit status."""
    outcomes = ask(jobs_of(given), lambda outcome: show(outcome, given.quiet), given.cpu)
    return int(any(outcome.ending != "poweroff" or "FAIL" in outcome.last_line for outcome in outcomes))


def compare_them(given: argparse.Namespace) -> int:
    """`compare`: its exit status."""
    wanted = jobs_of(given)
    theirs = {outcome.name: outcome for outcome in ask(wanted, lambda outcome: None, given.cpu)}
    equal = 0

    def show_both(mine: Outcome) -> None:
        nonlocal equal
        other = theirs[mine.name]
        lines = list(
            difflib.unified_diff(
                [*other.lines, f"[{other.ending}]"], [*mine.lines, f"[{mine.ending}]"], "Xen", "pvhv", n=1, lineterm=""
            )
        )
        equal += not lines
        print(f"== {mine.name}: {'differs' if lines else 'the same'}, {other.ending}")
        for line in lines[2:] + [f"xl: {line}" for line in other.complaints]:
            print(f"  {line}")

    ours.run(wanted, show_both)
    print(f"{equal} of {len(wanted)} are the same")
    return int(equal < len(wanted))


def record_them(given: argparse.Namespace) -> int:
    """`record`: its exit status."""
    kept = verdicts.load()
    known = cases.names()
    if strangers := set(given.kernels) - set(known):
        raise ValueError(f"no test kernels under guest_kernel/tests: {', '.join(sorted(strangers))}")
    kernel_of = {job.name: name for name in known for job in cases.jobs([name])}
    stale = {
        name
        for job, name in kernel_of.items()
        if given.all or job not in kept or kept[job].source != verdicts.digest(name)
    }
    wanted = cases.jobs(given.kernels or sorted(stale))
    for job in set(kept) - set(kernel_of):
        del kept[job]
    outcomes = ask(wanted, lambda outcome: show(outcome, True)) if wanted else []
    refused = 0
    for outcome in outcomes:
        try:
            kept[outcome.name] = verdicts.recorded(kernel_of[outcome.name], outcome, versions())
        except ValueError as error:
            say(f"not recorded: {error}")
            refused += 1
    verdicts.save(kept)
    say(f"{len(outcomes) - refused} recorded, {len(kept)} in all")
    return int(refused > 0)


def record_disks(given: argparse.Namespace) -> int:
    """`record-disks`: its exit status."""
    have = parts.there(parts.place_of_parts()) or parts.fetch(parts.place_of_parts(), say)
    (outcome,) = ask([disks.job(have)], lambda outcome: None)
    if outcome.ending != "asked" or outcome.complaints:
        say("\n".join([f"not recorded: {outcome.ending}", *outcome.complaints]))
        return 1
    disks.save(outcome.lines, have.versions)
    say(f"{len(outcome.lines)} lines recorded")
    return 0


def versions() -> dict[str, str]:
    """The versions of what the answers come from."""
    have = parts.there(parts.place_of_parts())
    return have.versions if have else {}


def ask(wanted: list[Job], tell: machine.Tell, cpu: str = machine.CPU) -> list[Outcome]:
    """Have a real Xen run these jobs. Returns their outcomes."""
    place = parts.place_of_parts()
    have = parts.there(place) or parts.fetch(place, say)
    say(f"booting {', '.join(have.versions.values())}")
    return machine.run(have, wanted, cases.victim(wanted), tell, cpu)


def show(outcome: Outcome, quiet: bool) -> None:
    """Print one outcome as text."""
    print(f"== {outcome.name}: {outcome.ending}{f', the victim is {outcome.victim}' if outcome.victim else ''}")
    for line in outcome.lines:
        print(line)
    for line in outcome.complaints:
        print(f"xl: {line}")
    for line, times in [] if quiet else counted(outcome.hypervisor)[:MOST_LINES]:
        print(f"    {line}{f'   ({times} times)' if times > 1 else ''}")
    sys.stdout.flush()


def counted(lines: list[str]) -> list[tuple[str, int]]:
    """(line, how often it is repeated in a row)."""
    return [(line, len(list(same))) for line, same in itertools.groupby(lines)]


if __name__ == "__main__":
    sys.exit(main())
