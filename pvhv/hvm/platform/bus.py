# SPDX-License-Identifier: GPL-2.0-or-later
"""The I/O port space: which device answers at which port.

The PC's old devices are eight bits wide. As on the ISA bus, a wider access to them becomes one byte access per port,
lowest port first, each to the owner of that port. A device with wider registers has `read_wide` and `write_wide`; it
gets a wider access whole if it owns all of the access's ports. At a port without a device the bus floats: reads give
all ones, writes are lost.

A device with a data register (`StreamDevice`) may take or give many elements at once. Repeated string instructions use
that; the effect is that of as many single accesses. Of other devices, `MOST_AT_ONCE` are done in one go, so that nobody
else waits for them.

A PCI function's ports move when the guest sets its base address (`claim`, `release`). Where another device answers
already, that one goes on to answer alone.

Not modelled: wait states (an access takes no time), and wrapping at the end of the space (there is nothing there).
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

MOST_AT_ONCE = 128


class Device(Protocol):
    """Something with byte-wide registers at I/O ports."""

    def read(self, port: int) -> int:
        """The byte at `port`."""

    def write(self, port: int, value: int) -> None:
        """Put a byte at `port`."""


@runtime_checkable
class WideDevice(Device, Protocol):
    """One that also takes accesses of 2 or 4 bytes whole."""

    def read_wide(self, port: int, size: int) -> int:
        """`size` bytes at `port`."""

    def write_wide(self, port: int, size: int, value: int) -> None:
        """Put `size` bytes at `port`."""


@runtime_checkable
class StreamDevice(WideDevice, Protocol):
    """One with a data register, at which a driver reads or writes many elements in a row."""

    def read_stream(self, port: int, size: int, count: int) -> bytes | None:
        """`count` elements of `size` bytes, as that many reads give them; None if `port` is no data register."""

    def write_stream(self, port: int, size: int, data: bytes) -> bool:
        """The same for writes; False if `port` is no data register."""


class IOBus:
    """The ports 0 to 0xffff and their owners."""

    WRAPPABLE: ClassVar = frozenset({"read", "write", "read_string", "write_string"})

    def __init__(self) -> None:
        self._owner: dict[int, Device] = {}
        self._wide: dict[int, WideDevice] = {}

    def add(self, ports: range, device: Device) -> None:
        """Let `device` answer at `ports`. Raises ValueError if a port has an owner already."""
        taken = [port for port in ports if port in self._owner]
        if taken:
            raise ValueError(f"I/O port {taken[0]:#x} has an owner already")
        self.claim(ports, device)

    def claim(self, ports: range, device: Device) -> None:
        """Let `device` answer at those of `ports` where no other does."""
        wide = device if isinstance(device, WideDevice) else None
        for port in ports:
            if port not in self._owner:
                self._owner[port] = device
                if wide is not None:
                    self._wide[port] = wide

    def release(self, device: Device) -> None:
        """Let `device` answer nowhere."""
        for port in [port for port, owner in self._owner.items() if owner is device]:
            del self._owner[port]
            self._wide.pop(port, None)

    def read(self, port: int, size: int) -> int:
        """IN: `size` (1, 2 or 4) bytes at `port`."""
        if size == 1:
            device = self._owner.get(port)
            return 0xFF if device is None else device.read(port) & 0xFF
        wide = self._whole(port, size)
        if wide is not None:
            return wide.read_wide(port, size) & ((1 << 8 * size) - 1)
        value = 0
        for index in range(size):
            value |= self.read(port + index, 1) << 8 * index
        return value

    def write(self, port: int, size: int, value: int) -> None:
        """OUT: `size` (1, 2 or 4) bytes at `port`."""
        if size == 1:
            device = self._owner.get(port)
            if device is not None:
                device.write(port, value & 0xFF)
            return
        wide = self._whole(port, size)
        if wide is not None:
            wide.write_wide(port, size, value & ((1 << 8 * size) - 1))
            return
        for index in range(size):
            self.write(port + index, 1, value >> 8 * index)

    def read_string(self, port: int, size: int, count: int) -> bytes:
        """INS: `count` elements, one after the other, or the first of them."""
        device = self._owner.get(port)
        if isinstance(device, StreamDevice):
            data = device.read_stream(port, size, count)
            if data is not None:
                return data
        return b"".join(self.read(port, size).to_bytes(size, "little") for _ in range(min(count, MOST_AT_ONCE)))

    def write_string(self, port: int, size: int, data: bytes) -> int:
        """OUTS: elements of `size` bytes, one after the other, or the first of them. Returns how many."""
        device = self._owner.get(port)
        count = len(data) // size
        if isinstance(device, StreamDevice) and device.write_stream(port, size, data):
            return count
        count = min(count, MOST_AT_ONCE)
        for at in range(0, count * size, size):
            self.write(port, size, int.from_bytes(data[at : at + size], "little"))
        return count

    def _whole(self, port: int, size: int) -> WideDevice | None:
        """The device that takes this access in one piece, if one does."""
        device = self._wide.get(port)
        if device is not None and all(self._wide.get(port + index) is device for index in range(1, size)):
            return device
        return None
