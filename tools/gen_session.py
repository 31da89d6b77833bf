# SPDX-License-Identifier: GPL-2.0-or-later
"""Draw the README's picture of a session: a guest is booted, typed at, and what it says becomes docs/session.svg.

    python tools/gen_session.py            write the picture
    python tools/gen_session.py --check    exit 1 when the picture is not what would be drawn

The clock is virtual, so that the same kernel gives the same picture everywhere.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402

from pvhv.cli.trace_lines import line  # noqa: E402
from pvhv.observe.decode import plain  # noqa: E402
from pvhv.observe.trace import Record, Recorder  # noqa: E402
from pvhv.testing import Machine  # noqa: E402

TARGET = ROOT / "docs" / "session.svg"
COLUMNS = 112
TRACE = "pvhv trace hello"
COMMAND = "pvhv create -c examples/hello.cfg"
TYPED = ("ps", "echo to be read | cat | wc", "exit")
TRACED = 9  # records shown: the end of the guest's life


def session() -> tuple[list[str], list[str]]:
    """The console of a guest that was given TYPED, and the end of its trace, by lines."""
    records: deque[Record] = deque(maxlen=TRACED)
    with Machine(memory=32) as machine:
        guest = machine.create("guest-pv", stdin="".join(line + "\n" for line in TYPED), memory=32)
        Recorder(machine.hypervisor).start(guest.domain, records.append)
        machine.run(guest)
        result = machine.result(guest)
        if result.exit_status:
            sys.exit(f"the guest ended with {result.exit_status}:\n{result.output}{result.report}")
        symbols = guest.kernel.symbols()
        return result.lines, [line(plain(record, symbols)) for record in records]


def draw(said: list[str], traced: list[str]) -> str:
    """The session as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("~$ ", "green"), (COMMAND, "bold")))
    for words in said:
        prompt, text = ("$ ", words[2:]) if words.startswith("$ ") else ("", words)
        console.print(Text.assemble((prompt, "cyan"), (text, "bold" if prompt else "")))
    console.print()
    console.print(Text.assemble(("~$ ", "green"), (TRACE, "bold"), ("    # in another window, meanwhile", "dim")))
    for words in traced:
        console.print(Text(words if len(words) <= COLUMNS else words[: COLUMNS - 1] + "…"))
    return console.export_svg(title="pvhv", unique_id="pvhv-session") + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the picture is up to date")
    check = parser.parse_args().check
    drawn = draw(*session())
    current = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
    if check:
        if drawn != current:
            print(f"{TARGET.relative_to(ROOT)} is stale: run python tools/gen_session.py", file=sys.stderr)
        return int(drawn != current)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
