# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources into objects, objects into images, and never the same work twice.

The key of an object is a hash of what decides its bytes: the compiler's version, the flags, the source,
and every file the source draws in.  Which files those are only the compiler knows, so the first
compilation keeps its list beside the object (a `deps` entry, found by what can be known beforehand), and
later ones hash the files on the list.  A header that appears or goes could change the list, so the names
of all headers in reach are part of that first key.  `.incbin` is not on a compiler's list and is looked
for in the text.  The key of an image is made of its objects' keys.

Invariant: no place on the machine reaches an output or a key.  Sources are named relative to their root,
in which the compiler runs; every other directory has a label and -ffile-prefix-map; so a build gives the
same bytes wherever it stands, and two checkouts share the store.

Failures are collected, not raised: one broken test kernel does not keep the others from being built.  Not
modelled: INCLUDE in linker scripts.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache as remember
from pathlib import Path
from typing import TypeVar

from pvhv.build.cache import Cache
from pvhv.build.progress import Progress
from pvhv.build.zig import BuildError, Zig

_FORMAT = "1"  # part of every key: change it when the meaning of an entry changes
_INCBIN = re.compile(rb'\.incbin\s+\\?"([^"\\]+)\\?"')
_ENTRY = re.compile(r"\bENTRY\s*\(\s*([\w.$]+)\s*\)")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Source:
    """One translation unit: a path relative to the root, and how it is compiled."""

    path: str
    flags: tuple[str, ...]
    include: tuple[Path, ...]  # searched in this order; absolute


@dataclass(frozen=True)
class Image:
    """One linked file: a name for messages, the sources in it, the script and flags that shape it."""

    name: str
    sources: tuple[Source, ...]
    flags: tuple[str, ...]
    script: Path | None = None
    file_name: str = "image"  # some formats write the output's name into the output


@dataclass
class Workshop:
    """One build: a root, a compiler, a store, and the directories outside the root, each with its label."""

    root: Path
    zig: Zig
    cache: Cache
    progress: Progress
    labels: Mapping[Path, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    compiled: int = 0
    linked: int = 0

    def __post_init__(self) -> None:
        self.root = self.root.resolve()
        labelled = {self.root: ".", self.zig.library: "/zig", self.zig.library.resolve(): "/zig"}
        labelled |= self.labels
        # The longest path first, so that a directory inside another keeps its own label.
        self._places = sorted(labelled.items(), key=lambda place: -len(str(place[0])))
        # A later -ffile-prefix-map wins, hence the reverse order.
        self._prefix_maps = [f"-ffile-prefix-map={path}={label}" for path, label in reversed(self._places)]
        self._said: set[str] = set()
        # Remembered for one build only: the files may be other ones at the next.
        self._digest = remember(lambda path: _sha(path.read_bytes()))
        self._header_names = remember(self._list_headers)

    def compile(self, sources: Iterable[Source]) -> dict[Source, str]:
        """The keys of the objects; one that did not compile is missing here and named in `failures`."""
        wanted = list(dict.fromkeys(sources))
        self.progress.expect(len(wanted))
        return self._spread(wanted, self._compile_one, lambda source: source.path)

    def link(self, images: Iterable[Image], objects: Mapping[Source, str]) -> dict[Image, Path]:
        """The linked files, in the store; an image that lacks an object is left out quietly."""
        possible = [image for image in images if all(source in objects for source in image.sources)]
        wanted = list(dict.fromkeys(possible))
        self.progress.expect(len(wanted))
        return self._spread(
            wanted,
            lambda image: self._link_one(image, [objects[s] for s in image.sources]),
            lambda image: image.name,
        )

    def fail(self, message: str) -> None:
        """Note that something cannot be built; the build goes on with the rest."""
        self.progress.say(message)
        self.failures.append(message)

    def check(self) -> None:
        """Raise BuildError if anything failed. To be called when everything that could be built is built."""
        if self.failures:
            shown, more = self.failures[:5], len(self.failures) - 5
            raise BuildError("; ".join(shown) + (f"; and {more} more" if more > 0 else ""))

    # -- one object ------------------------------------------------------------------------------------------

    def _compile_one(self, source: Source) -> str | None:
        path = self.root / source.path
        first_key = self._first_key(source, path)
        listed = self.cache.find("deps", first_key)
        if listed is not None:
            key = self._object_key(first_key, listed.read_text("utf-8").splitlines())
            if key is not None and self.cache.find("object", key) is not None:
                return key
        with tempfile.TemporaryDirectory(prefix="pvhv-cc-") as scratch:
            out, deps = Path(scratch, "out.o"), Path(scratch, "out.d")
            arguments = [
                *source.flags, *self._prefix_maps, *(f"-I{self._shorten(p)}" for p in source.include),
                "-MD", "-MF", str(deps), "-c", source.path, "-o", str(out),
            ]  # fmt: skip
            if not self._run(arguments, scratch, f"{source.path} did not compile"):
                return None
            files = self._dependencies(source, path, deps)
            key = self._object_key(first_key, files)
            if key is None:  # a file went away while we compiled
                self.fail(f"{source.path}: a file it includes went away during the build; build again")
                return None
            self.cache.keep("object", key, out.read_bytes())
            self.cache.keep("deps", first_key, "\n".join(files).encode())
        self.compiled += 1
        return key

    def _first_key(self, source: Source, path: Path) -> str:
        reach = [(self._label(place), *self._header_names(place)) for place in (*source.include, path.parent)]
        return _sha(repr((_FORMAT, self.zig.version, source.flags, source.path, reach)), self._digest(path))

    def _object_key(self, first_key: str, files: Sequence[str]) -> str | None:
        try:
            parts = [f"{file}={self._digest(self._find(file))}" for file in files]
        except OSError:
            return None
        return _sha(first_key, *parts)

    def _dependencies(self, source: Source, path: Path, deps: Path) -> list[str]:
        """Labels of the files an object was made of, but the compiler's own: its version covers them."""
        drawn_in = [path]
        if deps.exists():
            drawn_in += [self.root / name for name in _read_depfile(deps.read_text("utf-8"))]
        found: dict[str, None] = {}
        for file in drawn_in:
            label = self._label(file)
            if label.startswith("/zig/"):
                continue
            found[label] = None
            for name in _INCBIN.findall(file.read_bytes()):
                for place in (file.parent, self.root, *source.include):
                    blob = place / os.fsdecode(name)
                    if blob.is_file():
                        found[self._label(blob)] = None
                        break
        return sorted(found)

    # -- one image -------------------------------------------------------------------------------------------

    def _link_one(self, image: Image, keys: list[str]) -> Path | None:
        script = image.script.read_text("utf-8") if image.script else ""
        shape = (_FORMAT, self.zig.version, image.flags, image.file_name)
        key = _sha(repr(shape), script, *keys)
        found = self.cache.find("image", key)
        if found is not None:
            return found
        objects = [self.cache.find("object", k) for k in keys]
        if None in objects:
            self.fail(f"{image.name}: an object went away during the build; build again")
            return None
        flags = list(image.flags)
        if image.script:
            flags += ["-T", str(image.script)]
            # zig asks the linker for _start whatever the script says; the script's word is the one to keep.
            if entry := _ENTRY.search(_COMMENT.sub("", script)):
                flags.append(f"-Wl,-e,{entry[1]}")
        with tempfile.TemporaryDirectory(prefix="pvhv-ld-") as scratch:
            # Bare names in a directory of their own: the linker's messages name them, and no path gets in.
            names: list[str] = []
            for source, path in zip(image.sources, objects, strict=True):
                assert path is not None
                name = f"{len(names)}-{Path(source.path).name}.o"
                Path(scratch, name).write_bytes(path.read_bytes())
                names.append(name)
            arguments = [*flags, *names, "-o", image.file_name]
            if not self._run(arguments, scratch, f"{image.name} did not link", cwd=Path(scratch)):
                return None
            self.linked += 1
            return self.cache.keep("image", key, Path(scratch, image.file_name).read_bytes())

    # -- what both share -------------------------------------------------------------------------------------

    def _run(self, arguments: list[str], scratch: str, closing: str, cwd: Path | None = None) -> bool:
        outcome = self.zig.cc(
            arguments, cwd=cwd or self.root, caches=self.cache.zig, local=Path(scratch, "zig")
        )
        if outcome.text.strip() and outcome.text not in self._said:
            self._said.add(outcome.text)  # one source for several platforms has the same warnings for each
            self.progress.say(outcome.text)
        if outcome.status:
            self.failures.append(closing)
        return outcome.status == 0

    def _spread(
        self, jobs: Sequence[Job], work: Callable[[Job], Result | None], name: Callable[[Job], str]
    ) -> dict[Job, Result]:
        """Do all jobs on all cores. A job is a short process, so threads that wait for processes are enough."""
        pool = ThreadPoolExecutor(max_workers=_cores())
        try:
            futures = [pool.submit(work, job) for job in jobs]
            done: dict[Job, Result] = {}
            for job, future in zip(jobs, futures, strict=True):
                result = future.result()
                self.progress.advance(name(job))
                if result is not None:
                    done[job] = result
            return done
        finally:
            pool.shutdown(cancel_futures=True)

    def _label(self, path: Path) -> str:
        text = os.path.normpath(path)
        for place, label in self._places:
            prefix = str(place)
            if text == prefix:
                return label
            if text.startswith(prefix + os.sep):
                return f"{label}/{text[len(prefix) + 1 :].replace(os.sep, '/')}"
        return text  # a file from elsewhere on this machine, under its own name

    def _find(self, label: str) -> Path:
        for place, name in self._places:
            if label.startswith(name + "/"):
                return place / label[len(name) + 1 :]
        return Path(label)

    def _shorten(self, path: Path) -> str:
        return os.path.relpath(path, self.root) if path.is_relative_to(self.root) else str(path)

    def _list_headers(self, place: Path) -> tuple[str, ...]:
        return tuple(sorted(str(p.relative_to(place)) for p in place.rglob("*.h"))) if place.is_dir() else ()


def _sha(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _read_depfile(text: str) -> list[str]:
    """The prerequisites of a Makefile rule: words with `\\ ` for a blank, continued over lines."""
    _, _, rest = text.replace("\\\r\n", " ").replace("\\\n", " ").partition(": ")
    return [re.sub(r"\\([ #])", r"\1", word) for word in re.findall(r"(?:\\[ #]|[^\s])+", rest)]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
