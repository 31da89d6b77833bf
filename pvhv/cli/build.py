# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv build`: compile a guest of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pvhv.cli.commands import command


@command("build")
def build(
    directory: Annotated[Path, typer.Argument(help="The directory with its .c and .S files.", metavar="DIR")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The kernel's file; DIR/build/NAME by default.")
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
