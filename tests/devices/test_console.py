# SPDX-License-Identifier: GPL-2.0-or-later
"""A console keeps what a guest says from the first byte, and harms nobody whatever is said or not read."""

import re
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from pvhv.devices.console.console import LOSSLESS_BACKLOG, TYPED_LIMIT, Console
from pvhv.devices.console.record import HEAD, TAIL, Record, left_out
from pvhv.devices.console.ring import IN, IN_CONS, IN_PROD, OUT, OUT_CONS, OUT_PROD


class Guest:
    """A guest's console driver over a ring page."""

    def __init__(self, console: Console, start: int = 0) -> None:
        self.page = memoryview(bytearray(4096))
        self.words = self.page.cast("I")
        for index in (IN_CONS, IN_PROD, OUT_CONS, OUT_PROD):
            self.words[index] = start
        self.console = console
        self.notified = 0
        console.attach(self.page, self._notify)

    def _notify(self) -> None:
        self.notified += 1

    def say(self, data: bytes) -> int:
        """Put what fits into the ring, and signal; how much that was."""
        prod = self.words[OUT_PROD]
        room = 2048 - (prod - self.words[OUT_CONS] & 0xFFFF_FFFF)
        for byte in data[:room]:
            self.page[OUT + prod % 2048] = byte
            prod = prod + 1 & 0xFFFF_FFFF
        self.words[OUT_PROD] = prod
        self.console.pump()
        return min(room, len(data))

    def hear(self) -> bytes:
        heard = bytearray()
        while self.words[IN_CONS] != self.words[IN_PROD]:
            heard.append(self.page[IN + self.words[IN_CONS] % 1024])
            self.words[IN_CONS] = self.words[IN_CONS] + 1 & 0xFFFF_FFFF
        return bytes(heard)


def test_output_is_kept_from_the_first_byte_for_every_reader() -> None:
    console = Console()
    guest = Guest(console, start=0xFFFF_FF00)  # indices run over
    guest.say(b"one ")
    woken: list[int] = []
    first = console.follow(lambda: woken.append(1))
    assert first.take() == b"one "
    guest.say(b"two" * 400)
    assert woken == [1]
    assert first.take() == b"two" * 400
    assert first.take() == b""
    assert console.follow().take() == console.output() == b"one " + b"two" * 400
    assert guest.notified == 2


def test_the_end() -> None:
    console = Console()
    guest = Guest(console)
    reader = console.follow()
    guest.page[OUT : OUT + 4] = b"last"
    guest.words[OUT_PROD] = 4  # never signalled: it died
    console.close()
    assert not reader.finished
    assert reader.take() == b"last"
    assert reader.finished
    guest.words[OUT_PROD] = 100
    console.pump()
    assert console.output() == b"last"


def test_a_flood_keeps_its_beginning_and_its_end() -> None:
    console = Console()
    guest = Guest(console)
    slow = console.follow()
    lines = 300_000
    text = b"".join(b"line %08d\n" % number for number in range(lines))
    for at in range(0, len(text), 2048):
        assert guest.say(text[at : at + 2048]) == len(text[at : at + 2048])
    kept = console.output()
    match = re.search(rb"\[pvhv: (\d+) bytes", kept)
    assert match
    missing = int(match.group(1))
    end = len(text) - HEAD - missing
    assert kept == text[:HEAD] + left_out(missing) + text[-end:]
    assert TAIL <= end < TAIL + 4096
    assert b"".join(iter(slow.take, b"")) == kept


def test_a_lossless_reader_holds_the_guest_back_and_gets_everything() -> None:
    resumed: list[int] = []
    console = Console(lambda: resumed.append(1))
    guest = Guest(console)
    reader = console.follow(lossless=True)
    text = bytes(range(256)) * (2 * LOSSLESS_BACKLOG // 256)
    said, got = 0, b""
    while said < len(text):
        step = guest.say(text[said : said + 2048])
        said += step
        if not step:
            assert console.held_back
            assert said - len(got) < LOSSLESS_BACKLOG + 3 * 2048 + 1
            while not resumed:
                got += reader.take()
            resumed.clear()
            console.pump()
    got += b"".join(iter(reader.take, b""))
    assert got == text


def test_a_lossless_reader_that_leaves_lets_the_guest_go_on() -> None:
    resumed: list[int] = []
    console = Console(lambda: resumed.append(1))
    guest = Guest(console)
    reader = console.follow(lossless=True)
    while guest.say(bytes(2048)):
        pass
    reader.close()
    assert resumed == [1]
    console.pump()
    assert guest.say(b"on") == 2


def test_the_guest_waits_for_the_slowest_of_several() -> None:
    resumed: list[int] = []
    console = Console(lambda: resumed.append(1))
    guest = Guest(console)
    readers = [console.follow(lossless=True) for _reader in range(3)]
    text = bytes(range(256)) * (3 * LOSSLESS_BACKLOG // 256)
    said, got = 0, [b"", b"", b""]
    while said < len(text):
        step = guest.say(text[said : said + 2048])
        said += step
        if not step:
            assert console.held_back
            got[0] += b"".join(iter(readers[0].take, b""))
            for number in (1, 2):
                got[number] += readers[number].take(4096 * number)
            console.pump()
    console.close()  # which takes what is in the ring yet
    for number, reader in enumerate(readers):
        got[number] += b"".join(iter(reader.take, b""))
    assert got == [text] * 3


def test_a_reader_that_takes_nothing_is_waited_for_only_so_long() -> None:
    now = 0.0
    resumed: list[int] = []
    console = Console(lambda: resumed.append(1), clock=lambda: now)
    guest = Guest(console)
    stopped, reads = console.follow(lossless=True, patience=1000), console.follow(lossless=True, patience=1000)
    said = 0
    while step := guest.say(bytes(2048)):
        said += step
        while reads.take():
            pass
    now = 999.0
    stopped.take(1)  # slow, but not stopped
    assert guest.say(b"x") == 0
    now = 1998.0
    assert guest.say(b"x") == 0
    now = 1999.0
    console.pump()
    assert guest.say(b"x") == 1 and stopped.left_behind and not reads.left_behind
    text = bytes(range(256)) * 8
    for _time in range((HEAD + 2 * TAIL) // len(text)):
        assert guest.say(text) == len(text)
        while reads.take():
            pass
    missed = b"".join(iter(stopped.take, b""))
    assert b"bytes of console output left out" in missed
    assert not stopped.left_behind  # it has caught up: it is waited for again
    while guest.say(bytes(2048)):
        while reads.take():
            pass
    assert console.held_back
    console.close()


def test_nobody_has_to_signal_for_the_guest_to_go_on() -> None:
    """A guest that sleeps until there is room is woken when the reader's time is over."""
    resumed = threading.Event()
    console = Console(resumed.set)
    guest = Guest(console)
    console.follow(lossless=True, patience=0.05)
    while guest.say(bytes(2048)):
        pass
    assert resumed.wait(60)
    console.pump()
    assert guest.say(b"on") == 2


def test_on_a_virtual_timeline_nobody_holds_the_guest_back() -> None:
    console = Console()
    console.virtual = True
    guest = Guest(console)
    console.follow(lossless=True)
    for _time in range(2 * LOSSLESS_BACKLOG // 2048):
        assert guest.say(bytes(2048)) == 2048


def test_input_waits_for_room() -> None:
    console = Console()
    guest = Guest(console, start=0xFFFF_FFF0)
    text = bytes(range(256)) * 12
    assert console.feed(text) == len(text)
    heard = b""
    while piece := guest.hear():
        heard += piece
        console.pump()
    assert heard == text
    assert console.feed(bytes(2 * TYPED_LIMIT)) == TYPED_LIMIT


def test_on_a_virtual_timeline_input_waits_for_the_guest_to_idle() -> None:
    console = Console()
    console.virtual = True
    guest = Guest(console)
    assert not console.deliver()
    console.feed(b"typed")
    console.pump()
    assert guest.hear() == b""
    assert console.deliver()
    assert guest.hear() == b"typed"
    assert not console.deliver()


def test_input_typed_before_there_is_a_guest_is_not_lost() -> None:
    console = Console()
    console.feed(b"early")
    guest = Guest(console)
    console.pump()
    assert guest.hear() == b"early"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from((IN_CONS, IN_PROD, OUT_CONS, OUT_PROD)), st.integers(0, 0xFFFF_FFFF)))
)
def test_whatever_the_indices_say(changes: list[tuple[int, int]]) -> None:
    console = Console()
    guest = Guest(console)
    console.feed(b"x" * 3000)
    for index, value in changes:
        guest.words[index] = value
        console.pump()
        assert len(console.output()) <= 2048 * (len(changes) + 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 3 * TAIL // 4), max_size=8), st.lists(st.integers(1, 1 << 20), min_size=1))
def test_reading_a_record_piecewise_is_reading_it(sizes: list[int], steps: list[int]) -> None:
    record = Record()
    text = b""
    for number, size in enumerate(sizes):
        piece = bytes([number]) * size
        text += piece
        for at in range(0, size, 100_000):
            record.append(piece[at : at + 100_000])
    offset, turn = 0, 0
    while True:
        at, data = record.read(offset, steps[turn % len(steps)])
        if not data:
            break
        assert data == text[at : at + len(data)]
        assert at == offset or (offset >= HEAD and at == record.tail_start)
        offset, turn = at + len(data), turn + 1
    assert offset == len(text)
