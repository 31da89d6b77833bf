# SPDX-License-Identifier: GPL-2.0-or-later
"""The language of domain files: assignments of strings and lists, as xl reads them.

    name   = "hello"          # strings in either kind of quotes
    memory = 0x40             # a number needs no quotes; it is kept as a string
    disk   = [ 'a', 'b', ]    # lists may nest and may span lines
    cmdline += " debug"       # appends to a string or to a list

A file is data: it is read, never executed. Every value has its line, so that pvhv.toolstack.config can say where a
value stands that is wrong. A key that is set twice keeps its last value, as in xl, and knows which one it replaced. A
line that cannot be read is an error with its number; the lines after it are still read.

Whatever xl's parser takes is taken, with the same values. These are taken as well: carriage returns, a comment
without an end of line, `\\xHH` in strings. One of xl's values is odd: `\\123` in a string stands for nothing at all.

Read beside it: xl.cfg(5), tools/libs/util/libxlu_cfg_l.l, libxlu_cfg_y.y and libxlu_cfg.c (xlu__cfgl_dequote).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.problems import Place, Problems

Value = str | list["Value"]

TOKEN = re.compile(
    r"""
      (?P<blank>   [ \t\r]+ | \#[^\n]* )
    | (?P<newline> \n )
    | (?P<word>    [a-z][._0-9a-z]* )
    | (?P<number>  [0-9][0-9a-fx]* )
    | (?P<string>  '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*" )
    | (?P<mark>    \+= | [=;,\[\]] )
    """,
    re.VERBOSE,
)
ENOUGH = 1000  # problems: such a file is none
KEY = re.compile(r"[a-z][._0-9a-z]*")
REST_OF_LINE = re.compile(r"[^\n]*")
HEXADECIMAL = re.compile(r"[0-9a-fA-F]{1,2}")
XLS_OCTAL = re.compile(r"[ \t\v\f\r]*[+-]?[0-9]+")  # strtoul's idea of a number, of base ten whatever it is called
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", '"': '"', "\\": "\\"}


class Token(NamedTuple):
    kind: str  # a group of TOKEN, "end", or "wrong"
    text: str
    line: int
    hint: str = ""


@dataclass(frozen=True)
class Setting:
    """A key's value, and where it was given."""

    key: str
    value: Value
    place: Place
    replaces: Place | None = None  # of another value that this one was set over
    added: bool = False  # by +=, which no number can be made of


Settings = dict[str, Setting]


def parse(text: str, source: str, problems: Problems, *, numbered: bool = True) -> Iterator[tuple[Setting, bool]]:
    """Assignments in their order, each with whether it adds to what there was."""
    return _Parser(text, source, problems, numbered).file()


def read_file(text: str, source: str, problems: Problems) -> Settings:
    """The settings of a file, by key."""
    settings: Settings = {}
    for setting, adds in parse(text, source, problems):
        _store(settings, setting, adds, problems)
    return settings


def read_argument(argument: str, settings: Settings, problems: Problems) -> None:
    """Read one argument of a command line, which replaces a file's setting: in xl's form, or key=text without
    quotes."""
    place = Place("command line")
    key, sign, text = argument.partition("=")
    adds = key.endswith("+")
    key, text = key.removesuffix("+").strip(), text.strip()
    if not sign or not KEY.fullmatch(key):
        raise ToolstackError(
            f"{argument!a} is not a setting", "write it as key=value, for example memory=128", status=2
        )
    attempt = Problems()
    found = list(parse(argument, place.source, attempt, numbered=False))
    if attempt.errors and not text.startswith(("'", '"', "[")):
        found = [(Setting(key, text, place), adds)]
    else:
        problems.errors += attempt.errors
        problems.warnings += attempt.warnings
    for setting, more in found:
        _store(settings, setting, more, problems)
        settings[setting.key] = replace(settings[setting.key], replaces=None)  # it is meant to win


def _store(settings: Settings, setting: Setting, adds: bool, problems: Problems) -> None:
    before = settings.get(setting.key)
    if adds:
        setting = replace(setting, added=True)
        if before is not None:
            if isinstance(before.value, str) and isinstance(setting.value, str):
                setting = replace(setting, value=before.value + setting.value, replaces=before.replaces)
            elif isinstance(before.value, list) and isinstance(setting.value, list):
                before.value.extend(setting.value)  # nobody else has that list
                setting = replace(setting, value=before.value, replaces=before.replaces)
            else:
                text = f"cannot add {type_name(setting.value)} to '{setting.key}', which is {type_name(before.value)}"
                problems.error(setting.place, f"{text} ({before.place})")
                return
    elif before is not None:
        setting = replace(setting, replaces=before.place)
    settings[setting.key] = setting


def type_name(value: Value) -> str:
    """A value's type, for a message."""
    return "a list" if isinstance(value, list) else "a single value"


class _Wrong(Exception):
    """A line that cannot be read: where, what, and what to do about it."""

    def __init__(self, line: int, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.line, self.text, self.hint = line, text, hint


class _Parser:
    """Parses one source. Lists in lists are kept on a stack, not by recursion."""

    def __init__(self, text: str, source: str, problems: Problems, numbered: bool) -> None:
        self.source = source
        self.problems = problems
        self.numbered = numbered
        self.tokens = _tokens(text)
        self.next = next(self.tokens)

    def place(self, line: int) -> Place:
        return Place(self.source, line if self.numbered else 0)

    def take(self) -> Token:
        token = self.next
        if token.kind == "wrong":
            raise _Wrong(token.line, token.text, token.hint)
        if token.kind != "end":
            self.next = next(self.tokens)
        return token

    def file(self) -> Iterator[tuple[Setting, bool]]:
        while self.next.kind != "end" and len(self.problems.errors) < ENOUGH:
            try:
                if self.next.kind == "newline" or self.next.text == ";":
                    self.take()
                else:
                    yield self.assignment()
            except _Wrong as wrong:
                self.problems.error(self.place(wrong.line), wrong.text, wrong.hint)
                while self.next.kind not in ("newline", "end"):
                    self.next = next(self.tokens)

    def assignment(self) -> tuple[Setting, bool]:
        key = self.take()
        if key.kind != "word":
            raise _Wrong(key.line, f"expected a key, found {_shown(key)}", "a line reads: key = value")
        sign = self.take()
        if sign.text not in ("=", "+="):
            raise _Wrong(key.line, f"expected '=' after '{key.text}', found {_shown(sign)}")
        if self.next.kind in ("newline", "end"):
            raise _Wrong(key.line, f"'{key.text} {sign.text}' has no value")
        value = self.value(key.text)
        if self.next.kind == "wrong":
            self.take()
        if self.next.kind not in ("newline", "end") and self.next.text != ";":
            text = f"{_shown(self.next)} does not belong after the value of '{key.text}'"
            raise _Wrong(self.next.line, text, "a word or a size needs quotes" if self.next.kind == "word" else "")
        return Setting(key.text, value, self.place(key.line)), sign.text == "+="

    def value(self, key: str) -> Value:
        token = self.take()
        if token.kind in ("string", "number"):
            return self.atom(token)
        if token.text == "[" and token.kind == "mark":
            return self.items(key, token.line)
        if token.kind == "word":
            text, hint = f"{token.text} is no value for '{key}'", f'put a string in quotes: "{token.text}"'
            raise _Wrong(token.line, text, hint)
        raise _Wrong(token.line, f"'{key}' cannot be {_shown(token)}")

    def atom(self, token: Token) -> str:
        if token.kind == "number":
            return token.text
        text, dropped = _unquote(token)
        if dropped:
            words = f"{dropped} in a string stands for nothing, as in xl, which reads no octal escapes"
            self.problems.warn(self.place(token.line), words)
        return text

    def items(self, key: str, opened: int) -> list[Value]:
        """The items of a list, from behind its [ to its ]."""
        whole: list[Value] = []
        lists = [whole]
        wants_item = True
        while lists:
            if self.next.kind == "end":
                raise _Wrong(opened, f"the list of '{key}' is never closed", "it needs a ] at its end")
            token = self.take()
            if token.kind == "newline":
                continue
            if token.kind == "mark" and token.text == "]":
                lists.pop()
                wants_item = False
            elif not wants_item and token.kind == "mark" and token.text == ",":
                wants_item = True
            elif wants_item and token.kind in ("string", "number"):
                lists[-1].append(self.atom(token))
                wants_item = False
            elif wants_item and token.text == "[":
                inner: list[Value] = []
                lists[-1].append(inner)
                lists.append(inner)
            else:
                wanted = "a value" if wants_item else ", or ]"
                raise _Wrong(token.line, f"expected {wanted} in the list of '{key}', found {_shown(token)}")
        return whole


def _tokens(text: str) -> Iterator[Token]:
    line, at = 1, 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None or (match.lastgroup == "string" and "\0" in match.group()):
            yield _wrong(text, at, line)
            match = REST_OF_LINE.match(text, at)
            assert match is not None
        elif match.lastgroup != "blank":
            yield Token(match.lastgroup or "", match.group(), line)
        line += match.group().count("\n")
        at = match.end()
    while True:
        yield Token("end", "", line)


def _wrong(text: str, at: int, line: int) -> Token:
    """Why there is no token here."""
    mark = text[at]
    if mark in "'\"":
        rest = REST_OF_LINE.match(text, at)
        if rest is not None and "\0" in rest.group():
            words = "a string has a NUL character in it: whoever reads it would take that for its end"
            return Token("wrong", words, line)
        return Token("wrong", "the string that begins here is not closed on its line", line)
    if mark.isupper():
        return Token("wrong", f"{mark!r} has no meaning here", line, "keys are in lower case, strings in quotes")
    return Token("wrong", f"{mark!a} has no meaning here", line, "a domain file is data: key = value, no Python")


def _shown(token: Token) -> str:
    return {"newline": "the end of the line", "end": "the end of the file"}.get(token.kind, f"'{token.text}'")


def _unquote(token: Token) -> tuple[str, str]:
    """A string's text, and the first escape in it that stands for nothing."""
    text, pieces, done, dropped = token.text[1:-1], [], 0, ""
    while (at := text.find("\\", done)) >= 0:
        pieces.append(text[done:at])
        code, done = text[at + 1], at + 2
        if code in ESCAPES:
            pieces.append(ESCAPES[code])
        elif code == "x" and (digits := HEXADECIMAL.match(text, done)):
            byte = int(digits.group(), 16)
            pieces.append(chr(byte if byte < 0x80 else 0xDC00 + byte))
            done = digits.end()
        elif code in "01234567" and (digits := XLS_OCTAL.match(text, done, done + 3)) and len(digits.group()) > 1:
            done = digits.end()
            dropped = dropped or text[at:done]
        else:
            words = f"a string has {text[at:done]} in it, which stands for nothing"
            raise _Wrong(token.line, words, r"\\ is a backslash")
    whole = "".join([*pieces, text[done:]])
    if pieces:  # bytes in a row may be a character
        whole = whole.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return whole, dropped
