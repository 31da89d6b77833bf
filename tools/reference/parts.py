# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU is started with, made of the packages: QEMU itself, Xen, dom0's kernel, and dom0's root file system.

dom0 is a busybox, xl with the two daemons it needs and its script for disks, and their libraries. A second archive
behind that has what dom0 is to do (jobs.py): Linux unpacks both. A guest that is a Linux, too, has dom0's kernel, and
`guest.cpio` with a busybox and a driver for disks.

QEMU lies unpacked in a directory and is started through its own dynamic linker with its own libraries, so that neither
the system's release nor its QEMU matters.

Invariant: `parts.json` is written last, and names the packages that the parts were made of. With other packages the
parts are made anew.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from pvhv.build.cache import write_whole
from pvhv.toolstack import fetched
from tools.linux import deb, debian
from tools.linux.cpio import Archive
from tools.linux.deb import BadPackage, Member
from tools.linux.suites import Say, Suites
from tools.reference import packages

LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/xen-4.17/lib/x86_64-linux-gnu")
LINKER = "ld-linux-x86-64.so.2"
XEN_BIN = "usr/lib/xen-4.17/bin"
PROGRAMS = {
    "bin/busybox": "bin/busybox",
    f"{XEN_BIN}/xl": "bin/xl",
    **{name: f"bin/{name.rpartition('/')[2]}" for name in ("bin/bash", "usr/bin/flock", "sbin/losetup")},  # for SCRIPTS
    **{f"usr/bin/xenstore-{verb}": f"bin/xenstore-{verb}" for verb in ("read", "write", "list", "ls")},
    **{f"{XEN_BIN}/{name}": f"{XEN_BIN}/{name}" for name in ("oxenstored", "xenconsoled", "xen-init-dom0", "xenctx")},
}
LOADED_BY_NAME = ("libgcc_s.so.1",)  # the C library asks for it when a thread is cancelled
MODULES = ("xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xenfs", "loop", "xen-blkback")
GUEST_MODULE = "xen-blkfront"
GUEST_INIT = Path(__file__).parent / "dom0" / "guest-init.sh"
SCRIPTS = "etc/xen/scripts"
QEMU_PROGRAM = "usr/bin/qemu-system-x86_64"
QEMU_DATA = ("usr/share/qemu", "usr/share/seabios")
RECORD = "parts.json"
# Another way of making them makes others.
RECIPE = hashlib.sha256(Path(__file__).read_bytes() + GUEST_INIT.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Parts:
    """The paths of the parts, and the versions of the packages they are made of."""

    place: Path
    versions: dict[str, str]

    @property
    def xen(self) -> Path:
        return self.place / "xen"

    @property
    def kernel(self) -> Path:
        return self.place / "vmlinuz"

    @property
    def dom0(self) -> Path:
        return self.place / "dom0.cpio"

    @property
    def guest(self) -> Path:
        return self.place / "guest.cpio"

    def qemu(self) -> list[str]:
        """The words of the command that starts QEMU."""
        root = self.place / "qemu"
        libraries = ":".join(str(root / directory) for directory in LIBRARIES[:2])
        words = [str(root / LIBRARIES[0] / LINKER), "--library-path", libraries, str(root / QEMU_PROGRAM)]
        return words + [word for directory in QEMU_DATA for word in ("-L", str(root / directory))]


def place_of_parts() -> Path:
    """The directory of the parts. Raises BadPackage."""
    if (place := fetched.directory()) is None:
        raise BadPackage("there is no cache directory: set PVHV_CACHE_DIR to one")
    return place.parent / "reference"


def there(place: Path) -> Parts | None:
    """The parts that an earlier run made, if it finished; else None."""
    record = _record(place)
    return Parts(place, record["versions"]) if record.get("recipe") == RECIPE else None


def _record(place: Path) -> dict[str, Any]:
    try:
        record = json.loads((place / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def fetch(place: Path, say: Say) -> Parts:
    """Fetch the packages that are missing, and make the parts. Raises BadPackage, OSError."""
    if not debian.is_here():
        raise BadPackage("a real Xen is fetched by apt, and there is none here")
    place.mkdir(parents=True, exist_ok=True)
    old, new = (Suites(place, release, say) for release in (packages.XEN_RELEASE, packages.QEMU_RELEASE))
    old.update()
    new.update()
    toolstack = old.with_all_they_need(*packages.TOOLSTACK)
    hypervisor, kernel = old.alone(packages.HYPERVISOR), old.alone(packages.DOM0_KERNEL)
    qemu = new.with_all_they_need(packages.QEMU)
    old.forget_others({*toolstack, hypervisor, kernel})
    new.forget_others({*qemu})

    named = {package.name.partition("_")[0]: package for package in (*toolstack, *qemu)}
    told = {"xen": hypervisor, "toolstack": named["xen-utils-4.17"], "dom0": kernel, "qemu": named[packages.QEMU]}
    versions = {what: packages.version(package) for what, package in told.items()}
    made_of = sorted(package.name for package in (*toolstack, *qemu, hypervisor, kernel))
    if (have := there(place)) is not None and _record(place).get("made_of") == made_of:
        return have

    say("unpacking")
    (place / RECORD).unlink(missing_ok=True)
    _unpack_qemu(place / "qemu", qemu)
    write_whole(place / "xen", gzip.decompress(deb.extract(hypervisor, "boot/xen-4.17-amd64.gz")[1]))
    write_whole(place / "vmlinuz", deb.extract(kernel, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")[1])
    write_whole(place / "dom0.cpio", _dom0(toolstack, kernel))
    write_whole(place / "guest.cpio", _guest(toolstack, kernel))
    record = {"recipe": RECIPE, "versions": versions, "made_of": made_of}
    write_whole(place / RECORD, json.dumps(record, indent=1).encode())
    return Parts(place, versions)


def _unpack_qemu(root: Path, archives: Iterable[Path]) -> None:
    def wanted(name: str) -> bool:
        directory = str(PurePosixPath(name).parent)
        return name == QEMU_PROGRAM or directory in QEMU_DATA or (directory in LIBRARIES and ".so" in name)

    shutil.rmtree(root, ignore_errors=True)
    for archive in archives:
        for member in deb.members(archive, wanted):
            path = root / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not member.link:
                path.write_bytes(member.data)
                path.chmod(member.mode)
            elif "/" not in member.link:
                path.symlink_to(member.link)


def _dom0(toolstack: Iterable[Path], kernel: Path) -> bytes:
    """dom0's root file system."""
    libraries: dict[str, Member] = {}
    programs: dict[str, bytes] = {}
    scripts: dict[str, Member] = {}
    for archive in toolstack:
        for member in deb.members(archive, lambda name: name in PROGRAMS or _is_library(name) or _is_script(name)):
            if member.name in PROGRAMS:
                programs[PROGRAMS[member.name]] = member.data
            elif _is_script(member.name):
                scripts[member.name] = member
            else:
                libraries[PurePosixPath(member.name).name] = member
    if lacking := set(PROGRAMS.values()) - set(programs):
        raise BadPackage(f"no package has {', '.join(sorted(lacking))} in it")
    root = Archive()
    for directory in ("dev", "proc", "sys", "run", "tmp", "etc/xen", "var/lib/xen", "var/lib/xenstored", "var/log/xen"):
        root.directory(directory)
    root.character_device("dev/console", 5, 1)
    root.link("var/run", "/run")
    root.link("var/lock", "/run/lock")
    root.file("etc/xen/xl.conf", b"")
    for name, data in sorted(programs.items()):
        root.file(name, data, 0o755)
    for name, script in sorted(scripts.items()):
        root.file(name, script.data, 0o755)
    for name in sorted(_needed_by([*programs.values()], libraries)):
        root.file(f"lib/{name}", _followed(name, libraries).data, 0o755)
    root.link(f"lib64/{LINKER}", f"/lib/{LINKER}")
    for member in deb.members(kernel, lambda name: name.endswith(tuple(f"/{module}.ko" for module in MODULES))):
        root.file(f"lib/modules/{PurePosixPath(member.name).name}", member.data)
    return root.to_bytes()


def _guest(toolstack: Iterable[Path], kernel: Path) -> bytes:
    """The root file system of a guest that is a Linux."""
    root = Archive()
    for directory in ("dev", "proc", "sys"):
        root.directory(directory)
    root.character_device("dev/console", 5, 1)
    for archive in toolstack:
        for member in deb.members(archive, lambda name: name == "bin/busybox"):
            root.file("bin/busybox", member.data, 0o755)
    for member in deb.members(kernel, lambda name: name.endswith(f"/{GUEST_MODULE}.ko")):
        root.file(f"{GUEST_MODULE}.ko", member.data)
    root.file("init", GUEST_INIT.read_bytes(), 0o755)
    return root.to_bytes()


def _is_script(name: str) -> bool:
    return str(PurePosixPath(name).parent) == SCRIPTS


def _is_library(name: str) -> bool:
    return ".so" in name and str(PurePosixPath(name).parent) in LIBRARIES


def _needed_by(files: list[bytes], libraries: dict[str, Member]) -> set[str]:
    """The libraries that these files need, and those that the libraries need in turn."""
    found: set[str] = {LINKER, *LOADED_BY_NAME}
    files = files + [_followed(name, libraries).data for name in found]
    while files:
        for name in _wanted_by(files.pop()) - found:
            found.add(name)
            files.append(_followed(name, libraries).data)
    return found


def _wanted_by(file: bytes) -> set[str]:
    try:
        section = ELFFile(io.BytesIO(file)).get_section_by_name(".dynamic")
    except ELFError as error:
        raise BadPackage(f"a program or library of Xen's tools cannot be read: {error}") from None
    if not isinstance(section, DynamicSection):
        return set()
    return {tag.needed for tag in section.iter_tags("DT_NEEDED")}  # type: ignore[attr-defined]


def _followed(name: str, libraries: dict[str, Member]) -> Member:
    """The file that a library's name leads to."""
    for _ in range(8):
        if name not in libraries:
            break
        member = libraries[name]
        if not member.link:
            return member
        name = PurePosixPath(member.link).name
    raise BadPackage(f"no package has the library {name} in it")
