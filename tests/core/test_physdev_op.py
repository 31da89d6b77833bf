# SPDX-License-Identifier: GPL-2.0-or-later
"""physdev_op, and the older calls that carry command and structure together."""

from __future__ import annotations

from typing import Any

import pytest

from pvhv.abi import physdev as abi
from pvhv.abi.errno import Errno
from pvhv.abi.event_channel import EvtchnOp, EVTCHNOP_bind_ipi, EVTCHNOP_close, EVTCHNOP_reset, EVTCHNOP_status
from pvhv.abi.physdev import PHYSDEVOP, PhysdevIrqStatusQuery, PhysdevOp, PhysdevSetIobitmap, PhysdevSetIopl
from pvhv.abi.xen import (
    DOMID_SELF,
    HYPERVISOR_event_channel_op_compat,
    HYPERVISOR_physdev_op,
    HYPERVISOR_physdev_op_compat,
)
from pvhv.core.control import Control
from pvhv.core.mm.frames import L4, NONE, TYPE_MASK, WRITABLE
from tests.core.accounting import problems
from tests.core.guests import BASE, Machine

REQUESTS = 5
NOWHERE = BASE - (1 << 30)


class World:
    def __init__(self) -> None:
        self.machine = Machine()
        self.vcpu = self.machine.guest().vcpus[0]

    def op(self, number: int, record: Any) -> int:
        address = self.machine.put(self.vcpu, REQUESTS, record)
        return self.machine.call(self.vcpu, HYPERVISOR_physdev_op, number, address)

    def compat(self, call: int, record: Any) -> Any:
        """The answer, and the structure after it."""
        address = self.machine.put(self.vcpu, REQUESTS, record)
        return self.machine.call(self.vcpu, call, address), self.machine.get(self.vcpu, type(record), REQUESTS)


@pytest.fixture
def world() -> World:
    return World()


def test_io_privilege_is_remembered(world: World) -> None:
    assert world.op(abi.PHYSDEVOP_set_iopl, PhysdevSetIopl(3)) == 0
    assert world.vcpu.iopl == 3
    assert world.op(abi.PHYSDEVOP_set_iopl, PhysdevSetIopl(4)) == -Errno.EINVAL
    assert world.op(abi.PHYSDEVOP_set_iobitmap, PhysdevSetIobitmap(BASE, 1024)) == 0
    assert (world.vcpu.iobmp, world.vcpu.iobmp_limit) == (BASE, 1024)
    assert world.op(abi.PHYSDEVOP_set_iobitmap, PhysdevSetIobitmap(BASE, 65537)) == -Errno.EINVAL
    assert world.op(abi.PHYSDEVOP_set_iobitmap, PhysdevSetIobitmap(0xFFFF_8000_0000_0000, 1)) == -Errno.EINVAL


def test_interrupts_can_be_asked_about_but_are_not_there(world: World) -> None:
    assert world.op(abi.PHYSDEVOP_irq_status_query, PhysdevIrqStatusQuery(5)) == 0
    assert world.machine.get(world.vcpu, PhysdevIrqStatusQuery, REQUESTS).flags == abi.XENIRQSTAT_needs_eoi
    assert world.op(abi.PHYSDEVOP_irq_status_query, PhysdevIrqStatusQuery(abi.NR_PIRQS)) == -Errno.EINVAL
    assert world.op(abi.PHYSDEVOP_eoi, abi.PhysdevEoi(5)) == -Errno.EINVAL
    assert world.op(abi.PHYSDEVOP_IRQ_UNMASK_NOTIFY, b"") == 0
    assert world.machine.call(world.vcpu, HYPERVISOR_physdev_op, abi.PHYSDEVOP_set_iopl, NOWHERE) == -Errno.EFAULT
    for command in PHYSDEVOP:
        if command.answer is not None:
            assert world.op(command.number, bytes(64)) == -command.answer, command
            nowhere = world.machine.call(world.vcpu, HYPERVISOR_physdev_op, command.number, NOWHERE)
            assert nowhere == (-Errno.EFAULT if command.reads_first else -command.answer), command


def test_interrupt_numbers_are_reserved_once(world: World) -> None:
    def free(kind: int) -> int:
        result = world.op(abi.PHYSDEVOP_get_free_pirq, abi.PhysdevGetFreePirq(kind))
        return result or world.machine.get(world.vcpu, abi.PhysdevGetFreePirq, REQUESTS).pirq

    gsis = [free(abi.MAP_PIRQ_TYPE_GSI) for _ in range(abi.NR_ISA_IRQS, abi.NR_GSIS)]
    assert gsis == list(range(abi.NR_ISA_IRQS, abi.NR_GSIS))
    assert [free(abi.MAP_PIRQ_TYPE_GSI), free(abi.MAP_PIRQ_TYPE_MSI)] == [abi.NR_PIRQS - 1, abi.NR_PIRQS - 2]
    assert world.op(abi.PHYSDEVOP_eoi, abi.PhysdevEoi(abi.NR_PIRQS - 1)) == 0
    assert world.op(abi.PHYSDEVOP_eoi, abi.PhysdevEoi(abi.NR_PIRQS - 3)) == -Errno.EINVAL
    rest = [free(abi.MAP_PIRQ_TYPE_MSI) for _ in range(abi.NR_GSIS, abi.NR_PIRQS - 2)]
    assert rest == list(range(abi.NR_PIRQS - 3, abi.NR_GSIS - 1, -1))
    assert free(abi.MAP_PIRQ_TYPE_MSI) == free(abi.MAP_PIRQ_TYPE_GSI) == -Errno.ENOSPC


@pytest.mark.parametrize("command", [abi.PHYSDEVOP_pirq_eoi_gmfn_v1, abi.PHYSDEVOP_pirq_eoi_gmfn_v2])
def test_a_page_of_interrupts_is_held_until_the_end(world: World, command: int) -> None:
    hv, domain = world.machine.hv, world.vcpu.domain
    mine = hv.frames.owned_by(domain.domid, 0, hv.frames.count)
    mfn = next(mfn for mfn in mine if hv.frames.types[mfn] & TYPE_MASK in (NONE, WRITABLE))
    table = next(mfn for mfn in mine if hv.frames.types[mfn] & TYPE_MASK == L4)
    before = hv.frames.refs[mfn]
    for wrong in (table, 0, hv.frames.count):
        assert world.op(command, abi.PhysdevPirqEoiGmfn(wrong)) == -Errno.EINVAL
    assert world.op(command, abi.PhysdevPirqEoiGmfn(mfn)) == 0
    assert world.op(command, abi.PhysdevPirqEoiGmfn(mfn)) == -Errno.EBUSY
    assert hv.frames.refs[mfn] == before + 1
    assert not problems(hv)
    Control(hv, hv.dom0).destroydomain(domain.domid)
    assert hv.run_until(lambda: domain.dead, 10)
    assert not hv.frames.owned_by(domain.domid, 0, hv.frames.count)
    assert not problems(hv)


def test_map_pirq_says_no_and_writes_back_what_it_understood(world: World) -> None:
    op = abi.PhysdevMapPirq(domid=DOMID_SELF, type=abi.MAP_PIRQ_TYPE_MSI_SEG)
    assert world.op(abi.PHYSDEVOP_map_pirq, op) == -Errno.EPERM
    assert world.machine.get(world.vcpu, abi.PhysdevMapPirq, REQUESTS).type == abi.MAP_PIRQ_TYPE_MSI
    op = abi.PhysdevMapPirq(domid=DOMID_SELF, type=abi.MAP_PIRQ_TYPE_MULTI_MSI, table_base=1)
    assert world.op(abi.PHYSDEVOP_map_pirq, op) == -Errno.EINVAL
    for gsi, answer in ((-1, Errno.EINVAL), (abi.NR_GSIS, Errno.EINVAL), (abi.NR_GSIS - 1, Errno.EPERM)):
        assert world.op(abi.PHYSDEVOP_setup_gsi, abi.PhysdevSetupGsi(gsi)) == -answer


def test_the_older_physdev_call_answers_in_place(world: World) -> None:
    op = PhysdevOp(cmd=abi.PHYSDEVOP_irq_status_query)
    op.u.irq_status_query.irq = 5
    result, op = world.compat(HYPERVISOR_physdev_op_compat, op)
    assert (result, op.u.irq_status_query.flags) == (0, abi.XENIRQSTAT_needs_eoi)
    assert world.compat(HYPERVISOR_physdev_op_compat, PhysdevOp(cmd=99))[0] == -Errno.ENOSYS
    assert world.machine.call(world.vcpu, HYPERVISOR_physdev_op_compat, NOWHERE) == -Errno.EFAULT


def test_the_older_event_channel_call_answers_in_place(world: World) -> None:
    op = EvtchnOp(cmd=EVTCHNOP_bind_ipi)
    result, op = world.compat(HYPERVISOR_event_channel_op_compat, op)
    assert (result, op.u.bind_ipi.port) == (0, 1)
    op = EvtchnOp(cmd=EVTCHNOP_status)
    op.u.status.dom, op.u.status.port = DOMID_SELF, 1
    result, op = world.compat(HYPERVISOR_event_channel_op_compat, op)
    assert (result, op.u.status.status) == (0, 5)
    op = EvtchnOp(cmd=EVTCHNOP_close)
    op.u.close.port = 2
    assert world.compat(HYPERVISOR_event_channel_op_compat, op)[0] == -Errno.EINVAL
    assert world.compat(HYPERVISOR_event_channel_op_compat, EvtchnOp(cmd=EVTCHNOP_reset))[0] == -Errno.ENOSYS
    assert world.machine.call(world.vcpu, HYPERVISOR_event_channel_op_compat, NOWHERE) == -Errno.EFAULT
