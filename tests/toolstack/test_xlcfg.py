# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain files are xl's language, read as data, and every complaint names its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.xlcfg import Source, Value, parse, parse_argument


def values(text: str) -> dict[str, Value]:
    return {key: setting.value for key, setting in parse(Source(text, "t.cfg")).items()}


def complaint(text: str) -> str:
    with pytest.raises(ToolstackError) as caught:
        parse(Source(text, "t.cfg"))
    return str(caught.value)


def test_every_kind_of_value() -> None:
    assert values(
        """
        # a comment
        name = "hello" # another
        memory = 64; vcpus=0x2 ; mode = 0755
        lists = [ 'a', "b",   # inside
                  [1, 2], ]
        empty = []
        """
    ) == {
        "name": "hello",
        "memory": 64,
        "vcpus": 2,
        "mode": 0o755,
        "lists": ["a", "b", [1, 2]],
        "empty": [],
    }


def test_c_escapes() -> None:
    assert values(r"""a = "\x41\102\t\"q\"" """)["a"] == 'AB\t"q"'


def test_adding_to_strings_and_lists() -> None:
    assert values("a = 'x'\na += 'y'\nb = [1]\nb += [2]\nc += 'new'") == {"a": "xy", "b": [1, 2], "c": "new"}
    assert "cannot add to 'a', which is a number (t.cfg:1)" in complaint("a = 1\na += 'x'")


def test_the_last_one_counts_and_knows_its_line() -> None:
    setting = parse(Source("a = 1\n\n\na = 2", "t.cfg"))["a"]
    assert (setting.value, setting.place) == (2, "t.cfg:4")


def test_a_line_after_a_list_is_counted_right() -> None:
    assert parse(Source("a = [1,\n 2\n]\nb = 3", "t.cfg"))["b"].place == "t.cfg:4"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\nmemory =", "t.cfg:2: 'memory =' has no value"),
        ("name = hello", 'put a string in quotes: "hello"'),
        ("= 3", "t.cfg:1: expected a key, found '='"),
        ("import os", "expected '=' after 'import'"),
        ("a = [1,\n2\n", "t.cfg:1: the list of 'a' is never closed"),
        ("a = [1 2]", "expected , or ] in the list of 'a', found '2'"),
        ("\n\na = 'x", "t.cfg:3: the string that begins here is not closed"),
        ("a = 3 4", "'4' does not belong after the value of 'a'"),
        ("a = 09", "09 is not a number"),
        ("a = (1)", "no Python"),
        ("a = 64M", "64M is not a number"),
    ],
)
def test_complaints(text: str, words: str) -> None:
    assert words in complaint(text)


def test_arguments_may_leave_the_quotes_out() -> None:
    assert parse_argument("memory=128").value == 128
    assert parse_argument("name=lab-1").value == "lab-1"
    assert parse_argument('cmdline="a b"').value == "a b"
    assert parse_argument("cmdline=root=/dev/xvda ro").value == "root=/dev/xvda ro"
    assert parse_argument("vif=['']").value == [""]
    for wrong in ("memory", "=3", "a b=3"):
        with pytest.raises(ToolstackError) as caught:
            parse_argument(wrong)
        assert caught.value.status == 2


PLAIN = st.text(st.characters(codec="ascii", exclude_characters="\\'\n\r"), max_size=20)
ANY_VALUE = st.recursive(
    PLAIN | st.integers(0, 1 << 40), lambda inner: st.lists(inner, max_size=4), max_leaves=8
)


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), ANY_VALUE, max_size=5))
def test_what_is_written_is_read(expected: dict[str, Value]) -> None:
    def written(value: Value) -> str:
        if isinstance(value, list):
            return "[ " + " , ".join(map(written, value)) + " ]"
        return str(value) if isinstance(value, int) else f"'{value}'"

    assert values("\n".join(f"{key}={written(value)}" for key, value in expected.items())) == expected


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(Source(text, "t.cfg"))
    except ToolstackError as error:
        assert str(error).startswith("t.cfg:")


@pytest.mark.parametrize("text", ["vif = " + "[" * 5000, "memory = " + "9" * 5000])
def test_what_has_no_end_is_refused_in_words(text: str) -> None:
    with pytest.raises(ToolstackError) as caught:
        parse(Source(text, "f"))
    assert len(str(caught.value)) < 200
