# SPDX-License-Identifier: GPL-2.0-or-later
"""Names are anything, and yet nobody's terminal, shell or directory comes to harm."""

import shutil
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pvhv.toolstack import names
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.nearest import nearest

# Any characters but NUL, and any bytes that are no UTF-8.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\udc80\udcff")
ANY = st.text(CHARACTERS, min_size=1)
# As a shell would read them back: bytes that are no UTF-8 must not make a character together.
READABLE = ANY.filter(lambda name: names.as_bytes(name).decode("utf-8", "surrogateescape") == name)
BASH = shutil.which("bash")


@given(ANY)
@example("a/../../etc/passwd")
@example("..")
@example("\x1b]0;title\x07")
@example("x" * 5000)
@example("é" * 300)
def test_nothing_that_is_made_of_a_name_does_harm(name: str) -> None:
    assert names.shown(name).isprintable()
    assert all(line.isprintable() for line in names.clean(name).split("\n"))
    part = names.file_name(name)
    assert "/" not in part and part.isprintable() and part.isascii()
    assert len(names.log_name(name)) <= 200 and names.log_name(name).startswith("guest-")


@given(st.lists(READABLE, min_size=2, max_size=2, unique=True))
@example(["a%2Fb", "a/b"])
@example(["x" * 300 + "1", "x" * 300 + "2"])
def test_no_two_names_share_a_file(two: list[str]) -> None:
    assert names.file_name(two[0]) != names.file_name(two[1])


def test_plain_names_stay_as_they_are() -> None:
    for name in ("debian", "test-pv64-x~y", "a_b.c+d", "12"):
        assert names.shown(name) == names.quoted(name).strip("'") == names.file_name(name) == name
    assert names.quoted("-x") == "-- -x"


@pytest.mark.skipif(BASH is None, reason="there is no bash here: apt-get install bash")
def test_a_shell_reads_what_is_quoted() -> None:
    tried = ["a b", "it's", "$(reboot)", "`x`", "\x1b[2J\n\t'\\", "caf\udce9", "é", "\udcff", "a\\x41", '"', "*", "#"]
    script = "".join(f"printf '%s\\0' {names.quoted(name)}\n" for name in tried)
    done = subprocess.run([str(BASH)], input=names.as_bytes(script), capture_output=True)
    assert done.stdout == b"".join(names.as_bytes(name) + b"\0" for name in tried), done.stderr


def test_what_is_no_name() -> None:
    for name, words in (("", "is empty"), ("a\0", "NUL"), ("é" * 513, "1024 bytes at most")):
        with pytest.raises(ToolstackError, match=words):
            names.check(name)
    names.check("é" * 512)


def test_a_slip_of_the_finger_has_its_word_and_nothing_else_has() -> None:
    words = ["root", "boot", "memory", "maxmem", "cap", "hap", "uuid", "cpuid", "vcpus", "bootloader", "on_crash"]
    for typed, meant in (
        ("memroy", "memory"), ("meory", "memory"), ("memoryy", "memory"), ("memery", "memory"), ("vcpu", "vcpus"),
        ("on_carsh", "on_crash"), ("bootlaoder", "bootloader"), ("roto", "root"),
    ):  # fmt: skip
        assert nearest(typed, words) == meant
    for typed in ("loader", "foot", "nap", "pid", "cpu", "x", "", "memoryless", "m" * 100_000, "memory"):
        assert nearest(typed, words) is None
