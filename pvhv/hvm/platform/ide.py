# SPDX-License-Identifier: GPL-2.0-or-later
"""An IDE channel: two disks on one cable, at the ports and on the interrupt line that the first PC with disks had.

    port   read              written
    +0     data              data               16 or 32 bits
    +1     error             features
    +2     sector count      sector count
    +3..5  address           address            LBA low, mid, high; or sector number, cylinder
    +6     device            device             bit 4 selects the disk, bits 0-3 are address bits 24-27
    +7     status            command            reading it ends the interrupt
    0x3f6  status            device control     reading it does not

Both disks take what is written into the registers, and the selected one carries out the command (both, EXECUTE DEVICE
DIAGNOSTIC). A disk that is not there reads as zeros. For an address of 48 bits each register is written twice; device
control's bit 7 (HOB) shows what was written first.

Device control's SRST resets both disks while it is set; nIEN holds the interrupt back, but does not forget it.

Not modelled: bus-master DMA; reads of 8 bits at the data register (they give all ones, and take nothing).

Read beside it: ata.py, the disks; ATA/ATAPI-6, 7 (registers) and 9.2; QEMU's hw/ide/core.c, hw/ide/ioport.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pvhv.hvm.platform.asked import Requests
from pvhv.hvm.platform.ata import BSY, DRQ, OBSOLETE, SLAVE, Drive
from pvhv.hvm.platform.pci import COMMAND as COMMAND_REGISTER
from pvhv.hvm.platform.pci import COMMAND_IO, COMMAND_MASTER, IDE_CONTROLLER, INTEL, PciFunction
from pvhv.hvm.platform.storage import Backing

DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS = range(8)
FEATURES, COMMAND = ERROR, STATUS  # the same registers, written
SRST, NIEN, HOB = 0x04, 0x02, 0x80
EXECUTE_DIAGNOSTIC = 0x90
PRIMARY, SECONDARY = (0x1F0, 0x3F6, 14), (0x170, 0x376, 15)  # registers, device control, interrupt line
IDE_TIMING, DECODES = 0x40, 0x8000  # of the PCI function: a word for each channel


class Channel:
    """The ports of one channel, and its disks."""

    def __init__(self, base: int, control: int, line: Callable[[bool], None]) -> None:
        self.base, self.control = base, control
        self.line = line
        self.drives: list[Drive | None] = [None, None]
        self.device = OBSOLETE
        self.pending = False  # INTRQ
        self.device_control = 0

    @property
    def ports(self) -> tuple[range, range]:
        return range(self.base, self.base + 8), range(self.control, self.control + 1)

    def plug(self, position: int, backing: Backing, number: int) -> Requests:
        """Connect a disk, as master (0) or slave (1). Returns what it will be asked. Raises ValueError if there is
        one."""
        if self.drives[position] is not None:
            raise ValueError(f"IDE disk {number} is there already")
        drive = self.drives[position] = Drive(backing, number, self._interrupt)
        return drive.requests

    @property
    def selected(self) -> Drive | None:
        return self.drives[bool(self.device & SLAVE)]

    # -- the interrupt -----------------------------------------------------------------------------------------------
    def _interrupt(self) -> None:
        self.pending = True
        self._drive_line()

    def _end_interrupt(self) -> None:
        self.pending = False
        self._drive_line()

    def _drive_line(self) -> None:
        self.line(self.pending and not self.device_control & NIEN)

    # -- reads -------------------------------------------------------------------------------------------------------
    def read(self, port: int) -> int:
        """A register of the selected disk."""
        if port == self.base:
            return 0xFF
        drive = self.selected
        if drive is None:
            return 0
        register = STATUS if port == self.control else port - self.base
        hob = bool(self.device_control & HOB)
        if register == STATUS:
            if port != self.control:
                self._end_interrupt()
            return drive.status
        if register == ERROR:
            return drive.error
        if register == DEVICE:
            return drive.device
        return (drive.count, drive.low, drive.mid, drive.high)[register - COUNT][hob]

    def read_wide(self, port: int, size: int) -> int:
        """The data register; elsewhere a register for each byte."""
        if port == self.base:
            drive = self.selected
            return 0 if drive is None else int.from_bytes(drive.take(size), "little")
        return sum(self.read(port + at) << 8 * at for at in range(size))

    def read_stream(self, port: int, size: int, count: int) -> bytes | None:
        """Many reads of the data register."""
        if port != self.base or size == 1:
            return None
        drive = self.selected
        return bytes(size * count) if drive is None else drive.take(size * count)

    # -- writes ------------------------------------------------------------------------------------------------------
    def write(self, port: int, value: int) -> None:
        """A register of both disks, a command, or device control."""
        if port == self.control:
            self._control(value)
            return
        register = port - self.base
        drive = self.selected
        if register == DATA or (drive is not None and drive.status & (BSY | DRQ)):
            return  # while a disk is busy its registers do not change
        self.device_control &= ~HOB
        if register == COMMAND:
            self._command(value)
            return
        if register == DEVICE:
            self.device = value | OBSOLETE
        for each in self.drives:
            if each is None:
                continue
            if register == FEATURES:
                each.features = value
            elif register == DEVICE:
                each.device = value | OBSOLETE
            else:
                pair = (each.count, each.low, each.mid, each.high)[register - COUNT]
                pair[:] = value, pair[0]

    def _command(self, code: int) -> None:
        self._end_interrupt()
        if code == EXECUTE_DIAGNOSTIC:
            for each in self.drives:
                if each is not None:
                    each.reset()
            self.device = OBSOLETE
            if any(self.drives):
                self._interrupt()
        elif self.selected is not None:
            self.selected.command(code)

    def _control(self, value: int) -> None:
        before, self.device_control = self.device_control, value
        if value & SRST:
            for each in self.drives:
                if each is not None:
                    each.hold_reset()
            self.pending = False
        elif before & SRST:
            for each in self.drives:
                if each is not None:
                    each.reset()
            self.device = OBSOLETE
        self._drive_line()

    def write_wide(self, port: int, size: int, value: int) -> None:
        """The data register; elsewhere a register for each byte."""
        if port == self.base:
            if self.selected is not None:
                self.selected.give(value.to_bytes(size, "little"))
            return
        for at in range(size):
            self.write(port + at, value >> 8 * at & 0xFF)

    def write_stream(self, port: int, size: int, data: bytes) -> bool:
        """Many writes of the data register."""
        if port != self.base or size == 1:
            return False
        if self.selected is not None:
            self.selected.give(data)
        return True

    def close(self) -> None:
        """The machine is gone: nothing that is under way is answered."""
        for each in self.drives:
            if each is not None:
                each.hold_reset()


class IdeFunction(PciFunction):
    """PIIX3's IDE controller, in compatibility mode: the channels have their old ports whatever is written here."""

    def __init__(self) -> None:
        super().__init__(INTEL, 0x7010, IDE_CONTROLLER)
        self.put(COMMAND_REGISTER, b"\1\0", mask=struct.pack("<H", COMMAND_IO | COMMAND_MASTER))
        self.put(IDE_TIMING, struct.pack("<HH", DECODES, DECODES), mask=b"\xff\xff\xff\xff")
