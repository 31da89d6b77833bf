# SPDX-License-Identifier: GPL-2.0-or-later
"""GDB's packets are read however they are cut up, and nothing that comes can confuse the reader for long."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pvhv.observe.gdb.packets import PACKET_SIZE, Reader, Sign, packet


def read(*pieces: bytes) -> list[bytes | Sign]:
    reader = Reader()
    return [item for piece in pieces for item in reader.feed(piece)]


def test_as_the_manual_has_it() -> None:
    assert packet("OK") == b"$OK#9a"
    assert packet(b"") == b"$#00"
    assert packet(b"}*#$") == b"$}\x5d}\x0a}\x03}\x04#62"
    assert read(b"$OK#9a") == [b"OK"]
    assert read(b"$OK#9A") == [b"OK"]


def test_signs_come_between_packets() -> None:
    assert read(b"+-\x03noise$g#67+") == [Sign.ACKNOWLEDGED, Sign.AGAIN, Sign.INTERRUPT, b"g", Sign.ACKNOWLEDGED]
    assert read(packet(b"X1000,2:\x03+")) == [b"X1000,2:\x03+"]  # but not in them


def test_damage() -> None:
    assert read(b"$OK#9b$g#67") == [Sign.DAMAGED, b"g"]
    assert read(b"$OK#zz$g#67") == [Sign.DAMAGED, b"g"]
    assert read(b"$half of one$g#67") == [b"g"]
    assert read(b"$" + b"m" * (PACKET_SIZE + 1) + b"#00$g#67") == [Sign.DAMAGED, b"g"]
    longest = b"m" * PACKET_SIZE
    assert read(packet(longest)) == [longest]
    assert read(b"$}#7d") == [b""]  # escapes nothing


@given(st.lists(st.binary(max_size=40), max_size=5), st.data())
def test_cut_anywhere(payloads: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(packet(payload) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read(*pieces) == payloads


def test_noise_is_survived() -> None:
    noise = random.Random(3)
    reader = Reader()
    for _ in range(300):
        reader.feed(bytes(noise.choices(b"$#}*+-\x03g0aZ\xff", k=noise.randrange(60))))
        reader.feed(b"#00")  # the end of whatever may have begun
        assert [item for item in reader.feed(b"$g#67") if isinstance(item, bytes)] == [b"g"]
