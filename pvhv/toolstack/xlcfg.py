# SPDX-License-Identifier: GPL-2.0-or-later
"""The language of domain files: assignments of strings, numbers and lists, as xl reads them.

    name   = "hello"          # strings in either kind of quotes, with C's escapes
    memory = 0x40             # decimal, 0x hexadecimal or 0 octal
    disk   = [ 'a', 'b', ]    # lists may nest and may span lines
    cmdline += " debug"       # appends to a string or to a list

A file is data: it is read, never executed, and every value remembers its line so that whoever gives it a
meaning (pvhv.toolstack.config) can say where it stands. A key that is set twice keeps its last value, as in
xl, and knows which one it took the place of.

Read beside it: xl.cfg(5), tools/libs/util/libxlu_cfg_l.l and libxlu_cfg_y.y.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from pvhv.toolstack.errors import ToolstackError

Value = str | int | list["Value"]

TOKEN = re.compile(
    r"""
      (?P<blank>   [ \t\r]+ | \#[^\n]* )
    | (?P<newline> \n )
    | (?P<word>    [A-Za-z_][\w.]* )
    | (?P<number>  -?\d\w* )
    | (?P<string>  '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*" )
    | (?P<mark>    \+= | [=;,\[\]] )
    """,
    re.VERBOSE,
)

LONGEST_NUMBER = 40
DEEPEST_LIST = 32

ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
PLAIN_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Token(NamedTuple):
    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Setting:
    """A key's value, and where it was given."""

    key: str
    value: Value
    place: str  # "hello.cfg:3", or "command line"
    replaces: str = ""  # the place of another value that this one was set over


class Source(NamedTuple):
    """Text, and how to name a line of it in a message."""

    text: str
    name: str
    numbered: bool = True

    def place(self, line: int) -> str:
        """How a message names a line of it."""
        return f"{self.name}:{line}" if self.numbered else self.name


def parse(source: Source) -> dict[str, Setting]:
    """The settings of a file, by key. Raises ToolstackError that names the line."""
    return _Parser(source).file()


def parse_argument(argument: str) -> Setting:
    """One `key=value` of a command line, where a string may go without its quotes."""
    key, sign, text = argument.partition("=")
    key = key.strip()
    adds = key.endswith("+")
    if not sign or not re.fullmatch(r"[A-Za-z_][\w.]*", key.rstrip("+ ")):
        raise ToolstackError(
            f"'{argument}' is no setting", "write it as key=value, for example memory=128", status=2
        )
    if adds:
        raise ToolstackError(f"'{argument}': += has its place in a file", "give the whole value", status=2)
    text = text.strip()
    if not text.startswith(("'", '"', "[")) and not re.fullmatch(r"-?\d+|0[xX][0-9a-fA-F]+", text):
        return Setting(key, text, "command line")
    return parse(Source(f"{key} = {text}", "command line", numbered=False))[key]


class _Parser:
    """Recursive descent over the tokens of one source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tokens = list(_tokens(source))
        self.at = 0
        self.depth = 0  # of lists in lists

    def error(self, line: int, message: str, hint: str = "") -> ToolstackError:
        return ToolstackError(f"{self.source.place(line)}: {message}", hint)

    def peek(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def skip_newlines(self) -> None:
        while self.peek().kind == "newline":
            self.at += 1

    def file(self) -> dict[str, Setting]:
        settings: dict[str, Setting] = {}
        while self.peek().kind != "end":
            if self.peek().kind == "newline" or self.peek().text == ";":
                self.take()
                continue
            setting, adds = self.assignment()
            before = settings.get(setting.key)
            if before is not None:
                setting = self.added(before, setting) if adds else replace(setting, replaces=before.place)
            settings[setting.key] = setting
        return settings

    def assignment(self) -> tuple[Setting, bool]:
        key = self.take()
        if key.kind != "word":
            raise self.error(key.line, f"expected a key, found {_shown(key)}", "a line reads: key = value")
        sign = self.take()
        if sign.text not in ("=", "+="):
            raise self.error(key.line, f"expected '=' after '{key.text}', found {_shown(sign)}")
        if self.peek().kind in ("newline", "end"):
            raise self.error(key.line, f"'{key.text} {sign.text}' has no value")
        value = self.value(key.text)
        end = self.peek()
        if end.kind not in ("newline", "end") and end.text != ";":
            raise self.error(end.line, f"{_shown(end)} does not belong after the value of '{key.text}'")
        return Setting(key.text, value, self.source.place(key.line)), sign.text == "+="

    def value(self, key: str) -> Value:
        token = self.take()
        if token.kind == "string":
            return _unquote(token.text[1:-1])
        if token.kind == "number":
            return self.number(token)
        if token.text == "[":
            return self.items(key, token.line)
        if token.kind == "word":
            raise self.error(
                token.line,
                f"{token.text} stands bare as the value of '{key}'",
                f'put a string in quotes: "{token.text}"',
            )
        raise self.error(token.line, f"'{key}' cannot be {_shown(token)}")

    def number(self, token: Token) -> int:
        digits = token.text.removeprefix("-")
        if len(digits) > LONGEST_NUMBER:
            raise self.error(token.line, f"a number of {len(digits)} digits means nothing here")
        sign = -1 if digits != token.text else 1
        try:
            if digits[:2].lower() == "0x":
                return sign * int(digits[2:], 16)
            return sign * int(digits, 8 if digits.startswith("0") and digits != "0" else 10)
        except ValueError:
            raise self.error(
                token.line, f"{token.text} is not a number", "a word or a size wants quotes"
            ) from None

    def items(self, key: str, opened: int) -> list[Value]:
        found: list[Value] = []
        self.depth += 1
        if self.depth > DEEPEST_LIST:
            raise self.error(opened, f"'{key}' is a list of lists more than {DEEPEST_LIST} deep")
        while True:
            self.skip_newlines()
            if self.peek().text == "]":
                self.take()
                self.depth -= 1
                return found
            if self.peek().kind == "end":
                raise self.error(opened, f"the list of '{key}' is never closed", "it wants a ] at its end")
            found.append(self.value(key))
            self.skip_newlines()
            separator = self.peek()
            if separator.text == ",":
                self.take()
            elif separator.kind == "end":
                raise self.error(opened, f"the list of '{key}' is never closed", "it wants a ] at its end")
            elif separator.text != "]":
                raise self.error(
                    separator.line, f"expected , or ] in the list of '{key}', found {_shown(separator)}"
                )

    def added(self, before: Setting, more: Setting) -> Setting:
        if isinstance(before.value, str) and isinstance(more.value, str):
            return replace(more, value=before.value + more.value, replaces=before.replaces)
        if isinstance(before.value, list):
            extra = more.value if isinstance(more.value, list) else [more.value]
            return replace(more, value=before.value + extra, replaces=before.replaces)
        raise ToolstackError(
            f"{more.place}: cannot add to '{more.key}', which is {type_name(before.value)} ({before.place})"
        )


def type_name(value: Value) -> str:
    """What a value is, in a message."""
    return {str: "a string", int: "a number", list: "a list"}[type(value)]


def _tokens(source: Source) -> list[Token]:
    tokens = []
    line, at, text = 1, 0, source.text
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            if text[at] in "'\"":
                raise ToolstackError(
                    f"{source.place(line)}: the string that begins here is not closed on its line"
                )
            raise ToolstackError(
                f"{source.place(line)}: {text[at]!r} has no meaning here",
                "a domain file is data: key = value, no Python",
            )
        kind = match.lastgroup or ""
        if kind != "blank":
            tokens.append(Token(kind, match.group(), line))
        line += match.group().count("\n")
        at = match.end()
    tokens.append(Token("end", "", line))
    return tokens


def _shown(token: Token) -> str:
    return {"newline": "the end of the line", "end": "the end of the file"}.get(token.kind, f"'{token.text}'")


def _unquote(text: str) -> str:
    def meaning(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        return PLAIN_ESCAPES.get(code, code)

    return ESCAPE.sub(meaning, text)
