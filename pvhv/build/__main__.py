# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m pvhv.build`: build what the package carries, in the tree it is installed from (an editable
install).

Exit status 0 and a line that says what was done, or 1 after the compiler's own words and a line that says
what failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pvhv.build.tree import build_tree
from pvhv.build.zig import BuildError

PACKAGE = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pvhv.build", description=__doc__)
    parser.add_argument("--root", type=Path, default=PACKAGE.parent, help="the tree with guest_kernel/")
    parser.add_argument("--out", type=Path, default=PACKAGE / "_built", help="where the products go")
    arguments = parser.parse_args()
    try:
        build_tree(arguments.root, arguments.out)
    except BuildError as error:
        print(f"build failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("build interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
