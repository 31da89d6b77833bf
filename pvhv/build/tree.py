# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything the package carries that is compiled: the guest kernels, the engine, the pacer, and the headers
guests are built with.

`build_tree` is the one entry for the wheel's build hook, for `tools/dev.py` and for tests.  The products
lie in one directory that mirrors nothing else and holds nothing else:

    kernels/NAME             ELF images of guest_kernel/
    engine/<os>-<arch>/...   unicorn with our corrections, for this machine
    pacer/<os>-<arch>/...    shared libraries of pvhv/machine/pacer.c
    include/xen/*.h          what `pvhv build` compiles other people's guests with
    stamp.json               what all this was made from, and the hash of each product

If the stamp is up to date there is nothing to do, and not even a compiler is looked
for.  Otherwise every object is asked for by the hash of its inputs, and only what changed is compiled.

Invariant: a product is written whole or not at all, and what is no longer made is removed.  When something
fails, the rest is still built, the stamp is not written, and what failed keeps its last good image.
If the engine's source cannot be fetched, a message says so, and the next build tries again; until then pvhv
runs on the published engine.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pvhv.build.cache import HALF_WRITTEN, Cache, open_cache, write_whole
from pvhv.build.engine import CORRECTIONS, build_engine, engine_inputs, engine_key, is_made_of, this_platform
from pvhv.build.kernels import build_kernels, read_descriptions
from pvhv.build.objects import Workshop
from pvhv.build.pacer import SOURCE as PACER_SOURCE
from pvhv.build.pacer import build_pacers
from pvhv.build.progress import Progress
from pvhv.build.unicorn import SourceMissing
from pvhv.build.zig import PINNED, BuildError, Zig, find_zig

STAMP = "stamp.json"


def build_tree(root: Path, out: Path, *, cache: Path | None = None, progress: Progress | None = None) -> None:
    """Bring `out` up to date with `root`; raises BuildError after building what can be built."""
    try:
        _build_tree(root, out, cache, progress or Progress("compiling:"))
    except OSError as error:  # a full disk, a directory that others own
        what = f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}"
        raise BuildError(f"{what} (products go to {out}, what is kept between builds to PVHV_CACHE_DIR)") from error


def _build_tree(root: Path, out: Path, cache: Path | None, progress: Progress) -> None:
    inputs = _digest_of_inputs(root)
    if _is_current(out, inputs):
        progress.end("up to date")
        return
    zig = find_zig()
    with progress, open_cache(cache) as store, tempfile.TemporaryDirectory(prefix="pvhv-build-") as scratch:
        generated = Path(scratch).resolve()
        kernels = Workshop(root / "guest_kernel", zig, store, progress, {generated: "/generated"})
        machine = Workshop(root, zig, store, progress)
        images = build_pacers(machine)
        engine, without = _engine(machine, zig, store, progress, out)
        images |= engine
        built = build_kernels(kernels, read_descriptions(kernels.root), generated)
        images |= {f"kernels/{name}": image for name, image in built.items()}
        headers = root / "guest_kernel" / "include" / "xen"
        images |= {f"include/xen/{p.name}": p for p in headers.glob("*.h")}
        products = {name: _install(image, out / name) for name, image in sorted(images.items())}
        compiled = kernels.compiled + machine.compiled
        if compiled:
            store.prune()
    machine.check()
    kernels.check()
    _remove_others(out, products)
    if without is None:
        stamp = {"inputs": inputs, "products": products}
        write_whole(out / STAMP, json.dumps(stamp, indent=1).encode() + b"\n")
    linked = kernels.linked + machine.linked
    progress.end(f"{len(products)} products, {compiled} files compiled, {linked} linked")


def _engine(
    machine: Workshop, zig: Zig, store: Cache, progress: Progress, out: Path
) -> tuple[dict[str, Path], str | None]:
    """The products of the engine for this machine; and a message, if there is none."""
    target = this_platform()
    if target is None or not (machine.root / CORRECTIONS).is_dir():  # a tree of kernels only
        return {}, None
    try:
        built = build_engine(machine.root, zig, store, progress, target)
    except SourceMissing as missing:
        if _is_whole(out, target.product, engine_key(machine.root, zig, target)):
            return {target.product: out / target.product}, None  # only the store has lost it
        progress.say(f"{missing}. Until then pvhv runs on the published engine, which is not safe against its guests.")
        return {}, str(missing)
    except BuildError as error:
        machine.fail(str(error))
        return {}, None
    machine.compiled += built.compiled
    machine.linked += built.linked
    return {built.product: built.image}, None


def _is_whole(out: Path, product: str, key: str) -> bool:
    """Whether the engine of an earlier build is the one we would build, and undamaged."""
    try:
        known, library = json.loads((out / STAMP).read_bytes())["products"][product], (out / product).read_bytes()
    except (OSError, ValueError, KeyError):
        return False
    return bool(hashlib.sha256(library).hexdigest() == known) and is_made_of(library, key)


def _digest_of_inputs(root: Path) -> str:
    """One hash of every file that the products depend on: sources by name and content, and the builder."""
    places = [*(root / "guest_kernel").rglob("*"), *(root / PACER_SOURCE).parent.glob("pacer*.[ch]")]
    places += [*engine_inputs(root), *Path(__file__).parent.glob("*.py")]
    digest = hashlib.sha256(PINNED.encode())
    for path in sorted(p for p in places if p.is_file()):
        name = path.relative_to(root) if path.is_relative_to(root) else path.name
        digest.update(f"{name} {_hash_of(path)}\n".encode())
    return digest.hexdigest()


def _is_current(out: Path, inputs: str) -> bool:
    try:
        stamp = json.loads((out / STAMP).read_bytes())
        return bool(stamp["inputs"] == inputs) and all(
            _hash_of(out / name) == known for name, known in stamp["products"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def _install(image: Path, product: Path) -> str:
    content = image.read_bytes()
    if not product.is_file() or product.read_bytes() != content:
        product.parent.mkdir(parents=True, exist_ok=True)
        write_whole(product, content)
    return hashlib.sha256(content).hexdigest()


def _remove_others(out: Path, products: Mapping[str, str]) -> None:
    for path in sorted(out.rglob("*"), reverse=True):  # what is in a directory before the directory
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(out).as_posix() not in products and not path.name.startswith(HALF_WRITTEN):
            path.unlink(missing_ok=True)


def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
