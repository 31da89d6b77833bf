# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetch a stock Linux to run as a guest: Debian's kernel, byte for byte, and an initramfs with busybox.

    python3 tools/fetch_linux.py           fetch it, where this system has apt (Debian, Ubuntu)
    pvhv create -c examples/debian.cfg     and run it

On any other system, get these two packages by a browser from https://packages.debian.org and hand them over:

    python3 tools/fetch_linux.py --kernel linux-image-….deb --busybox busybox-static_….deb

Either may be a plain file as well: a bzImage such as /boot/vmlinuz, a statically linked busybox for x86-64.

What is made goes into the user's cache (PVHV_CACHE_DIR, else XDG_CACHE_HOME/pvhv, else the platform's place), where
domain files find it by name: kernel = "debian-vmlinuz", ramdisk = "debian-initramfs". Nothing is installed, root is
not needed, and what is there already is not fetched again. Needs nothing but Python 3.11.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pvhv.build.cache import write_whole  # noqa: E402
from pvhv.toolstack import fetched  # noqa: E402
from tools.linux import deb, debian, initramfs  # noqa: E402
from tools.linux.deb import BadPackage  # noqa: E402

KERNEL_PACKAGE, BUSYBOX_PACKAGE = "linux-image-amd64", "busybox-static"
KERNEL_IN_PACKAGE = "boot/vmlinuz-*"
X86_64 = 62


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", type=Path, metavar="FILE", help="a bzImage, or a package with one")
    parser.add_argument("--busybox", type=Path, metavar="FILE", help="a static busybox, or a package with one")
    parser.add_argument("--package", default=KERNEL_PACKAGE, metavar="NAME", help=f"instead of {KERNEL_PACKAGE}")
    parser.add_argument("--suite", default="", metavar="NAME", help="of apt's, such as bookworm-backports")
    parser.add_argument("--name", default="debian", help="what the files' names begin with (debian)")
    given = parser.parse_args(arguments)
    try:
        fetch(given.name, kernel=given.kernel, busybox=given.busybox, package=given.package, suite=given.suite)
    except (BadPackage, OSError) as error:
        print(f"fetch_linux: {error}", file=sys.stderr)
        return 1
    return 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fetch(
    name: str = "debian",
    *,
    kernel: Path | None = None,
    busybox: Path | None = None,
    package: str = KERNEL_PACKAGE,
    suite: str = "",
    directory: Path | None = None,
) -> tuple[Path, Path]:
    """Have kernel and initramfs there; where they are. Raises BadPackage, OSError."""
    place = directory or fetched.directory()
    if place is None:
        raise BadPackage("there is no cache directory: set PVHV_CACHE_DIR to one")
    place.mkdir(parents=True, exist_ok=True)
    if not debian.is_here() and (kernel is None or busybox is None):
        if (have := _have(place, name)) is not None:
            say(f"{name} is there; without apt nothing newer can be looked for")
            return have
        raise BadPackage(f"there is no apt here, so the packages have to come another way.\n\n{_by_hand()}")
    with tempfile.TemporaryDirectory(dir=place, prefix=".fetch-") as scratch:
        image = _one(place, Path(scratch), Piece(f"{name}-vmlinuz", package, KERNEL_IN_PACKAGE, _kernel), kernel, suite)
        root = _one(place, Path(scratch), Piece(f"{name}-initramfs", *BUSYBOX), busybox)
    say(f"{image}\n{root}")
    return image, root


def fetch_grub(directory: Path | None = None) -> Path:
    """GRUB's own image for paravirtual domains: a guest that is no Linux. Raises BadPackage, OSError."""
    place = directory or fetched.directory()
    if place is None or not debian.is_here():
        raise BadPackage("GRUB is fetched by apt, into a cache")
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".fetch-") as scratch:
        return _one(place, Path(scratch), Piece("grub-xen", *GRUB))


class Piece(NamedTuple):
    """One file that is kept, and what it is made of: a file out of a package, checked or built upon by `make`.

    `recipe` changes when `make` makes something else of the same.
    """

    name: str
    package: str
    pattern: str
    make: Callable[[bytes, Path], bytes]
    recipe: str = ""


def _one(place: Path, scratch: Path, piece: Piece, given: Path | None = None, suite: str = "") -> Path:
    """Make a piece, unless it is there and made of the same."""
    made, record = place / piece.name, place / f"{piece.name}.json"
    if given is not None:
        found = given.stat()
        source = f"{given.absolute()} {found.st_size} {found.st_mtime_ns}"
    else:
        wanted = debian.look_up(debian.kernel_package(piece.package, suite), suite)
        source = wanted.file
    recipe = {"source": source, "made by": piece.recipe}
    if made.is_file() and _read(record) == recipe:
        say(f"{made.name} is up to date ({source.split('/')[-1]})")
        return made
    if given is None:
        given = debian.download(wanted, scratch, say, suite)
    say(f"unpacking {given.name}")
    data = deb.extract(given, piece.pattern)[1] if deb.is_deb(given) else given.read_bytes()
    data = piece.make(data, given)
    record.unlink(missing_ok=True)
    write_whole(made, data)
    write_whole(record, json.dumps(recipe, indent=1).encode())
    return made


def _kernel(data: bytes, path: Path) -> bytes:
    if data[0x202:0x206] != b"HdrS" and data[:4] != b"\x7fELF":
        raise BadPackage(f"{path} is no kernel")
    return data


def _initramfs(data: bytes, path: Path) -> bytes:
    _check_busybox(data, path)
    return initramfs.build(data)


def _check_busybox(data: bytes, path: Path) -> None:
    if data[:5] != b"\x7fELF\2" or int.from_bytes(data[18:20], "little") != X86_64:
        raise BadPackage(f"{path} is no program for x86-64, as a busybox for the guest must be")
    if b"/ld-linux" in data[:4096] or b"/ld-musl" in data[:4096]:
        raise BadPackage(f"{path} is linked dynamically: the guest has no libraries (Debian: busybox-static)")


def _have(place: Path, name: str) -> tuple[Path, Path] | None:
    kernel, ramdisk = place / f"{name}-vmlinuz", place / f"{name}-initramfs"
    return (kernel, ramdisk) if kernel.is_file() and ramdisk.is_file() else None


def _read(record: Path) -> object:
    try:
        return json.loads(record.read_bytes())
    except (OSError, ValueError):
        return None


def _by_hand() -> str:
    """The part of this file's text about other systems."""
    assert __doc__ is not None
    start = __doc__.index("On any other system")
    return __doc__[start : __doc__.index("What is made goes")].rstrip()


BUSYBOX = (BUSYBOX_PACKAGE, "*bin/busybox", _initramfs, initramfs.RECIPE)
GRUB = ("grub-xen-host", "usr/lib/grub-xen/grub-x86_64-xen.bin", _kernel)


if __name__ == "__main__":
    sys.exit(main())
