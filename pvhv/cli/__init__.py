# SPDX-License-Identifier: GPL-2.0-or-later
"""The `pvhv` command: xl's verbs, in modules by what they are about.

A command parses its arguments, asks pvhv.toolstack, prints and exits; it decides nothing. Imports inside a
command's function are deliberate: what one command needs, the others should not wait for. Scripts call
`list` again and again, so it does not even import the parser of command lines, which takes longer than all the rest.
"""

from __future__ import annotations

import os
import sys

QUICK = {("list",): False, ("list", "--json"): True}


def main() -> None:
    """The console script `pvhv`."""
    _open_standard_streams()
    try:
        as_json = QUICK.get(tuple(sys.argv[1:]))
        if as_json is not None:
            from pvhv.cli.common import status_of
            from pvhv.cli.listing import show

            sys.exit(status_of(show, None, as_json))
        from pvhv.cli.app import app

        try:
            app(prog_name="pvhv")
        finally:
            sys.stdout.flush()  # what the parser of command lines says by itself, --help and --version
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        from pvhv.cli.common import stopped_by

        sys.exit(stopped_by(error))


def _open_standard_streams() -> None:
    """Open /dev/null for standard streams that our caller closed, so that no socket gets their numbers."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))
