# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv build`: a guest of one's own, compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pvhv.cli.commands import command


@command("build")
def build(
    directory: Annotated[Path, typer.Argument(help="Where its .c and .S files are.", metavar="DIR")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The kernel's file; DIR/build/NAME without.")
    ] = None,
) -> None:
    """Compile a guest kernel from a directory of C and assembly."""
    from pvhv.build.guest import build_directory
    from pvhv.build.zig import BuildError
    from pvhv.toolstack.errors import ToolstackError

    try:
        print(build_directory(directory, output))
    except BuildError as error:
        raise ToolstackError(str(error)) from None
