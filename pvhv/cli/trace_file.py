# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of `pvhv trace --perfetto`, written as records come, so that it can be opened whenever and however it ends.

Each line is written whole, and the comma comes before the next one. A file whose writing was interrupted lacks its
closing bracket, which readers of the format do not need.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

from pvhv.observe.perfetto import Event, Picture, lines
from pvhv.toolstack.errors import ToolstackError


class TraceFile:
    """A file of trace events. Raises ToolstackError where it cannot be written."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.events = 0
        self._picture: Picture | None = None
        self._file: BinaryIO | None = None

    def begin(self, about: dict[str, Any]) -> None:
        """Make the file, and write the names of the domain and its vCPUs."""
        try:
            self._file = open(self.path, "wb", buffering=0)
        except (OSError, ValueError) as error:
            raise self._refused(error) from None
        self._picture = Picture(about["tracing"], about["vcpus"])
        self._write("[\n")
        self._add(self._picture.begin())

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        """Write decoded records."""
        assert self._picture is not None
        self._add(event for record in records for event in self._picture.add(record))

    def end(self) -> None:
        """Close what is open, the file last."""
        if self._file is None:
            return
        try:
            if self._picture is not None:
                self._add(self._picture.end())
                self._write("\n]\n")
        finally:
            file, self._file = self._file, None
            file.close()

    def _add(self, events: Iterable[Event]) -> None:
        written = list(lines(events))
        if written:
            self._write((",\n" if self.events else "") + ",\n".join(written))
            self.events += len(written)

    def _write(self, text: str) -> None:
        data = memoryview(text.encode())
        assert self._file is not None
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._picture = None  # nothing more can be put there
            raise self._refused(error) from None

    def _refused(self, error: Exception) -> ToolstackError:
        reason = error.strerror if isinstance(error, OSError) else "it is no name of a file"
        name = self.path if self.path.isprintable() else ascii(self.path)
        return ToolstackError(f"cannot write {name}: {reason}", "name another, where there is room and you may write")
