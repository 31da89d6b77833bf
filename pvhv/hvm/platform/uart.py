# SPDX-License-Identifier: GPL-2.0-or-later
"""A 16550A serial port.

Transmitting takes no time: a byte written is handed to `transmit` before the write ends, so THR and its FIFO are
always empty, and each write makes the THRE interrupt anew (the line falls and rises, for a PIC that counts edges).

Received bytes wait on the host's side, as many as there are, and go into the FIFO (without FIFOs, the buffer) when the
guest has made room, so that none is ever overrun: only loopback can overrun. A guest that resets its FIFO loses nothing
either: the bytes in it arrive again, beginning one character time after the reset. In loopback the far end waits.

The only other time is that of the timeout indication: after four character times, bytes below the trigger level are
reported, too.

The far end holds CTS, DSR and DCD on. The interrupt line is not gated by OUT2, as in QEMU (on a PC's board it is), so
a kernel that does not set OUT2 is served too.

Not modelled: parity, framing and break (LSR bits 2 to 4 and 7 stay 0), DMA mode, narrowing to the word length outside
of loopback (a kernel that never sets LCR speaks 8 bits on QEMU).

Read beside it: National PC16550D data sheet, 8.0; the probe in Linux' 8250_port.c, which exercises most of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pvhv.hvm.platform.timebase import Cancellable, Timebase
from pvhv.machine.clock import NS

CLOCK_HERTZ = 1_843_200
FIFO_DEPTH = 16
TRIGGERS = (1, 4, 8, 14)
LOOPED = 0x100  # marks, among received bytes, one that did not come from the far end

RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR = range(8)

IER_RDA, IER_THRE, IER_LINE, IER_MODEM = 1, 2, 4, 8
IIR_NONE, IIR_MODEM, IIR_THRE, IIR_RDA, IIR_LINE, IIR_TIMEOUT, IIR_FIFOS = 0x01, 0x00, 0x02, 0x04, 0x06, 0x0C, 0xC0
FCR_ENABLE, FCR_CLEAR_RX = 0x01, 0x02
LCR_STOP, LCR_PARITY, LCR_DLAB = 0x04, 0x08, 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 0x01, 0x02, 0x04, 0x08, 0x10
LSR_DR, LSR_OE, LSR_THRE, LSR_TEMT = 0x01, 0x02, 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80


class Uart:
    """One port; `line` sets its interrupt line, `transmit` takes each byte the guest sends."""

    PORTS = range(0x3F8, 0x400)

    def __init__(self, timebase: Timebase, line: Callable[[bool], None], transmit: Callable[[bytes], None]) -> None:
        self.timebase = timebase
        self.line = line
        self.transmit = transmit
        self.divisor = 12  # 9600 baud
        self.ier = self.lcr = self.mcr = self.scratch = 0
        self.fifos = False
        self.trigger = 1
        self.rx: deque[int] = deque()
        self.overrun = False
        self.thre = False  # THRE interrupt condition: reading IIR as it, and writing THR, take it back
        self.timeout = False
        self.modem = self._modem_lines()
        self.changed = 0  # MSR's delta bits
        self._queue: deque[int] = deque()  # what the far end has sent and we have had no room for
        self._wire_free = 0  # when the far end's next byte can arrive
        self._wire_timer: Cancellable | None = None
        self._timeout_timer: Cancellable | None = None

    # -- the host's side -----------------------------------------------------------------------------------------
    def receive(self, data: bytes) -> None:
        """The far end sends bytes."""
        self._queue.extend(data)
        self._refill()

    @property
    def unread(self) -> int:
        """How many received bytes the guest has not read yet."""
        return len(self._queue) + len(self.rx)

    def close(self) -> None:
        """The machine is gone: cancel the timer, raise no interrupt."""
        for timer in (self._wire_timer, self._timeout_timer):
            if timer is not None:
                timer.cancel()
        self._wire_timer = self._timeout_timer = None

    # -- registers -----------------------------------------------------------------------------------------------
    def read(self, port: int) -> int:
        """Read a register."""
        register = port - self.PORTS.start
        if self.lcr & LCR_DLAB and register <= IER:
            return self.divisor >> 8 * register & 0xFF
        if register == RBR_THR:
            return self._pop()
        if register == IER:
            return self.ier
        if register == IIR_FCR:
            iir = self._identify()
            if iir == IIR_THRE:
                self.thre = False
                self._update()
            return iir | (IIR_FIFOS if self.fifos else 0)
        if register == LCR:
            return self.lcr
        if register == MCR:
            return self.mcr
        if register == LSR:
            lsr = LSR_THRE | LSR_TEMT | (LSR_DR if self.rx else 0) | (LSR_OE if self.overrun else 0)
            self.overrun = False
            self._update()
            return lsr
        if register == MSR:
            msr = self.modem | self.changed
            self.changed = 0
            self._update()
            return msr
        return self.scratch

    def write(self, port: int, value: int) -> None:
        """Write a register."""
        register = port - self.PORTS.start
        if self.lcr & LCR_DLAB and register <= IER:
            shift = 8 * register
            self.divisor = self.divisor & ~(0xFF << shift) | value << shift
        elif register == RBR_THR:
            self._send(value)
        elif register == IER:
            if (value ^ self.ier) & IER_THRE:
                self.thre = bool(value & IER_THRE)  # enabled while THR is empty, which it always is
            self.ier = value & 0x0F
            self._update()
        elif register == IIR_FCR:
            self._control_fifos(value)
        elif register == LCR:
            self.lcr = value
        elif register == MCR:
            self.mcr = value & 0x1F
            self._modem_moved()
            self._refill()
        elif register == SCR:
            self.scratch = value

    def _control_fifos(self, value: int) -> None:
        enable = bool(value & FCR_ENABLE)
        if enable != self.fifos or value & FCR_CLEAR_RX:
            self._queue.extendleft(byte for byte in reversed(self.rx) if not byte & LOOPED)
            self.rx.clear()
            self._wire_free = self.timebase.now() + self._characters(1)
        self.fifos = enable
        self.trigger = TRIGGERS[value >> 6] if enable else 1
        self.timeout = False
        self._watch()
        self._update()
        self._refill()

    # -- data ----------------------------------------------------------------------------------------------------
    def _send(self, value: int) -> None:
        self.thre = False
        self._update()
        if self.mcr & MCR_LOOP:
            self._arrive(value & (1 << 5 + (self.lcr & 3)) - 1 | LOOPED)
        else:
            self.transmit(bytes((value,)))
        self.thre = True
        self._update()

    def _pop(self) -> int:
        value = self.rx.popleft() & 0xFF if self.rx else 0
        self.timeout = False
        self._watch()
        self._update()  # before there is more: without FIFOs, each byte is an interrupt of its own
        self._refill()
        return value

    def _arrive(self, value: int) -> None:
        """A byte arrives at the receiver, from the far end or looped back."""
        if len(self.rx) < (FIFO_DEPTH if self.fifos else 1):
            self.rx.append(value)
        else:
            self.overrun = True
            if not self.fifos:
                self.rx[0] = value  # with FIFOs the newcomer is lost, without them its predecessor
        self._watch()

    def _refill(self) -> None:
        """Move bytes of the far end into the FIFO, as far as there is room."""
        depth = FIFO_DEPTH if self.fifos else 1
        if not self._queue or len(self.rx) >= depth or self.mcr & MCR_LOOP:
            return
        if self.timebase.now() < self._wire_free:
            if self._wire_timer is None:
                self._wire_timer = self.timebase.after(self._wire_free, self._wire_is_free)
            return
        while self._queue and len(self.rx) < depth:
            self._arrive(self._queue.popleft())
        self._update()

    def _wire_is_free(self) -> None:
        self._wire_timer = None
        self._refill()

    def _characters(self, count: int) -> int:
        """The time, in ns, of that many characters."""
        half_bits = 2 * (1 + 5 + (self.lcr & 3)) + 2
        if self.lcr & LCR_PARITY:
            half_bits += 2
        if self.lcr & LCR_STOP:
            half_bits += 2 if self.lcr & 3 else 1
        return count * half_bits * 16 * max(self.divisor, 1) * NS // (2 * CLOCK_HERTZ)

    def _watch(self) -> None:
        """The FIFO changed: set the timeout again, if it holds bytes that nothing else would report."""
        if self._timeout_timer is not None:
            self._timeout_timer.cancel()
            self._timeout_timer = None
        if self.fifos and not self.timeout and 0 < len(self.rx) < self.trigger:
            deadline = self.timebase.now() + self._characters(4)
            self._timeout_timer = self.timebase.after(deadline, self._timed_out)

    def _timed_out(self) -> None:
        self._timeout_timer = None
        self.timeout = True
        self._update()

    # -- modem lines ---------------------------------------------------------------------------------------------
    def _modem_lines(self) -> int:
        mcr = self.mcr
        if not mcr & MCR_LOOP:
            return MSR_CTS | MSR_DSR | MSR_DCD
        looped = ((MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
        return sum(line for output, line in looped if mcr & output)

    def _modem_moved(self) -> None:
        before, self.modem = self.modem, self._modem_lines()
        moved = before ^ self.modem
        moved &= ~(self.modem & MSR_RI)  # of the ring indicator, only its end is told
        self.changed |= moved >> 4
        self._update()

    # -- interrupts ----------------------------------------------------------------------------------------------
    def _identify(self) -> int:
        """IIR's low nibble: the most urgent interrupt that is enabled and pending."""
        if self.ier & IER_LINE and self.overrun:
            return IIR_LINE
        if self.ier & IER_RDA:
            if len(self.rx) >= self.trigger:
                return IIR_RDA
            if self.timeout:
                return IIR_TIMEOUT
        if self.ier & IER_THRE and self.thre:
            return IIR_THRE
        if self.ier & IER_MODEM and self.changed:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        self.line(self._identify() != IIR_NONE)
