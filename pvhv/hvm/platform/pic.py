# SPDX-License-Identifier: GPL-2.0-or-later
"""The PC's two 8259A interrupt controllers: the second one's output is input 2 of the first.

A chip keeps its inputs (`lines`), the requests (`irr`), the mask (`imr`) and the levels in service (`isr`). It requests
service when an unmasked request is more urgent than everything in service; INTR is the first chip's request. An
acknowledge cycle ends INTR. If there is more to serve, INTR rises again, so `on_interrupt` is called for every
interrupt.

As in QEMU's and KVM's, a request that came as an edge stays even when its line falls again before it is acknowledged.
Spurious interrupts (vector 7 of a chip, nothing in service) therefore come from a level that fell, or from a mask or
an initialization between request and acknowledge.

As on PIIX, ICW1's LTIM bit has no effect: ELCR says which inputs are level-triggered.

Not modelled: MCS-80/85 mode, buffered mode, any other wiring than the PC's (ICW3 is taken and ignored), single mode
but for its shorter initialization.

Read beside it: Intel 8259A data sheet (231468); PIIX4 data sheet, 4.2.5 and 7.2.
"""

from __future__ import annotations

from collections.abc import Callable

CASCADE = 2  # the first chip's input that is the second chip's output
SPURIOUS = 7

READY, ICW2, ICW3, ICW4 = range(4)  # what is expected at the odd port


class Chip:
    """One 8259A. After each change the caller asks `request` which input is to be served."""

    def __init__(self, cascade: int, may_be_level: int) -> None:
        self.cascade = cascade  # inputs with another chip behind them
        self.may_be_level = may_be_level
        self.elcr = 0
        self.lines = 0
        self.irr = 0
        self.initialize(0)
        self.expects = READY

    def initialize(self, icw1: int) -> None:
        """ICW1: reset everything except ELCR. An input counts again only after a new edge."""
        self.irr = self.lines & self.elcr
        self.imr = 0
        self.isr = 0
        self.vectors = 0
        self.lowest = 7  # the least urgent input; the one after it is the most urgent
        self.shows_isr = False
        self.polled = False
        self.special_mask = False
        self.special_nested = False
        self.auto_eoi = False
        self.rotates_on_auto_eoi = False
        self.with_icw4 = bool(icw1 & 0x01)
        self.single = bool(icw1 & 0x02)
        self.expects = ICW2

    # -- inputs and priority -----------------------------------------------------------------------------------
    def set_line(self, level: int, high: bool) -> None:
        """Set the level of an input."""
        bit = 1 << level
        if high:
            if bit & (self.elcr | ~self.lines):
                self.irr |= bit
            self.lines |= bit
        else:
            self.lines &= ~bit
            self.irr &= ~(bit & self.elcr)

    def urgency(self, levels: int) -> int:
        """How urgent the most urgent of `levels` is: 0 is most, 8 means none."""
        for rank in range(8):
            if levels >> ((self.lowest + 1 + rank) & 7) & 1:
                return rank
        return 8

    def at(self, rank: int) -> int:
        """The input that has this urgency."""
        return (self.lowest + 1 + rank) & 7

    def request(self) -> int | None:
        """The input to be served now; None if no request is unmasked and urgent enough."""
        asked = self.irr & ~self.imr
        if not asked:
            return None
        wanted = self.urgency(asked)
        # In special mask mode a level that is both in service and masked holds nobody back.
        served = self.urgency(self.isr & ~self.imr if self.special_mask else self.isr)
        level = self.at(wanted)
        if wanted < served:
            return level
        if wanted == served and self.special_nested and self.cascade >> level & 1:
            return level  # something more urgent on the chip behind that input
        return None

    def take(self, level: int) -> None:
        """Acknowledge cycle for `level`."""
        bit = 1 << level
        self.irr &= ~(bit & ~self.elcr)
        if not self.auto_eoi:
            self.isr |= bit
        elif self.rotates_on_auto_eoi:
            self.lowest = level

    # -- registers ---------------------------------------------------------------------------------------------
    def poll(self) -> int:
        """The read after a poll command: an acknowledge cycle by software."""
        self.polled = False
        level = self.request()
        if level is None:
            return 0
        self.take(level)
        return 0x80 | level

    def write_even(self, value: int) -> None:
        """Take a byte at the even port: ICW1, OCW2 or OCW3."""
        if value & 0x10:
            self.initialize(value)
        elif value & 0x08:
            if value & 0x04:
                self.polled = True
            elif value & 0x02:
                self.shows_isr = bool(value & 0x01)
            if value & 0x40:
                self.special_mask = bool(value & 0x20)
        else:
            self._ocw2(value >> 5, value & 7)

    def _ocw2(self, command: int, level: int) -> None:
        rotate, specific, eoi = command & 4, command & 2, command & 1
        if eoi:
            if not specific:
                # Special mask mode hides masked levels from the non-specific EOI too.
                rank = self.urgency(self.isr & ~self.imr if self.special_mask else self.isr)
                if rank == 8:
                    return
                level = self.at(rank)
            self.isr &= ~(1 << level)
            if rotate:
                self.lowest = level
        elif not specific:
            self.rotates_on_auto_eoi = bool(rotate)
        elif rotate:
            self.lowest = level  # 0b110, set priority; 0b010 is no operation

    def write_odd(self, value: int) -> None:
        """Take a byte at the odd port: the expected ICW2, ICW3 or ICW4, else OCW1."""
        if self.expects == READY:
            self.imr = value
        elif self.expects == ICW2:
            self.vectors = value & 0xF8
            self.expects = self._after_icw3() if self.single else ICW3
        elif self.expects == ICW3:
            self.expects = self._after_icw3()
        else:
            self.auto_eoi = bool(value & 0x02)
            self.special_nested = bool(value & 0x10)
            self.expects = READY

    def _after_icw3(self) -> int:
        return ICW4 if self.with_icw4 else READY


class Pic:
    """Both chips, at ports 0x20 and 0xa0, and their ELCRs, at 0x4d0 and 0x4d1."""

    PORTS = (range(0x20, 0x22), range(0xA0, 0xA2), range(0x4D0, 0x4D2))

    def __init__(self, on_interrupt: Callable[[], None] = lambda: None) -> None:
        self.on_interrupt = on_interrupt
        # The timer, keyboard, cascade, clock and coprocessor lines are edges whatever ELCR says.
        self.first = Chip(cascade=1 << CASCADE, may_be_level=0xF8)
        self.second = Chip(cascade=0, may_be_level=0xDE)
        self._intr = False

    def line(self, irq: int) -> Callable[[bool], None]:
        """The input `irq` (0 to 15), to be called with its new level."""
        if not 0 <= irq < 16 or irq == CASCADE:
            raise ValueError(f"there is no interrupt line {irq}")
        chip, level = (self.first, irq) if irq < 8 else (self.second, irq - 8)

        def drive(high: bool) -> None:
            if bool(chip.lines >> level & 1) != high:
                chip.set_line(level, high)
                self._update()

        return drive

    def pending(self) -> bool:
        """INTR: whether an interrupt waits for the CPU."""
        return self._intr

    def acknowledge(self) -> int:
        """INTA: the CPU takes the interrupt; its vector."""
        chip, level = self.first, self.first.request()
        if level is None:
            return chip.vectors + SPURIOUS
        chip.take(level)
        if level == CASCADE:
            chip, level = self.second, self.second.request()
            if level is None:
                level = SPURIOUS
            else:
                chip.take(level)
            self.first.set_line(CASCADE, False)  # the acknowledge ends the second chip's asking too
        self._intr = False
        self._update()
        return chip.vectors + level

    def read(self, port: int) -> int:
        """A register, or the answer to a poll."""
        if port in self.PORTS[2]:
            return (self.first, self.second)[port & 1].elcr
        chip = self.second if port & 0x80 else self.first
        if chip.polled:
            answer = chip.poll()
            if chip is self.second and answer:
                self.first.set_line(CASCADE, False)
                self.first.irr &= ~(1 << CASCADE)  # what it asked for has just been served
            self._update()
            return answer
        if port & 1:
            return chip.imr
        return chip.isr if chip.shows_isr else chip.irr

    def write(self, port: int, value: int) -> None:
        """A command or an initialization word."""
        if port in self.PORTS[2]:
            chip = (self.first, self.second)[port & 1]
            chip.elcr = value & chip.may_be_level
            chip.irr = chip.irr & ~chip.elcr | chip.lines & chip.elcr
        else:
            chip = self.second if port & 0x80 else self.first
            if port & 1:
                chip.write_odd(value)
            else:
                chip.write_even(value)
        self._update()

    def _update(self) -> None:
        """After a change: pass the second chip's request on to the first, and the first's to the CPU."""
        self.first.set_line(CASCADE, self.second.request() is not None)
        intr = self.first.request() is not None
        rose = intr and not self._intr
        self._intr = intr
        if rose:
            self.on_interrupt()
