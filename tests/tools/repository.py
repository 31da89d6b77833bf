# SPDX-License-Identifier: GPL-2.0-or-later
"""An archive of Debian's as a test has it: packages of a few files, and a mirror of them on this machine's loopback."""

from __future__ import annotations

import hashlib
import io
import lzma
import struct
import tarfile
import threading
from collections.abc import Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BUSYBOX = b"\x7fELF\2\1\1" + bytes(11) + b"\x3e\0" + b"a static busybox"
KERNEL = bytes(0x202) + b"HdrS" + b"a kernel"


def make_deb(path: Path, files: Mapping[str, bytes], packing: str = "xz") -> Path:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode=f"w:{packing}") as writer:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            writer.addfile(member, io.BytesIO(data))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{packing}": tar.getvalue()}
    out = b"!<arch>\n"
    for name, data in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    path.write_bytes(out)
    return path


def module(**about: str) -> bytes:
    """An ELF file with nothing but what a module says about itself."""
    texts = b"\0.modinfo\0.shstrtab\0", b"".join(f"{key}={value}\0".encode() for key, value in about.items())
    names_at, info_at = 64, 64 + len(texts[0])
    sections = [(0, 0, 0), (1, info_at, len(texts[1])), (10, names_at, len(texts[0]))]
    sizes = (64, 0, 0, 64, len(sections), 2)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 62, 1, 0, 0, info_at + len(texts[1]), 0, *sizes)
    table = b"".join(struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, at, size, 0, 0, 1, 0) for name, at, size in sections)
    return header + b"".join(texts) + table


def stanza(name: str, version: str = "1", **fields: str) -> str:
    """What an index says of a package. An underscore in a field's name is a hyphen there."""
    more = "".join(f"{field.replace('_', '-')}: {value}\n" for field, value in fields.items())
    return f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n{more}"


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, asked: list[str], *arguments: object, **settings: object) -> None:
        self.asked = asked
        super().__init__(*arguments, **settings)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_arguments: object) -> None:
        pass


class Repository:
    """A mirror: a release and its security updates, each in a directory of its own, as Debian has them."""

    def __init__(self, root: Path, release: str) -> None:
        self.root, self.release = root, release
        self.asked: list[str] = []  # paths, of which the server was asked
        for part in ("debian", "debian-security"):
            (root / part / "pool").mkdir(parents=True)
        handler = partial(Handler, self.asked, directory=str(root))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/debian"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def package(self, name: str, version: str, files: Mapping[str, bytes], part: str = "debian", **fields: str) -> str:
        """Put a package into the pool. Returns what an index says of it."""
        file = make_deb(self.root / part / "pool" / f"{name}_{version.replace(':', '.')}.deb", files)
        data = file.read_bytes()
        about = {"Filename": f"pool/{file.name}", "Size": str(len(data)), "SHA256": hashlib.sha256(data).hexdigest()}
        return stanza(name, version, **about, **fields)

    def publish(self, *stanzas: str, part: str = "debian", suite: str = "", by_hash: bool = False) -> None:
        """Make the index of a suite, and its InRelease, which nobody signed."""
        suite = suite or self.release + ("-security" if part == "debian-security" else "")
        place = self.root / part / "dists" / suite
        lists = place / "main" / "binary-amd64"
        (lists / "by-hash" / "SHA256").mkdir(parents=True, exist_ok=True)
        text = "\n".join(stanzas).encode()
        packed = lzma.compress(text)
        digest = hashlib.sha256(packed).hexdigest()
        (lists / "by-hash" / "SHA256" / digest if by_hash else lists / "Packages.xz").write_bytes(packed)
        (place / "InRelease").write_text(
            f"Codename: {suite}\n{'Acquire-By-Hash: yes' + chr(10) if by_hash else ''}SHA256:\n"
            f" {digest} {len(packed)} main/binary-amd64/Packages.xz\n"
            f" {hashlib.sha256(text).hexdigest()} {len(text)} main/binary-amd64/Packages\n"
        )
