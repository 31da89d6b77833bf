# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest kernels from their description: `kernels.toml` beside their sources says what they are made of.

    [kernel.NAME]       patterns of sources, include directories, a linker script; `initfs` patterns of user
                        programs, one static ELF file each, packed with user/etc/ into "initfs.cpio", which
                        a source of the kernel draws in by `.incbin "initfs.cpio"`
    [tests]             what all test kernels share; each directory tests/NAME/ with sources is one, test-NAME
    [bench]             the same for benchmark kernels: bench/NAME/ becomes bench-NAME
    user_sources        what the programs are made of besides user/lib/: sources the kernel has as well
    flags, user_flags   more flags for the kernel's sources, and for its programs'; last, so that they win

Everything is compiled freestanding: no C library, no compiler runtime, no SSE (a kernel must not touch the FPU
its processes use), frame pointers kept so that a stack can be read after a crash.

This module decides *what* is built, in four waves (objects, programs, the sources that hold the programs,
kernels).  objects.py decides how, and whether there is anything to do.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pvhv.build import initfs
from pvhv.build.objects import Image, Source, Workshop
from pvhv.build.zig import BuildError

INITFS = "initfs.cpio"

_TARGET = ("-target", "x86_64-freestanding-none")
# -mno-sse and -mno-sse2 are both needed.  zig turns -fsanitize=undefined on by itself; it wants a runtime.
GUEST_FLAGS = (
    *_TARGET, "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra",
    "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-pic", "-fno-omit-frame-pointer",
    "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-sanitize=undefined",
    "-mno-red-zone", "-mno-sse", "-mno-sse2", "-mno-mmx", "-mno-80387", "-msoft-float",
)  # fmt: skip
KERNEL_FLAGS = (*GUEST_FLAGS, "-mcmodel=kernel")
USER_FLAGS = tuple(flag for flag in GUEST_FLAGS if flag != "-g")
LINK_FLAGS = (*_TARGET, "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,--no-eh-frame-hdr")

# Tables of kernels that share all but a directory of their own in one of this name; what their own names begin with.
_FAMILIES = {"tests": "test", "bench": "bench"}
_KEYS = {"sources", "include", "linker_script", "initfs", "flags", "user_sources", "user_flags"}


@dataclass(frozen=True)
class Description:
    """One table of kernels.toml."""

    name: str
    sources: tuple[str, ...]
    include: tuple[str, ...] = ()
    linker_script: str = ""
    initfs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    user_sources: tuple[str, ...] = ()
    user_flags: tuple[str, ...] = ()


def read_descriptions(root: Path) -> list[Description]:
    """Every kernel that `root/kernels.toml` describes, the test kernels among them."""
    path = root / "kernels.toml"
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BuildError(f"{path}: {error}") from error
    if unknown := set(tables) - {"kernel", *_FAMILIES}:
        known = ", ".join(f"[{name}]" for name in ("kernel.NAME", *_FAMILIES))
        raise BuildError(f"{path}: unknown table [{min(unknown)}]; there are {known}")
    found = [_description(path, name, table) for name, table in tables.get("kernel", {}).items()]
    for family, prefix in _FAMILIES.items():
        if family not in tables:
            continue
        shared = _description(path, family, tables[family])
        for folder in sorted(p for p in (root / family).iterdir() if p.is_dir() and p.name != "lib"):
            own = (f"{family}/{folder.name}/*.c", f"{family}/{folder.name}/*.S")
            if any(folder.glob("*.[cS]")):
                found.append(replace(shared, name=f"{prefix}-{folder.name}", sources=(*own, *shared.sources)))
    return found


def _description(path: Path, name: str, table: dict[str, Any]) -> Description:
    if unknown := set(table) - _KEYS:
        known = ", ".join(sorted(_KEYS))
        raise BuildError(f"{path}: [{name}] has an unknown key '{min(unknown)}'; known: {known}")
    if missing := {"sources", "linker_script"} - set(table):
        raise BuildError(f"{path}: [{name}] needs '{min(missing)}'")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    return Description(name, **values)


def build_kernels(
    workshop: Workshop, descriptions: Sequence[Description], generated: Path
) -> dict[str, Path]:
    """Each kernel's name and its image in the store; what failed is in `workshop.failures`.

    `generated` is an empty directory for generated files; the workshop has a label for it.
    """
    plans = []
    for description in descriptions:
        try:
            plans.append(_Plan(workshop, description, generated))
        except BuildError as error:
            workshop.fail(str(error))
    first = [s for plan in plans for s in (*plan.early, *plan.program_sources)]
    objects = workshop.compile(first)
    programs = workshop.link([image for plan in plans for image in plan.programs], objects)
    ready = [plan for plan in plans if plan.write_initfs(programs)]
    objects |= workshop.compile([s for plan in ready for s in plan.late])
    images = workshop.link([plan.image for plan in ready], objects)
    return {plan.image.name: images[plan.image] for plan in ready if plan.image in images}


class _Plan:
    """One kernel: its sources, those of them that must wait for the initial file system, and its programs."""

    def __init__(self, workshop: Workshop, description: Description, generated: Path) -> None:
        self.root = workshop.root
        self.generated = generated / description.name
        include = tuple(self.root / place for place in description.include)
        flags = (*KERNEL_FLAGS, *description.flags)
        paths = self._match(description.name, description.sources)
        sources = [Source(path, flags, include) for path in paths]
        self.early = [s for s in sources if not self._holds_initfs(s)]
        self.late = [replace(s, include=(*include, self.generated)) for s in sources if self._holds_initfs(s)]
        self.image = Image(
            description.name,
            (*self.early, *self.late),
            LINK_FLAGS,
            script=self._script(description.name, description.linker_script),
        )
        self.programs: list[Image] = []
        if description.initfs:
            self._plan_programs(description, include)
        elif self.late:
            raise BuildError(f"{self.late[0].path} wants {INITFS}, but [{description.name}] has no 'initfs'")

    @property
    def program_sources(self) -> list[Source]:
        return [source for program in self.programs for source in program.sources]

    def write_initfs(self, programs: dict[Image, Path]) -> bool:
        """Pack the programs where the compiler will look; False where one of them was not built."""
        if not self.programs:
            return True
        if any(program not in programs for program in self.programs):
            return False
        files = {program.name: programs[program].read_bytes() for program in self.programs}
        etc = self.root / "user" / "etc"
        files |= {f"etc/{p.relative_to(etc).as_posix()}": p.read_bytes() for p in _files_under(etc)}
        self.generated.mkdir()
        (self.generated / INITFS).write_bytes(initfs.pack(files))
        return True

    def _plan_programs(self, description: Description, include: tuple[Path, ...]) -> None:
        flags = (*USER_FLAGS, *description.user_flags)
        places = (*(p for p in (self.root / "user/include", self.root / "user/lib") if p.is_dir()), *include)
        library = [
            Source(path, flags, places)
            for path in self._match(description.name, ("user/lib/*.c", "user/lib/*.S"), may_be_empty=True)
        ]
        if description.user_sources:
            shared = self._match(description.name, description.user_sources)
            library += [Source(path, flags, places) for path in shared]
        script = self._script(description.name, "user/user.lds")
        for path in self._match(description.name, description.initfs):
            sources = (Source(path, flags, places), *library)
            name = f"bin/{Path(path).stem}"
            self.programs.append(Image(name, sources, (*LINK_FLAGS, "-Wl,--strip-debug"), script=script))

    def _match(self, name: str, patterns: Sequence[str], may_be_empty: bool = False) -> list[str]:
        paths = [p for pattern in patterns for p in sorted(self.root.glob(pattern))]
        if not paths and not may_be_empty:
            raise BuildError(f"kernels.toml: [{name}]: no file matches {', '.join(patterns)}")
        return list(dict.fromkeys(p.relative_to(self.root).as_posix() for p in paths))

    def _script(self, name: str, path: str) -> Path:
        script = self.root / path
        if not script.is_file():
            raise BuildError(f"kernels.toml: [{name}] is linked by {path}, which is not there")
        return script

    def _holds_initfs(self, source: Source) -> bool:
        return f'"{INITFS}'.encode() in (self.root / source.path).read_bytes().replace(b'\\"', b'"')


def _files_under(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())
