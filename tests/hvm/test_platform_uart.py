# SPDX-License-Identifier: GPL-2.0-or-later
"""The serial port, by the PC16550D data sheet and by Linux' probe."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hvm.platform_lab import Machine

RBR = THR = DLL = 0x3F8
IER = DLM = 0x3F9
IIR = FCR = 0x3FA
LCR, MCR, LSR, MSR, SCR = 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF
CHARACTER_NS = 10 * 16 * 10**9 // 1_843_200  # 8N1 at 115200 baud: 10 bits


def opened(fifos: int | None = 0x01, ier: int = 0) -> Machine:
    """115200 8N1, as a driver sets it up."""
    machine = Machine()
    machine.init_pics()
    machine.outb(LCR, 0x83)
    machine.outb(DLL, 0x01)
    machine.outb(DLM, 0x00)
    machine.outb(LCR, 0x03)
    if fifos is not None:
        machine.outb(FCR, fifos)
        machine.timeline.run(CHARACTER_NS + 1)
    machine.outb(MCR, 0x0B)
    machine.outb(IER, ier)
    return machine


def drained(machine: Machine) -> bytes:
    got = bytearray()
    while machine.inb(LSR) & 0x01:
        got.append(machine.inb(RBR))
    return bytes(got)


def test_linux_autoconfig_finds_a_16550a() -> None:
    machine = Machine()
    machine.outb(IER, 0)
    assert machine.inb(IER) & 0x0F == 0
    machine.outb(IER, 0xFF)
    assert machine.inb(IER) == 0x0F, "no UUE bit: no XScale"
    machine.outb(IER, 0)
    machine.outb(MCR, 0x10 | 0x08 | 0x02)
    assert machine.inb(MSR) & 0xF0 == 0x90
    machine.outb(MCR, 0x08)
    machine.outb(LCR, 0xBF)  # no EFR there
    machine.outb(FCR, 0x01)
    machine.outb(LCR, 0x00)
    assert machine.inb(IIR) == 0xC1
    machine.outb(FCR, 0x21)
    assert machine.inb(IIR) & 0x20 == 0, "no 64 byte FIFO"
    machine.outb(FCR, 0x00)
    assert machine.inb(IIR) == 0x01
    assert machine.inb(LSR) == 0x60


def test_size_of_the_fifo_by_loopback() -> None:
    """8250's size_fifo: in loopback, more is sent than fits, and what comes back is counted."""
    machine = opened(0x07)
    machine.outb(MCR, 0x10)
    for value in range(20):
        machine.outb(THR, value)
    assert machine.inb(LSR) == 0x63, "an overrun"
    assert machine.inb(LSR) == 0x61, "which reading LSR forgets"
    assert drained(machine) == bytes(range(16))
    assert machine.said == b""


def test_loopback_without_fifos_overruns_too() -> None:
    machine = opened(None)
    machine.outb(MCR, 0x10)
    machine.outb(THR, 1, 2)
    assert machine.inb(LSR) == 0x63
    assert drained(machine) == b"\x02", "the predecessor is lost"
    machine.outb(LCR, 0x00)
    machine.outb(THR, 0xFF)
    assert drained(machine) == b"\x1f", "five bits"


def test_looped_bytes_are_gone_with_a_fifo_reset() -> None:
    machine = opened()
    machine.outb(MCR, 0x10)
    machine.outb(THR, *b"echo")
    machine.platform.uart.receive(b"typed")
    machine.outb(FCR, 0x07)
    machine.outb(MCR, 0x00)
    machine.timeline.run(CHARACTER_NS + 1)
    assert drained(machine) == b"typed"


def test_divisor_scratch_and_what_cannot_be_written() -> None:
    machine = Machine()
    machine.outb(LCR, 0x80)
    assert machine.inb(DLL) | machine.inb(DLM) << 8 == 12
    machine.outb(DLL, 0x34)
    machine.outb(DLM, 0x12)
    assert machine.platform.uart.divisor == 0x1234
    assert (machine.inb(DLL), machine.inb(DLM)) == (0x34, 0x12)
    machine.outb(LCR, 0x03)
    assert (machine.inb(IER), machine.inb(LCR)) == (0, 0x03)
    machine.outb(SCR, 0xA5)
    assert machine.inb(SCR) == 0xA5
    machine.outb(MCR, 0xEF)
    assert machine.inb(MCR) == 0x0F
    machine.outb(LSR, 0xFF)
    machine.outb(MSR, 0xFF)
    assert (machine.inb(LSR), machine.inb(MSR) & 0xF0) == (0x60, 0xB0)


def test_output_polled() -> None:
    machine = Machine()  # not even set up
    for value in b"Linux\xff":
        assert machine.inb(LSR) & 0x20
        machine.outb(THR, value)
    assert machine.said == b"Linux\xff"
    assert machine.timeline.fired == 0


def test_thre_interrupts() -> None:
    machine = opened()
    machine.outb(IER, 0x02)
    assert machine.taken() == [0x34], "enabled while the transmitter is empty"
    assert machine.inb(IIR) == 0xC2
    assert machine.inb(IIR) == 0xC1, "reading it took it back"
    machine.outb(THR, 0x41)
    assert machine.taken() == [0x34]
    machine.outb(THR, 0x42)  # not read in between: an edge nevertheless
    assert machine.taken() == [0x34]
    machine.outb(IER, 0x00)
    assert machine.inb(IIR) == 0xC1
    machine.outb(IER, 0x02)  # 8250's test for a THRE that does not come again
    assert machine.inb(IIR) == 0xC2
    machine.outb(IER, 0x02)
    assert machine.inb(IIR) == 0xC1, "only the enabling counts"


def test_output_by_interrupts() -> None:
    machine = opened()
    text = bytearray(b"sixteen at a time, as 8250 does it, and then some more")
    wanted = bytes(text)
    machine.outb(IER, 0x02)
    while machine.taken():
        while machine.inb(IIR) & 0x0F == 0x02 and text:
            for value in text[:16]:
                machine.outb(THR, value)
            del text[:16]
        if not text:
            machine.outb(IER, 0x00)
    assert machine.said == wanted


@pytest.mark.parametrize(("fcr", "trigger"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)])
def test_trigger_levels_and_the_timeout(fcr: int, trigger: int) -> None:
    machine = opened(fcr, ier=0x01)
    machine.platform.uart.receive(bytes(trigger))
    assert machine.taken() == [0x34]
    assert machine.inb(IIR) == 0xC4
    machine.inb(RBR)
    assert machine.inb(IIR) == 0xC1, "below the trigger level"
    if trigger > 1:
        machine.timeline.run(4 * CHARACTER_NS)
        assert machine.taken() == []
        machine.timeline.run(4)
        assert machine.taken() == [0x34]
        assert machine.inb(IIR) == 0xCC
        machine.inb(RBR)
        assert machine.inb(IIR) == 0xC1, "a read takes the timeout back and starts it anew"
        machine.timeline.run(4 * CHARACTER_NS + 4)
        assert machine.inb(IIR) == 0xCC
    assert drained(machine) == bytes(max(trigger - 2, 0))
    machine.timeline.run(10**9)
    assert machine.inb(IIR) == 0xC1 and machine.timeline.live() == []


def test_a_byte_that_comes_puts_the_timeout_off() -> None:
    machine = opened(0x81, ier=0x01)
    for _ in range(3):
        machine.platform.uart.receive(b"x")
        machine.timeline.run(3 * CHARACTER_NS)
        assert machine.inb(IIR) == 0xC1
    machine.timeline.run(2 * CHARACTER_NS)
    assert machine.inb(IIR) == 0xCC


def test_the_character_time_follows_the_line_settings() -> None:
    machine = opened(0x81, ier=0x01)
    machine.outb(LCR, 0x80)
    machine.outb(DLL, 96)  # 1200 baud
    machine.outb(LCR, 0x1F)  # 8 bits, parity, 2 stop bits: 12 bits, 10 ms
    machine.platform.uart.receive(b"x")
    machine.timeline.run(40_000_000 - 1)
    assert machine.inb(IIR) == 0xC1
    machine.timeline.run(1)
    assert machine.inb(IIR) == 0xCC


def test_priorities() -> None:
    machine = opened(ier=0x0F)
    machine.inb(IIR)
    machine.outb(MCR, 0x10)  # loopback: CTS, DSR and DCD fall
    for value in range(17):
        machine.outb(THR, value)
    assert machine.inb(IIR) == 0xC6
    assert machine.inb(LSR) & 0x02
    assert machine.inb(IIR) == 0xC4
    drained(machine)
    assert machine.inb(IIR) == 0xC2
    assert machine.inb(IIR) == 0xC0
    assert machine.inb(MSR) == 0x0B, "what changed, and nothing on"
    assert machine.inb(IIR) == 0xC1
    assert machine.inb(MSR) == 0x00


def test_modem_lines_in_loopback() -> None:
    machine = opened()
    assert machine.inb(MSR) == 0xB0
    for mcr, msr in ((0x01, 0x20), (0x02, 0x10), (0x04, 0x40), (0x08, 0x80)):
        machine.outb(MCR, 0x10 | mcr)
        assert machine.inb(MSR) & 0xF0 == msr
    machine.outb(MCR, 0x14)
    machine.inb(MSR)
    machine.outb(MCR, 0x10)
    assert machine.inb(MSR) == 0x04, "the ring indicator's trailing edge"
    machine.outb(MCR, 0x14)
    assert machine.inb(MSR) == 0x40, "and not its leading one"


def test_without_fifos_each_byte_is_an_interrupt() -> None:
    machine = opened(None, ier=0x01)
    machine.platform.uart.receive(b"abc")
    got = bytearray()
    while machine.pic.pending():
        machine.pic.acknowledge()
        assert machine.inb(IIR) == 0x04
        got.append(machine.inb(RBR))
        machine.outb(0x20, 0x20)
    assert got == b"abc"
    assert (machine.inb(IIR), machine.inb(RBR)) == (0x01, 0)


def test_type_ahead_outlives_the_setup_of_the_driver() -> None:
    """Linux' startup clears the FIFOs and reads all registers, to be rid of what is old."""
    machine = opened(None)
    machine.platform.uart.receive(b"typed before anybody listened")
    machine.outb(FCR, 0x01, 0x07, 0x00)
    for port in (LSR, RBR, IIR, MSR):
        machine.inb(port)
    machine.outb(FCR, 0x81)
    machine.outb(IER, 0x05)
    assert not machine.pic.pending()
    machine.timeline.run(CHARACTER_NS)
    assert machine.taken() == [0x34]
    assert drained(machine) == b"typed before anybody listened"


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("typed"), st.binary(min_size=1, max_size=40)),
            st.tuples(st.just("read"), st.integers(1, 30)),
            st.tuples(st.just("fifos"), st.sampled_from([0x00, 0x01, 0x03, 0x07, 0x41, 0xC1])),
            st.tuples(st.just("wait"), st.integers(1, 10**6)),
            st.tuples(st.just("loop"), st.booleans()),
        ),
        max_size=30,
    )
)
def test_no_typed_byte_is_lost_or_out_of_order(steps: list[tuple[str, object]]) -> None:
    machine = opened()
    sent, got = bytearray(), bytearray()
    for what, arg in steps:
        if what == "typed":
            assert isinstance(arg, bytes)
            sent += arg
            machine.platform.uart.receive(arg)
        elif what == "read":
            assert isinstance(arg, int)
            for _ in range(arg):
                lsr = machine.inb(LSR)
                assert lsr & 0x02 == 0
                if lsr & 0x01:
                    got.append(machine.inb(RBR))
        elif what == "fifos":
            assert isinstance(arg, int)
            machine.outb(FCR, arg)
        elif what == "wait":
            assert isinstance(arg, int)
            machine.timeline.run(arg)
        else:
            machine.outb(MCR, 0x10 if arg else 0x00)
        assert machine.platform.uart.unread == len(sent) - len(got)
    machine.outb(MCR, 0x00)
    machine.timeline.run(10**9)
    assert got + drained(machine) == sent
