# SPDX-License-Identifier: GPL-2.0-or-later
"""Print the table of corrections in docs/engine.md from the corrections themselves.

    python tools/gen_engine.py            write it
    python tools/gen_engine.py --check    exit 1 when it is not what would be written
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pvhv.build.corrections import Correction, read_corrections  # noqa: E402
from pvhv.build.engine import CORRECTIONS  # noqa: E402

TARGET = ROOT / "docs" / "engine.md"
BEGIN, END = "<!-- from tools/gen_engine.py -->\n", "<!-- up to here -->\n"


def table() -> str:
    lines = ["| correction | |", "|---|---|", *map(_row, read_corrections(ROOT / CORRECTIONS))]
    return "\n".join(lines) + "\n"


def _row(correction: Correction) -> str:
    known = ", ".join(_link(address) for address in correction.upstream)
    what = correction.what[0].upper() + correction.what[1:].rstrip(".")
    return f"| [{correction.name}](../{CORRECTIONS}/{correction.name}.toml) | {what}{f' ({known})' if known else ''} |"


def _link(address: str) -> str:
    parts = address.split("/")
    return f"[{parts[3]} {parts[-2].replace('issues', 'issue')} {parts[-1]}]({address})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="do not write; exit 1 if the page is stale")
    check = parser.parse_args().check
    text = TARGET.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    wanted = before + BEGIN + table() + END + rest.partition(END)[2]
    if wanted == text:
        return 0
    if check:
        print(f"{TARGET.relative_to(ROOT)} is stale: python tools/gen_engine.py", file=sys.stderr)
        return 1
    TARGET.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
