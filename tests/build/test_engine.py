# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's source and our corrections to it: what they promise, and what is said of what is not as it was."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pvhv.build import BuildError, build_tree, unicorn
from pvhv.build.cache import Cache
from pvhv.build.corrections import Correction, apply, read_corrections
from pvhv.build.engine import CORRECTIONS, PLATFORMS, _whole, engine_key, this_platform
from pvhv.build.progress import Progress
from pvhv.build.tree import STAMP
from pvhv.build.unicorn import SHA256, SourceMissing, find_source, read_source
from pvhv.build.zig import find_zig
from tests.build.small_tree import SmallTree

ROOT = Path(__file__).parents[2]
SOURCE = {"a.c": "int one(void)\n{\n    return 1;\n}\n\nint two(void)\n{\n    return 1 + 1;\n}\n"}


def correction(*edits: Mapping[str, str], name: str = "some") -> Correction:
    return Correction(name, "what", "why", (), "test", edits)


def edited(*edits: Mapping[str, str]) -> str:
    return apply([correction(*edits)], SOURCE)["a.c"]


# -- corrections ---------------------------------------------------------------------------------------------------


def test_an_edit_replaces_or_stands_beside() -> None:
    assert "return 2;" in edited({"file": "a.c", "find": "return 1;", "replace": "return 2;"})
    assert "x(); return 1;" in edited({"file": "a.c", "find": "return 1;", "before": "x(); "})
    assert "return 1; x();" in edited({"file": "a.c", "find": "return 1;", "after": " x();"})


def test_below_narrows_to_one_function() -> None:
    text = edited({"file": "a.c", "below": "int two(void)", "find": "    return", "replace": "    return 7 +"})
    assert "return 1;" in text and "return 7 + 1 + 1;" in text
    with pytest.raises(BuildError, match="'two' is not there"):
        edited({"file": "a.c", "below": "int one(void)", "find": "two", "replace": ""})


def test_the_order_of_corrections_does_not_matter() -> None:
    one = correction({"file": "a.c", "find": "return 1;", "replace": "return 2;"}, name="one")
    two = correction({"file": "a.c", "find": "1 + 1", "replace": "return 1;"}, name="two")
    assert apply([one, two], SOURCE) == apply([two, one], SOURCE)


def test_what_does_not_fit_is_told() -> None:
    for edit, said in (
        ({"file": "a.c", "find": "return", "replace": ""}, "correction some: 'return' is there 2 times in a.c"),
        ({"file": "a.c", "find": "nothing", "replace": ""}, "is not there in a.c; the source is of another version"),
        ({"file": "b.c", "find": "x", "replace": ""}, "has no file b.c"),
        ({"file": "a.c", "find": "x"}, "an edit has 'file', 'find', one of"),
        ({"file": "a.c", "find": "x", "before": "", "after": ""}, "an edit has 'file', 'find', one of"),
        ({"file": "a.c", "find": "x", "replace": "", "belowe": ""}, "an edit has 'file', 'find', one of"),
    ):
        with pytest.raises(BuildError, match=said):
            edited(edit)
    with pytest.raises(BuildError, match=r"correction some: a\.c: 'one.void.' overlaps with correction some"):
        edited(
            {"file": "a.c", "find": "int one", "replace": ""}, {"file": "a.c", "find": "one(void)", "replace": ""}
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("what = 1 2", "Expected"),
        ('what = "x"\nwhy = "x"\ntest = "x"', "needs 'edit'"),
        ('what = "x"\nwhose = "x"', "unknown key 'whose'"),
    ],
)
def test_a_correction_that_says_too_little_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(BuildError, match=f"correction mine.toml: .*{said}"):
        read_corrections(tmp_path)


def test_every_correction_of_ours_names_a_test_there_is() -> None:
    found = read_corrections(ROOT / CORRECTIONS)
    assert len(found) > 10
    for each in found:
        assert (ROOT / each.test).is_file(), each.name
        assert all(link.startswith("https://") for link in each.upstream)


# -- the source ----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "store")


def test_the_source_is_fetched_once(store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = _the_source()
    given = tmp_path / "given.tar.gz"
    given.write_bytes(content)
    monkeypatch.setenv("PVHV_UNICORN_SOURCE", str(given))
    assert find_source(store) == content
    given.unlink()
    assert find_source(store) == content  # from the store
    kept = store.find("source", SHA256)
    assert kept is not None
    kept.write_bytes(content[:-1])
    with pytest.raises(BuildError, match=r"PVHV_UNICORN_SOURCE: .*No such file"):
        find_source(store)  # what is damaged in the store is fetched again


def _the_source() -> bytes:
    """As the build of this tree, which these tests began with, has it in the user's store."""
    from pvhv.build.cache import open_cache

    with open_cache() as cache:
        return find_source(cache)


def test_an_altered_source_is_refused(store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "given.tar.gz"
    given.write_bytes(b"something else")
    monkeypatch.setenv("PVHV_UNICORN_SOURCE", str(given))
    with pytest.raises(BuildError, match=r"is not the one that pvhv knows: sha256 [0-9a-f]{64}, not 0056"):
        find_source(store)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print('ERROR: No matching distribution found', file=sys.stderr); sys.exit(1)", "No matching distribution"),
        ("print('No module named pip', file=sys.stderr); sys.exit(1)", "pip cannot be run"),
    ],
)
def test_without_a_network_there_is_a_way_on(
    store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    monkeypatch.setattr(unicorn.sys, "executable", _fake(tmp_path, script))
    with pytest.raises(SourceMissing, match=f"could not be fetched \\(.*{said}.*PVHV_UNICORN_SOURCE"):
        find_source(store)


def test_an_index_with_another_file_is_refused(store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "print('ERROR: THESE PACKAGES DO NOT MATCH THE HASHES', file=sys.stderr); sys.exit(1)"
    monkeypatch.setattr(unicorn.sys, "executable", _fake(tmp_path, script))
    with pytest.raises(BuildError, match="on your package index has another hash than pvhv knows"):
        find_source(store)


def _fake(place: Path, script: str) -> str:
    """A Python that says this, whatever it is asked."""
    path = place / "python"
    path.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_source_that_is_none_is_told() -> None:
    with pytest.raises(BuildError, match=r"the source of unicorn 2\.1\.4 cannot be read"):
        read_source(b"\x1f\x8bnothing")


# -- the tree ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> SmallTree:
    made = SmallTree(tmp_path / "tree", tmp_path / "cache")
    made.write(f"{CORRECTIONS}/none.toml", 'what = "x"\nwhy = "x"\ntest = "x"\n[[edit]]\nfile = "uc.c"\nfind = "?"\n')
    return made


def build(tree: SmallTree, said: io.StringIO) -> None:
    build_tree(tree.root, tree.out, cache=tree.cache, progress=Progress("", said))


def test_a_build_without_the_source_builds_the_rest_and_tries_again(
    tree: SmallTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unicorn, "_download", _raise(SourceMissing("no network")))
    said = io.StringIO()
    build(tree, said)
    assert "no network. Until then pvhv runs on the published engine, which is not safe" in said.getvalue()
    assert (tree.out / "kernels/small").is_file() and not (tree.out / "engine").exists()
    again = io.StringIO()
    build(tree, again)
    assert "no network" in again.getvalue()


def test_a_full_disk_is_told_in_a_sentence(tree: SmallTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cache, "keep", _raise(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(BuildError, match=r"^No space left on device .*PVHV_CACHE_DIR"):
        build(tree, io.StringIO())


def test_an_engine_that_only_the_store_has_lost_is_kept(tree: SmallTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unicorn, "_download", _raise(SourceMissing("no network")))
    target = this_platform()
    assert target is not None
    library = tree.out / target.product
    library.parent.mkdir(parents=True)
    library.write_bytes(f"made of {engine_key(tree.root, find_zig(), target)}".encode())
    known = hashlib.sha256(library.read_bytes()).hexdigest()
    (tree.out / STAMP).write_text(json.dumps({"products": {target.product: known}}))
    said = io.StringIO()
    build(tree, said)
    assert "no network" not in said.getvalue() and library.is_file()
    library.write_bytes(library.read_bytes() + b"damaged")
    build(tree, said)
    assert "no network. Until then" in said.getvalue() and not library.exists()


def _raise(error: Exception) -> object:
    def fail(*_: object) -> bytes:
        raise error

    return fail


def test_a_correction_that_does_not_fit_fails_the_build_and_not_the_rest(
    tree: SmallTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = _the_source()
    monkeypatch.setattr(unicorn, "_download", lambda: content)
    with pytest.raises(BuildError, match="correction none: an edit has"):
        build(tree, io.StringIO())
    assert (tree.out / "kernels/small").is_file()


def test_a_library_that_was_damaged_in_the_store_is_not_taken(store: Cache) -> None:
    store.keep("engine", "ab", b"a library")
    assert _whole(store, "ab") is None  # whose sum was never written
    store.keep("engine-sum", "ab", hashlib.sha256(b"a library").hexdigest().encode())
    whole = _whole(store, "ab")
    assert whole is not None
    whole.write_bytes(b"a lib")
    assert _whole(store, "ab") is None


# -- what is loaded --------------------------------------------------------------------------------------------------


def load(**variables: str) -> subprocess.CompletedProcess[str]:
    script = "from pvhv.machine import engine, seam; print(engine.path, engine.description(), seam.build_id())"
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_corrected_engine_is_loaded_unless_the_stock_one_is_asked_for() -> None:
    assert "_built/engine/" in load().stdout and "with pvhv's corrections" in load().stdout
    stock = load(PVHV_ENGINE="stock").stdout
    assert "_built" not in stock and "as published: not safe" in stock and stock.endswith(" stock\n")
    assert "PVHV_ENGINE is 'stock' or 'corrected', not 'best'" in load(PVHV_ENGINE="best").stderr


def test_a_library_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    place = tmp_path / "pvhv" / "machine"
    place.mkdir(parents=True)
    (place / "engine.py").write_text((ROOT / "pvhv/machine/engine.py").read_text())
    name = load().stdout.split()[0].split("/_built/")[1]
    library = tmp_path / "pvhv/_built" / name
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\x7fELF")
    done = subprocess.run([sys.executable, str(place / "engine.py")], capture_output=True, text=True)
    assert "the engine cannot be loaded (" in done.stderr and "tools/dev.py build" in done.stderr


def test_an_engine_of_another_version_of_pvhv_is_told() -> None:
    script = (
        "import pvhv.machine.engine as e; real = e.function\n"
        "e.function = lambda name, *a, **k: (lambda: 999) if name == 'pvhv_seam_version' else real(name, *a, **k)\n"
        "import pvhv.machine.seam"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert "is of another version of pvhv (its interface is 999, ours " in last and "tools/dev.py build" in last


def test_platforms() -> None:
    assert len({platform.product for platform in PLATFORMS}) == len(PLATFORMS)
    assert this_platform() is None or this_platform() in PLATFORMS
