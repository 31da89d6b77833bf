# SPDX-License-Identifier: GPL-2.0-or-later
"""A symbol covers its size, or up to the next one, and nothing else has a name."""

from pvhv.observe.symbols import Symbol, Symbols


def test_sizes_and_gaps() -> None:
    symbols = Symbols([Symbol(0x200, 0, "label"), Symbol(0x100, 0x10, "function"), Symbol(0x300, 0, "last")])
    assert symbols.name(0x10F) == "function+0xf"
    assert symbols.name(0x110) == "0x110"
    assert symbols.name(0x2FF) == "label+0xff"
    assert symbols.name(0x300) == "0x300"  # nobody knows where the last one ends
    assert symbols.name(0xFF) == "0xff"


def test_of_two_names_the_one_with_a_size_wins() -> None:
    assert Symbols([Symbol(1, 0, "mark"), Symbol(1, 4, "_real")]).name(1) == "_real"
    assert Symbols([Symbol(1, 4, "_alias"), Symbol(1, 4, "real")]).name(2) == "real+0x1"
