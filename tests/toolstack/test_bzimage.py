# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels inside bzImages: every packing, what is wrong with a file said in a sentence, unpacked once."""

import bz2
import gzip
import lzma
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard

from pvhv.toolstack import bzimage, elf, unpacking
from pvhv.toolstack.errors import ToolstackError

Maker = Callable[..., bytes]


def lz4_legacy(data: bytes) -> bytes:
    blocks = [lz4.block.compress(data[at : at + (8 << 20)], store_size=False) for at in range(0, len(data), 8 << 20)]
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(block)) + block for block in blocks)


def with_size(packed: bytes, data: bytes) -> bytes:
    return packed + struct.pack("<I", len(data))


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),  # whose end is the size
    "XZ": lambda data: with_size(lzma.compress(data, check=lzma.CHECK_CRC32), data),
    "LZMA": lambda data: with_size(lzma.compress(data, format=lzma.FORMAT_ALONE), data),
    "bzip2": lambda data: with_size(bz2.compress(data), data),
    "Zstandard": lambda data: with_size(zstandard.ZstdCompressor().compress(data), data),
    "LZ4": lambda data: with_size(lz4_legacy(data), data),
}


def image(payload: bytes, *, setup_sectors: int = 3, version: int = 0x20F, gap: int = 0x40) -> bytes:
    """A bzImage around `payload`: a setup of so many sectors behind the first, then `gap` bytes of other code."""
    start = (setup_sectors + 1) * 512
    head = bytearray(start + gap)
    head[0x1F1] = setup_sectors
    head[0x202:0x208] = b"HdrS" + struct.pack("<H", version)
    struct.pack_into("<II", head, 0x248, gap, len(payload))
    return bytes(head) + payload + b"what follows is not looked at"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PVHV_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("packing", PACKINGS)
def test_each_packing(make_kernel: Maker, packing: str) -> None:
    kernel = make_kernel(code=b"some code")
    read = elf.parse(image(PACKINGS[packing](kernel)), Path("vmlinuz"))
    assert [bytes(segment.data) for segment in read.segments] == [
        bytes(segment.data) for segment in elf.parse(kernel, Path("vmlinux")).segments
    ]
    assert bzimage.unpack(image(PACKINGS[packing](kernel)), Path("vmlinuz")) == kernel


def test_lz4_of_several_blocks(make_kernel: Maker) -> None:
    data = make_kernel() + bytes(range(256)) * (9 << 12)  # more than 8 MiB
    assert bzimage.unpack(image(PACKINGS["LZ4"](data)), Path("vmlinuz"))[:] == data


def test_where_the_kernel_lies(make_kernel: Maker) -> None:
    kernel = make_kernel()
    packed = PACKINGS["XZ"](kernel)
    for sectors, gap in ((27, 0), (39, 0x2CC), (1, 1)):
        assert bzimage.unpack(image(packed, setup_sectors=sectors, gap=gap), Path("vmlinuz")) == kernel
    of_old = bytearray(image(packed, setup_sectors=4))
    of_old[0x1F1] = 0  # which means four
    assert bzimage.unpack(bytes(of_old), Path("vmlinuz")) == kernel


def test_unpacked_once(make_kernel: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = image(PACKINGS["XZ"](make_kernel()))
    first = bzimage.unpack(made, Path("vmlinuz"))
    monkeypatch.setattr(bzimage, "_unpacked", None)
    assert bzimage.unpack(made, Path("another")) == first
    (entry,) = cache.glob("kernel/??/*")
    entry.write_bytes(first[:-1])  # whoever cut it: it is not what it was
    monkeypatch.undo()
    monkeypatch.setenv("PVHV_CACHE_DIR", str(cache))
    assert bzimage.unpack(made, Path("vmlinuz")) == first == entry.read_bytes()


def test_no_cache_is_no_reason_to_fail(make_kernel: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PVHV_CACHE_DIR", str(tmp_path / "file" / "below"))
    kernel = make_kernel()
    assert bzimage.unpack(image(PACKINGS["gzip"](kernel)), Path("vmlinuz")) == kernel


def complaint(data: bytes) -> str:
    with pytest.raises(ToolstackError) as caught:
        elf.parse(data, Path("vmlinuz"))
    message = str(caught.value)
    assert message.startswith("vmlinuz is ") and "\n" not in caught.value.message
    return message


def test_what_is_wrong_with_a_file(make_kernel: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = make_kernel(data=bytes(range(256)))
    whole = image(PACKINGS["XZ"](kernel))
    assert "cut short" in complaint(whole[: len(whole) // 2])
    assert "cut short" in complaint(whole[:0x210])
    assert "protocol 2.07" in complaint(image(PACKINGS["XZ"](kernel), version=0x207))
    assert "no kernel in it" in complaint(image(b"\xfd7zXZ\0"))
    assert "does not know (it begins with 89 4c 5a 4f)" in complaint(image(b"\x89LZO" + bytes(100)))
    for name, pack in PACKINGS.items():
        if name in ("gzip", "XZ", "bzip2"):  # the others were made without a checksum
            packed = bytearray(pack(kernel))
            packed[len(packed) // 2] ^= 0x55
            assert f"damaged: its {name} data are not valid" in complaint(image(bytes(packed)))
        short = pack(kernel)[:-200] + pack(kernel)[-4:]
        assert "damaged" in complaint(image(short))
    assert "unpacks to more than the 3 bytes it notes" in complaint(image(lzma.compress(kernel) + b"\3\0\0\0"))
    monkeypatch.setattr(bzimage, "LARGEST", 1000)
    assert "too large" in complaint(image(PACKINGS["XZ"](kernel)))


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_bomb_does_not_go_off(make_kernel: Maker, packing: str) -> None:
    """What unpacks to more than it says is let go of when that is seen."""
    kernel = make_kernel() + bytes(32 << 20)
    packed = PACKINGS[packing](kernel)[:-4] + struct.pack("<I", 5_000_000)
    tracemalloc.start()
    assert "more than the 5000000 bytes it notes" in complaint(image(packed))
    assert tracemalloc.get_traced_memory()[1] < 4 * len(packed) + (18 << 20)  # LZ4 has blocks of 8 MiB
    tracemalloc.stop()


@pytest.mark.parametrize("packing", ["Zstandard", "LZ4"])
def test_without_the_package(make_kernel: Maker, packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(unpacking.importlib, "import_module", missing)
    with pytest.raises(ToolstackError) as caught:
        bzimage.unpack(image(PACKINGS[packing](make_kernel())), Path("vmlinuz"))
    assert packing in caught.value.message and f"pip install {packing.lower()}" in str(caught.value.hint)


def test_ahead_of_time(make_kernel: Maker, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(bzimage, "TELL_EVERY_S", 0.0)
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(image(PACKINGS["XZ"](make_kernel())))
    bzimage.unpack_ahead(kernel, said.append)
    assert len(said) == 1 and said[0].startswith("unpacking vmlinuz: ") and list(cache.glob("kernel/??/*"))
    for other in (tmp_path / "none", tmp_path):  # for somebody else to complain about
        bzimage.unpack_ahead(other, said.append)
    (tmp_path / "elf").write_bytes(make_kernel())
    bzimage.unpack_ahead(tmp_path / "elf", said.append)
    assert len(said) == 1
