# SPDX-License-Identifier: GPL-2.0-or-later
"""The `pvhv` command: xl's verbs, in modules by what they are about.

A command parses its arguments, asks pvhv.toolstack, prints and exits; it decides nothing. Imports inside a
command's function are deliberate: what one command needs, the others should not wait for. `list`, which
scripts ask over and over, does not even wait for the parser of command lines, which costs more than all the
rest.
"""

from __future__ import annotations

import sys

QUICK = {("list",): False, ("list", "--json"): True}


def main() -> None:
    """The console script."""
    try:
        as_json = QUICK.get(tuple(sys.argv[1:]))
        if as_json is not None:
            from pvhv.cli.common import status_of
            from pvhv.cli.listing import show

            sys.exit(status_of(show, None, as_json))
        from pvhv.cli.app import app

        app(prog_name="pvhv")
    except KeyboardInterrupt:
        sys.exit(130)
