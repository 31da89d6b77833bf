# SPDX-License-Identifier: GPL-2.0-or-later
"""A root file system as dpkg has it before anything is configured; where there is a dpkg, it reads it."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tools.linux import installer, rootfs
from tools.linux.deb import BadPackage

CONTROL = "Package: {}\nVersion: 1\nArchitecture: amd64\nMaintainer: a <a@example.org>\nDescription: a\n b\n"


def make_deb(path: Path, control: dict[str, str], files: dict[str, bytes]) -> Path:
    out = b"!<arch>\n"
    parts = {"control.tar.xz": {name: text.encode() for name, text in control.items()}, "data.tar.xz": files}
    for name, data in {"debian-binary": b"2.0\n", **{name: packed(part) for name, part in parts.items()}}.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    path.write_bytes(out)
    return path


def packed(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:xz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.uid, member.uname, member.mode = 0, "root", 0o755
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            elif data.startswith(b"-> "):
                member.type, member.linkname = tarfile.SYMTYPE, data[3:].decode()
            elif data.startswith(b"= "):
                member.type, member.linkname = tarfile.LNKTYPE, data[2:].decode()
            else:
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return made.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tool = make_deb(
        tmp_path / "tool.deb",
        {
            "control": CONTROL.format("tool"), "conffiles": "/etc/tool.conf\n", "postinst": "#!/bin/sh\n",
            "triggers": "interest-noawait /usr/share/doc\ninterest told\n# a comment\nactivate other\n",
        },
        {
            "bin/": b"", "bin/tool": b"a tool", "bin/same": b"= ./bin/tool", "sbin/link": b"-> ../bin/tool",
            "etc/": b"", "etc/tool.conf": b"a setting", "lib64/": b"", "lib64/ld.so": b"-> /lib/ld.so",
        },
    )  # fmt: skip
    library = make_deb(
        tmp_path / "library.deb",
        {"control": CONTROL.format("library") + "Multi-Arch: same\n"},
        {"etc/": b"", "usr/lib/": b"", "usr/lib/ld.so": b"a library"},
    )
    made = tmp_path / "tree.tar"
    with made.open("wb") as out:
        rootfs.write([tool, library], {"root/later.sh": b"#!/bin/sh\n"}, out, lambda _path: None)
    return made


def test_what_unpacking_leaves(tree: Path) -> None:
    with tarfile.open(tree) as tar:
        members = {member.name: member for member in tar}
        content = {name: tar.extractfile(name).read() for name, each in members.items() if each.isreg()}  # type: ignore[union-attr]
    assert [members[name].linkname for name in ("bin", "lib64")] == ["usr/bin", "usr/lib64"]
    assert content["usr/bin/tool"] == b"a tool" and members["usr/bin/same"].linkname == "usr/bin/tool"
    assert members["usr/sbin/link"].linkname == "../bin/tool"
    assert content["etc/tool.conf.dpkg-new"] == b"a setting" and "etc/tool.conf" not in members
    assert not any(member.uname for member in members.values())
    assert members["root/later.sh"].mode == members["var/lib/dpkg/info/tool.postinst"].mode == 0o755
    assert len(members) == sum(1 for _ in tarfile.open(tree)), "a directory came twice"
    database = "var/lib/dpkg/"
    assert content[f"{database}info/tool.list"].decode().split() == [
        "/.", "/bin", "/bin/tool", "/bin/same", "/sbin/link", "/etc", "/etc/tool.conf", "/lib64", "/lib64/ld.so",
    ]  # fmt: skip
    assert f"{database}info/library:amd64.list" in content
    assert content[f"{database}triggers/File"] == b"/usr/share/doc tool/noawait\n"
    assert content[f"{database}triggers/told"] == b"tool\n"
    first, second = content[f"{database}status"].decode().split("\n\n")
    assert "Package: tool\nStatus: install ok unpacked\nVersion: 1\n" in first
    assert first.endswith("Conffiles:\n /etc/tool.conf newconffile") and "Conffiles" not in second


def test_dpkg_agrees(tree: Path, tmp_path: Path) -> None:
    """What the real one says about the two packages, and that it would configure them."""
    if shutil.which("dpkg") is None:
        pytest.skip("there is no dpkg: it is Debian's")
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(tree) as tar:
        tar.extractall(root, filter="fully_trusted")
    told = subprocess.run(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${binary:Package} ${Status}\n"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.splitlines() == ["library:amd64 install ok unpacked", "tool install ok unpacked"]
    audit = subprocess.run(
        ["dpkg", f"--admindir={root}/var/lib/dpkg", "--audit"], capture_output=True, text=True, check=False
    )
    assert "unpacked but not yet configured" in audit.stdout and not audit.stderr


def test_packages_that_are_none(tmp_path: Path) -> None:
    nameless = make_deb(tmp_path / "nameless.deb", {"control": "Version: 1\n"}, {})
    cut = tmp_path / "cut.deb"
    cut.write_bytes(nameless.read_bytes()[:150])
    for package, words in ((nameless, "no 'Package'"), (cut, "damaged")):
        with pytest.raises(BadPackage, match=words):
            rootfs.write([package], {}, io.BytesIO(), lambda _path: None)


def test_a_disk_that_is_too_small_says_how_large(tmp_path: Path) -> None:
    package = make_deb(tmp_path / "a.deb", {"control": CONTROL.format("a")}, {"usr/": b"", "usr/a": bytes(8 << 20)})
    with pytest.raises(BadPackage, match=r"a disk of 16 MiB is too small .*at least 5\dM"):
        installer._tar([package], tmp_path / "tar", 16 << 20)
    installer._tar([package], tmp_path / "tar", 80 << 20)


@pytest.mark.parametrize(("text", "size"), [("512M", 512 << 20), ("2G", 2 << 30), ("1t", 1 << 40)])
def test_sizes(text: str, size: int) -> None:
    assert installer.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "0G", "-1G", "1.5G", "12", "²G"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        installer.parse_size(text)
