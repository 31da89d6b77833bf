# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of domains, which may be anything: what they look like to people, to a shell, and to a directory.

xl takes any string for a name, so a name may have blanks, slashes, line ends, bytes that are no UTF-8, and sequences
that move a terminal's cursor. The name is kept unchanged, and goes unchanged to xenstore and to scripts (JSON). People
see it by `shown`, without anything a terminal acts on. A command that is suggested has it `quoted`. `file_name` makes a
file's name of it: plain names stay as they are, and no two names give the same file.

Bytes that are no UTF-8 are surrogates in a name, as in Python's arguments and file names.
"""

from __future__ import annotations

from pvhv.toolstack.errors import ToolstackError

LONGEST_NAME = 1024  # bytes: it stands in every message and every list, and in xenstore
LONGEST_FILE_NAME = 180  # what is made of it: a file's name is that and some more
DOMAIN_0 = "Domain-0"


def as_bytes(text: str) -> bytes:
    """A name or a command line as the guest gets it: UTF-8; bytes from the shell that are no UTF-8 stay as they are."""
    return text.encode("utf-8", "surrogateescape")


def why_not(name: str) -> str | None:
    """Why a domain cannot have that name, as the end of a sentence that begins with the name; None if it can."""
    if not name:
        return "is empty"
    if "\0" in name:
        return "has a NUL character in it: whoever reads it would take that for its end"
    if len(as_bytes(name)) > LONGEST_NAME:
        return f"may have {LONGEST_NAME} bytes at most"
    return None


def check(name: str) -> None:
    """Raises ToolstackError when a domain cannot have that name."""
    if reason := why_not(name):
        raise ToolstackError(f"'{shown(name[:60])}' cannot be a domain's name: it {reason}", status=2)


def shown(text: str) -> str:
    """A name for people: every character that a line cannot show becomes an escape."""
    return text if text.isprintable() else "".join(each if each.isprintable() else _escape(each) for each in text)


def clean(text: str) -> str:
    """Text of several lines, likewise; line ends stay."""
    return text if text.isprintable() else "\n".join(shown(line) for line in text.expandtabs().split("\n"))


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted(name: str) -> str:
    """A name as a shell's word, for a command that somebody may copy."""
    import shlex  # `list`, which has no use for it, shall not wait for it

    if name.isprintable():
        return f"-- {shlex.quote(name)}" if name.startswith("-") else shlex.quote(name)
    inside = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}" for byte in as_bytes(name)
    )
    return f"$'{inside}'"


def log_name(name: str) -> str:
    """The name of the file that a guest's console is logged in."""
    return f"guest-{file_name(name)}.log"


def file_name(name: str) -> str:
    """A part of a file's name: plain characters as they are, others as %XX; the rest of a long one as a digest."""
    import hashlib
    from urllib.parse import quote_from_bytes

    safe = quote_from_bytes(as_bytes(name), safe="~+,@=")
    if len(safe) > LONGEST_FILE_NAME:
        digest = hashlib.sha256(as_bytes(name)).hexdigest()[:16]
        safe = f"{safe[: LONGEST_FILE_NAME - len(digest) - 1]}%{digest}"
    return safe
