# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtio device on the PCI bus, by the legacy interface: a block of registers in I/O space.

    +0   4  device features     what it can do                 +14  2  queue select
    +4   4  guest features      what the driver wants of that   +16  2  queue notify
    +8   4  queue address       of the selected queue, in pages +18  1  device status     0 resets the device
    +12  2  queue size          of the selected queue           +19  1  interrupt status  a read ends the interrupt
                                                                +20     the device's own configuration

A transitional device (QEMU's default) has this beside the registers of version 1.0, which stand in memory space. Under
a technique in software, and under shadow paging, a register in memory would need an exit at an address without memory,
which is not modelled here; I/O ports are the same under every technique. Linux, the BSDs and QEMU's own firmware drive
either.

A broken queue (virtqueue.py) makes the device deaf until the guest resets it; in version 1.0 it would say so
(DEVICE_NEEDS_RESET), in this interface it cannot.

Read beside it: VIRTIO 1.1, 4.1.4.8 and 2.4.4 (legacy interfaces); virtio_ioport_read in QEMU's hw/virtio/virtio-pci.c.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from pvhv.hvm.platform.pci import PciFunction
from pvhv.hvm.platform.storage import Memory
from pvhv.hvm.platform.virtqueue import Virtqueue

RED_HAT = 0x1AF4
FEATURES, GUEST_FEATURES, QUEUE_ADDRESS, QUEUE_SIZE, QUEUE_SELECT, QUEUE_NOTIFY, STATUS, INTERRUPT, CONFIGURATION = (
    0, 4, 8, 12, 14, 16, 18, 19, 20,
)  # fmt: skip
REGISTER_SIZES: Final = {
    FEATURES: 4, GUEST_FEATURES: 4, QUEUE_ADDRESS: 4, QUEUE_SIZE: 2, QUEUE_SELECT: 2, QUEUE_NOTIFY: 2, STATUS: 1,
    INTERRUPT: 1,
}  # fmt: skip
INTERRUPT_QUEUE = 1
DRIVER_OK = 4  # of the device status
F_INDIRECT_DESC = 1 << 28
PORTS = 64  # of its I/O region
INTA = 1


class VirtioDevice(ABC):
    """A device behind the registers. Its base address 0 is this object."""

    def __init__(self, memory: Memory, *, device: int, subsystem: int, class_code: int, queues: int, size: int) -> None:
        """`device` is the PCI device number, `subsystem` virtio's own."""
        self.memory = memory
        self.function = PciFunction(
            RED_HAT, device, class_code, subsystem=(RED_HAT, subsystem), pin=INTA, bars={0: (PORTS, self)}
        )
        self.queues = [Virtqueue(memory, size) for _ in range(queues)]
        self._start()

    def _start(self) -> None:
        self.guest_features = self.selected = self.status = self.interrupts = 0
        self.broken = ""  # why it is deaf

    # -- what a kind of device says ----------------------------------------------------------------------------------
    @property
    @abstractmethod
    def features(self) -> int:
        """What it offers."""

    @abstractmethod
    def configuration(self) -> bytes:
        """Its own registers."""

    def configure(self, at: int, value: int) -> None:
        """The guest writes a byte of its own registers."""
        return

    @abstractmethod
    def notified(self, queue: Virtqueue) -> None:
        """The guest says that there is something in a queue."""

    def forget(self) -> None:
        """The guest resets the device: what is under way will not be answered."""
        return

    # -- registers ---------------------------------------------------------------------------------------------------
    def read(self, port: int) -> int:
        return self.read_wide(port, 1)

    def write(self, port: int, value: int) -> None:
        self.write_wide(port, 1, value)

    def read_wide(self, port: int, size: int) -> int:
        """A register, or bytes of the configuration; there may be less of it than asked for."""
        at = port - self.function.base(0)
        if at >= CONFIGURATION:
            data = self.configuration()[at - CONFIGURATION :][:size]
            return int.from_bytes(data.ljust(size, b"\0"), "little")
        queue = self._selected()
        if at == FEATURES:
            return self.features
        if at == GUEST_FEATURES:
            return self.guest_features
        if at == QUEUE_ADDRESS:
            return 0 if queue is None else queue.page
        if at == QUEUE_SIZE:
            return 0 if queue is None else queue.size
        if at == QUEUE_SELECT:
            return self.selected
        if at == STATUS:
            return self.status
        if at == INTERRUPT:
            interrupts, self.interrupts = self.interrupts, 0
            self.function.set_interrupt(False)
            return interrupts
        return 0

    def write_wide(self, port: int, size: int, value: int) -> None:
        """A register. One that is not written as a whole does not change."""
        at = port - self.function.base(0)
        if at >= CONFIGURATION:
            for n in range(size):
                self.configure(at - CONFIGURATION + n, value >> 8 * n & 0xFF)
            return
        if size < REGISTER_SIZES.get(at, 8):
            return
        if at == GUEST_FEATURES:
            self.guest_features = value & self.features
        elif at == QUEUE_ADDRESS:
            if (queue := self._selected()) is not None:
                if value:
                    queue.place(value)
                else:
                    self.reset()  # as QEMU: of all queues
        elif at == QUEUE_SELECT:
            self.selected = value & 0xFFFF
        elif at == QUEUE_NOTIFY:
            if value < len(self.queues):
                self.notify(self.queues[value])
        elif at == STATUS:
            if value:
                self.status = value & 0xFF
            else:
                self.reset()

    def _selected(self) -> Virtqueue | None:
        return self.queues[self.selected] if self.selected < len(self.queues) else None

    def notify(self, queue: Virtqueue) -> None:
        """Look into a queue, if the device may."""
        if not self.broken and queue.page and self.function.may_access_memory:
            self.notified(queue)

    def interrupt(self) -> None:
        """Tell the guest that something was given back."""
        self.interrupts |= INTERRUPT_QUEUE
        self.function.set_interrupt(True)

    def reset(self) -> None:
        """As after power-on."""
        self.forget()
        for queue in self.queues:
            queue.reset()
        self._start()
        self.function.set_interrupt(False)
