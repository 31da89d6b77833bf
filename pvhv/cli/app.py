# SPDX-License-Identifier: GPL-2.0-or-later
"""All commands, put together: each module registers its own as it is imported."""

from __future__ import annotations

# The order is that of `pvhv --help`.
from pvhv.cli import create, domains, block, console, look, dump, xenstore, trace, gdb, top, compare, classify, image, build, daemon, not_here  # noqa: E501, F401  # isort: skip
from pvhv.cli.commands import app, daemon_app, image_app

app.add_typer(image_app, name="image")
app.add_typer(daemon_app, name="daemon")

__all__ = ["app"]
