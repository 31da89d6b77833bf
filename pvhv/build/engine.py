# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine: unicorn for x86 guests, with our corrections, as a shared library for this machine.

Some seventy files of C, compiled straight by zig: unicorn's own cmake and configure need forty seconds to find
out what, for the platforms below, is a dozen lines (_HOST_FACTS). The product is `engine/<os>-<arch>/libunicorn.so`
under the built products; `pvhv/machine/engine.py` loads it from there.

One key covers everything: the source's hash, every correction, this directory, the compiler. If the store has the
library of that key, nothing is unpacked. Else each object is asked for by the hash of its inputs, so a change to one
correction compiles only the files it touches.

Only Linux on x86-64 is tested. Not modelled: Windows, whose side of the source (oslib-win32.c) was never compiled here;
pvhv runs on the published engine there, and says so.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pvhv.build.cache import Cache
from pvhv.build.corrections import apply, read_corrections
from pvhv.build.objects import Image, Source, Workshop
from pvhv.build.progress import Progress
from pvhv.build.unicorn import SHA256, VERSION, find_source, read_source
from pvhv.build.zig import Zig

CORRECTIONS = "pvhv/machine/corrections"


@dataclass(frozen=True)
class Platform:
    """A platform: our name for it, zig's name, and the facts about it that the source needs."""

    name: str
    target: str
    file_name: str
    backend: str  # the directory of the code generator
    facts: tuple[str, ...]
    flags: tuple[str, ...] = ()

    @property
    def product(self) -> str:
        return f"engine/{self.name}/{self.file_name}"


_POSIX = (
    "CONFIG_POSIX", "CONFIG_TCG", "CONFIG_INT128", "CONFIG_ATOMIC64", "CONFIG_STATIC_ASSERT",
    "CONFIG_POSIX_MEMALIGN", "CONFIG_MADVISE", "CONFIG_POSIX_MADVISE",
)  # fmt: skip
_LINUX = (*_POSIX, "CONFIG_LINUX", "CONFIG_ATTRIBUTE_ALIAS", "CONFIG_GETAUXVAL", "CONFIG_BYTESWAP_H")
_MACOS = (*_POSIX, "CONFIG_DARWIN", "CONFIG_BSD")
_X86 = ("HOST_X86_64", "CONFIG_CPUID_H", "CONFIG_CMPXCHG128")

PLATFORMS = (
    Platform("linux-x86_64", "x86_64-linux-gnu.2.17", "libunicorn.so", "i386", (*_LINUX, *_X86), ("-mcx16",)),
    Platform("linux-arm64", "aarch64-linux-gnu.2.17", "libunicorn.so", "aarch64", (*_LINUX, "HOST_AARCH64")),
    Platform("macos-x86_64", "x86_64-macos-none", "libunicorn.dylib", "i386", (*_MACOS, *_X86), ("-mcx16",)),
    Platform("macos-arm64", "aarch64-macos-none", "libunicorn.dylib", "aarch64", (*_MACOS, "HOST_AARCH64")),
)

# Of the guest's side: compiled as one target of the emulator.
_TARGET_SOURCES = (
    *(f"qemu/accel/tcg/{name}.c" for name in (
        "cpu-exec", "cpu-exec-common", "cputlb", "tcg-all", "tcg-runtime", "tcg-runtime-gvec", "translate-all",
        "translator")),
    *(f"qemu/target/i386/{name}.c" for name in (
        "arch_memory_mapping", "bpt_helper", "cc_helper", "cpu", "excp_helper", "fpu_helper", "helper", "int_helper",
        "machine", "mem_helper", "misc_helper", "mpx_helper", "seg_helper", "smm_helper", "svm_helper", "translate",
        "unicorn", "xsave_helper")),
    *(f"qemu/softmmu/{name}.c" for name in ("cpus", "ioport", "memory", "memory_mapping", "unicorn_vtlb")),
    *(f"qemu/tcg/{name}.c" for name in ("optimize", "tcg", "tcg-op", "tcg-op-gvec", "tcg-op-vec")),
    "qemu/exec.c", "qemu/exec-vary.c", "qemu/fpu/softfloat.c", "qemu/hw/i386/x86.c",
)  # fmt: skip
_COMMON_SOURCES = (
    "list.c", "qemu/crypto/aes.c",
    *(f"glib_compat/{name}.c" for name in (
        "glib_compat", "gtestutils", "garray", "gtree", "grand", "glist", "gmem", "gpattern", "gslice")),
    *(f"qemu/util/{name}.c" for name in (
        "bitmap", "bitops", "crc32c", "cutils", "getauxval", "guest-random", "host-utils", "osdep", "qdist",
        "qemu-timer", "qemu-timer-common", "range", "qht", "pagesize", "cacheinfo", "oslib-posix",
        "qemu-thread-posix")),
)  # fmt: skip
_API_SOURCES = ("uc.c", "qemu/softmmu/vl.c", "qemu/hw/core/cpu.c")

_GUEST_FACTS = (
    "TARGET_X86_64 1", 'TARGET_NAME "x86_64"', "TARGET_I386 1", "CONFIG_SOFTMMU 1", "TARGET_SUPPORTS_MTTCG 1",
)  # fmt: skip

# -O3 as unicorn's own builds. QEMU's code relies on -fwrapv and -fno-strict-aliasing.
_FLAGS = (
    "-std=gnu11", "-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-fno-sanitize=undefined", "-fwrapv",
    "-fno-strict-aliasing", "-fno-stack-protector", "-fomit-frame-pointer", "-w",
    "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-DUNICORN_HAS_X86",
    "-Dabort=pvhv_abort", "-D__assert_fail=pvhv_assert_fail",  # corrections/death.c
)  # fmt: skip


def this_platform() -> Platform | None:
    """This machine's platform, or None if we cannot build the engine for it."""
    system = {"darwin": "macos"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    name = f"{system}-{ {'amd64': 'x86_64', 'aarch64': 'arm64'}.get(machine, machine) }"
    return next((p for p in PLATFORMS if p.name == name), None)


def engine_inputs(root: Path) -> list[Path]:
    """Every file of ours that the engine depends on."""
    return sorted(path for path in (root / CORRECTIONS).glob("*") if path.is_file())


class Built(NamedTuple):
    """The product's name under the built products, its image, and what was done for it."""

    product: str
    image: Path
    compiled: int
    linked: int


def is_made_of(library: bytes, key: str) -> bool:
    """Whether a library was built from the inputs of `key`."""
    return key[:16].encode() in library


def build_engine(root: Path, zig: Zig, store: Cache, progress: Progress, target: Platform) -> Built:
    """The engine, from the store or compiled."""
    key = engine_key(root, zig, target)
    found = _whole(store, key)
    if found is not None:
        store.find("source", SHA256)  # which keeps it in the store, for the next correction
        return Built(target.product, found, 0, 0)
    files = read_source(find_source(store))
    files |= apply(read_corrections(root / CORRECTIONS), files)
    files |= _configuration(target)
    ours = {path.name: path.read_text("utf-8") for path in engine_inputs(root) if path.suffix in (".c", ".h")}
    files |= {f"qemu/pvhv/{name}": text for name, text in ours.items()}
    files["qemu/pvhv/build_id.h"] = f'#define PVHV_BUILD "{key[:16]}"\n'
    with tempfile.TemporaryDirectory(prefix="pvhv-engine-") as scratch:
        tree = Path(scratch)
        for name, text in files.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        workshop = Workshop(tree, zig, store, progress)
        image = _image(target, workshop.root, sorted(f"qemu/pvhv/{name}" for name in ours if name.endswith(".c")))
        linked = workshop.link([image], workshop.compile(image.sources))
        workshop.check()
        library = linked[image].read_bytes()
        store.keep("engine-sum", key, hashlib.sha256(library).hexdigest().encode())
        return Built(target.product, store.keep("engine", key, library), workshop.compiled, workshop.linked)


def _whole(store: Cache, key: str) -> Path | None:
    """The library from the store, if it is there and undamaged."""
    library, known = store.find("engine", key), store.find("engine-sum", key)
    if library is None or known is None:
        return None
    return library if hashlib.sha256(library.read_bytes()).hexdigest() == known.read_text() else None


def engine_key(root: Path, zig: Zig, target: Platform) -> str:
    digest = hashlib.sha256(repr((VERSION, SHA256, zig.version, target)).encode())
    for path in (*engine_inputs(root), *sorted(Path(__file__).parent.glob("*.py"))):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _configuration(target: Platform) -> dict[str, str]:
    """What unicorn's configure would have written."""
    return {
        "config/config-host.h": "".join(f"#define {fact} 1\n" for fact in target.facts),
        "config/config-target.h": "".join(f"#define {fact}\n" for fact in _GUEST_FACTS),
    }


def _image(target: Platform, tree: Path, ours: list[str]) -> Image:
    places = ("config", "glib_compat", "qemu", "qemu/include", "include", "qemu/tcg", f"qemu/tcg/{target.backend}")
    include = tuple(tree / place for place in places)
    flags = ("-target", target.target, *_FLAGS, *target.flags)
    of_target = (*flags, "-DNEED_CPU_H", "-include", "x86_64.h")
    guest = (*include, tree / "qemu/target/i386")
    sources = [Source(name, of_target, guest) for name in (*_TARGET_SOURCES, *ours)]
    sources += [Source(name, flags, include) for name in (*_COMMON_SOURCES, *_API_SOURCES)]
    link = ("-target", target.target, "-shared", "-g0", "-s", "-lm", "-lpthread")
    return Image(f"engine for {target.name}", tuple(sources), link, file_name=target.file_name)
