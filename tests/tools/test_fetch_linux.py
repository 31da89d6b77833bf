# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetching a Linux: archives read back by their formats' rules, and a cache that is right or made anew. No network."""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from pvhv.images.opening import open_image
from pvhv.toolstack import config
from pvhv.toolstack.errors import ToolstackError
from tests.tools.repository import BUSYBOX, KERNEL, make_deb, module
from tools import fetch_linux
from tools.linux import cpio, deb, debian, initramfs, installer, modules, pieces
from tools.linux.cpio import Archive
from tools.linux.deb import BadPackage
from tools.linux.debian import Apt, Package, Release, source_line

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt here: it is Debian's way to packages")


class Read(NamedTuple):
    """A cpio entry as a reader sees it."""

    inode: int
    mode: int
    links: int
    data: bytes
    device: tuple[int, int]


def read_cpio(data: bytes) -> dict[str, Read]:
    """By the format's own description: thirteen numbers of eight digits after the magic, then name and data. One
    archive may follow another."""
    entries: dict[str, Read] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701" and at % 4 == 0
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        ino, mode, uid, gid, nlink, mtime, size, major, minor, rmajor, rminor, name_size, check = fields
        assert (uid, gid, mtime, major, minor, check) == (0, 0, 0, 0, 0, 0)
        name = data[at + 110 : at + 110 + name_size]
        assert name[-1:] == b"\0"
        at = at + 110 + name_size + 3 & ~3
        content, at = data[at : at + size], at + size + 3 & ~3
        if name == b"TRAILER!!!\0":
            assert len(data) % 512 == 0
            another = data[at:].lstrip(b"\0")
            return entries | read_cpio(another) if another else entries
        entries[name[:-1].decode()] = Read(ino, mode, nlink, content, (rmajor, rminor))


def test_an_archive_is_what_the_kernel_unpacks() -> None:
    archive = Archive()
    archive.file("a/b/odd", b"12345", 0o600)
    archive.link("a/link", "b/odd")
    archive.character_device("dev/null", 1, 3, 0o666)
    archive.file("empty", b"")
    entries = read_cpio(archive.to_bytes())
    assert list(entries) == ["a", "a/b", "a/b/odd", "a/link", "dev", "dev/null", "empty"]  # parents first
    assert entries["a/b/odd"][1:4] == (stat.S_IFREG | 0o600, 1, b"12345")
    assert entries["a"].mode == stat.S_IFDIR | 0o755 and entries["a"].links == 2
    assert (entries["a/link"].mode, entries["a/link"].data) == (stat.S_IFLNK | 0o777, b"b/odd")
    assert entries["dev/null"].device == (1, 3) and stat.S_ISCHR(entries["dev/null"].mode)
    assert len({entry.inode for entry in entries.values()}) == len(entries)  # the same twice would be a hard link
    assert archive.to_bytes() == archive.to_bytes()


@pytest.mark.parametrize("name", ["", "/etc", "a/../b", "TRAILER!!!"])
def test_names_an_archive_cannot_have(name: str) -> None:
    with pytest.raises(ValueError):
        Archive().file(name, b"")


def test_the_root_file_system() -> None:
    entries = read_cpio(initramfs.build(BUSYBOX, {"probe": b"\x7fELF"}))
    assert entries["bin/busybox"].data == BUSYBOX and entries["bin/busybox"].mode & 0o111
    assert entries["init"].data.startswith(b"#!/bin/busybox sh\n") and entries["init"].mode & 0o111
    assert entries["dev/console"].device == (5, 1)  # or process 1 has no output at all
    assert entries["root/probe"].mode & 0o111
    for script in ("init", "etc/profile", "etc/hotplug"):
        assert subprocess.run(["sh", "-n"], input=entries[script].data, check=False).returncode == 0


def test_a_file_out_of_a_package(tmp_path: Path) -> None:
    for packing in ("xz", "gz"):
        made = make_deb(tmp_path / "p.deb", {"usr/doc": b"no", "boot/vmlinuz-6.1": KERNEL}, packing)
        assert deb.is_deb(made) and deb.extract(made, "boot/vmlinuz-*") == ("boot/vmlinuz-6.1", KERNEL)
    with pytest.raises(BadPackage, match=r"has no etc/\* in it"):
        deb.extract(made, "etc/*")
    whole = made.read_bytes()
    for cut in (100, len(whole) // 2, len(whole) - 30):
        made.write_bytes(whole[:cut])
        with pytest.raises(BadPackage, match="damaged"):
            deb.extract(made, "boot/vmlinuz-*")
    for packing in ("xz", "gz"):  # one byte of it is another
        made = make_deb(tmp_path / "p.deb", {"boot/vmlinuz-6.1": KERNEL + os.urandom(4096)}, packing)
        changed = bytearray(made.read_bytes())
        changed[-2000] ^= 1
        made.write_bytes(changed)
        with pytest.raises(BadPackage, match="damaged"):
            deb.extract(made, "boot/vmlinuz-*", whole=True)
    made.write_bytes(b"no package")
    with pytest.raises(BadPackage, match="not a Debian package"):
        deb.extract(made, "*")


def test_what_apt_says() -> None:
    shown = "Package: linux-image-amd64\nDepends: foo (>= 1), linux-image-6.1.0-9-amd64 (= 6.1.27-1) | bar\nSize: 1\n"
    assert debian.kernel_of(shown, "linux-image-amd64") == "linux-image-6.1.0-9-amd64"
    assert debian.kernel_of("Depends: kmod, linux-base (>= 4.3)\n", "linux-image-6.1.0-9-amd64").endswith("-9-amd64")
    split = "Depends: dracut | linux-initramfs-tool, linux-base-7.2 (= 7.2), linux-binary-7.2 (= 7.2)\n"
    assert debian.kernel_of(split, "linux-image-7.2") == "linux-binary-7.2"
    with pytest.raises(BadPackage, match="no package with a kernel"):
        debian.kernel_of("Depends: linux-base\n", "x")
    uri = "W: something\n'http://deb.example/l.deb' l_6.1_amd64.deb 70550672 SHA256:00\n"
    assert debian.parse_uri(uri, "l") == Package("l", "l_6.1_amd64.deb", 70550672)
    with pytest.raises(BadPackage, match="where l would come from"):
        debian.parse_uri("", "l")
    security = Release("http://deb.example/debian-security/", "stable-security", "trixie-security", "Debian")
    mirror = Release("http://near.example/debian/", "stable", "trixie", "Debian")
    assert " http://near.example/debian/ stable-backports main" in source_line("stable-backports", [security, mirror])
    assert f" {debian.MIRROR} trixie main" in source_line("trixie", [security])


class Archives:
    """Debian's, as a test has it: version `version` of everything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.version = "1"
        self.fetched: list[str] = []
        self.modules = {f"lib/modules/6/kernel/{name}.ko": module(depends="") for name in modules.DISK}
        monkeypatch.setattr(debian, "is_here", lambda: True)
        monkeypatch.setattr(Apt, "find", lambda _apt, name: self.find(name))
        monkeypatch.setattr(Apt, "download", self.download)

    def find(self, name: str) -> Package:
        if not self.version:
            raise BadPackage("nobody knows")
        name = name.replace("-amd64", "-6")
        return Package(name, f"{name}_{self.version}.deb", 1)

    def download(self, package: Package, directory: Path, say: object) -> Path:
        self.fetched.append(package.file)
        files = {"boot/vmlinuz-6": KERNEL + self.version.encode(), "bin/busybox": BUSYBOX}
        return make_deb(directory / package.file, files | self.modules)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PVHV_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "linux"


def test_fetched_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = Archives(monkeypatch)
    kernel, root = fetch_linux.fetch()
    assert (kernel, root) == (place / "debian-vmlinuz", place / "debian-initramfs")
    assert kernel.read_bytes() == KERNEL + b"1" and read_cpio(root.read_bytes())["bin/busybox"].data == BUSYBOX
    assert root.read_bytes().endswith((place / "debian-modules").read_bytes())
    assert archives.fetched == ["linux-image-6_1.deb", "busybox-static_1.deb"]
    fetch_linux.fetch()
    assert len(archives.fetched) == 2  # all of it was there
    archives.version = "2"
    fetch_linux.fetch()
    assert kernel.read_bytes() == KERNEL + b"2" and len(archives.fetched) == 4
    monkeypatch.setattr(initramfs, "RECIPE", "another recipe")
    fetch_linux.fetch()
    assert archives.fetched[4:] == ["busybox-static_2.deb"] and root.is_file()
    kernel.write_bytes(kernel.read_bytes()[:-1])  # as a disk leaves it that was full, or is old
    fetch_linux.fetch()
    assert kernel.read_bytes() == KERNEL + b"2" and archives.fetched[5:] == ["linux-image-6_2.deb"]
    assert sorted(path.name for path in place.iterdir()) == [
        "debian-initramfs", "debian-initramfs.json", "debian-modules", "debian-modules.json",
        "debian-vmlinuz", "debian-vmlinuz.json",
    ]  # fmt: skip
    monkeypatch.setattr(modules, "DISK", modules.DISK[:-1])  # other modules make another initramfs
    monkeypatch.setattr(modules, "RECIPE", "another")
    fetch_linux.fetch()
    assert archives.fetched[6:] == ["linux-image-6_2.deb", "busybox-static_2.deb"]
    assert root.read_bytes().endswith((place / "debian-modules").read_bytes())


def test_modules_as_modprobe_finds_them(tmp_path: Path) -> None:
    """In the package they may be packed, and under usr/. The lists name first what is to be loaded last, in whatever
    order a module says what it needs: e is needed by c-d as well."""
    files = {
        "usr/lib/modules/6-a/kernel/fs/a-b.ko.xz": lzma.compress(module(depends="e,c_d", alias="fs-a", softdep="no")),
        "usr/lib/modules/6-a/kernel/fs/c-d.ko": module(depends="e"),
        "usr/lib/modules/6-a/kernel/lib/e.ko": module(depends=""),
        "usr/lib/modules/6-a/kernel/lib/other.ko": b"not wanted",
    }
    made = modules.of_package(make_deb(tmp_path / "k.deb", files), ("a-b", "c-d", "e"))
    entries = read_cpio(modules.archive(made))
    place = "lib/modules/6-a/"
    assert entries[f"{place}kernel/fs/a-b.ko"].data == module(depends="e,c_d", alias="fs-a", softdep="no")
    assert entries[f"{place}modules.dep"].data.decode().splitlines() == [
        "kernel/fs/a-b.ko: kernel/fs/c-d.ko kernel/lib/e.ko", "kernel/fs/c-d.ko: kernel/lib/e.ko", "kernel/lib/e.ko:",
    ]  # fmt: skip
    assert entries[f"{place}modules.alias"].data == b"alias fs-a a_b\n"
    assert not any("other" in name for name in entries)
    with pytest.raises(BadPackage, match="has no module f"):
        modules.of_package(tmp_path / "k.deb", ("e", "f"))
    assert modules.of_package(make_deb(tmp_path / "none.deb", {"boot/vmlinuz-6": KERNEL})) == {}
    assert modules.archive({}) == b""
    for wrong in (b"text", module(depends="")[:-70], module(depends="")[:50]):
        with pytest.raises(BadPackage, match="not a module"):
            modules.archive({f"{place}kernel/x.ko": wrong})


def test_an_initramfs_read_back() -> None:
    made = initramfs.build(BUSYBOX, modules=modules.archive({"lib/modules/6/kernel/x.ko": module(depends="")}))
    found = dict(cpio.read(made))
    assert found["bin/busybox"] == BUSYBOX and "lib" not in found  # the first archive only
    assert made.count(b"TRAILER!!!\0") == 2


@needs_apt
class TestWithApt:
    """apt itself, with an archive of two packages in a directory, and none of the system's lists."""

    @pytest.fixture(autouse=True)
    def archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.state = tmp_path / "archive", tmp_path / "apt"
        for made in (self.directory, self.state / "lists" / "partial", self.state / "cache" / "archives" / "partial"):
            made.mkdir(parents=True)
        self.publish("1")
        (self.state / "sources.list").write_text(f"deb [trusted=yes arch=amd64] copy:{self.directory} ./\n")
        options = {
            "Dir::Etc::sourcelist": self.state / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": self.state / "lists", "Dir::Cache": self.state / "cache",
        }  # fmt: skip
        (self.state / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in options.items()))
        monkeypatch.setenv("APT_CONFIG", str(self.state / "apt.conf"))

    def publish(self, version: str) -> None:
        for old in self.directory.glob("*.deb"):
            old.unlink()
        kernel, files = f"linux-image-{version}", {f"boot/vmlinuz-{version}": KERNEL + version.encode()}
        files |= {f"lib/modules/{version}/{name}.ko": module(depends="") for name in modules.DISK}
        index = [self.entry(make_deb(self.directory / f"{kernel}.deb", files), kernel, version)]
        index.append(self.entry(make_deb(self.directory / "meta.deb", {}), "linux-image-amd64", version, kernel))
        index.append(
            self.entry(make_deb(self.directory / "b.deb", {"bin/busybox": BUSYBOX}), "busybox-static", version)
        )
        (self.directory / "Packages").write_text("\n".join(index))

    def entry(self, file: Path, name: str, version: str, depends: str = "") -> str:
        data = file.read_bytes()
        return (
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: {file.name}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n" + (f"Depends: {depends}\n" if depends else "")
        )

    def test_lists_are_fetched_where_there_are_none(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert fetch_linux.main([]) == 0
        said = capsys.readouterr().err
        assert "asking the archive itself" in said and "fetching the list of packages" in said
        assert (place / "debian-vmlinuz").read_bytes() == KERNEL + b"1"
        assert not list((self.state / "lists").glob("*Packages*")), "the system's own lists are not ours to change"
        assert not list(place.glob(".fetch-*"))

    def test_what_old_lists_name_is_gone(self, place: Path) -> None:
        Apt().update()
        assert list((self.state / "lists").glob("*Packages*"))
        self.publish("2")
        assert fetch_linux.main([]) == 0 and (place / "debian-vmlinuz").read_bytes() == KERNEL + b"2"

    def test_a_download_that_is_not_what_was_listed(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        good = self.directory / "linux-image-1.deb"
        whole = good.read_bytes()
        for wrong in (whole[:-1] + b"?", whole[: len(whole) // 2]):
            good.write_bytes(wrong)
            assert fetch_linux.main([]) == 1
            said = capsys.readouterr().err
            assert "could not fetch linux-image-1" in said and ("Hash Sum mismatch" in said or "size" in said), said
            assert not list(place.iterdir())
        good.write_bytes(whole)
        assert fetch_linux.main([]) == 0

    def test_nobody_there(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory.rename(self.directory.with_name("away"))
        assert fetch_linux.main([]) == 1
        said = capsys.readouterr().err
        assert "apt-get" in said and "--kernel" in said and "Traceback" not in said  # what else there is to do
        self.directory.with_name("away").rename(self.directory)
        assert fetch_linux.main([]) == 0
        self.directory.rename(self.directory.with_name("away"))
        assert fetch_linux.main([]) == 0 and "cannot be told" in capsys.readouterr().err  # what is there will do


def test_interrupted_and_a_full_disk(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archives = Archives(monkeypatch)
    fetch_linux.fetch()
    kept = {path.name: path.read_bytes() for path in place.iterdir()}
    archives.version = "2"

    def full(path: Path, _content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def interrupted(*_arguments: object, **_more: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deb, "extract", interrupted)
        assert fetch_linux.main([]) == 130 and "interrupted" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in place.iterdir()} == kept
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "write_whole", full)
        assert fetch_linux.main([]) == 1
        assert "No space left on device" in capsys.readouterr().err
    fetch_linux.fetch()
    assert (place / "debian-vmlinuz").read_bytes() == KERNEL + b"2"


def test_by_hand(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is neither apt nor a mirror that answers."""
    monkeypatch.setattr(debian, "is_here", lambda: False)
    monkeypatch.setenv("PVHV_MIRROR", "http://127.0.0.1:1/debian")
    monkeypatch.setenv("no_proxy", "*")
    assert fetch_linux.main([]) == 1
    said = capsys.readouterr().err
    assert "127.0.0.1:1/debian/dists/bookworm/InRelease cannot be had: Connection refused" in said
    assert "--kernel" in said and "--busybox" in said and "packages.debian.org" in said
    busybox, kernel = tmp_path / "busybox", make_deb(tmp_path / "k.deb", {"boot/vmlinuz-6": KERNEL})
    busybox.write_bytes(BUSYBOX)
    given = ["--kernel", str(kernel), "--busybox", str(busybox)]
    assert fetch_linux.main(given) == 0 and (place / "debian-vmlinuz").read_bytes() == KERNEL
    assert "no driver for disks" in capsys.readouterr().err and not (place / "debian-modules").read_bytes()
    assert fetch_linux.main([]) == 0 and "cannot be told" in capsys.readouterr().err  # what was given stays
    for wrong, why in ((BUSYBOX[:18] + b"\xb7\0", "x86-64"), (BUSYBOX + b"/lib64/ld-linux-x86-64.so.2", "dynamically")):
        busybox.write_bytes(wrong)
        capsys.readouterr()
        assert fetch_linux.main(given) == 1 and why in capsys.readouterr().err
    (tmp_path / "text").write_text("text")
    assert fetch_linux.main(["--kernel", str(tmp_path / "text"), "--busybox", str(busybox)]) == 1
    assert "is not a kernel" in capsys.readouterr().err
    assert fetch_linux.main(["--kernel", str(tmp_path / "none"), "--busybox", str(busybox)]) == 1


@pytest.mark.parametrize("option", ["--name", "--suite", "--package"])
@pytest.mark.parametrize("text", ["../../x", "a/b", "", "-x", "a\udcff", "a b", "é"])
def test_words_that_are_no_names(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str, text: str
) -> None:
    monkeypatch.setattr(fetch_linux, "fetch", lambda *_given, **_settings: pytest.fail("it went to work"))
    with pytest.raises(SystemExit, match="2"):
        fetch_linux.main([f"{option}={text}"])
    assert "is no name" in capsys.readouterr().err


def test_domain_files_find_it(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = Path(__file__).parents[2] / "examples" / "debian.cfg"
    with pytest.raises(ToolstackError, match=r"'debian-vmlinuz' was not fetched yet\n.*fetch_linux\.py"):
        config.load(example)
    Archives(monkeypatch)
    fetch_linux.fetch()
    read = config.load(example)
    assert (read.kernel, read.ramdisk) == (place / "debian-vmlinuz", place / "debian-initramfs")
    (tmp_path / "debian-vmlinuz").write_text("")  # what lies beside the file goes first
    (tmp_path / "a.cfg").write_text('kernel = "debian-vmlinuz"\nramdisk = "other-initramfs"\n')
    with pytest.raises(ToolstackError, match="'other-initramfs' was not fetched yet"):
        config.load(tmp_path / "a.cfg")


def test_a_domain_file_finds_the_disk(place: Path, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "debian-disk.cfg"
    place.mkdir(parents=True)
    for name in ("debian-disk-vmlinuz", "debian-disk-initramfs"):
        with pytest.raises(ToolstackError, match=r"was not fetched yet\n.*fetch_linux\.py --disk 2G makes it"):
            config.load(example)
        (place / name).write_bytes(b"one")
    with pytest.raises(ToolstackError, match=r"the disk 'debian-disk' was not made yet\n.*fetch_linux\.py --disk 2G"):
        config.load(example)
    (place / "debian-disk").write_bytes(bytes(512))
    (disk,) = config.load(example).disks
    assert disk.target == str(place / "debian-disk")
    (tmp_path / "a.cfg").write_text('kernel = "guest-pv"\ndisk = ["debian-disk-vmlinuz,raw,xvda,rw"]\n')
    with pytest.raises(ToolstackError, match="there is no file"):  # what else was fetched is no disk
        config.load(tmp_path / "a.cfg")


def test_a_disk_that_is_there_is_not_touched(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.mkdir(parents=True)
    (place / "mine-disk").write_bytes(b"somebody's work")
    assert installer.make(place, "mine", 1 << 30, installer.SMALL).read_bytes() == b"somebody's work"
    assert "remove it or say another --name" in capsys.readouterr().err


@pytest.mark.parametrize(("format_", "name"), [("raw", "mine-disk"), ("qcow2", "mine-qcow2-disk")])
def test_the_format_of_a_disk(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, format_: str, name: str
) -> None:
    """All but the packages and the guest, which are the same: the guest has a disk of the format. What it hands back
    goes beside the disk, under its name. (test_disk_debian.py makes one.)"""
    place.mkdir(parents=True)
    (place / "mine-disk-vmlinuz").write_bytes(b"of another disk")

    def first_boot(_kernel: Path, _ramdisk: Path, scratch: Path, given: str, _packages: int) -> None:
        assert given == format_
        image = open_image(str(scratch / "disk"), format_, True)
        assert image.sectors == 3 << 11
        image.write(5, b"x" * 512)
        image.close()
        (tmp_path / "vmlinuz").write_bytes(KERNEL)
        with tarfile.open(scratch / "back", "w") as tar:
            tar.add(tmp_path / "vmlinuz", "./vmlinuz")

    monkeypatch.setattr(installer, "_suites", lambda *_given: SimpleNamespace(
        update=lambda: None, with_all_they_need=lambda *_names: []
    ))  # fmt: skip
    monkeypatch.setattr(installer, "_tar", lambda *_given: None)
    monkeypatch.setattr(installer, "_ramdisk", lambda *_given: tmp_path)
    monkeypatch.setattr(installer, "_first_boot", first_boot)
    disk = installer.make(place, "mine", 3 << 20, installer.SMALL, format_=format_)
    assert disk == place / name and (place / f"{name}-vmlinuz").read_bytes() == KERNEL
    image = open_image(str(disk), format_, False)
    assert image.read(5, 1) == b"x" * 512 and image.sectors == 3 << 11
    image.close()
    (tmp_path / "a.cfg").write_text(f'kernel = "{name}-vmlinuz"\ndisk = ["{name},{format_},xvda,rw"]\n')
    read = config.load(tmp_path / "a.cfg")
    assert (read.kernel, read.disks[0].target) == (place / f"{name}-vmlinuz", str(disk))


@pytest.mark.parametrize("text", ["2", "2GB", "0G", "-2G", "x"])
def test_a_size_that_is_none(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        fetch_linux.main([f"--disk={text}"])
    assert "is no size: 512M, 2G" in capsys.readouterr().err


def test_it_needs_nothing_installed() -> None:
    tool = Path(fetch_linux.__file__)
    done = subprocess.run([sys.executable, "-I", "-S", str(tool), "--help"], capture_output=True, check=False)
    assert done.returncode == 0 and b"packages.debian.org" in done.stdout, done.stderr
