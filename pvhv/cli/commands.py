# SPDX-License-Identifier: GPL-2.0-or-later
"""What commands are made of: how they are registered, the arguments many of them have, and how they end.

This module knows no command; pvhv.cli.app imports them all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from pvhv.cli.common import say, status_of
from pvhv.cli.terminal import escape_byte
from pvhv.cli.verbs import Verbs, tell
from pvhv.toolstack.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

app = typer.Typer(
    name="pvhv",
    cls=Verbs,
    help="Run and control domains of the pvhv hypervisor. The commands are those of xl.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
image_app = typer.Typer(help="Disk images: make, show, convert, check and resize them.", no_args_is_help=True)
daemon_app = typer.Typer(help="Control pvhvd, the process that all domains run in.", no_args_is_help=True)

# Arguments that many commands have.
DomainArgument = Annotated[str, typer.Argument(help="Name or id.", metavar="DOMAIN")]
OneOrAll = Annotated[str | None, typer.Argument(help="Name or id; all domains by default.", metavar="DOMAIN")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
EscapeOption = Annotated[
    str, typer.Option("-e", "--escape", help="The key that leaves the console.", metavar="KEY")
]


def parse_escape(text: str) -> int:
    """The byte of the key that an EscapeOption names. Raises UsageError."""
    try:
        return escape_byte(text)
    except ValueError as rule:
        raise UsageError(f"{text!a}: the escape key is {rule}", "for example --escape ^] or --escape ^a") from None


def command(
    name: str, group: typer.Typer = app, *, hidden: bool = False, takes_anything: bool = False
) -> Callable[[F], F]:
    """Register a command: its errors become a message and an exit status."""
    settings = {"ignore_unknown_options": True, "allow_extra_args": True} if takes_anything else None

    def register(function: F) -> F:
        @group.command(name, hidden=hidden, context_settings=settings)
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
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
    dry_run: Annotated[bool, typer.Option("-N", hidden=True)] = False,
    _verbose: Annotated[int, typer.Option("-v", hidden=True, count=True)] = 0,  # xl's, as the next are
    _force: Annotated[bool, typer.Option("-f", hidden=True)] = False,
    _progress: Annotated[bool, typer.Option("-t", hidden=True)] = False,
    _timestamps: Annotated[bool, typer.Option("-T", hidden=True)] = False,
) -> None:
    """Run and control domains of the pvhv hypervisor. The commands are those of xl."""
    context.obj = {"dry_run": dry_run}
    if dry_run and context.invoked_subcommand != "create":
        say("-N makes nothing of a domain file: it goes with create alone")
        raise typer.Exit(2)


@command("help")
def help_for(
    context: typer.Context, verb: Annotated[str | None, typer.Argument(help="A command.", metavar="COMMAND")] = None
) -> None:
    """Show the help of a command, or the list of all."""
    print(tell(context, verb))
