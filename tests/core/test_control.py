# SPDX-License-Identifier: GPL-2.0-or-later
"""What a control domain may do to others, and that nobody else may."""

from __future__ import annotations

import inspect
import struct
from typing import Any
from uuid import UUID

import pytest

from pvhv.abi.control import (
    DOMCTL,
    PLATFORM_OP,
    SYSCTL,
    XEN_DOMCTL_INTERFACE_VERSION,
    XEN_SYSCTL_INTERFACE_VERSION,
    XENPF_INTERFACE_VERSION,
    XEN_DOMCTL_createdomain,
    XEN_DOMCTL_getdomaininfo,
    XenDomctl,
    XenPlatformOp,
    XenSysctl,
)
from pvhv.abi.errno import Errno
from pvhv.abi.memory import E820_ENTRY, E820_RAM
from pvhv.abi.xen import DOMID_SELF, MMUEXT_UNPIN_TABLE, HYPERVISOR_mmuext_op
from pvhv.core.context import GENERAL
from pvhv.core.control import (
    Control,
    XEN_DOMINF_blocked,
    XEN_DOMINF_paused,
    XEN_DOMINF_shutdown,
)
from pvhv.core.errors import HypercallError
from pvhv.core.mm.frames import PINNED
from tests.core.guests import Machine


class World:
    def __init__(self) -> None:
        self.machine = Machine()
        self.hv = self.machine.hv
        self.guest = self.machine.guest()
        self.dom0 = Control(self.hv, self.hv.dom0)
        self.domid = self.guest.domid


@pytest.fixture
def world() -> World:
    return World()


def refused(function: Any, *arguments: Any, **named: Any) -> Errno:
    with pytest.raises(HypercallError) as caught:
        function(*arguments, **named)
    return caught.value.errno


SAMPLES: dict[str, Any] = {
    "domid": 1, "vcpu_id": 0, "reason": 0, "handle": UUID(int=7), "max_pages": 10, "pfns": [1], "entries": [],
    "context": None, "seconds": 1, "mfn": 1, "count": 1, "start": 0, "end": 1,
}  # fmt: skip


def methods() -> list[str]:
    return [name for name, _ in inspect.getmembers(Control, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("name", methods())
def test_a_guest_may_do_nothing_of_it(world: World, name: str) -> None:
    """Every method, found by itself: a new one that forgets to ask fails here."""
    method = getattr(Control(world.hv, world.guest), name)
    needed = [each for each in inspect.signature(method).parameters.values() if each.default is each.empty]
    arguments = [SAMPLES[each.name] for each in needed]
    before = (set(world.hv.domains), world.guest.paused, world.guest.max_pages, world.guest.memory_map)
    assert refused(method, *arguments) == Errno.EPERM
    assert before == (set(world.hv.domains), world.guest.paused, world.guest.max_pages, world.guest.memory_map)


@pytest.mark.parametrize("name", [name for name in methods() if "domid" in
                                  inspect.signature(getattr(Control, name)).parameters])
def test_what_names_no_domain(world: World, name: str) -> None:
    method = getattr(world.dom0, name)
    needed = [each for each in inspect.signature(method).parameters.values() if each.default is each.empty]
    arguments = [99 if each.name == "domid" else SAMPLES[each.name] for each in needed]
    if name == "createdomain":  # there 99 is an id to give
        assert method(99) == 99
        assert refused(method, 99) == Errno.EEXIST
    else:
        assert refused(method, *arguments) == Errno.ESRCH


@pytest.mark.parametrize("name", ["destroydomain", "pausedomain", "resumedomain"])
def test_what_a_domain_does_not_do_to_itself(world: World, name: str) -> None:
    assert refused(getattr(world.dom0, name), 0) == Errno.EINVAL


def test_creating_with_limits(world: World) -> None:
    made = world.dom0.createdomain(
        vcpus=3, max_evtchn_port=5, max_grant_frames=2, max_maptrack_frames=1, max_grant_version=1
    )
    domain = world.hv.domains[made]
    assert (len(domain.vcpus), domain.events.max_port, domain.grants.max_frames) == (3, 5, 2)
    assert (domain.grants.max_mappings, domain.grants.max_version) == (256, 1)
    assert domain.paused and world.dom0.getdomaininfo(made).flags & XEN_DOMINF_paused
    for wrong in ({"vcpus": 0}, {"vcpus": 33}, {"max_grant_frames": 0}, {"max_grant_frames": 65},
                  {"max_maptrack_frames": 1025}, {"max_grant_version": 0}, {"max_grant_version": 3}):
        assert refused(world.dom0.createdomain, **wrong) == Errno.EINVAL


def test_pauses_count(world: World) -> None:
    assert world.guest.paused == 1  # as it was made
    world.dom0.pausedomain(world.domid)
    world.dom0.unpausedomain(world.domid)
    assert not world.guest.vcpus[0].runnable
    world.dom0.unpausedomain(world.domid)
    assert world.guest.vcpus[0].runnable
    assert refused(world.dom0.unpausedomain, world.domid) == Errno.EINVAL


def test_memory_for_a_domain(world: World) -> None:
    assert refused(world.dom0.populate_physmap, world.domid, [100]) == Errno.ENOMEM
    world.dom0.max_mem(world.domid, world.guest.tot_pages + 300)
    mfns = world.dom0.populate_physmap(world.domid, [100, 200])
    assert [world.hv.m2p[mfn] for mfn in mfns] == [100, 200]
    frames = world.hv.frames
    frames.release_allocation(mfns[0])  # so that what comes next comes in pieces
    scattered = [frames.allocate_run(world.domid, 1) for _ in range(3)]
    for mfn in scattered[::2]:
        frames.release_allocation(mfn)
    mfns = world.dom0.populate_physmap(world.domid, range(1000, 1200))
    assert [world.hv.m2p[mfn] for mfn in mfns] == list(range(1000, 1200))
    world.dom0.set_memory_map(world.domid, [(0, 4096, E820_RAM)])
    assert world.guest.memory_map == E820_ENTRY.pack(0, 4096, E820_RAM)
    assert refused(world.dom0.set_memory_map, world.domid, [(0, 1, 1)] * 129) == Errno.EINVAL


def test_a_table_is_pinned_in_a_domains_name(world: World) -> None:
    frames, root = world.hv.frames, world.guest.vcpus[0].guest_table
    refs, uses = frames.refs[root], frames.type_counts[root]
    world.dom0.pin_l4(world.domid, root)
    assert frames.types[root] & PINNED and (frames.refs[root], frames.type_counts[root]) == (refs + 1, uses + 1)
    for wrong in (root, 2, world.hv.m2p[0] + 10**6):  # pinned already; somebody else's; no frame
        assert refused(world.dom0.pin_l4, world.domid, wrong) == Errno.EINVAL
    assert (frames.refs[root], frames.type_counts[root]) == (refs + 1, uses + 1)
    vcpu = world.guest.vcpus[0]
    unpin = world.machine.put(vcpu, 8, struct.pack("<3Q", MMUEXT_UNPIN_TABLE, root, 0))
    assert world.machine.call(vcpu, HYPERVISOR_mmuext_op, unpin, 1, 0, DOMID_SELF) == 0
    assert (frames.refs[root], frames.type_counts[root]) == (refs, uses)


def test_a_hypercall_page_is_filled_on_request(world: World) -> None:
    world.dom0.max_mem(world.domid, world.guest.tot_pages + 1)
    (mfn,) = world.dom0.populate_physmap(world.domid, [300])
    world.dom0.hypercall_init(world.domid, mfn)
    page = bytes(world.hv.ram.frame(mfn))
    assert page[17 * 32 :].startswith(bytes.fromhex("51 4153 b811000000 0f05 415b 59 c3 cc"))  # xen_version's
    assert page[23 * 32 :].startswith(bytes.fromhex("51 4153 50 b817000000 0f05 cc"))  # iret does not come back
    assert refused(world.dom0.hypercall_init, world.domid, world.hv.m2p_l3) == Errno.EACCES
    assert refused(world.dom0.hypercall_init, world.domid, 1 << 40) == Errno.EACCES
    assert world.hv.frames.refs[mfn] == 1 and not world.hv.frames.type_counts[mfn]


def test_looking(world: World) -> None:
    info = world.dom0.getdomaininfo(world.domid)
    assert (info.domid, info.tot_pages, info.nr_online_vcpus, info.max_vcpu_id) == (world.domid, 48, 1, 0)
    assert info.shared_info_frame == world.guest.shared_info
    assert info.shutdown_code is None
    assert world.dom0.getdomaininfo(0).domid == 0
    assert [each.domid for each in world.dom0.getdomaininfolist()] == [0, world.domid]
    assert refused(world.dom0.getdomaininfo, world.domid + 1) == Errno.ESRCH
    assert refused(world.dom0.getdomaininfo, 0x7FF0) == Errno.EINVAL
    world.guest.vcpus[0].blocked = True
    assert world.dom0.getdomaininfo(world.domid).flags & XEN_DOMINF_blocked
    assert world.dom0.getvcpuinfo(world.domid, 0)[:3] == (True, True, False)
    assert refused(world.dom0.getvcpuinfo, world.domid, 1) == Errno.ESRCH
    assert world.dom0.physinfo().total_pages == world.hv.ram.frames
    assert "MiB" in world.dom0.readconsole(clear=True)
    assert world.dom0.readconsole() == ""


def test_shutting_down_and_resuming(world: World) -> None:
    world.dom0.unpausedomain(world.domid)
    world.dom0.remote_shutdown(world.domid, 2)
    info = world.dom0.getdomaininfo(world.domid)
    assert (info.flags & XEN_DOMINF_shutdown, info.shutdown_code) == (XEN_DOMINF_shutdown, 2)
    assert not world.guest.vcpus[0].runnable
    world.dom0.resumedomain(world.domid)
    assert world.dom0.getdomaininfo(world.domid).shutdown_code is None
    assert world.guest.vcpus[0].runnable


def test_settings(world: World) -> None:
    world.dom0.setdomainhandle(world.domid, UUID(int=9))
    world.dom0.scheduler_putinfo(world.domid, weight=512, cap=50)
    world.dom0.scheduler_putinfo(world.domid)
    world.dom0.settimeoffset(world.domid, 3600)
    assert world.dom0.getdomaininfo(world.domid).handle == UUID(int=9)
    assert world.dom0.scheduler_getinfo(world.domid) == (512, 50)
    assert world.guest.time_offset_seconds == 3600
    assert refused(world.dom0.setvcpucontext, world.domid, 9, None) == Errno.EINVAL


def test_a_wall_clock_may_be_from_before_1970(world: World) -> None:
    world.dom0.settimeoffset(world.domid, -(1 << 31))
    told = world.guest.timeline.wallclock() // 1_000_000_000 - (1 << 31)
    at = (world.guest.shared_info << 12) + 0xC00
    _version, low, _ns, high = struct.unpack("<IIII", world.guest.hypervisor.ram.bytes[at : at + 16])
    assert told < 0 and abs((high << 32 | low) - (1 << 64) - told) < 2


def test_a_context_is_told_as_it_was_given(world: World) -> None:
    vcpu = world.guest.vcpus[0]
    given = world.dom0.getvcpucontext(world.domid, 0)
    registers = given.user_regs
    for index, name in enumerate(GENERAL):
        setattr(registers, name, 0x1000_0000 + index)
    registers.rflags = 0x202 | 1 << 12 | 1
    registers.cs, registers.ss = 0xE033, 0xE02B
    given.flags = 0b11_1100  # online, in its kernel, callbacks that disable events
    for index, name in enumerate(("kernel_sp", "event_callback_eip", "failsafe_callback_eip", "syscall_callback_eip")):
        setattr(given, name, 0xFFFF_FFFF_8000_0000 + index)
    given.fs_base, given.gs_base_kernel, given.gs_base_user = 0x1000, 0x2000, 0x3000
    given.trap_ctxt[14].vector, given.trap_ctxt[14].flags = 14, 3 | 4
    given.trap_ctxt[14].cs, given.trap_ctxt[14].address = 0xE033, 0xFFFF_FFFF_8000_1000
    given.kernel_ss, given.ctrlreg[4] = 0xE02B, vcpu.cr4
    world.dom0.setvcpucontext(world.domid, 0, given)
    told = world.dom0.getvcpucontext(world.domid, 0)
    for name, *_kind in given._fields_:
        mine, theirs = getattr(given, name), getattr(told, name)
        if not isinstance(mine, int):
            mine, theirs = bytes(mine), bytes(theirs)
        assert mine == theirs, name
    assert refused(world.dom0.getvcpucontext, world.domid, 1) == Errno.EINVAL
    vcpu.initialised = False
    assert refused(world.dom0.getvcpucontext, world.domid, 0) == Errno.ENODATA


def test_frames_of_others_are_looked_at_and_no_more(world: World) -> None:
    pages = dict(world.dom0.frames_of(world.domid, 0, 1 << 40))
    assert len(pages) >= 48
    mfn = next(iter(pages.values()))
    page = world.dom0.foreign_page(world.domid, mfn)
    assert page is not None and page.readonly and len(page) == 4096
    for other in (world.hv.m2p_l3, 1 << 40, -1):
        assert world.dom0.foreign_page(world.domid, other) is None


def test_what_the_hypervisor_is(world: World) -> None:
    told = world.dom0.xen_version()
    assert (told.major, told.minor, told.extra) == (4, 17, b".0-pvhv")
    assert told.capabilities.startswith(b"xen-3.0-x86_64")


def test_destroying(world: World) -> None:
    world.dom0.destroydomain(world.domid)
    world.machine.safe_point()
    assert refused(world.dom0.getdomaininfo, world.domid) == Errno.ESRCH


# -- the hypercalls of the same names, which only guests could make ------------------------------------------------

def test_guests_are_refused_in_xens_order(world: World) -> None:
    vcpu = world.guest.vcpus[0]

    def ask(spec: Any, record: Any) -> int:
        return world.machine.call(vcpu, spec.number, world.machine.put(vcpu, 5, record))

    for spec, kind, version in (
        (DOMCTL, XenDomctl, XEN_DOMCTL_INTERFACE_VERSION),
        (SYSCTL, XenSysctl, XEN_SYSCTL_INTERFACE_VERSION),
        (PLATFORM_OP, XenPlatformOp, XENPF_INTERFACE_VERSION),
    ):
        assert ask(spec, kind(cmd=2, interface_version=version)) == -Errno.EPERM
        assert ask(spec, kind(cmd=2, interface_version=version + 1)) == -Errno.EACCES
        assert world.machine.call(vcpu, spec.number, 0x1000) == -Errno.EFAULT

    def domctl(cmd: int, domid: int) -> int:
        return ask(DOMCTL, XenDomctl(cmd=cmd, interface_version=XEN_DOMCTL_INTERFACE_VERSION, domain=domid))

    assert domctl(2, 99) == -Errno.ESRCH
    assert domctl(XEN_DOMCTL_createdomain, 99) == -Errno.EPERM
    assert domctl(XEN_DOMCTL_getdomaininfo, 0) == -Errno.EPERM
    assert domctl(XEN_DOMCTL_getdomaininfo, 99) == -Errno.ESRCH
    assert domctl(XEN_DOMCTL_getdomaininfo, 0x7FF0) == -Errno.EINVAL
