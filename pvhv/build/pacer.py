# SPDX-License-Identifier: GPL-2.0-or-later
"""The pacer for every platform, built on any platform: C without a C library, as a shared library for each.

What it does is said in `pvhv/machine/pacer.c`; `pvhv/machine/pacer.py` looks for the running
machine's copy by the name given here: `pacer/<os>-<arch>/pacer.<so|dylib|dll>` under the built products.

The flags differ by what each platform's tools write into a file of their own accord: debug information and
stabs name paths (hence -g0 and -s), a Mach-O library carries its own name (hence an output called the same
everywhere) and must name libSystem (zig sees to that), a PE file brings a debug database and an import
library we leave behind.

Only Linux on x86-64 is tested.  Not modelled: Windows on arm64, for which there is no Unicorn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pvhv.build.objects import Image, Source, Workshop

SOURCE = "pvhv/machine/pacer.c"

_FLAGS = (
    "-std=gnu11", "-O2", "-g0", "-fPIC", "-ffreestanding", "-fvisibility=hidden", "-Wall", "-Wextra",
    "-fno-sanitize=undefined", "-fno-stack-protector", "-fomit-frame-pointer",
)  # fmt: skip


@dataclass(frozen=True)
class Platform:
    """A platform by our name, by zig's, and by the file name its loader expects."""

    name: str
    target: str
    file_name: str

    @property
    def product(self) -> str:
        return f"pacer/{self.name}/{self.file_name}"


PLATFORMS = (
    Platform("linux-x86_64", "x86_64-linux-gnu", "pacer.so"),
    Platform("linux-arm64", "aarch64-linux-gnu", "pacer.so"),
    Platform("macos-x86_64", "x86_64-macos-none", "pacer.dylib"),
    Platform("macos-arm64", "aarch64-macos-none", "pacer.dylib"),
    Platform("windows-x86_64", "x86_64-windows-gnu", "pacer.dll"),
)


def build_pacers(workshop: Workshop) -> dict[str, Path]:
    """Each product's name under the built products, and its image in the store."""
    images = {p: _image(p) for p in PLATFORMS}
    objects = workshop.compile(_sources(images.values()))
    linked = workshop.link(images.values(), objects)
    return {p.product: linked[image] for p, image in images.items() if image in linked}


def _image(p: Platform) -> Image:
    source = Source(SOURCE, ("-target", p.target, *_FLAGS), ())
    flags = ("-target", p.target, "-shared", "-nostdlib", "-g0", "-s")
    return Image(f"pacer for {p.name}", (source,), flags, file_name=p.file_name)


def _sources(images: Iterable[Image]) -> list[Source]:
    return [source for image in images for source in image.sources]
