# SPDX-License-Identifier: GPL-2.0-or-later
"""The order in which the small hypercalls look at what they are given, and what they leave of it.

What the calls do is argued by kernels under guest_kernel/tests; here is what such a kernel would not ask: bad
arguments in twos, structures half there, other vCPUs, second tries.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from pvhv.abi.arch_x86 import FLAT_KERNEL_CS, FLAT_KERNEL_SS, TrapInfo, VcpuGuestContext
from pvhv.abi.control import (
    VM_EVENT_INTERFACE_VERSION,
    XEN_DOMCTL_INTERFACE_VERSION,
    XEN_VM_EVENT_GET_VERSION,
    XEN_DOMCTL_assign_device,
    XEN_DOMCTL_get_device_group,
    XEN_DOMCTL_iomem_permission,
    XEN_DOMCTL_ioport_permission,
    XEN_DOMCTL_irq_permission,
    XEN_DOMCTL_memory_mapping,
    XEN_DOMCTL_set_target,
    XEN_DOMCTL_test_assign_device,
    XEN_DOMCTL_vm_event_op,
    XenDomctl,
)
from pvhv.abi.errno import Errno
from pvhv.abi.hvm import HVMOP_get_time, HVMOP_xentrace, XenHvmXentrace
from pvhv.abi.physdev import NR_PIRQS
from pvhv.abi.sched import (
    SCHEDOP_block,
    SCHEDOP_poll,
    SCHEDOP_remote_shutdown,
    SCHEDOP_shutdown,
    SCHEDOP_shutdown_code,
    SCHEDOP_watchdog,
    SchedPoll,
    SchedRemoteShutdown,
    SchedShutdown,
    SchedWatchdog,
)
from pvhv.abi.vcpu import (
    VCPUOP_get_physid,
    VCPUOP_get_runstate_info,
    VCPUOP_initialise,
    VCPUOP_is_up,
    VCPUOP_register_runstate_memory_area,
    VCPUOP_register_vcpu_info,
    VCPUOP_register_vcpu_time_memory_area,
    VCPUOP_send_nmi,
    VCPUOP_set_periodic_timer,
    VCPUOP_set_singleshot_timer,
    VCPUOP_stop_singleshot_timer,
    VCPUOP_up,
    VcpuRegisterRunstateMemoryArea,
    VcpuRegisterTimeMemoryArea,
    VcpuRegisterVcpuInfo,
    VcpuRunstateInfo,
    VcpuSetPeriodicTimer,
    VcpuSetSingleshotTimer,
)
from pvhv.abi.version import XENVER_build_id, XENVER_changeset, XENVER_commandline, XENVER_guest_handle
from pvhv.abi.xen import (
    DOMID_INVALID,
    DOMID_IO,
    CONSOLEIO_read,
    CONSOLEIO_write,
    HYPERVISOR_console_io,
    HYPERVISOR_dm_op,
    HYPERVISOR_domctl,
    HYPERVISOR_get_debugreg,
    HYPERVISOR_hvm_op,
    HYPERVISOR_multicall,
    HYPERVISOR_sched_op,
    HYPERVISOR_sched_op_compat,
    HYPERVISOR_set_debugreg,
    HYPERVISOR_set_gdt,
    HYPERVISOR_set_timer_op,
    HYPERVISOR_set_trap_table,
    HYPERVISOR_update_descriptor,
    HYPERVISOR_vcpu_op,
    HYPERVISOR_vm_assist,
    HYPERVISOR_xen_version,
)
from pvhv.core.mm.frames import NONE, SEG_DESC, WRITABLE
from pvhv.core.sched.pvclock import TIME, TIME_OFFSET
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import CR0, EFLAGS, RIP
from tests.core.guests import BASE, VGCF_IN_KERNEL, VGCF_ONLINE
from tests.core.pv import PAGES, Bench

EBUSY, EEXIST, EFAULT, EINVAL, ENODEV, ENOENT, ENOSPC, ENOSYS, ENXIO, EPERM, ESRCH = (
    -int(Errno[name])
    for name in "EBUSY EEXIST EFAULT EINVAL ENODEV ENOENT ENOSPC ENOSYS ENXIO EPERM ESRCH".split()
)
NOWHERE = 0x1000  # nothing is mapped there
XENS = 0xFFFF_8000_0000_0000
NOT_CANONICAL = 1 << 63
END = BASE + PAGES * 4096
ARGUMENT = 20  # the page structures are put on
HERE = BASE + ARGUMENT * 4096


@pytest.fixture
def b() -> Iterator[Bench]:
    bench = Bench()
    bench.second = bench.hv.add_vcpu(bench.g, 1)
    yield bench
    bench.balanced()


def vcpu_op(b: Bench, command: int, vcpuid: int, argument: Any = 0) -> int:
    if not isinstance(argument, int):
        argument = b.put(b.vcpu, ARGUMENT, argument)
    return b.do(HYPERVISOR_vcpu_op, command, vcpuid, argument)


def sched_op(b: Bench, command: int, argument: Any) -> int:
    if not isinstance(argument, int):
        argument = b.put(b.vcpu, ARGUMENT, argument)
    return b.do(HYPERVISOR_sched_op, command, argument)


# -- vcpu_op -----------------------------------------------------------------------------------------------------------
def test_the_vcpu_is_looked_up_before_anything_else(b: Bench) -> None:
    for command in (VCPUOP_initialise, VCPUOP_is_up, VCPUOP_set_singleshot_timer, 99):
        assert vcpu_op(b, command, 2, NOWHERE) == ENOENT
        assert vcpu_op(b, command, 0xFFFF_FFFF, NOWHERE) == ENOENT
    assert vcpu_op(b, 99, 0, NOWHERE) == ENOSYS
    assert vcpu_op(b, 1 << 32 | VCPUOP_is_up, 1 << 32, NOWHERE) == 1  # both have 32 bits
    assert vcpu_op(b, VCPUOP_is_up, 1, NOWHERE) == 0


def test_one_shot_timers_are_ones_own(b: Bench) -> None:
    assert vcpu_op(b, VCPUOP_set_singleshot_timer, 1, NOWHERE) == EINVAL  # before the structure is read
    assert vcpu_op(b, VCPUOP_set_singleshot_timer, 0, NOWHERE) == EFAULT
    assert vcpu_op(b, VCPUOP_stop_singleshot_timer, 1) == EINVAL
    assert vcpu_op(b, VCPUOP_set_singleshot_timer, 0, VcpuSetSingleshotTimer(timeout_abs_ns=1 << 62)) == 0
    assert b.vcpu.singleshot is not None
    assert vcpu_op(b, VCPUOP_set_singleshot_timer, 0, VcpuSetSingleshotTimer(timeout_abs_ns=1)) == 0  # past
    assert b.vcpu.singleshot is None


def test_periodic_timers_have_bounds(b: Bench) -> None:
    for period, result in ((999_999, EINVAL), (1_000_000, 0), ((1 << 62) - 1, 0), (1 << 62, EINVAL), (0, EINVAL)):
        assert vcpu_op(b, VCPUOP_set_periodic_timer, 1, VcpuSetPeriodicTimer(period_ns=period)) == result
    assert vcpu_op(b, VCPUOP_set_periodic_timer, 0, NOWHERE) == EFAULT


def test_register_vcpu_info(b: Bench) -> None:
    free, used = b.spare[0], b.l1

    def register(vcpuid: int, mfn: int, offset: int) -> int:
        return vcpu_op(b, VCPUOP_register_vcpu_info, vcpuid, VcpuRegisterVcpuInfo(mfn=mfn, offset=offset))

    assert vcpu_op(b, VCPUOP_register_vcpu_info, 0, NOWHERE) == EFAULT
    assert register(0, 0x8_0000_0000, 4096 - 63) == ENXIO  # the offset is looked at first
    assert register(0, 0x8_0000_0000, 4) == ENXIO
    assert register(0, 0x8_0000_0000, 0) == EINVAL
    assert register(0, used, 0) == EINVAL
    b.second.down = False  # type: ignore[attr-defined]
    assert register(1, free, 0) == EINVAL  # another that is up
    b.second.down = True  # type: ignore[attr-defined]
    before = bytes(b.ram.bytes[b.vcpu.vcpu_info : b.vcpu.vcpu_info + 64])
    assert register(0, free, 4096 - 64) == 0
    assert (b.type(free), b.frames.refs[free]) == (WRITABLE, 2)
    now = bytes(b.ram.bytes[b.vcpu.vcpu_info : b.vcpu.vcpu_info + 64])
    assert b.vcpu.vcpu_info == (free << 12) + 4096 - 64
    assert (now[0], now[1], now[8:16]) == (1, before[1], b"\xff" * 8)  # everything is marked pending
    assert register(0, free, 0) == EINVAL  # once
    assert register(1, free, 0) == 0


def test_areas_in_the_hypervisors_part(b: Bench) -> None:
    for command, kind in (
        (VCPUOP_register_runstate_memory_area, VcpuRegisterRunstateMemoryArea),
        (VCPUOP_register_vcpu_time_memory_area, VcpuRegisterTimeMemoryArea),
    ):
        record: Any = kind()
        record.addr.p = XENS
        assert vcpu_op(b, command, 0, record) == EFAULT
        assert vcpu_op(b, command, 0, NOWHERE) == EFAULT
        record.addr.p = NOWHERE
        assert vcpu_op(b, command, 0, record) == 0  # not mapped: no error, and nothing written
        record.addr.p = BASE + 30 * 4096
        assert vcpu_op(b, command, 0, record) == 0
        assert any(b.cpu.memory.read(BASE + 30 * 4096, 32))
        b.cpu.memory.write(BASE + 30 * 4096, bytes(48))


def test_a_second_copy_of_the_time_is_written_when_it_can_be(b: Bench) -> None:
    record: Any = VcpuRegisterTimeMemoryArea()
    hole = 200  # a page that gets mapped later
    record.addr.p = BASE + hole * 4096
    assert vcpu_op(b, VCPUOP_register_vcpu_time_memory_area, 0, record) == 0
    assert b.update(b.l1, hole, b.spare[0] << 12 | 0x63) == 0
    b.hv.timekeeper.update(b.vcpu)
    version, _, tsc, system_time, *_ = TIME.unpack(b.ram.bytes[b.spare[0] << 12 : (b.spare[0] << 12) + 32])
    assert version % 2 == 0 and version and tsc
    at = b.vcpu.vcpu_info + TIME_OFFSET
    assert TIME.unpack(b.ram.bytes[at : at + 32])[2:4] == (tsc, system_time)


def test_runstate_info(b: Bench) -> None:
    assert vcpu_op(b, VCPUOP_get_runstate_info, 1, NOWHERE) == EFAULT
    assert vcpu_op(b, VCPUOP_get_runstate_info, 1, HERE) == 0
    info = b.get(b.vcpu, VcpuRunstateInfo, ARGUMENT)
    assert (info.state, info.time[3] > 0) == (3, True)  # offline


def test_small_print_of_vcpu_op(b: Bench) -> None:
    assert vcpu_op(b, VCPUOP_get_physid, 0, NOWHERE) == EINVAL
    assert vcpu_op(b, VCPUOP_send_nmi, 0, 1) == EINVAL
    assert vcpu_op(b, VCPUOP_up, 1) == EINVAL  # never initialised
    assert vcpu_op(b, VCPUOP_initialise, 0, NOWHERE) == EFAULT
    assert vcpu_op(b, VCPUOP_initialise, 0, VcpuGuestContext()) == EEXIST


# -- first contexts ----------------------------------------------------------------------------------------------------
def context(b: Bench, root: int, **fields: Any) -> Any:
    record: Any = VcpuGuestContext()
    record.flags = VGCF_IN_KERNEL
    record.user_regs.rip, record.user_regs.cs, record.user_regs.ss = BASE, FLAT_KERNEL_CS, FLAT_KERNEL_SS
    record.ctrlreg[3] = root << 12
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def initialise(b: Bench, record: Any) -> int:
    address = BASE + 41 * 4096
    b.enter(b.vcpu)
    b.cpu.memory.write(address, bytes(record))
    return b.do(HYPERVISOR_vcpu_op, VCPUOP_initialise, 1, address)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kernel_sp", NOT_CANONICAL),
        ("fs_base", NOT_CANONICAL),
        ("gs_base_kernel", NOT_CANONICAL),
        ("gs_base_user", NOT_CANONICAL),
        ("event_callback_eip", NOT_CANONICAL),
        ("syscall_callback_eip", NOT_CANONICAL),
        ("failsafe_callback_eip", NOT_CANONICAL),
        ("ldt_base", XENS),  # even without entries
        ("ldt_base", 0x123),
        ("ldt_ents", 8193),
        ("gdt_ents", 7169),
        ("flags", 0),  # user mode without a user table
    ],
)
def test_contexts_refused(b: Bench, field: str, value: int) -> None:
    assert initialise(b, context(b, b.table(), **{field: value})) == EINVAL
    assert not b.second.initialised  # type: ignore[attr-defined]


def test_contexts_refused_further_in(b: Bench) -> None:
    record = context(b, b.table())
    record.user_regs.rip = NOT_CANONICAL
    assert initialise(b, record) == EINVAL
    record = context(b, b.table())
    record.trap_ctxt[255].address = NOT_CANONICAL
    assert initialise(b, record) == EINVAL
    assert initialise(b, context(b, b.l3)) == EINVAL  # no L4
    record = context(b, b.table(), gdt_ents=513)
    record.gdt_frames[0] = b.table()
    record.gdt_frames[1] = b.l1
    assert initialise(b, record) == EINVAL
    assert b.type(record.gdt_frames[0]) == NONE


def test_a_user_table_that_is_none_leaves_nothing_behind(b: Bench) -> None:
    root = b.table()
    record = context(b, root)
    record.ctrlreg[1] = b.l3 << 12
    for _ in range(3):
        assert initialise(b, record) == EINVAL
        assert b.balanced()
    record.ctrlreg[1] = root << 12
    assert initialise(b, record) == 0
    assert b.frames.type_counts[root] == 2


def test_a_context_that_is_put_aside(b: Bench) -> None:
    """Big tables, taken in small pieces."""
    def tree() -> int:
        l1s = [b.table(dict.fromkeys(range(512), b.spare[0] << 12 | 1)) for _ in range(4)]
        l2 = b.table({n: mfn << 12 | 7 for n, mfn in enumerate(l1s)})
        return b.table({0: b.table({0: l2 << 12 | 7}) << 12 | 7})

    record = context(b, tree(), flags=VGCF_IN_KERNEL | VGCF_ONLINE)
    record.ctrlreg[1] = tree() << 12
    b.shares = lambda: 60
    b.put_aside = lambda: b.balanced() and None
    assert initialise(b, record) == 0
    assert b.continued >= 5
    assert not b.second.down  # type: ignore[attr-defined]
    assert b.balanced()


def test_what_a_context_sets(b: Bench) -> None:
    record = context(b, b.table(), flags=VGCF_IN_KERNEL)
    record.user_regs.rflags = 0xFFFF_FFFF_FFFF_FFFF
    record.trap_ctxt[7].vector, record.trap_ctxt[7].address = 99, BASE + 7  # the row counts, not what it says
    record.ctrlreg[0] = 8  # TS
    record.debugreg[0], record.debugreg[1] = BASE, XENS
    assert initialise(b, record) == 0
    vcpu: VCPU = b.second  # type: ignore[attr-defined]
    assert vcpu.trap_table[7].address == BASE + 7 and not vcpu.trap_table[99].address
    assert vcpu.state[RIP] == BASE
    assert vcpu.iopl == 3
    assert vcpu.state[EFLAGS] & 0xFFFF_FFFF_0002_B02A == 2  # no IOPL, VM or reserved bits
    assert vcpu.state[EFLAGS] & 1 << 9
    assert vcpu.state[EFLAGS] & 0xCD5 == 0xCD5  # the arithmetic flags, and DF
    assert vcpu.ts and vcpu.state[CR0] & 8
    assert vcpu.debugreg == [BASE, 0, 0, 0, 0, 0, 0xFFFF_0FF0, 0x400]
    assert vcpu.down  # without VGCF_online
    assert vcpu_op(b, VCPUOP_up, 1) == 0
    assert not vcpu.down


# -- sched_op ----------------------------------------------------------------------------------------------------------
def poll(b: Bench, ports: int, count: int, timeout: int = 1) -> int:
    record: Any = SchedPoll(nr_ports=count, timeout=timeout)
    record.ports = ports
    return sched_op(b, SCHEDOP_poll, record)


def test_poll_looks_at_ports_one_by_one(b: Bench) -> None:
    events, vcpu = b.g.events, b.vcpu
    first, second = events.bind_ipi(0), events.bind_ipi(0)
    assert sched_op(b, SCHEDOP_poll, NOWHERE) == EFAULT
    assert poll(b, NOWHERE, 129) == EINVAL  # looked at before the list
    assert poll(b, XENS, 1) == EFAULT
    assert poll(b, NOWHERE, 1) == EFAULT
    b.cpu.memory.write(END - 8, first.to_bytes(4, "little") + (200).to_bytes(4, "little"))
    assert poll(b, END - 8, 2) == EINVAL  # the second is no port
    assert poll(b, END - 4, 1) == EINVAL
    assert not vcpu.polling
    events.send(first)
    assert poll(b, END - 8, 2) == 0  # the first is pending: nobody looks further
    assert poll(b, END - 8, 3) == 0
    b.cpu.memory.write(END - 4, second.to_bytes(4, "little"))
    assert poll(b, END - 4, 2) == EFAULT
    assert not vcpu.polling
    assert poll(b, END - 4, 1) == 0
    assert vcpu.polling and vcpu.poll_ports == (second,)
    events.send(second)
    assert not vcpu.polling


def test_poll_does_not_sleep_on_an_event_that_waits(b: Bench) -> None:
    info = b.vcpu.vcpu_info
    b.ram.bytes[info], b.ram.bytes[info + 1] = 1, 1
    assert poll(b, 0, 0, 1 << 60) == 0
    assert b.vcpu.polling  # masked: it sleeps
    b.hv.activity.wake(b.vcpu)
    b.ram.bytes[info + 1] = 0
    b.vcpu.event_callback_eip = BASE
    b.do(HYPERVISOR_sched_op, SCHEDOP_poll, b.put(b.vcpu, ARGUMENT, SchedPoll(nr_ports=0, timeout=1 << 60)))
    assert not b.vcpu.polling
    b.ram.bytes[info + 1] = 1


def test_block_unmasks(b: Bench) -> None:
    info = b.vcpu.vcpu_info
    assert sched_op(b, SCHEDOP_block, NOWHERE) == 0
    assert b.ram.bytes[info + 1] == 0
    assert b.vcpu.blocked
    b.hv.activity.wake(b.vcpu)
    assert b.do(HYPERVISOR_sched_op_compat, 1, 0) == 0
    assert b.vcpu.blocked
    b.hv.activity.wake(b.vcpu)
    assert b.do(HYPERVISOR_sched_op_compat, 3, 0) == ENOSYS


def test_shutdown_codes(b: Bench) -> None:
    assert sched_op(b, SCHEDOP_shutdown, NOWHERE) == EFAULT
    assert sched_op(b, SCHEDOP_shutdown_code, NOWHERE) == EFAULT
    assert sched_op(b, SCHEDOP_shutdown_code, SchedShutdown(reason=0x103)) == 0
    assert sched_op(b, SCHEDOP_shutdown_code, SchedShutdown(reason=1)) == 0
    assert b.g.shutdown_code is None
    assert sched_op(b, SCHEDOP_shutdown, SchedShutdown(reason=0)) == 0
    assert b.g.shutdown_code == 3  # what was said first; eight bits of it


def test_remote_shutdown(b: Bench) -> None:
    other = b.guest()
    assert sched_op(b, SCHEDOP_remote_shutdown, NOWHERE) == EFAULT
    assert sched_op(b, SCHEDOP_remote_shutdown, SchedRemoteShutdown(domain_id=99)) == ESRCH
    for domid in (0, b.g.domid, other.domid):
        assert sched_op(b, SCHEDOP_remote_shutdown, SchedRemoteShutdown(domain_id=domid)) == EPERM
    assert other.runs


def test_watchdogs(b: Bench) -> None:
    def watchdog(number: int, timeout: int) -> int:
        return sched_op(b, SCHEDOP_watchdog, SchedWatchdog(id=number, timeout=timeout))

    assert sched_op(b, SCHEDOP_watchdog, NOWHERE) == EFAULT
    assert watchdog(3, 10) == EINVAL
    assert watchdog(1, 10) == EINVAL
    assert [watchdog(0, 1000) for _ in range(3)] == [1, 2, ENOSPC]
    assert watchdog(1, 0) == 0
    assert watchdog(1, 0) == EINVAL
    assert watchdog(2, 2000) == 0
    assert watchdog(0, 1000) == 1


def test_timeouts_far_away_come_soon(b: Bench) -> None:
    now = b.g.timeline.now()
    for timeout in (1 << 63, (1 << 64) - 1, now + (1 << 51)):
        assert b.do(HYPERVISOR_set_timer_op, timeout) == 0
        assert b.vcpu.singleshot is not None
        assert 0 < b.vcpu.singleshot.deadline - b.g.timeline.now() <= 100_000_000
    assert b.do(HYPERVISOR_set_timer_op, now + (1 << 49)) == 0
    assert b.vcpu.singleshot.deadline == now + (1 << 49)
    assert b.do(HYPERVISOR_set_timer_op, 0) == 0
    assert b.vcpu.singleshot is None


# -- descriptors -------------------------------------------------------------------------------------------------------
CODE64, DATA32 = 0x00AF_9A00_0000_FFFF, 0x00CF_9200_0000_FFFF  # DPL 0, not accessed
DPL3_ACCESSED = 3 << 45 | 1 << 40
GATE = 0x0000_8C00_0000_0000


def test_set_gdt(b: Bench) -> None:
    def set_gdt(mfns: list[int], entries: int) -> int:
        b.enter(b.vcpu)
        b.cpu.memory.write(HERE, b"".join(mfn.to_bytes(8, "little") for mfn in mfns))
        return b.do(HYPERVISOR_set_gdt, HERE, entries)

    first, second = b.table({1: CODE64, 2: DATA32, 3: 5}), b.table()
    assert b.do(HYPERVISOR_set_gdt, NOWHERE, 7169) == EINVAL
    assert b.do(HYPERVISOR_set_gdt, NOWHERE, 1) == EFAULT
    assert b.do(HYPERVISOR_set_gdt, NOWHERE, 0) == 0
    assert set_gdt([first, second], 513) == 0
    assert (b.type(first), b.type(second), b.vcpu.gdt_ents) == (SEG_DESC, SEG_DESC, 513)
    assert [b.word(first, n) for n in range(1, 4)] == [CODE64 | DPL3_ACCESSED, DATA32 | DPL3_ACCESSED, 5]
    assert set_gdt([first, b.l1], 513) == EINVAL
    assert b.vcpu.gdt_frames == [first, second]  # as it was
    assert b.frames.type_counts[first] == 1
    assert set_gdt([first], 512) == 0
    assert b.type(second) == NONE
    for bad in (0x0000_8900_0000_0000, 0x0000_8F00_0000_0000, 0x0000_8E00_0000_0000):  # TSS, trap and interrupt gates
        assert set_gdt([b.table({511: bad})], 512) == EINVAL
    assert set_gdt([b.mfn(b.g, 30)], 512) == EINVAL  # mapped writably
    assert set_gdt([0x8_0000_0000], 1) == EINVAL
    assert b.do(HYPERVISOR_set_gdt, 0, 0) == 0
    assert b.type(first) == NONE


@pytest.mark.parametrize(
    ("descriptor", "becomes"),
    [
        (0, 0),
        (0x0000_0900_0000_0000, 0x0000_0900_0000_0000),  # not present: anything
        (CODE64, CODE64 | DPL3_ACCESSED),
        (1 << 47, 1 << 47),  # the second half of a call gate
        (GATE | 0x33 << 16, GATE | 0x33 << 16),  # DPL 0 for ever; the target's RPL keeps the DPL there was
        (GATE | 3 << 45 | 0x30 << 16, GATE | 0x33 << 16),
        (GATE | 0xE033 << 16, GATE | 0xE033 << 16),
        (GATE | 0xE008 << 16, None),  # into the hypervisor
        (GATE | 0xE00C << 16, GATE | 0xE00F << 16),  # of the LDT
        (GATE | 1 << 32, None),  # reserved bits
        (0x0000_8200_0000_0000, None),  # an LDT
        (0x0000_8900_0000_0000, None),  # a TSS
        (0x0000_8E00_0000_0000, None),  # an interrupt gate
    ],
)
def test_update_descriptor(b: Bench, descriptor: int, becomes: int | None) -> None:
    mfn = b.table()
    assert b.do(HYPERVISOR_update_descriptor, mfn << 12 | 16, descriptor) == (EINVAL if becomes is None else 0)
    assert b.word(mfn, 2) == (becomes or 0)


def test_where_descriptors_may_be_updated(b: Bench) -> None:
    other = b.guest()
    gdt = b.table()
    b.hv.descriptors.set_gdt(b.vcpu, [gdt], 512)
    assert b.do(HYPERVISOR_update_descriptor, gdt << 12 | 8, CODE64) == 0
    assert b.type(gdt) == SEG_DESC
    assert b.do(HYPERVISOR_update_descriptor, b.mfn(b.g, 30) << 12 | 8, CODE64) == 0  # a writable page is one, too
    for address in (gdt << 12 | 4, b.l1 << 12, b.mfn(other, 10) << 12, 1 << 51):
        assert b.do(HYPERVISOR_update_descriptor, address, CODE64) == EINVAL
    b.hv.descriptors.set_gdt(b.vcpu, [], 0)


# -- the rest ----------------------------------------------------------------------------------------------------------
def test_trap_tables_up_to_where_they_go_wrong(b: Bench) -> None:
    rows = [TrapInfo(vector=n, flags=3, cs=0, address=BASE + n) for n in range(1, 4)]
    bad = TrapInfo(vector=5, address=NOT_CANONICAL)
    assert b.do(HYPERVISOR_set_trap_table, b.put(b.vcpu, ARGUMENT, *rows, bad)) == EINVAL
    assert [b.vcpu.trap_table[n].address for n in range(1, 6)] == [BASE + 1, BASE + 2, BASE + 3, 0, 0]
    b.cpu.memory.write(END - 16, bytes(TrapInfo(vector=9, address=BASE)))
    assert b.do(HYPERVISOR_set_trap_table, END - 16) == EFAULT
    assert b.vcpu.trap_table[9].address == BASE
    b.shares = lambda: 1
    assert b.do(HYPERVISOR_set_trap_table, b.put(b.vcpu, ARGUMENT, *rows, TrapInfo())) == 0
    assert b.continued == 3
    assert b.do(HYPERVISOR_set_trap_table, 0) == 0
    assert not any(row.address for row in b.vcpu.trap_table)


def test_console_io(b: Bench) -> None:
    b.enter(b.vcpu)
    b.cpu.memory.write(END - 8, b"abc\ndef\n")
    assert b.do(HYPERVISOR_console_io, CONSOLEIO_read, 1, NOWHERE) == EPERM
    assert b.do(HYPERVISOR_console_io, 99, 1, NOWHERE) == EPERM  # looked at before the command
    assert b.do(HYPERVISOR_console_io, CONSOLEIO_write, 0, NOWHERE) == 0
    assert b.do(HYPERVISOR_console_io, CONSOLEIO_write, 1, NOWHERE) == EFAULT
    assert b.do(HYPERVISOR_console_io, CONSOLEIO_write, 8, END - 8) == 0
    text = b.hv.console.read()
    assert f"(d{b.g.domid}) abc\n(d{b.g.domid}) def\n" in text


def test_vm_assist(b: Bench) -> None:
    for kind in (0, 1, 2, 3, 4, 5, 32):
        assert b.do(HYPERVISOR_vm_assist, 0, kind) == 0
        assert b.g.vm_assist >> kind & 1
        assert b.do(HYPERVISOR_vm_assist, 1, kind) == 0
        assert not b.g.vm_assist
        assert b.do(HYPERVISOR_vm_assist, 2, kind) == ENOSYS
    for kind in (6, 31, 33, 63, 64, 0xFFFF_FFFF):
        assert b.do(HYPERVISOR_vm_assist, 2, kind) == EINVAL


def test_debug_registers(b: Bench) -> None:
    def set_register(number: int, value: int) -> int:
        return b.do(HYPERVISOR_set_debugreg, number, value)

    for value, result in ((BASE, 0), (XENS, EPERM), (0x8000_0000_0000, EPERM), (0xFFFF_8800_0000_0000, 0)):
        assert set_register(3, value) == result
    assert set_register(6, 1 << 32) == EINVAL
    assert set_register(6, 0) == 0 and b.do(HYPERVISOR_get_debugreg, 6) == 0xFFFF_0FF0
    assert set_register(4, 0x100F) == 0 and b.do(HYPERVISOR_get_debugreg, 6) == 0xFFFF_0FFF
    for value, result in ((1 << 32, EINVAL), (1 << 13, EPERM), (1 | 2 << 16, EPERM), (2 << 16, 0), (0x7, 0)):
        assert set_register(7, value) == result
    assert b.do(HYPERVISOR_get_debugreg, 5) == 0x407
    b.vcpu.cr4 |= 8  # DE
    for number in (4, 5):
        assert set_register(number, 0) == ENODEV
        assert b.do(HYPERVISOR_get_debugreg, number) == ENODEV
    assert set_register(7, 1 | 2 << 16) == 0
    for number in (8, 0xFFFF_FFFF):
        assert set_register(number, 0) == ENODEV
        assert b.do(HYPERVISOR_get_debugreg, number) == ENODEV


def test_multicall_reads_and_writes_entry_by_entry(b: Bench) -> None:
    entry = ctypes.c_uint64 * 8
    assert b.do(HYPERVISOR_multicall, XENS, 0) == EFAULT
    assert b.do(HYPERVISOR_multicall, NOWHERE, 0) == 0
    assert b.do(HYPERVISOR_multicall, NOWHERE, 1) == EFAULT
    b.enter(b.vcpu)
    b.cpu.memory.write(END - 128, bytes(entry(HYPERVISOR_vm_assist, 9, 0, 4)) + bytes(entry(HYPERVISOR_multicall, 9)))
    assert b.do(HYPERVISOR_multicall, END - 128, 3) == EFAULT  # after what could be read was done
    assert b.g.vm_assist == 16
    results = [int.from_bytes(b.cpu.memory.read(END - 128 + 64 * n + 8, 8), "little") for n in range(2)]
    assert results == [0, (1 << 64) + EINVAL]
    b.cpu.memory.write(HERE, bytes(entry(77, 9)) + bytes(entry((1 << 32) + HYPERVISOR_vm_assist, 9)))
    assert b.do(HYPERVISOR_multicall, HERE, 2) == 0
    assert [int.from_bytes(b.cpu.memory.read(HERE + 64 * n + 8, 8), "little") for n in range(2)] == [
        (1 << 64) + ENOSYS,
        (1 << 64) + ENOSYS,
    ]
    read_only = b.mfn(b.g, 30)
    assert b.update(b.l1, 30, read_only << 12 | 1) == 0
    b.cpu.flush()
    b.ram.bytes[read_only << 12 : (read_only << 12) + 64] = bytes(entry(HYPERVISOR_vm_assist, 9, 0, 5))
    assert b.do(HYPERVISOR_multicall, BASE + 30 * 4096, 1) == EFAULT  # it is done, and cannot be told
    assert b.g.vm_assist == 16 | 32


# -- xen_version, hvm_op, domctl ---------------------------------------------------------------------------------------
def test_what_a_domain_may_know_of_its_hypervisor(b: Bench) -> None:
    page = b.put(b.vcpu, ARGUMENT, b"x" * 64)
    assert b.do(HYPERVISOR_xen_version, XENVER_guest_handle, page) == 0
    assert b.vcpu.memory.read(page, 17) == b.g.handle.bytes + b"x"
    assert b.do(HYPERVISOR_xen_version, XENVER_commandline, page) == 0
    assert b.vcpu.memory.read(page, 17) == b"<denied>\0" + b.g.handle.bytes[9:] + b"x"
    assert b.do(HYPERVISOR_xen_version, XENVER_build_id, page) == EPERM
    for command in (XENVER_guest_handle, XENVER_commandline, XENVER_changeset):
        assert b.do(HYPERVISOR_xen_version, command, NOWHERE) == EFAULT


def test_hvm_op_has_the_time_and_looks_at_all_of_its_number(b: Bench) -> None:
    page = b.put(b.vcpu, ARGUMENT, bytes(64))
    before = b.g.timeline.now()
    assert b.do(HYPERVISOR_hvm_op, HVMOP_get_time, page) == 0
    assert before <= int.from_bytes(b.vcpu.memory.read(page, 8), "little") <= b.g.timeline.now()
    assert b.do(HYPERVISOR_hvm_op, 1 << 32 | HVMOP_get_time, page) == ENOSYS
    assert b.do(HYPERVISOR_hvm_op, HVMOP_get_time, NOWHERE) == EFAULT
    for event, extra, answer in ((0xFFF, 28, 0), (0x1000, 0, EINVAL), (0, 29, EINVAL)):
        b.put(b.vcpu, ARGUMENT, XenHvmXentrace(event, extra))
        assert b.do(HYPERVISOR_hvm_op, HVMOP_xentrace, page) == answer


def test_a_device_model_is_no_pv_guest_s(b: Bench) -> None:
    page = b.put(b.vcpu, ARGUMENT, bytes(64))
    for domid, count, where, answer in (
        (0, 0, page, -Errno.ENODATA), (0, 3, page, -Errno.E2BIG), (0, 2, NOWHERE, EFAULT), (0, 2, page, EINVAL),
        (b.g.domid, 1, page, EPERM), (0x7FF0, 1, page, ESRCH), (0x1_0000, 1, page, EINVAL),
    ):  # fmt: skip
        assert b.do(HYPERVISOR_dm_op, domid, count, where) == answer


@pytest.mark.parametrize(("command", "domain", "inside", "answer"), [
    (XEN_DOMCTL_irq_permission, 0, struct.pack("<I", NR_PIRQS), EINVAL),
    (XEN_DOMCTL_irq_permission, 0, struct.pack("<I", NR_PIRQS - 1), EPERM),
    (XEN_DOMCTL_iomem_permission, 0, struct.pack("<QQ", 2, (1 << 64) - 1), EINVAL),
    (XEN_DOMCTL_iomem_permission, 0, struct.pack("<QQ", 2, 1), EPERM),
    (XEN_DOMCTL_ioport_permission, 0, struct.pack("<II", 0xFFFF, 2), EINVAL),
    (XEN_DOMCTL_ioport_permission, 0, struct.pack("<II", 0xFFFF, 1), EPERM),
    (XEN_DOMCTL_ioport_permission, 0, struct.pack("<II", 0xFFFF, 0xFFFF_FFFF), EINVAL),
    (XEN_DOMCTL_memory_mapping, 0, struct.pack("<QQQ", 0, 1 << 28, 1), EINVAL),
    (XEN_DOMCTL_memory_mapping, 0, struct.pack("<QQQ", (1 << 64) - 1, 1, 2), EINVAL),
    (XEN_DOMCTL_memory_mapping, 0, struct.pack("<QQQ", 0, (1 << 28) - 1, 1), EPERM),
    (XEN_DOMCTL_set_target, 0, struct.pack("<H", 0), EINVAL),
    (XEN_DOMCTL_set_target, 0, struct.pack("<H", 999), ESRCH),
    (XEN_DOMCTL_assign_device, DOMID_IO, b"", EPERM),
    (XEN_DOMCTL_assign_device, DOMID_INVALID, b"", ESRCH),
    (XEN_DOMCTL_test_assign_device, DOMID_INVALID, b"", EPERM),
    (XEN_DOMCTL_get_device_group, 0, b"", -Errno.EOPNOTSUPP),
    (XEN_DOMCTL_vm_event_op, DOMID_INVALID, bytes(4), EPERM),
    (XEN_DOMCTL_vm_event_op, 999, struct.pack("<I", XEN_VM_EVENT_GET_VERSION), ESRCH),
])  # fmt: skip
def test_what_domctls_look_at_first(b: Bench, command: int, domain: int, inside: bytes, answer: int) -> None:
    op = XenDomctl(command, XEN_DOMCTL_INTERFACE_VERSION, domain)
    page = b.put(b.vcpu, ARGUMENT, bytes(op)[: XenDomctl.u.offset] + inside.ljust(128, b"\0"))
    assert b.do(HYPERVISOR_domctl, page) == answer


def test_the_one_domctl_that_anybody_may_make(b: Bench) -> None:
    op = XenDomctl(XEN_DOMCTL_vm_event_op, XEN_DOMCTL_INTERFACE_VERSION, DOMID_INVALID)
    asked = struct.pack("<III", XEN_VM_EVENT_GET_VERSION, 0, 0).ljust(128, b"\0")
    page = b.put(b.vcpu, ARGUMENT, bytes(op)[: XenDomctl.u.offset] + asked)
    assert b.do(HYPERVISOR_domctl, page) == 0
    answer = b.vcpu.memory.read(page + XenDomctl.u.offset, 12)
    assert struct.unpack("<III", answer) == (XEN_VM_EVENT_GET_VERSION, 0, VM_EVENT_INTERFACE_VERSION)
