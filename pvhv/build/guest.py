# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of your own: a directory of C and assembly, anywhere, compiled into a kernel that a domain file can name.

The sources are DIR/*.c and DIR/*.S, compiled exactly as the guest kernels of the tree are, with `xen/*.h`
in reach (the headers this package was built with) and DIR itself.  A linker script in DIR is used; without
one, ours is used (guest.lds, beside this file: text at 1 MiB above the base of the kernel's half, code and data
in pages of their own). The kernel has its directory's name, and is put into DIR/build/.

Whether the kernel can boot is not checked here: the domain builder does that, from the notes.
"""

from __future__ import annotations

from pathlib import Path

from pvhv.build.cache import open_cache, write_whole
from pvhv.build.kernels import KERNEL_FLAGS, LINK_FLAGS
from pvhv.build.objects import Image, Source, Workshop
from pvhv.build.progress import Progress
from pvhv.build.zig import BuildError, find_zig

HERE = Path(__file__).parent
INSTALLED_INCLUDE = HERE.parent / "_built" / "include"
DEFAULT_SCRIPT = HERE / "guest.lds"


def build_directory(directory: Path, out: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Compile and link `directory` into `out` (DIR/build/NAME if None); returns the kernel's path. Raises
    BuildError."""
    directory = directory.resolve()
    if not directory.is_dir():
        raise BuildError(f"{directory} is not a directory of sources")
    names = sorted(p.name for pattern in ("*.c", "*.S") for p in directory.glob(pattern) if p.is_file())
    if not names:
        raise BuildError(f"{directory} holds no .c or .S file to build")
    if not (INSTALLED_INCLUDE / "xen").is_dir():
        raise BuildError("the headers for guests are missing from this installation: install pvhv again")
    progress = progress or Progress(f"{directory.name}:")
    out = (out or directory / "build" / directory.name).resolve()
    if out.is_dir():
        raise BuildError(f"{out} is a directory: name the kernel's file, {out / directory.name} for example")
    if out.exists() and not out.is_file():
        raise BuildError(f"{out} is not a plain file: name another file for the kernel")
    with progress, open_cache() as store:
        # The label: where pvhv is installed must not show in the kernel.
        labels = {INSTALLED_INCLUDE: "/pvhv/include"}
        workshop = Workshop(directory, find_zig(), store, progress, labels)
        include = (directory, INSTALLED_INCLUDE)
        sources = tuple(Source(name, KERNEL_FLAGS, include) for name in names)
        image = Image(directory.name, sources, LINK_FLAGS, script=_script(directory))
        linked = workshop.link([image], workshop.compile(sources))
        workshop.check()
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_whole(out, linked[image].read_bytes())
        except FileExistsError:  # how mkdir takes it
            raise BuildError(f"cannot write {out}: {out.parent} is not a directory") from None
        except OSError as error:
            raise BuildError(f"cannot write {out}: {error.strerror}") from None
    progress.end(f"built {out}")
    return out


def _script(directory: Path) -> Path:
    own = sorted(path for path in directory.glob("*.lds") if path.is_file())
    if len(own) > 1:
        names = ", ".join(path.name for path in own)
        raise BuildError(f"{directory} has several linker scripts ({names}); keep one of them")
    return own[0] if own else DEFAULT_SCRIPT
