# SPDX-License-Identifier: GPL-2.0-or-later
"""The interrupt controllers, by the 8259A data sheet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hvm.platform_lab import Machine


def pulse(machine: Machine, *irqs: int) -> None:
    for irq in irqs:
        machine.pic.line(irq)(True)
        machine.pic.line(irq)(False)


def inited(**how: int) -> Machine:
    machine = Machine()
    machine.init_pics(**how)
    return machine


def test_linux_init_and_probe() -> None:
    machine = inited(mask=0xFFFB)
    assert (machine.inb(0x21), machine.inb(0xA1)) == (0xFB, 0xFF)
    machine.outb(0x21, 0xFE)  # probe_8259A: is what is written read back?
    assert machine.inb(0x21) == 0xFE
    assert not machine.pic.pending()


@pytest.mark.parametrize("irq", [irq for irq in range(16) if irq != 2])
def test_vectors_and_in_service(irq: int) -> None:
    machine = inited()
    pulse(machine, irq)
    assert machine.pic.pending() and machine.interrupts == 1
    assert machine.pic.acknowledge() == 0x30 + irq
    assert not machine.pic.pending()
    machine.outb(0x20, 0x0B)
    machine.outb(0xA0, 0x0B)
    in_service = machine.inb(0x20) & ~0x04 | machine.inb(0xA0) << 8
    assert in_service == 1 << irq
    assert (machine.inb(0x20) >> 2 & 1) == (irq >= 8)


def test_there_is_no_line_2() -> None:
    for irq in (2, 16, -1):
        with pytest.raises(ValueError):
            Machine().pic.line(irq)


def test_fixed_priority_and_nesting() -> None:
    machine = inited()
    pulse(machine, 4)
    assert machine.pic.acknowledge() == 0x34
    pulse(machine, 5, 3)
    assert machine.pic.acknowledge() == 0x33, "3 is more urgent than 4, 5 is not"
    assert not machine.pic.pending()
    machine.outb(0x20, 0x20)  # ends 3
    assert not machine.pic.pending()
    machine.outb(0x20, 0x20)  # ends 4
    assert machine.pic.acknowledge() == 0x35


def test_second_chip_is_between_1_and_3() -> None:
    machine = inited()
    pulse(machine, 3, 14, 9, 1)
    assert machine.taken() == [0x31, 0x39, 0x3E, 0x33]
    assert machine.interrupts >= 4, "INTR rose for each of them"


def test_edges_count_once_and_levels_as_long_as_they_last() -> None:
    machine = inited()
    line = machine.pic.line(5)
    line(True)
    assert machine.taken() == [0x35]
    line(True)
    assert machine.taken() == []
    line(False)
    line(True)
    assert machine.taken() == [0x35]
    line(False)
    machine.outb(0x4D0, 0xFF)
    machine.outb(0x4D1, 0xFF)
    assert (machine.inb(0x4D0), machine.inb(0x4D1)) == (0xF8, 0xDE), "some lines are always edges"
    line(True)
    for _ in range(3):
        assert machine.pic.acknowledge() == 0x35
        assert not machine.pic.pending()
        machine.outb(0x20, 0x65)
        assert machine.pic.pending()
    line(False)
    assert not machine.pic.pending()


def test_masks_delay_and_an_edge_is_kept() -> None:
    machine = inited(mask=0xFFFF)
    pulse(machine, 7, 12)
    assert not machine.pic.pending()
    machine.outb(0x20, 0x0A)
    machine.outb(0xA0, 0x0A)
    assert (machine.inb(0x20), machine.inb(0xA0)) == (0x80, 0x10)
    machine.outb(0xA1, 0x00)
    assert not machine.pic.pending(), "the cascade is masked"
    machine.outb(0x21, 0x00)
    assert machine.taken() == [0x3C, 0x37]


def test_an_edge_must_come_anew_after_initialization() -> None:
    machine = inited(mask=0xFFFF)
    line = machine.pic.line(3)
    line(True)
    machine.init_pics()
    assert not machine.pic.pending()
    line(False)
    line(True)
    assert machine.taken() == [0x33]


def test_spurious() -> None:
    machine = inited()
    machine.outb(0x4D0, 0x20)
    machine.pic.line(5)(True)
    machine.pic.line(5)(False)  # a level that falls before it is acknowledged
    assert machine.pic.acknowledge() == 0x37
    machine.outb(0x20, 0x0B)
    assert machine.inb(0x20) == 0, "nothing is in service: no EOI is due"
    machine.outb(0x4D1, 0x08)
    machine.pic.line(11)(True)
    machine.pic.line(11)(False)
    assert machine.pic.acknowledge() == 0x3F
    assert machine.inb(0x20) == 0x04, "the first chip served its input 2, and wants an EOI"
    machine.outb(0xA0, 0x0B)
    assert machine.inb(0xA0) == 0


def test_specific_eoi() -> None:
    machine = inited()
    pulse(machine, 6)
    machine.pic.acknowledge()
    pulse(machine, 1)
    machine.pic.acknowledge()
    machine.outb(0x20, 0x66)
    machine.outb(0x20, 0x0B)
    assert machine.inb(0x20) == 0x02


def test_rotation() -> None:
    machine = inited()
    pulse(machine, 3)
    machine.pic.acknowledge()
    machine.outb(0x20, 0xA0)  # rotate on non-specific EOI: 3 becomes the least urgent
    pulse(machine, 3, 4, 1)
    assert machine.taken() == [0x34, 0x31, 0x33]
    machine.outb(0x20, 0xC5)  # set priority: 5 is the least urgent, so 6 the most
    pulse(machine, 5, 0, 7)
    assert machine.taken() == [0x37, 0x30, 0x35]
    pulse(machine, 1)
    machine.pic.acknowledge()
    machine.outb(0x20, 0xE1)  # rotate on specific EOI
    pulse(machine, 1, 0)
    assert machine.taken() == [0x30, 0x31]
    machine.outb(0x20, 0x40)  # no operation
    machine.outb(0x20, 0xC7)
    pulse(machine, 1, 0)
    assert machine.taken() == [0x30, 0x31]


def test_auto_eoi_and_its_rotation() -> None:
    machine = inited(icw4=0x03)
    pulse(machine, 4, 3, 9, 10)
    assert [machine.pic.acknowledge() for _ in range(4)] == [0x39, 0x3A, 0x33, 0x34]
    assert not machine.pic.pending()
    machine.outb(0x20, 0x80)
    pulse(machine, 3)
    assert machine.pic.acknowledge() == 0x33
    pulse(machine, 3, 4)
    assert [machine.pic.acknowledge() for _ in range(2)] == [0x34, 0x33]
    machine.outb(0x20, 0x00)
    pulse(machine, 5)
    machine.pic.acknowledge()
    pulse(machine, 5, 4)
    assert machine.pic.acknowledge() == 0x34, "the order still is what 3 made it"


def test_special_mask_mode() -> None:
    machine = inited()
    pulse(machine, 4)
    machine.pic.acknowledge()
    pulse(machine, 6)
    assert not machine.pic.pending()
    machine.outb(0x21, 0x10)
    machine.outb(0x20, 0x68)
    assert machine.pic.acknowledge() == 0x36, "4 is masked and holds nobody back"
    machine.outb(0x20, 0x20)
    machine.outb(0x20, 0x20)
    machine.outb(0x20, 0x0B)
    assert machine.inb(0x20) == 0x10, "a masked level is safe from the non-specific EOI"
    machine.outb(0x20, 0x48)
    machine.outb(0x20, 0x20)
    assert machine.inb(0x20) == 0


def test_special_fully_nested_mode() -> None:
    for icw4, nested in ((0x01, False), (0x11, True)):
        machine = inited(icw4=icw4)
        pulse(machine, 12)
        assert machine.pic.acknowledge() == 0x3C
        pulse(machine, 3, 9)
        assert machine.pic.pending() == nested
        if nested:
            assert machine.pic.acknowledge() == 0x39
            assert not machine.pic.pending()


def test_poll() -> None:
    machine = inited()
    machine.outb(0x20, 0x0C)
    assert machine.inb(0x20) == 0x00
    assert machine.inb(0x20) == 0x00, "the IRR again"
    pulse(machine, 5, 10)
    machine.outb(0x20, 0x0C)
    assert machine.inb(0x20) == 0x82
    machine.outb(0xA0, 0x0C)
    assert machine.inb(0xA0) == 0x82
    machine.outb(0x20, 0x62)
    machine.outb(0xA0, 0x62)
    assert machine.taken() == [0x35]


def test_short_initializations() -> None:
    machine = Machine()
    machine.outb(0x20, 0x12)  # single, no ICW4
    machine.outb(0x21, 0x47, 0xFD)
    assert machine.inb(0x21) == 0xFD
    pulse(machine, 1)
    assert machine.pic.acknowledge() == 0x41, "the low bits of ICW2 are the level's"


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(st.sampled_from([n for n in range(16) if n != 2]), st.booleans()), max_size=60))
def test_every_edge_is_served_in_order_of_urgency(steps: list[tuple[int, bool]]) -> None:
    """Against a model: a set of asking lines, of which the most urgent one is taken."""
    order = [0, 1, 8, 9, 10, 11, 12, 13, 14, 15, 3, 4, 5, 6, 7]
    machine = inited()
    asking: set[int] = set()
    for irq, take in steps:
        pulse(machine, irq)
        asking.add(irq)
        if take:
            chosen = min(asking, key=order.index)
            asking.remove(chosen)
            assert machine.pic.acknowledge() == 0x30 + chosen
            if chosen >= 8:
                machine.outb(0xA0, 0x20)
            machine.outb(0x20, 0x20)
        assert machine.pic.pending() == bool(asking)
    assert machine.taken() == [0x30 + irq for irq in sorted(asking, key=order.index)]
