# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks a client's request against the handler of its verb. The types of arguments are checked here and nowhere else.

A handler's type hints say what its arguments may be. A missing argument, an unknown one, or one of another type is
answered with an error before the handler is called. So a handler checks only what types do not say (a domain that does
not exist, a number out of range). Numbers are finite, and of 64 bits at most, as msgpack has them.

`fits` is also used for the plain values of a domain's configuration.
"""

from __future__ import annotations

import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Union

from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import shown

MOST_HANDLERS = 256
LONGEST_SHOWN = 40  # characters of what somebody calls an argument
WORDS: dict[Any, str] = {str: "text", bytes: "bytes", bool: "yes or no", int: "a whole number", float: "a number"}


class Takes(NamedTuple):
    """The arguments a handler takes: their type hints by name, and which are required. `others`: any other name as
    well."""

    hints: dict[str, Any]
    required: frozenset[str]
    others: bool
    never: frozenset[str]  # names of what the server itself gives it


def check(verb: str, handler: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raises ToolstackError where a handler cannot be called with these arguments."""
    takes = _takes(getattr(handler, "__func__", handler), inspect.ismethod(handler))
    for name, value in arguments.items():
        hint = takes.hints.get(name)
        if hint is None:
            if takes.others and name not in takes.never:
                continue
            raise ToolstackError(
                f"'{verb}' takes no '{shown(name[:LONGEST_SHOWN])}'", "pvhvd may be of another version than this pvhv"
            )
        if not fits(value, hint):
            raise ToolstackError(f"'{verb}': its '{name}' has to be {in_words(hint)}")
    if missing := sorted(takes.required - arguments.keys()):
        raise ToolstackError(f"'{verb}' needs its {' and its '.join(missing)}")


@lru_cache(MOST_HANDLERS)
def _takes(function: Callable[..., Any], bound: bool) -> Takes:
    # What is first (the handler's own object, the call) is the server's; its types need not be known outside of checks.
    all_of_them = [*inspect.signature(function).parameters.values()]
    own, parameters = all_of_them[: 1 + bound], all_of_them[1 + bound :]
    named = [each for each in parameters if each.kind is not each.VAR_KEYWORD]
    written = types.SimpleNamespace(__annotations__={each.name: each.annotation for each in named})
    return Takes(
        typing.get_type_hints(written, vars(sys.modules[function.__module__])),
        frozenset(each.name for each in named if each.default is each.empty),
        len(named) < len(parameters),
        frozenset(each.name for each in own),
    )


def fits(value: object, hint: Any) -> bool:
    """Whether a plain value from a message is of the type that `hint` says."""
    kind = typing.get_origin(hint) or hint
    inside = typing.get_args(hint)
    if kind in (Union, types.UnionType):
        return any(fits(value, each) for each in inside)
    if kind in (Any, object):
        return True
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind in (list, Sequence):
        return isinstance(value, (list, tuple)) and all(fits(each, inside[0]) for each in value)
    if kind is dict:
        return isinstance(value, dict) and all(
            fits(name, inside[0]) and fits(each, inside[1]) for name, each in value.items()
        )
    return isinstance(value, kind)


def in_words(hint: Any) -> str:
    """A type in words, for an error message."""
    kind, inside = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (Union, types.UnionType):
        return " or ".join(in_words(each) for each in inside)
    if kind in (list, Sequence):
        return f"a list, each {in_words(inside[0])}"
    if kind is dict:
        return "a map by names"
    return "nothing" if kind is type(None) else WORDS[kind]
