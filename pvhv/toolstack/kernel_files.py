# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that a domain file names: beside it, among the kernels that came with pvhv, or among what was fetched.

Paths are relative to the file that names them. This module only finds files; others read them.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pvhv
from pvhv.toolstack import fetched
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import quoted, shown

KERNELS = Path(pvhv.__file__).parent / "_built" / "kernels"


def built_kernels() -> list[str]:
    """The names of the kernels that came with pvhv: guests first, then benchmarks and tests."""
    if not KERNELS.is_dir():
        return []
    names = [entry.name for entry in KERNELS.iterdir() if entry.is_file() and not entry.name.startswith(".")]
    return sorted(
        names, key=lambda name: (name != "guest-pv", name.startswith("test-"), not name.startswith("guest-"), name)
    )


def find_kernel(text: str, directory: Path, place: str) -> Path:
    """The file a `kernel` value names. Raises ToolstackError that begins with `place`."""
    path = directory / os.path.expanduser(text)
    if os.sep in text or "/" in text or _exists(path, place):
        return beside(text, directory, place)  # or what it is instead
    built = KERNELS / text
    if built.is_file():
        return built
    if (kept := fetched.find(text)) is not None:
        return kept
    if hint := fetched.hint(text):
        raise ToolstackError(f"{place}: the kernel '{text}' was not fetched yet", hint)
    raise ToolstackError(f"{place}: no kernel '{text}' beside the file, and none built in", _what_there_is(text))


def _what_there_is(text: str) -> str:
    names = built_kernels()
    nearest = difflib.get_close_matches(text, names, 1)
    if nearest:
        return f"did you mean the built-in '{nearest[0]}'?"
    if names:
        shown = [name for name in names if not name.startswith("test-")] or names[:5]
        return f"kernels that came with pvhv: {', '.join(shown)}"
    return "the kernels of this checkout are not built: python3 tools/dev.py build"


def beside(text: str, directory: Path, place: str) -> Path:
    """The plain file that `text` names, relative to `directory`. Raises ToolstackError that begins with `place`."""
    path = directory / os.path.expanduser(text)
    if _exists(path, place):
        return _plain(path, place)
    if (kept := fetched.find(text)) is not None:
        return kept
    if hint := fetched.hint(text):
        raise ToolstackError(f"{place}: '{text}' was not fetched yet", hint)
    raise ToolstackError(f"{place}: there is no file {path}")


def _exists(path: Path, place: str) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a name that is too long, a directory that nobody may look into
        raise ToolstackError(f"{_at(place)}cannot look for {path}: {error.strerror}") from None


def plain_file(text: str, directory: Path) -> Path:
    """Find a plain file to be a disk: beside the domain file, or a disk (nothing else) that was fetched. Raises
    ToolstackError."""
    path = directory / os.path.expanduser(text)
    if _exists(path, ""):
        return _plain(path, "")
    if text.endswith(fetched.DISK):
        if (kept := fetched.find(text)) is not None:
            return kept
        if hint := fetched.hint(text):
            raise ToolstackError(f"the disk '{text}' was not made yet", hint)
    hint = f"pvhv image create {quoted(str(path))} 64M makes an empty disk"
    raise ToolstackError(f"there is no file {shown(str(path))}", hint)


def _plain(path: Path, place: str) -> Path:
    if path.is_file():
        return path.absolute()
    raise ToolstackError(f"{_at(place)}{path} is {'a directory' if path.is_dir() else 'not a plain file'}")


def _at(place: str) -> str:
    return f"{place}: " if place else ""
