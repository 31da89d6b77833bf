# SPDX-License-Identifier: GPL-2.0-or-later
"""A crash report's numbers get names, and only those that mean something."""

from pvhv.observe.crash import with_names
from pvhv.observe.symbols import Symbol, Symbols

REPORT = """\
Domain 1 crashed: no handler
vCPU 0 in kernel mode
rip 0000000000001004  cs e033  ss e02b
rax 0000000000001008
Stack:
  0000000000001010 0000000000002004 0000000000001000 0000000000000000
  0000000000001018
Last hypercalls, the latest last:
  sched_op                 0x2, 0x1004  at 0000000000001006"""

SYMBOLS = Symbols([Symbol(0x1000, 0x10, "main"), Symbol(0x1010, 0x10, "caller"), Symbol(0x2000, 16, "data")])


def test_names_stand_where_addresses_are() -> None:
    lines = with_names(REPORT, SYMBOLS, [(0x1000, 0x1020)]).splitlines()
    assert lines[2] == "rip 0000000000001004 <main+0x4>  cs e033  ss e02b"
    assert lines[3] == "rax 0000000000001008"
    at = lines.index("Call trace (from the words on the stack):")
    # Not data, and not main's first byte, before which there is no call.
    assert [line.split() for line in lines[at + 1 : -2]] == [
        ["0000000000001010", "main+0x10"],
        ["0000000000001018", "caller+0x8"],
    ]
    assert lines[-1].endswith("at 0000000000001006 <main+0x6>")


def test_frames_are_followed_where_there_are_any() -> None:
    frames = "Frames, by rbp:\n  called at 0000000000001010\n  called at 0000000000003000\nLast hypercalls"
    lines = with_names(REPORT.replace("Last hypercalls", frames), SYMBOLS, [(0x1000, 0x1020)]).splitlines()
    at = lines.index("Frames, by rbp:")
    # The call was main's last instruction: what it would return to is somebody else's first.
    assert lines[at + 1 : at + 3] == [
        "  called at 0000000000001010 <main+0x10>",
        "  called at 0000000000003000",
    ]
    assert not any("Call trace" in line for line in lines)


def test_frames_by_chance_are_left_out() -> None:
    frames = "Frames, by rbp:\n  called at 0000000000001010\nLast hypercalls"
    report = REPORT.replace("Last hypercalls", frames)
    text = with_names(report, SYMBOLS, [(0x1000, 0x1020)], chained=False)
    assert text == with_names(REPORT, SYMBOLS, [(0x1000, 0x1020)]) and "Call trace" in text


def test_without_symbols_it_stays_as_it_is() -> None:
    assert with_names(REPORT, Symbols(), []) == REPORT


def test_code_may_be_in_many_places() -> None:
    """A file may say so of sixty thousand: each word of the stack is looked up, not compared with all of them."""
    symbols = Symbols([Symbol(0x1000, 0x100000, "all")])
    code = [(0x2000 + n * 0x20, 0x2010 + n * 0x20) for n in range(0x1000)]
    words = (0x1FFF, 0x2000, 0x2001, 0x2010, 0x2011, 0x2020, 0x2021, 0x21FF0, 0x21FF1, 0x22000)
    report = "Stack:\n" + "\n".join(f"  {word:016x}" for word in words) + "\nLast hypercalls, the latest last:"
    lines = with_names(report, symbols, code).splitlines()
    at = lines.index("Call trace (from the words on the stack):")
    assert [int(line.split()[0], 16) for line in lines[at + 1 : -1]] == [0x2001, 0x2010, 0x2021, 0x21FF0]
