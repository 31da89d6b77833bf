# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a guest on a virtual clock, and print what leaves it: the lines are the same on every machine.

    python examples/watch.py guest-pv --kind hypercall --limit 10
    python examples/watch.py guest-pv --type 'ls; exit' --begin pv_space_live --limit 12
    python examples/watch.py test-grant-map --only grant_table_op

It is `pvhv trace` without a host process, and an example of pvhv.testing and pvhv.observe.
"""

from __future__ import annotations

import argparse
import sys

from pvhv.cli.trace_lines import line
from pvhv.observe.decode import plain
from pvhv.observe.syscall_names import table_of
from pvhv.observe.trace import Record, Recorder
from pvhv.observe.wanted import USUAL, UnknownWord, Wanted, kinds_named, names_named
from pvhv.testing import Machine
from pvhv.toolstack.errors import ToolstackError


def main() -> int:
    """Parse, boot, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", help="a file, or the name of a kernel that came with pvhv")
    parser.add_argument("-k", "--kind", action="append", default=[], metavar="KINDS", help="as of pvhv trace")
    parser.add_argument("--only", action="append", default=[], metavar="NAMES", help="as of pvhv trace")
    parser.add_argument("-n", "--limit", type=int, default=1 << 32, metavar="N", help="print so many records")
    parser.add_argument("--begin", default="", metavar="TEXT", help="begin with the first line that has TEXT in it")
    parser.add_argument("--width", type=int, default=1 << 32, metavar="N", help="cut lines that are longer")
    parser.add_argument("--type", default="exit", metavar="COMMANDS", help="typed at its console, split at ;")
    parser.add_argument("--technique", help="of full virtualization, for a native kernel")
    parser.add_argument("--vcpus", type=int, default=1)
    given = parser.parse_args()
    try:
        calls, faults = names_named(given.only)
        kinds = kinds_named(given.kind)
    except UnknownWord as error:
        print(f"watch: {error.message}; {error.hint}", file=sys.stderr)
        return 2
    if kinds is None:
        named = [kind for kind, names in (("hypercall", calls), ("fault", faults)) if names]
        kinds = frozenset(named) or USUAL
    wanted = Wanted(kinds, calls=calls or None, faults=faults or None)
    keys = "".join(command.strip() + "\n" for command in given.type.split(";"))
    records: list[Record] = []
    with Machine(memory=64) as machine:
        try:
            guest = machine.create(
                given.kernel, stdin=keys, technique=given.technique, vcpus=given.vcpus, paused=True
            )
        except ToolstackError as error:
            print(f"watch: {error}", file=sys.stderr)
            return 1
        Recorder(machine.hypervisor).start(guest.domain, records.append, wanted)
        guest.start()
        machine.run(guest, timeout=60)
        symbols, syscalls = guest.symbols, table_of(guest.kernel.guest_os)
        lines = [line(plain(record, symbols, syscalls)) for record in records]
    first = next((number for number, text in enumerate(lines) if given.begin in text), None)
    if first is None:
        print(f"watch: none of {len(lines)} records has {given.begin!r} in it", file=sys.stderr)
        return 1
    for text in "\n".join(lines[first : first + given.limit]).splitlines():
        print(text if len(text) <= given.width else text[: given.width - 3] + "...")
    return 0


if __name__ == "__main__":
    sys.exit(main())
