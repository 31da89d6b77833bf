# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetch a stock Linux to run as a guest: Debian's kernel, byte for byte, and an initramfs with busybox.

    python3 tools/fetch_linux.py           fetch it
    pvhv create -c examples/debian.cfg     and run it

Where this system has apt (Debian and what is made of it), apt fetches the packages. Elsewhere, or if a mirror is named
(--mirror https://deb.debian.org/debian, or PVHV_MIRROR), this tool does so itself, and checks them as apt does: with
Debian's signature if there are gpgv and Debian's keys, else it says that there are not.

Without a network, get these two packages by a browser from https://packages.debian.org and hand them over:

    python3 tools/fetch_linux.py --kernel linux-image-….deb --busybox busybox-static_….deb

Either may be a plain file as well: a bzImage such as /boot/vmlinuz, a statically linked busybox for x86-64. (The
kernel's package is the one with its version in its name: linux-image-6.…, or linux-binary-7.… where there is one.)

The newest kernel Debian builds for its stable release, beside the other:

    python3 tools/fetch_linux.py --suite stable-backports --name backports
    pvhv create -c examples/debian.cfg 'kernel="backports-vmlinuz"'

A Debian that lives on a disk, with systemd. It is made in a guest, which takes some ten minutes, and needs the Python
that pvhv is installed for (.venv/bin/python). With --format qcow2 the file is one of QEMU's format (debian-qcow2-disk):

    python3 tools/fetch_linux.py --disk 2G
    pvhv create -c examples/debian-disk.cfg

What is made goes into the user's cache (PVHV_CACHE_DIR, else XDG_CACHE_HOME/pvhv, else the platform's place), where
domain files find it by name: kernel = "debian-vmlinuz", ramdisk = "debian-initramfs". Nothing is installed, root is
not needed, and what is there already, and whole, is not fetched again. Needs nothing but Python 3.11.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pvhv.toolstack import fetched  # noqa: E402
from tools.linux import deb, debian, initramfs, installer, mirror, modules, pieces  # noqa: E402
from tools.linux.archive import Archive  # noqa: E402
from tools.linux.deb import BadPackage  # noqa: E402
from tools.linux.pieces import Piece, say  # noqa: E402

KERNEL_PACKAGE, BUSYBOX_PACKAGE = "linux-image-amd64", "busybox-static"
KERNEL_IN_PACKAGE = ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
BACKPORTS, BACKPORTS_SUITE = "backports", "stable-backports"
X86_64 = 62
SCRATCH = ".fetch-"
FORGOTTEN_S = 86_400.0
INTERRUPTED = 130
WORD = re.compile(r"[a-zA-Z0-9][\w.+-]*", re.ASCII)  # what apt and a directory take for a name and nothing else


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", type=Path, metavar="FILE", help="a bzImage, or a package with one")
    parser.add_argument("--busybox", type=Path, metavar="FILE", help="a static busybox, or a package with one")
    parser.add_argument(
        "--package", default=KERNEL_PACKAGE, type=word, metavar="NAME", help=f"take this instead of {KERNEL_PACKAGE}"
    )
    parser.add_argument("--suite", type=word, metavar="NAME", help=f"a suite of Debian's, such as {BACKPORTS_SUITE}")
    parser.add_argument("--name", default="debian", type=word, help="what the files' names begin with (debian)")
    parser.add_argument("--disk", type=size, metavar="SIZE", help="also make a disk with Debian on it, such as 2G")
    parser.add_argument("--format", choices=installer.FORMATS, default="raw", help="... in this format (raw)")
    parser.add_argument("--small", action="store_true", help="... with nothing but busybox and dpkg")
    parser.add_argument("--grub", action="store_true", help="also fetch GRUB's image for PV domains (grub-xen)")
    parser.add_argument("--mirror", type=address, metavar="URL", help="fetch from here, and without apt")
    given = parser.parse_args(arguments)
    files, source = {"kernel": given.kernel, "busybox": given.busybox}, given.mirror or ""
    try:
        fetch(given.name, **files, package=given.package, suite=given.suite or "", from_mirror=source)
        if given.grub:
            say(f"{fetch_grub(from_mirror=source)}")
        if given.disk:
            contents, how = installer.SMALL if given.small else installer.SYSTEM, given.format
            installer.make(_place(None), given.name, given.disk, contents, format_=how, from_mirror=source)
    except BadPackage as error:
        say(f"fetch_linux: {error}")
        if not any(files.values()) and not given.disk:
            say(f"Two packages by hand will do as well (--kernel, --busybox).\n\n{_by_hand()}")
        return 1
    except OSError as error:
        say(f"fetch_linux: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return 1
    except KeyboardInterrupt:
        say("fetch_linux: interrupted; what was there is as it was")
        return INTERRUPTED
    return 0


def word(text: str) -> str:
    """A name on the command line. Raises argparse.ArgumentTypeError."""
    if not WORD.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!a} is no name: letters and digits, then also . _ + -")
    return text


def size(text: str) -> int:
    """A size on the command line. Raises argparse.ArgumentTypeError."""
    try:
        return installer.parse_size(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!a} is no size: 512M, 2G") from None


def address(text: str) -> str:
    """A mirror on the command line. Raises argparse.ArgumentTypeError."""
    try:
        return mirror.parse_url(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!a} is no mirror: say one such as {mirror.DEFAULT}") from None


def fetch(
    name: str = "debian",
    *,
    kernel: Path | None = None,
    busybox: Path | None = None,
    package: str = KERNEL_PACKAGE,
    suite: str = "",
    directory: Path | None = None,
    from_mirror: str = "",
) -> tuple[Path, Path]:
    """Fetch or make kernel and initramfs, unless they are there. Returns their paths. Raises BadPackage, OSError."""
    place = _place(directory)
    url = mirror.chosen(from_mirror, debian.is_here())
    with tempfile.TemporaryDirectory(dir=place, prefix=SCRATCH) as directory_of_this_time:
        scratch = Path(directory_of_this_time)
        archive = Archive(_lists(place, scratch, url), suite, say, url)
        image = pieces.one(place, scratch, Piece(f"{name}-vmlinuz", package, _kernel), archive, kernel)
        of_disks = Piece(f"{name}-modules", package, _modules(modules.DISK), modules.RECIPE)
        drivers = pieces.one(place, scratch, of_disks, archive, kernel).read_bytes()
        if not drivers:
            say(f"the kernel comes without modules: a guest with {name}-initramfs has no driver for disks")
        if suite:
            archive = Archive(_lists(place, scratch, url), "", say, url)
        recipe = f"{initramfs.RECIPE} {hashlib.sha256(drivers).hexdigest()[:16]}"
        made = Piece(f"{name}-initramfs", BUSYBOX_PACKAGE, _initramfs(drivers), recipe)
        root = pieces.one(place, scratch, made, archive, busybox)
    say(f"{image}\n{root}")
    return image, root


def fetch_grub(directory: Path | None = None, *, from_mirror: str = "") -> Path:
    """GRUB's own image for paravirtual domains: a guest that is no Linux. Raises BadPackage, OSError."""
    place = _place(directory)
    url = mirror.chosen(from_mirror, debian.is_here())
    with tempfile.TemporaryDirectory(dir=place, prefix=SCRATCH) as scratch:
        piece = Piece("grub-xen", "grub-xen-host", _grub)
        return pieces.one(place, Path(scratch), piece, Archive(_lists(place, Path(scratch), url), "", say, url))


def _place(directory: Path | None) -> Path:
    """The directory for all files; what an earlier run left unfinished is removed. Raises BadPackage."""
    place = directory or fetched.directory()
    if place is None:
        raise BadPackage("there is no cache directory: set PVHV_CACHE_DIR to one")
    place.mkdir(parents=True, exist_ok=True)
    for left in place.glob(f"{SCRATCH}*"):
        if time.time() - left.stat().st_mtime > FORGOTTEN_S:
            shutil.rmtree(left, ignore_errors=True)
    return place


def _lists(place: Path, scratch: Path, url: str) -> Path:
    """Where lists of packages are kept: those of a mirror for the next time as well, unless they are others then."""
    return place / "packages" / debian.RELEASE if url else scratch / "apt"


def _kernel(path: Path, by_hand: bool) -> bytes:
    data = pieces.content(path, KERNEL_IN_PACKAGE, by_hand)
    if data[0x202:0x206] != b"HdrS" and data[:4] != b"\x7fELF":
        raise BadPackage(f"{path} is not a kernel")
    return data


def _grub(path: Path, by_hand: bool) -> bytes:
    return pieces.content(path, ("usr/lib/grub-xen/grub-x86_64-xen.bin",), by_hand)


def _modules(wanted: Sequence[str]) -> pieces.Make:
    """How an archive of modules is made of a kernel's package. Of a kernel without a package it is empty."""
    return lambda path, _by_hand: modules.archive(modules.of_package(path, wanted) if deb.is_deb(path) else {})


def _initramfs(archive_of_modules: bytes) -> pieces.Make:
    """How an initramfs is made of busybox's package."""

    def make(path: Path, by_hand: bool) -> bytes:
        data = pieces.content(path, ("*bin/busybox",), by_hand)
        _check_busybox(data, path)
        return initramfs.build(data, modules=archive_of_modules)

    return make


def _check_busybox(data: bytes, path: Path) -> None:
    if data[:5] != b"\x7fELF\2" or int.from_bytes(data[18:20], "little") != X86_64:
        raise BadPackage(f"{path} is not a program for x86-64, and a busybox for the guest has to be one")
    if b"/ld-linux" in data[:4096] or b"/ld-musl" in data[:4096]:
        raise BadPackage(f"{path} is linked dynamically: the guest has no libraries (Debian: busybox-static)")


def _by_hand() -> str:
    """The part of this module's docstring about packages from elsewhere."""
    assert __doc__ is not None
    start = __doc__.index("Without a network")
    return __doc__[start : __doc__.index("The newest kernel")].rstrip()


if __name__ == "__main__":
    sys.exit(main())
