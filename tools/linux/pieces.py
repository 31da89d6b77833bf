# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that are kept of what was fetched: each is made of one package, and made anew if the package is another.

Beside each file lies a record: what was asked for, the package that it was made of, how it was made (`recipe`), and its
check sum. If one of them differs, or the file is damaged, the package is fetched and the file made anew. It appears by
a rename, whole or not at all, so whatever interrupts this leaves what was there.

A package that several files are made of is fetched once in a run.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pvhv.build.cache import write_whole
from tools.linux import deb
from tools.linux.archive import Archive
from tools.linux.deb import BadPackage

Make = Callable[[Path, bool], bytes]  # of a package, or of a plain file; True: it was given by hand


class Piece(NamedTuple):
    """One file that is kept. `make` makes it of a file of a package.

    `recipe` changes when `make` makes another file of the same input.
    """

    name: str
    package: str
    make: Make
    recipe: str = ""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def one(place: Path, scratch: Path, piece: Piece, archive: Archive, given: Path | None = None) -> Path:
    """Make a piece, unless it is there, undamaged, and made of the same input. Returns its path. Raises BadPackage,
    OSError."""
    made, record = place / piece.name, place / f"{piece.name}.json"
    asked = {"package": piece.package, "suite": archive.suite}
    known = _read(record)
    whole = made.is_file() and known.get("sha256") == hashlib.sha256(made.read_bytes()).hexdigest()
    if given is not None:
        found = given.stat()
        asked, source = {"file": str(given.absolute())}, f"{found.st_size} bytes, {found.st_mtime_ns}"
    else:
        try:
            source = archive.find(piece.package).file
        except BadPackage as error:
            before = known.get("asked")
            given_before = isinstance(before, dict) and "file" in before
            if not whole or (before != asked and not given_before):
                raise
            say(f"{made.name} is there; whether there is a newer one cannot be told ({error})")
            return made
    if whole and (known.get("asked"), known.get("source"), known.get("recipe")) == (asked, source, piece.recipe):
        say(f"{made.name} is up to date ({known['source'] if given is None else given})")
        return made
    by_hand = given is not None
    if given is None:
        given = archive.download(piece.package, scratch)
        source = given.name
    say(f"unpacking {given.name}")
    data = piece.make(given, by_hand)
    record.unlink(missing_ok=True)
    write_whole(made, data)
    digest = hashlib.sha256(data).hexdigest()
    written = {"asked": asked, "source": source, "recipe": piece.recipe, "sha256": digest}
    write_whole(record, json.dumps(written, indent=1).encode())
    return made


def content(path: Path, patterns: tuple[str, ...], by_hand: bool) -> bytes:
    """The file of a package that matches one of the patterns; a file that is no package is that file. Raises
    BadPackage."""
    return deb.extract(path, *patterns, whole=by_hand)[1] if deb.is_deb(path) else path.read_bytes()


def _read(record: Path) -> dict[str, Any]:
    try:
        known = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
