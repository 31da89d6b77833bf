# SPDX-License-Identifier: GPL-2.0-or-later
"""The archive of the guest's first files, read back by the format's own words."""

from __future__ import annotations

from pvhv.build.initfs import pack


def read_back(archive: bytes) -> list[tuple[str, int, bytes]]:
    """Name, mode and bytes of each entry, the trailer last."""
    entries, at = [], 0
    while at < len(archive):
        assert at % 4 == 0 and archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size]
        assert name[-1:] == b"\0"
        at = (at + 110 + name_size + 3) & ~3
        entries.append((name[:-1].decode(), mode, archive[at : at + size]))
        at = (at + size + 3) & ~3
    return entries


def test_files_come_back_with_their_folders_before_them() -> None:
    files = {"etc/motd": b"hello", "bin/sh": b"\x7fELF....", "etc/deep/er": b"", "bin/ls": b"\x7fELF"}
    assert read_back(pack(files)) == [
        ("bin", 0o040755, b""),
        ("bin/ls", 0o100755, b"\x7fELF"),
        ("bin/sh", 0o100755, b"\x7fELF...."),
        ("etc", 0o040755, b""),
        ("etc/deep", 0o040755, b""),
        ("etc/deep/er", 0o100644, b""),
        ("etc/motd", 0o100644, b"hello"),
        ("TRAILER!!!", 0, b""),
    ]


def test_the_order_they_were_named_in_does_not_show() -> None:
    files = {"b": b"2", "a/c": b"1"}
    assert pack(files) == pack(dict(reversed(files.items())))
