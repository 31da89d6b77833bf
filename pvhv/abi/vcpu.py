# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's vCPUs: bringing them up, their timers, and the memory areas the hypervisor keeps up to date for them.

Every command names a vCPU of the caller's own domain.  Areas registered here (vcpu_info, runstate, time) are
written by the hypervisor from then on, at every change: vcpu_info by frame, the others by virtual address.

Read beside it: xen/include/public/vcpu.h, xen/common/domain.c, xen/arch/x86/domain.c.
"""

from __future__ import annotations

from pvhv.abi.arch_x86 import VcpuGuestContext
from pvhv.abi.errno import Errno
from pvhv.abi.layout import c_int, codec, cstruct, cunion, handle, record, uint32_t, uint64_t
from pvhv.abi.spec import Arg, Command, Commands, Hypercall
from pvhv.abi.xen import HYPERVISOR_vcpu_op

VCPUOP_initialise = 0
VCPUOP_up = 1
VCPUOP_down = 2
VCPUOP_is_up = 3
VCPUOP_get_runstate_info = 4
VCPUOP_register_runstate_memory_area = 5
VCPUOP_set_periodic_timer = 6
VCPUOP_stop_periodic_timer = 7
VCPUOP_set_singleshot_timer = 8
VCPUOP_stop_singleshot_timer = 9
VCPUOP_register_vcpu_info = 10
VCPUOP_send_nmi = 11
VCPUOP_get_physid = 12
VCPUOP_register_vcpu_time_memory_area = 13

RUNSTATE_running = 0
RUNSTATE_runnable = 1
RUNSTATE_blocked = 2
RUNSTATE_offline = 3

# Set in state_entry_time while the area is being written, for guests that ask by
# VMASST_TYPE_runstate_update_flag.
XEN_RUNSTATE_UPDATE = 1 << 63

VCPU_SSHOTTMR_future = 1 << 0

vcpu_runstate_info = cstruct(
    "vcpu_runstate_info",
    "state" / c_int,
    "state_entry_time" / uint64_t,
    "time" / uint64_t[4],
)
VcpuRunstateInfo = record(vcpu_runstate_info)
VCPU_RUNSTATE_INFO_CODEC = codec(vcpu_runstate_info)

vcpu_register_runstate_memory_area = cstruct(
    "vcpu_register_runstate_memory_area",
    "addr" / cunion(
        None, "h" / handle("vcpu_runstate_info_t"), "v" / handle("vcpu_runstate_info_t"), "p" / uint64_t),
)
VcpuRegisterRunstateMemoryArea = record(vcpu_register_runstate_memory_area)

vcpu_set_periodic_timer = cstruct("vcpu_set_periodic_timer", "period_ns" / uint64_t)
VcpuSetPeriodicTimer = record(vcpu_set_periodic_timer)

vcpu_set_singleshot_timer = cstruct(
    "vcpu_set_singleshot_timer", "timeout_abs_ns" / uint64_t, "flags" / uint32_t)
VcpuSetSingleshotTimer = record(vcpu_set_singleshot_timer)

vcpu_register_vcpu_info = cstruct(
    "vcpu_register_vcpu_info", "mfn" / uint64_t, "offset" / uint32_t, "rsvd" / uint32_t)
VcpuRegisterVcpuInfo = record(vcpu_register_vcpu_info)

vcpu_get_physid = cstruct("vcpu_get_physid", "phys_id" / uint64_t)
VcpuGetPhysid = record(vcpu_get_physid)

vcpu_register_time_memory_area = cstruct(
    "vcpu_register_time_memory_area",
    "addr" / cunion(None, "h" / handle("vcpu_time_info_t"), "v" / handle("vcpu_time_info_t"), "p" / uint64_t),
)
VcpuRegisterTimeMemoryArea = record(vcpu_register_time_memory_area)

VCPUOP = Commands(
    "VCPUOP",
    Command(
        "initialise", VCPUOP_initialise, VcpuGuestContext, "in",
        doc="Give a vCPU that never ran its registers, tables and callbacks. It stays down until `up`, "
            "unless the context says VGCF_online.",
        errors={
            Errno.EEXIST: "the vCPU is initialised already",
            Errno.EINVAL: "the vCPU has no vcpu_info yet (beyond the 32 of shared_info it must register one "
                          "first); an address in the context is not canonical; the LDT, GDT or vm_assist is "
                          "not a guest's to ask for; or the page table is not the domain's or not valid",
            Errno.EBUSY: "an L1 entry below the page table maps another domain's frame, or a table writably",
            Errno.EPERM: "an L1 entry below the page table maps a frame that is no RAM",
            Errno.ENOMEM: "no memory to hold the context",
        },
        unreachable={Errno.ENOMEM: "the host's memory is never refused"},
    ),
    Command(
        "up", VCPUOP_up, doc="Start a vCPU, or continue one that was taken down.",
        errors={Errno.EINVAL: "the vCPU was never initialised"},
    ),
    Command(
        "down", VCPUOP_down,
        doc="Stop a vCPU until `up`. The last one to go down powers the domain off.",
    ),
    Command("is_up", VCPUOP_is_up, doc="Whether a vCPU is up.", returns="1 or 0"),
    Command(
        "get_runstate_info", VCPUOP_get_runstate_info, VcpuRunstateInfo, "out",
        doc="A vCPU's runstate, and the time spent in each: running, runnable, blocked, offline.",
    ),
    Command(
        "register_runstate_memory_area", VCPUOP_register_runstate_memory_area,
        VcpuRegisterRunstateMemoryArea, "in",
        doc="Keep a copy of a vCPU's runstate at a virtual address. It is written through the tables the "
            "vCPU runs on; while they do not map it, updates are lost silently.",
        errors={Errno.EFAULT: "the area is in the hypervisor's part of the address space"},
    ),
    Command(
        "set_periodic_timer", VCPUOP_set_periodic_timer, VcpuSetPeriodicTimer, "in",
        doc="Raise VIRQ_TIMER on a vCPU at every period.",
        errors={Errno.EINVAL: "the period is below a millisecond, or longer than 2^62 - 1 ns"},
    ),
    Command("stop_periodic_timer", VCPUOP_stop_periodic_timer, doc="Stop the periodic timer."),
    Command(
        "set_singleshot_timer", VCPUOP_set_singleshot_timer, VcpuSetSingleshotTimer, "in",
        doc="Raise VIRQ_TIMER once, at an absolute system time. A time already past fires at once, whatever "
            "the flags say.",
        errors={Errno.EINVAL: "the vCPU is not the caller"},
    ),
    Command(
        "stop_singleshot_timer", VCPUOP_stop_singleshot_timer, doc="Stop the one-shot timer.",
        errors={Errno.EINVAL: "the vCPU is not the caller"},
    ),
    Command(
        "register_vcpu_info", VCPUOP_register_vcpu_info, VcpuRegisterVcpuInfo, "in",
        doc="Move a vCPU's vcpu_info into a frame of the guest's. It can be done once; everything is marked "
            "pending afterwards, so that nothing is lost on the way.",
        errors={
            Errno.ENXIO: "`offset` leaves no room in the page, or is not a multiple of 8",
            Errno.EINVAL: "the vCPU has registered one already; it is neither the caller nor down; or `mfn` "
                          "is not a frame the domain may write",
            Errno.ENOMEM: "no room to map the frame",
        },
        unreachable={Errno.ENOMEM: "all of RAM is mapped"},
    ),
    Command(
        "send_nmi", VCPUOP_send_nmi, doc="Raise an NMI on a vCPU.",
        errors={Errno.EINVAL: "`arg` is not NULL"},
    ),
    Command(
        "get_physid", VCPUOP_get_physid, VcpuGetPhysid, "out", refusal=Errno.EINVAL,
        doc="The APIC id of the CPU a dom0 vCPU is pinned to.",
        errors={Errno.EINVAL: "only a dom0 vCPU that is pinned has one"},
    ),
    Command(
        "register_vcpu_time_memory_area", VCPUOP_register_vcpu_time_memory_area,
        VcpuRegisterTimeMemoryArea, "in",
        doc="Keep a second copy of a vCPU's time information at a virtual address, for user code to read.",
        errors={Errno.EFAULT: "the area is in the hypervisor's part of the address space"},
    ),
)

VCPU_OP = Hypercall(
    HYPERVISOR_vcpu_op, "vcpu_op",
    (Arg("cmd", "int", role="cmd"), Arg("vcpuid", "unsigned int"), Arg("extra_args", "void *", role="arg")),
    VCPUOP,
    doc="Look after one of the domain's own vCPUs.",
    errors={
        Errno.ENOENT: "`vcpuid` names no vCPU (checked before `cmd`)",
        Errno.EFAULT: "the argument cannot be read, or not be written where the command answers in it",
        Errno.ENOSYS: "`cmd` is not one of these",
    },
    test="guest_kernel/tests/second-vcpu/second-vcpu.c",
)
