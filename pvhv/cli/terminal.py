# SPDX-License-Identifier: GPL-2.0-or-later
"""The terminal while a guest has it: every key goes to the guest. Afterwards its settings are restored.

Not modelled: a Windows console's raw mode is written from its documentation and untested.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

DEFAULT_ESCAPE = "^]"


def escape_byte(text: str) -> int:
    """`^]` or a single character as the byte that detaches. Raises ValueError."""
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        return ord(text[1].upper()) & 0x1F
    if len(text) == 1 and ord(text) < 128:
        return ord(text)
    raise ValueError("a single character, or ^ and a letter")


@contextmanager
def raw_mode() -> Iterator[None]:
    """Keys as bytes, at once and unechoed; line ends on output stay the terminal's business."""
    restore = _set_raw()
    atexit.register(restore)  # whatever ends us, short of SIGKILL
    try:
        yield
    finally:
        restore()
        atexit.unregister(restore)


def _set_raw() -> Any:
    if sys.platform == "win32":
        return _set_raw_windows()
    import termios

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    raw = termios.tcgetattr(descriptor)
    raw[0] &= ~(
        termios.BRKINT
        | termios.ICRNL
        | termios.INLCR
        | termios.IGNCR
        | termios.INPCK
        | termios.ISTRIP
        | termios.IXON
    )
    raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    termios.tcsetattr(descriptor, termios.TCSANOW, raw)

    def restore() -> None:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    return restore


def _set_raw_windows() -> Any:
    import ctypes

    kernel32 = getattr(ctypes, "windll").kernel32  # noqa: B009 (mypy: Windows only)
    handle = kernel32.GetStdHandle(-10)
    before = ctypes.c_uint32()
    kernel32.GetConsoleMode(handle, ctypes.byref(before))
    # No line input, echo or Ctrl-C processing; virtual-terminal sequences instead.
    kernel32.SetConsoleMode(handle, before.value & ~0x7 | 0x200)
    return lambda: kernel32.SetConsoleMode(handle, before.value)


_line_begun = False  # whether what was written last left the cursor within a line


def write_all(data: bytes) -> None:
    """Write bytes to standard output, unchanged."""
    global _line_begun
    descriptor = sys.stdout.fileno()
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    if data:
        _line_begun = not data.endswith(b"\n")


def leave_line() -> None:
    """Begin a new line, before a message on standard error that would stand behind the guest's output.

    That happens if standard output and standard error go to the same terminal or file.
    """
    global _line_begun
    if _line_begun and os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno()):
        _line_begun = False
        print(file=sys.stderr)
