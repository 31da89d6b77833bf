# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command is found: by its name, or by a beginning of it that no other command has, as in xl.

What xl takes before the verb is taken here as well. Read beside it: cmdtable_lookup in tools/xl/xl_cmdtable.c.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from pvhv.toolstack.nearest import nearest


class Verbs(TyperGroup):
    """pvhv's commands."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or the only one that begins so."""
        found = super().get_command(ctx, cmd_name)
        if found is not None or not cmd_name:
            return found
        meant = [name for name in self.commands if name.startswith(cmd_name)]
        return self.commands[meant[0]] if len(meant) == 1 else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Likewise, in a command line. If several commands begin with the word, the error names them."""
        word = args[0] if args else ""
        if word and self.get_command(ctx, word) is None:
            several = sorted(name for name, each in self.commands.items() if name.startswith(word) and not each.hidden)
            if several:
                ctx.fail(f"'{word}' may be {' or '.join(several)}.")
            if close := nearest(word, self.commands):
                ctx.fail(f"No such command '{word}'. Did you mean '{close}'?")
        name, found, rest = super().resolve_command(ctx, args)
        return (found.name if found is not None else name), found, rest


def tell(ctx: typer.Context, verb: str | None) -> str:
    """The help of a command, or the list of all."""
    group: Any = ctx.find_root().command
    if verb is None:
        return str(group.get_help(ctx.find_root()))
    name, found, _rest = group.resolve_command(ctx.find_root(), [verb])
    with found.make_context(name, [], parent=ctx.find_root(), resilient_parsing=True) as below:
        return str(found.get_help(below))
