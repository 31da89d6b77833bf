# SPDX-License-Identifier: GPL-2.0-or-later
"""What the builder promises: everything is built, nothing twice, nothing stale, and one failure is one
failure.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pvhv.build import BuildError
from pvhv.build.pacer import PLATFORMS
from pvhv.machine import engine, pacer
from tests.build.small_tree import SmallTree


@pytest.fixture
def tree(tmp_path: Path) -> SmallTree:
    return SmallTree(tmp_path / "tree", tmp_path / "cache")


def test_everything_the_description_names_is_built(tree: SmallTree) -> None:
    tree.build()
    products = {p.relative_to(tree.out).as_posix() for p in tree.out.rglob("*") if p.is_file()}
    assert products == {
        "kernels/small", "kernels/test-first", "kernels/test-second", "kernels/bench-third",
        "include/xen/abi.h", "stamp.json",
        *(p.product for p in PLATFORMS),
    }  # fmt: skip


def test_a_kernel_begins_where_its_linker_script_says(tree: SmallTree) -> None:
    tree.build()
    elf = ELFFile(BytesIO(tree.product("kernels/small")))
    symbol = elf.get_section_by_name(".symtab").get_symbol_by_name("begin")[0]
    assert elf["e_entry"] == symbol["st_value"] >= 0xFFFFFFFF80100000
    assert elf["e_machine"] == "EM_X86_64" and elf["e_type"] == "ET_EXEC"
    assert elf.get_section_by_name(".debug_info") is not None
    assert elf.get_section_by_name(".eh_frame") is None


def test_programs_and_files_are_in_the_kernels_first_file_system(tree: SmallTree) -> None:
    tree.build()
    kernel = tree.product("kernels/small")
    for name in (b"bin/one\0", b"bin/two\0", b"etc/motd\0", b"TRAILER!!!\0"):
        assert name in kernel
    assert b"welcome\n" in kernel


def test_each_platform_has_a_pacer_its_loader_takes_for_its_own(tree: SmallTree) -> None:
    tree.build()
    magic = {"linux": b"\x7fELF", "macos": b"\xcf\xfa\xed\xfe", "windows": b"MZ"}
    for platform in PLATFORMS:
        image = tree.product(platform.product)
        assert image.startswith(magic[platform.name.split("-")[0]])
        assert b"pacer_block" in image
        # dyld refuses a library that does not name libSystem.
        assert (b"/usr/lib/libSystem.B.dylib" in image) == platform.name.startswith("macos")


@pytest.mark.parametrize(
    ("system", "machine"),
    [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64"), ("win32", "AMD64")],
)
def test_the_machine_looks_for_its_pacer_where_the_builder_puts_it(system: str, machine: str) -> None:
    name = engine.target(system, machine)
    assert f"pacer/{name}/{pacer.library_name(name)}" in {p.product for p in PLATFORMS}


def test_nothing_is_done_twice(tree: SmallTree) -> None:
    assert tree.build().summary == "built: 10 products, 16 files compiled, 11 linked"
    assert tree.build().summary == "built: up to date"
    (tree.out / "stamp.json").unlink()
    assert tree.build().summary == "built: 10 products, 0 files compiled, 0 linked"


def test_a_product_someone_changed_is_put_back(tree: SmallTree) -> None:
    tree.build()
    good = tree.product("kernels/small")
    (tree.out / "kernels/small").write_bytes(good[:-1])
    tree.build()
    assert tree.product("kernels/small") == good


def test_a_source_compiles_alone(tree: SmallTree) -> None:
    tree.build()
    tree.write("guest_kernel/kernel/other.c", "int other(int x) { return x * 5; }\n")
    assert tree.build().summary == "built: 10 products, 1 files compiled, 1 linked"


def test_a_header_compiles_what_includes_it(tree: SmallTree) -> None:
    tree.build()
    before = tree.product("kernels/small")
    tree.write("guest_kernel/include/number.h", "#define NUMBER 2\n")
    # kernel/main.c and tests/second/second.c; the latter's object, hence its image, is what it was before.
    assert tree.build().summary == "built: 10 products, 2 files compiled, 2 linked"
    assert tree.product("kernels/small") != before


def test_a_new_header_that_hides_another_is_seen(tree: SmallTree) -> None:
    tree.build()
    tree.write("guest_kernel/kernel/number.h", "#define NUMBER 77\n")
    before = tree.product("kernels/small")
    tree.build()
    assert tree.product("kernels/small") != before


def test_a_program_reaches_the_kernel_that_carries_it(tree: SmallTree) -> None:
    tree.build()
    before = tree.product("kernels/small")
    tree.write("guest_kernel/user/bin/two.c", "int answer(void);\nint main(void) { return answer() + 3; }\n")
    # the program, and the source that draws the archive in; the program's image and the kernel's.
    assert tree.build().summary == "built: 10 products, 2 files compiled, 2 linked"
    assert tree.product("kernels/small") != before


def test_going_back_compiles_nothing(tree: SmallTree) -> None:
    tree.build()
    first = tree.product("kernels/small")
    old = (tree.root / "guest_kernel/kernel/other.c").read_text()
    tree.write("guest_kernel/kernel/other.c", "int other(int x) { return x * 5; }\n")
    tree.build()
    tree.write("guest_kernel/kernel/other.c", old)
    assert tree.build().summary == "built: 10 products, 0 files compiled, 0 linked"
    assert tree.product("kernels/small") == first


def test_what_is_no_longer_described_goes(tree: SmallTree) -> None:
    tree.build()
    (tree.root / "guest_kernel/tests/second/second.c").unlink()
    tree.build()
    assert not (tree.out / "kernels/test-second").exists()
    assert (tree.out / "kernels/test-first").exists()


def test_a_broken_source_is_shown_as_the_compiler_sees_it_and_harms_no_other(tree: SmallTree) -> None:
    tree.build()
    tree.write("guest_kernel/tests/first/first.c", "void test(void) { undeclared = 1; }\n")
    tree.write("guest_kernel/tests/second/second.c", "int changed;\nvoid test(void) { changed = 1; }\n")
    before = tree.product("kernels/test-second")
    with pytest.raises(BuildError, match=r"^tests/first/first\.c did not compile$"):
        tree.build()
    assert "tests/first/first.c:1:19: error: use of undeclared identifier 'undeclared'" in tree.said
    assert tree.product("kernels/test-second") != before
    with pytest.raises(BuildError):  # and it is not taken for done the next time
        tree.build()


def test_what_does_not_link_is_named(tree: SmallTree) -> None:
    tree.write("guest_kernel/tests/first/first.c", "void nowhere(void);\nvoid test(void) { nowhere(); }\n")
    with pytest.raises(BuildError, match=r"^test-first did not link$"):
        tree.build()
    assert "undefined symbol: nowhere" in tree.said


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[kernel.x]\nsources = ['kernel/*.c']\nlinker = 'k'\n", "unknown key 'linker'"),
        ("[kernel.x]\nsources = ['kernel/*.c']\n", "needs 'linker_script'"),
        ("[kernels.x]\n", r"unknown table \[kernels\]"),
        ("[kernel.x\n", "kernels.toml"),
        ("[kernel.x]\nsources = ['none/*.c']\nlinker_script = 'kernel/kernel.lds'\n", "no file matches none"),
        ("[kernel.x]\nsources = ['kernel/*.c']\nlinker_script = 'x.lds'\n", "x.lds, which is not there"),
        ("[kernel.x]\nsources = ['kernel/*.S']\nlinker_script = 'kernel/kernel.lds'\n", "has no 'initfs'"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(tree: SmallTree, text: str, complaint: str) -> None:
    tree.write("guest_kernel/kernels.toml", text)
    with pytest.raises(BuildError, match=complaint):
        tree.build()
