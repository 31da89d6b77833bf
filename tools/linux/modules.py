# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules of a stock kernel for its initramfs: what a guest needs to use a disk and the file system on it.

The modules are taken from the kernel's package as they are, and are laid out as on a large system, under
/lib/modules/RELEASE, with the two lists that `modprobe` reads there: which modules a module needs (modules.dep), and by
which other names the kernel asks for it (modules.alias). On a large system depmod writes the lists. It makes them of
what each module says about itself in its section .modinfo, and so does this.

The result is a cpio archive of its own. The kernel unpacks an initramfs of several archives, one behind the other.

Not modelled: dependencies that only symbols tell (a module's own `depends=` has them all), softdeps that come after.

Read beside it: depmod(8), modules.dep(5); scripts/mod/modpost.c in Linux, which writes `depends=`.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from tools.linux import deb
from tools.linux.cpio import Archive
from tools.linux.deb import BadPackage

VIRTIO = ("virtio_blk", "virtio_pci", "virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev")
DISK = ("xen-blkfront", "ext4", "jbd2", "mbcache", "crc16", "crc32c_generic", *VIRTIO)  # here, and on QEMU's PC
LISTS = "2"  # another number if the lists about them are made in another way
RECIPE = f"{LISTS} {' '.join(DISK)}"
LIBRARY = "lib/modules/"
XZ = b"\xfd7zXZ\0"
SECTION = ".modinfo"


def of_package(path: Path, names: Iterable[str] = DISK) -> dict[str, bytes]:
    """Those modules of a kernel's package, unpacked, by path; none if it has no modules. Raises BadPackage."""
    wanted = set(names)
    found = {
        member.name.removeprefix("usr/").removesuffix(".xz"): _unpacked(member.data, member.name)
        for member in deb.members(path, lambda name: name.removeprefix("usr/").startswith(LIBRARY) and
                                  _stem(name) in wanted and ".ko" in name)
    }  # fmt: skip
    if missing := wanted - set(map(_stem, found)) if found else set():
        raise BadPackage(f"{path} has no module {', '.join(sorted(missing))}")
    return found


def archive(modules: Mapping[str, bytes]) -> bytes:
    """A cpio archive of modules, by their paths, and of the lists about them. Raises BadPackage."""
    made = Archive()
    about = {name: modinfo(data, name) for name, data in modules.items()}
    paths = {_name(name): name for name in modules}
    for name, data in modules.items():
        made.file(name, data)
    for library in sorted({"/".join(name.split("/")[:3]) for name in modules}):
        dep, alias = [], []
        for name in (name for name in modules if name.startswith(f"{library}/")):
            needs = [paths[word] for word in _needed(name, about, paths)]
            inside = [needed.removeprefix(f"{library}/") for needed in (name, *needs)]
            dep.append(f"{inside[0]}: {' '.join(inside[1:])}".rstrip() + "\n")
            alias += [f"alias {word} {_name(name)}\n" for word in about[name].get("alias", ())]
        made.file(f"{library}/modules.dep", "".join(dep).encode())
        made.file(f"{library}/modules.alias", "".join(alias).encode())
    return made.to_bytes() if modules else b""


def modinfo(data: bytes, name: str) -> dict[str, list[str]]:
    """What a module says about itself: values by key. Raises BadPackage."""
    try:
        text = _section(data, SECTION)
    except (struct.error, IndexError, ValueError):
        raise BadPackage(f"{name} is not a module that can be loaded") from None
    found: dict[str, list[str]] = {}
    for entry in text.decode("utf-8", "replace").split("\0"):
        key, _, value = entry.partition("=")
        found.setdefault(key, []).append(value)
    return found


def _needed(name: str, about: Mapping[str, Mapping[str, list[str]]], paths: Mapping[str, str]) -> list[str]:
    """The modules that a module needs, and those that they need. `modprobe` loads the last one first, so each stands
    before those that it needs itself."""
    found: list[str] = []  # in the order in which they can be loaded
    seen: set[str] = set()

    def visit(path: str) -> None:
        for word in (word for value in about[path].get("depends", ()) for word in value.split(",") if word):
            word = word.replace("-", "_")
            if word in paths and word not in seen:
                seen.add(word)
                visit(paths[word])
                found.append(word)

    visit(name)
    return found[::-1]


def _section(data: bytes, wanted: str) -> bytes:
    """A section of a 64-bit ELF file. Raises ValueError, IndexError or struct.error."""
    if data[:5] != b"\x7fELF\2":
        raise ValueError("no ELF file")
    (at,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", data, at + size * index) for index in range(count)]
    names = sections[names_index][4]
    for name, _kind, _flags, _address, offset, length in sections:
        begin = names + name
        if data[begin : data.index(b"\0", begin)] == wanted.encode():
            return data[offset : offset + length]
    raise ValueError(f"no section {wanted}")


def _unpacked(data: bytes, name: str) -> bytes:
    try:
        return lzma.decompress(data) if data.startswith(XZ) else data
    except lzma.LZMAError as error:
        raise BadPackage(f"{name} is damaged: {error}") from None


def _stem(name: str) -> str:
    return PurePosixPath(name).name.partition(".ko")[0]


def _name(path: str) -> str:
    """A module's name, in which - is _."""
    return _stem(path).replace("-", "_")
