# SPDX-License-Identifier: GPL-2.0-or-later
"""Fill in what docs/reading.md quotes: the lengths of files, their sums, and what the commands print.

    python tools/gen_reading.py            write it
    python tools/gen_reading.py --check    exit 1 when it is not what would be written

A row of a table that begins with a link to a file has that file's length behind it, a row "together" the sum of the
rows above, and the mark <!-- lines --> the sum of all. A block of text right behind a block of commands is what these
print: the guests run on a virtual clock, and so it is the same everywhere. The words are written by hand.

tests/docs checks that the commands work in a clean clone, and that the broken code fails its test.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "reading.md"
ROW = re.compile(r"^(\| \[[^\]]+\]\((?P<path>\.\./[^)]+)\) \| )\d+( \|.*)$")
SUM = re.compile(r"^(\| \*\*together\*\* \| )\d+( \|.*)$")
ALL = re.compile(r"(<!-- lines -->)[\d ]*(<!-- end -->)")
LINES = r"(?:(?!```).*\n)*"
SHOWN = re.compile(rf"^```sh\n(?P<commands>{LINES})```\n\n```text\n{LINES}```\n", re.MULTILINE)


def length(path: str) -> int:
    """How many lines a file has; `path` is as the document links to it."""
    return len((TARGET.parent / path).read_text("utf-8").splitlines())


def counted(text: str) -> str:
    """The page's text, with the present lengths."""
    lines, chapter, total = [], 0, 0
    for line in text.splitlines(True):
        if row := ROW.match(line):
            lines_of_it = length(row["path"])
            chapter += lines_of_it
            line = f"{row[1]}{lines_of_it}{row[3]}\n"
        elif together := SUM.match(line):
            line = f"{together[1]}{chapter}{together[2]}\n"
            total, chapter = total + chapter, 0
        lines.append(line)
    return ALL.sub(rf"\g<1>{f'{total:,}'.replace(',', ' ')}\g<2>", "".join(lines))


def printed(commands: str) -> str:
    """What commands print, run as a reader would run them."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-ec", commands], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{commands}ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def shown(text: str) -> str:
    """The page's text, with what the commands print now."""
    return SHOWN.sub(lambda block: f"```sh\n{block['commands']}```\n\n```text\n{printed(block['commands'])}```\n", text)


def main() -> int:
    """Write the page, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    check = parser.parse_args().check
    current = TARGET.read_text("utf-8")
    text = shown(counted(current))
    if check:
        if text != current:
            print(f"{TARGET.relative_to(ROOT)} is stale: run python tools/gen_reading.py", file=sys.stderr)
        return int(text != current)
    TARGET.write_text(text, "utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
