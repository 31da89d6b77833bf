# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv build DIR`: somebody's own guest, from a directory of sources."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pvhv.build import BuildError, build_directory, guest
from pvhv.testing import boot
from pvhv.toolstack.config import load

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "first-guest"


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVHV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(guest, "INSTALLED_INCLUDE", ROOT / "guest_kernel" / "include")


def test_the_example_is_one_short_file() -> None:
    assert [p.name for p in EXAMPLE.glob("*.[cS]")] == ["first-guest.c"]
    assert len((EXAMPLE / "first-guest.c").read_text().splitlines()) < 80


def test_the_example_builds_into_a_kernel_with_notes(tmp_path: Path) -> None:
    directory = tmp_path / "first-guest"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("build"))
    kernel = build_directory(directory)
    assert kernel == directory / "build" / "first-guest"
    with kernel.open("rb") as file:
        elf = ELFFile(file)
        start = elf.get_section_by_name(".symtab").get_symbol_by_name("_start")[0]["st_value"]
        assert elf["e_entry"] == start
        segments = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        assert all(s["p_vaddr"] - s["p_paddr"] == 0xFFFFFFFF80000000 for s in segments)
        assert sum(1 for s in segments if s["p_flags"] & 1) == 1
        notes = elf.get_section_by_name(".note.Xen").data()
    assert notes.count(b"Xen\0") == 6 and b"first-guest\0" in notes
    assert start.to_bytes(8, "little") in notes


def test_the_example_does_what_it_says(tmp_path: Path) -> None:
    directory = tmp_path / "first-guest"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("build"))
    kernel = build_directory(directory)
    result = boot(kernel, timeout=20)
    assert result.output == "Hello from a guest of one's own!\n"
    assert result.ending == "poweroff" and result.exit_status == 0
    assert load(directory / "first-guest.cfg").kernel == kernel, "its domain file names what was built"


def test_where_it_is_built_does_not_show(tmp_path: Path) -> None:
    kernels = []
    for place in (tmp_path / "here", tmp_path / "over" / "there"):
        shutil.copytree(EXAMPLE, place / "guest", ignore=shutil.ignore_patterns("build"))
        kernels.append(build_directory(place / "guest", place / "kernel").read_bytes())
        shutil.rmtree(tmp_path / "cache")
    assert kernels[0] == kernels[1]
    assert str(tmp_path).encode() not in kernels[0]
    assert str(ROOT).encode() not in kernels[0]


def test_a_linker_script_of_its_own_is_used(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("void enter(void) { for (;;); }\n")
    (tmp_path / "own.lds").write_text("ENTRY(enter)\nSECTIONS { . = 0x100000; .text : { *(.text*) } }\n")
    with build_directory(tmp_path).open("rb") as file:
        assert ELFFile(file)["e_entry"] == 0x100000
    (tmp_path / "another.lds").write_text("")
    with pytest.raises(BuildError, match=r"several linker scripts \(another\.lds, own\.lds\)"):
        build_directory(tmp_path)


def test_what_cannot_be_built_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="not a directory"):
        build_directory(tmp_path / "nowhere")
    with pytest.raises(BuildError, match=r"holds no \.c or \.S file"):
        build_directory(tmp_path)
    (tmp_path / "main.c").write_text("nonsense\n")
    with pytest.raises(BuildError, match=r"^main\.c did not compile$"):
        build_directory(tmp_path)
    assert not (tmp_path / "build").exists()


def test_without_the_compiler_the_line_that_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "main.c").write_text("")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r"pip install 'pvhv\[build\]'"):
        build_directory(tmp_path)


def test_where_no_kernel_can_be_written(tmp_path: Path) -> None:
    directory = tmp_path / "first-guest"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("build"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for out, words in (
        (tmp_path, "is a directory: name the kernel's file"),
        (pipe, "pipe is not a plain file: name another file"),
        (directory / "first-guest.c" / "kernel", "cannot write .*: .*first-guest.c is not a directory"),
    ):
        with pytest.raises(BuildError, match=words):
            build_directory(directory, out)
    assert pipe.is_fifo()
    assert (directory / "first-guest.c").is_file()


def test_sources_are_plain_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.c")  # who reads it waits for ever
    (tmp_path / "directory.S").mkdir()
    with pytest.raises(BuildError, match=r"holds no .c or .S file"):
        build_directory(tmp_path)
