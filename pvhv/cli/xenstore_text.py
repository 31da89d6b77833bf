# SPDX-License-Identifier: GPL-2.0-or-later
"""Values of the store as text, and trees of it as `xenstore-ls` shows them.

A value is bytes. In a text, printable characters stand for themselves, and other bytes are escaped with backslashes.
`unsanitise` is the reverse: `xenstore-write` takes what `xenstore-read` shows.

Read beside it: do_ls in tools/xenstore/xenstore_client.c, sanitise_value and unsanitise_value in xs_lib.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ESCAPES = {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r", ord("\\"): "\\\\"}
WRITTEN = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"": b"\0"}  # a last backslash alone is what ends a text in C
ESCAPED = re.compile(rb"\\(x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.?))", re.DOTALL)

TAG = len(' = "..."')
DOTS_UNTIL = 60  # the column that permissions stand right of


class Shown(NamedTuple):
    """A node to show. `value` is None if it could not be read, `permissions` if they are not wanted."""

    path: bytes
    depth: int
    value: bytes | None
    permissions: Sequence[str] | None


def sanitise(value: bytes) -> str:
    """A value as text that can be printed."""
    return "".join(
        ESCAPES.get(byte) or (chr(byte) if 32 <= byte <= 126 else f"\\{byte:03o}" if byte < 8 else f"\\x{byte:02x}")
        for byte in value
    )


def unsanitise(text: bytes) -> bytes:
    """The value that an escaped text stands for."""

    def plain(found: re.Match[bytes]) -> bytes:
        if found[2] is not None:
            return bytes((int(found[2], 16),))
        if found[3] is not None:
            return bytes((int(found[3], 8) & 0xFF,))
        return WRITTEN.get(found[4], found[4])

    return ESCAPED.sub(plain, text)


def lines(nodes: Sequence[Shown], width: int | None) -> Iterator[str]:
    """A tree, a line a node: indented and cut to `width`, or with whole paths and whole values (None)."""
    for node in nodes:
        yield _line(node, width)


def _line(node: Shown, width: int | None) -> str:
    if width is None:
        line, column = node.path.decode("ascii", "backslashreplace"), 0
    else:
        leaf = node.path.rpartition(b"/")[2].decode("ascii", "backslashreplace")
        line = " " * node.depth + leaf[: max(width - TAG - node.depth, 0)]
        column = len(line)
    permissions = "" if node.permissions is None else f"  ({','.join(node.permissions)})"
    if node.value is None:
        return f"{line}:\n{permissions}"
    text = sanitise(node.value)
    if width is not None and width < column + len(node.value) + TAG:
        return f'{line} = "{text[: max(width - TAG - column, 0)]}\\..."{permissions}'
    shown = f' = "{text}"'
    line += shown
    column += len(shown)
    if node.permissions is not None:
        line += " "
        until = 0 if width is None else min(DOTS_UNTIL, width)
        line += "".join("." if at & 1 else " " for at in range(column + 1, until))
    return line + permissions
