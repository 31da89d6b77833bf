# SPDX-License-Identifier: GPL-2.0-or-later
"""What commands are made of: where they register, the arguments many of them have, and how they end.

It knows none of them; pvhv.cli.app brings them together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from pvhv.cli.common import status_of
from pvhv.cli.terminal import escape_byte
from pvhv.toolstack.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

app = typer.Typer(
    name="pvhv",
    help="A paravirtualizing hypervisor and its domains. The verbs are those of xl.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
daemon_app = typer.Typer(help="The host process that domains live in.", no_args_is_help=True)

# Arguments that many commands have.
DomainArgument = Annotated[str, typer.Argument(help="Name or id.", metavar="DOMAIN")]
OneOrAll = Annotated[str | None, typer.Argument(help="Name or id; all domains without.", metavar="DOMAIN")]
AsJson = Annotated[bool, typer.Option("--json", help="For a script to read.")]
EscapeOption = Annotated[
    str, typer.Option("-e", "--escape", help="The key that leaves the console.", metavar="KEY")
]


def parse_escape(text: str) -> int:
    """The key an EscapeOption names. Raises UsageError."""
    try:
        return escape_byte(text)
    except ValueError as rule:
        raise UsageError(f"-e {text}: the escape key is {rule}", "for example -e ^] or -e ^a") from None


def command(name: str, group: typer.Typer = app) -> Callable[[F], F]:
    """Register a command whose errors end as they should."""

    def register(function: F) -> F:
        @group.command(name)
        @functools.wraps(function)
        def guarded(*arguments: Any, **options: Any) -> None:
            raise typer.Exit(status_of(function, *arguments, **options))

        return function

    return register


def _version(wanted: bool) -> None:
    if wanted:
        from pvhv import __version__

        print(f"pvhv {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Say which pvhv this is.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A paravirtualizing hypervisor and its domains. The verbs are those of xl."""
