# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain files are xl's language, read as data, and every complaint names its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.problems import Place, Problems
from pvhv.toolstack.xlcfg import Settings, Value, read_argument, read_file


def read(text: str) -> Settings:
    problems = Problems()
    settings = read_file(text, "t.cfg", problems)
    problems.refuse_if_any()
    return settings


def values(text: str) -> dict[str, Value]:
    return {key: setting.value for key, setting in read(text).items()}


def complaint(text: str) -> str:
    with pytest.raises(ToolstackError) as caught:
        read(text)
    return str(caught.value)


def argument(text: str, before: str = "") -> dict[str, Value]:
    settings, problems = read(before), Problems()
    read_argument(text, settings, problems)
    problems.refuse_if_any()
    return {key: setting.value for key, setting in settings.items()}


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
        "memory": "64",
        "vcpus": "0x2",
        "mode": "0755",
        "lists": ["a", "b", ["1", "2"]],
        "empty": [],
    }


def test_escapes() -> None:
    assert values(r"""a = "\x41\t\"q\"\'\\" """)["a"] == "A\t\"q\"'\\"
    assert values(r"a = '\xc3\xa9\xff'")["a"] == "é\udcff"  # bytes, as a name or a command line has them
    assert values(r"a = 'x\101y\0 12z'")["a"] == "xyz"  # which is what xl makes of octal ones
    for wrong in (r"\q", r"\7", r"\x", r"\xg"):
        assert "which stands for nothing" in complaint(f"a = '{wrong}'")


def test_adding_to_strings_and_lists() -> None:
    assert values("a = 'x'\na += 'y'\nb = [1]\nb += [2]\nc += 'new'") == {"a": "xy", "b": ["1", "2"], "c": "new"}
    assert values("a = 1\na += 2") == {"a": "12"}
    assert "t.cfg:2: cannot add a list to 'a', which is a single value (t.cfg:1)" in complaint("a = 1\na += ['x']")


def test_the_last_one_counts_and_knows_its_line() -> None:
    setting = read("a = 1\n\n\na = 2")["a"]
    assert (setting.value, setting.place, setting.replaces) == ("2", Place("t.cfg", 4), Place("t.cfg", 1))


def test_a_line_after_a_list_is_counted_right() -> None:
    assert read("a = [1,\n 2\n]\nb = 3")["b"].place.line == 4


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
        ("a = (1)", "no Python"),
        ("a = 64M", "t.cfg:1: 'M' has no meaning here\nkeys are in lower case, strings in quotes"),
        ("a = 64m", "'m' does not belong after the value of 'a'\na word or a size needs quotes"),
        ("Memory = 64", "keys are in lower case"),
        ("a = [,]", "expected a value in the list of 'a', found ','"),
    ],
)
def test_complaints(text: str, words: str) -> None:
    assert words in complaint(text)


def test_all_lines_that_cannot_be_read_are_told() -> None:
    told = complaint("a = 'x\nb = 1\nc d\ne = [1,\n")
    assert told.startswith("3 things are wrong\nt.cfg:1: ") and "\nt.cfg:3: " in told and "\nt.cfg:4: " in told


def test_arguments_may_leave_the_quotes_out() -> None:
    assert argument("memory=128") == {"memory": "128"}
    assert argument("name=lab-1") == {"name": "lab-1"}
    assert argument('cmdline="a b"') == {"cmdline": "a b"}
    assert argument("cmdline=root=/dev/xvda ro") == {"cmdline": "root=/dev/xvda ro"}
    assert argument("vif=['']") == {"vif": [""]}
    assert argument("memory=1;vcpus=2") == {"memory": "1", "vcpus": "2"}
    assert argument("cmdline+= debug", "cmdline = 'a'") == {"cmdline": "adebug"}
    for wrong in ("memory", "=3", "a b=3", "A=3"):
        with pytest.raises(ToolstackError) as caught:
            argument(wrong)
        assert caught.value.status == 2
    for wrong in ("a='x", "a=[1"):
        with pytest.raises(ToolstackError, match="command line: "):
            argument(wrong)


PLAIN = st.text(st.characters(codec="ascii", exclude_characters="\\'\n\r\0"), max_size=20)
ANY_VALUE = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4), max_leaves=8)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_.]{0,8}", fullmatch=True), ANY_VALUE, max_size=5))
def test_what_is_written_is_read(expected: dict[str, Value]) -> None:
    def written(value: Value) -> str:
        if isinstance(value, list):
            return "[ " + " , ".join(map(written, value)) + " ]"
        return f"'{value}'"

    assert values("\n".join(f"{key}={written(value)}" for key, value in expected.items())) == expected


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    problems = Problems()
    read_file(text, "t.cfg", problems)
    assert all(problem.place.line >= 1 for problem in problems.errors + problems.warnings)


def test_lists_may_be_as_deep_as_they_like() -> None:
    assert len(values("vif = " + "[" * 50_000 + "]" * 50_000)) == 1
    assert "is never closed" in complaint("vif = " + "[" * 50_000)


def test_a_complaint_is_short_whatever_it_is_about() -> None:
    assert len(complaint("a = 1 " + "9" * 500_000)) < 500
    assert len(complaint("a" * 500_000)) < 500
