# SPDX-License-Identifier: GPL-2.0-or-later
"""What disk controllers need of the world: an image, somebody who does its I/O elsewhere, and the guest's memory.

`Backing` is one disk's image and its worker. File I/O takes long, so a controller never does it itself: it says what is
to be done, and is told when the guest may see that it is done. An image has one piece of work under way at a time for
one drive; `Lane` keeps what follows waiting, also when the guest has reset the controller meanwhile and does not want
the old answer any more. So a guest that resets all the time cannot pile up work.

Read beside it: pvhv/core/sched/worker.py, which is the worker; pvhv/images/image.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from pvhv.core.sched.worker import Done
from pvhv.images.image import Image


class Beside(Protocol):
    """Does file I/O on another thread. (core.sched.worker.Worker)"""

    def begin(self, work: Callable[[], Any], finish: Callable[[Done[Any]], None]) -> None:
        """Have `work` done, then `finish` called. Raises RuntimeError, and then neither happens."""

    def in_pieces(self, work: Iterator[int]) -> None:
        """Do work of the hypervisor's thread, in pieces; each yields its cost."""


class Backing(NamedTuple):
    """A disk: its image, and who does its I/O."""

    image: Image
    beside: Beside


class Memory(Protocol):
    """The guest's memory as a bus master sees it, by guest-physical addresses."""

    def holds(self, address: int, size: int) -> bool:
        """Whether all of these bytes are memory."""

    def read(self, address: int, size: int) -> bytes:
        """Bytes of it."""

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Change bytes of it; whoever has translations of them is told."""


Work = Callable[[], bytes]
Answer = Callable[[bytes | None], None]  # the bytes that were read, or None for an error of the host


class Lane:
    """The work of one drive, one piece after the other. `close` and `forget` drop answers, not work."""

    def __init__(self, beside: Beside) -> None:
        self.beside = beside
        self._under_way = False
        self._wanted: Answer | None = None  # of what is under way
        self._next: tuple[Work, Answer] | None = None

    def do(self, work: Work, answer: Answer) -> None:
        """Have `work` done, and `answer` called. It replaces what is under way or waits: nobody wants that any more."""
        self.forget()
        if self._under_way:
            self._next = work, answer
        else:
            self._begin(work, answer)

    def forget(self) -> None:
        """What was begun will be done, but not answered."""
        self._wanted = self._next = None

    def _begin(self, work: Work, answer: Answer) -> None:
        self._under_way, self._wanted = True, answer
        try:
            self.beside.begin(work, self._done)
        except RuntimeError:
            self._under_way, self._wanted = False, None
            answer(None)

    def _done(self, done: Done[bytes]) -> None:
        self._under_way = False
        wanted, self._wanted = self._wanted, None
        waiting, self._next = self._next, None
        if waiting is not None:
            self._begin(*waiting)
        elif wanted is not None:
            try:
                data: bytes | None = done.result()
            except OSError:
                data = None
            wanted(data)
