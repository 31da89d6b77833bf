# SPDX-License-Identifier: GPL-2.0-or-later
"""hvm_op and dm_op: hypercalls for HVM guests, and the answers a PV guest gets from them.

Two commands work for every guest: the time, and a record in Xen's trace. All others check their argument and the domain
it names, and fail because that domain is not HVM.

Read beside it: xen/include/public/hvm/hvm_op.h, do_hvm_op in xen/arch/x86/hvm/hvm.c; xen/common/dm.c.
"""

from __future__ import annotations

from pvhv.abi import xen
from pvhv.abi.errno import Errno
from pvhv.abi.layout import cstruct, handle, record, uint8_t, uint16_t, uint32_t, uint64_t
from pvhv.abi.spec import Arg, Command, Commands, Hypercall

HVMOP_set_param = 0
HVMOP_get_param = 1
HVMOP_flush_tlbs = 5
HVMOP_pagetable_dying = 9
HVMOP_get_time = 10
HVMOP_xentrace = 11
HVMOP_get_mem_type = 15
HVMOP_set_evtchn_upcall_vector = 23
HVMOP_guest_request_vm_event = 24
HVMOP_altp2m = 25

HVM_NR_PARAMS = 39
TRACE_EXTRA_BYTES = 28
TRACE_EVENTS = 1 << 12  # numbers a guest may use

xen_hvm_param = cstruct(
    "xen_hvm_param", "domid" / xen.domid_t, "pad" / uint16_t, "index" / uint32_t, "value" / uint64_t)
XenHvmParam = record(xen_hvm_param)

xen_hvm_pagetable_dying = cstruct(
    "xen_hvm_pagetable_dying", "domid" / xen.domid_t, "pad" / uint16_t[3], "gpa" / uint64_t)
XenHvmPagetableDying = record(xen_hvm_pagetable_dying)

xen_hvm_get_time = cstruct("xen_hvm_get_time", "now" / uint64_t)
XenHvmGetTime = record(xen_hvm_get_time)

xen_hvm_xentrace = cstruct(
    "xen_hvm_xentrace", "event" / uint16_t, "extra_bytes" / uint16_t, "extra" / uint8_t[TRACE_EXTRA_BYTES])
XenHvmXentrace = record(xen_hvm_xentrace)

xen_hvm_get_mem_type = cstruct(
    "xen_hvm_get_mem_type",
    "domid" / xen.domid_t,
    "mem_type" / uint16_t,
    "pad" / uint16_t[2],
    "pfn" / uint64_t,
)
XenHvmGetMemType = record(xen_hvm_get_mem_type)

xen_dm_op_buf = cstruct("xen_dm_op_buf", "h" / handle("void"), "size" / uint64_t)
XenDmOpBuf = record(xen_dm_op_buf)
DM_OP_BUFS = 2  # as many as any device model's request has

_ESRCH = {Errno.ESRCH: "`domid` names no domain"}
_PV = "the domain is PV"
_PARAM = {
    Errno.EINVAL: f"`index` is not below {HVM_NR_PARAMS}; or, once the domain was found, it is PV",
    **_ESRCH,
    Errno.EPERM: "the domain is HVM, and the caller does not control it",
}

HVMOP = Commands(
    "HVMOP",
    Command("set_param", HVMOP_set_param, XenHvmParam, "in", refusal=Errno.EINVAL, refused_by_handler=True,
            doc="Set an HVM guest's parameter; PV guests have start_info.", errors=_PARAM),
    Command("get_param", HVMOP_get_param, XenHvmParam, "inout", out=("value",), refusal=Errno.EINVAL,
            refused_by_handler=True, doc="Read an HVM guest's parameter.", errors=_PARAM),
    Command("flush_tlbs", HVMOP_flush_tlbs, refusal=Errno.EINVAL,
            doc="Flush the TLBs of all vCPUs.", errors={Errno.EINVAL: f"{_PV}, or `arg` is not NULL"}),
    Command("pagetable_dying", HVMOP_pagetable_dying, XenHvmPagetableDying, "in", refusal=Errno.EINVAL,
            refused_by_handler=True, doc="Announce that a page table will be freed, for shadow paging.",
            errors={
                **_ESRCH,
                Errno.EOPNOTSUPP: "`domid` is another domain",
                Errno.EINVAL: _PV,
            }),
    Command("get_time", HVMOP_get_time, XenHvmGetTime, "out", doc="The system time, of any kind of guest."),
    Command("xentrace", HVMOP_xentrace, XenHvmXentrace, "in",
            doc="Put a record into Xen's trace buffers. There are none here, so the record is dropped.",
            errors={
                Errno.EINVAL: f"`extra_bytes` is above {TRACE_EXTRA_BYTES}, or `event` is not below {TRACE_EVENTS:#x}",
            }),
    Command("get_mem_type", HVMOP_get_mem_type, XenHvmGetMemType, "inout", out=("mem_type",), refusal=Errno.EINVAL,
            refused_by_handler=True, doc="What kind of memory is behind a frame number.",
            errors={
                **_ESRCH,
                Errno.EPERM: "`domid` is another domain and the caller does not control it",
                Errno.EINVAL: _PV,
            }),
    Command("set_evtchn_upcall_vector", HVMOP_set_evtchn_upcall_vector, refusal=Errno.EINVAL,
            doc="Set the vector of a vCPU's event upcall.", errors={Errno.EINVAL: _PV}),
    Command("guest_request_vm_event", HVMOP_guest_request_vm_event,
            doc="Send an event to the domain's monitor; pvhv has none.",
            errors={Errno.EINVAL: "`arg` is not NULL"}),
    Command("altp2m", HVMOP_altp2m, refusal=Errno.EOPNOTSUPP,
            doc="Several physical-to-machine maps for one guest.",
            errors={Errno.EOPNOTSUPP: "it takes a processor that can switch them"}),
)

HVM_OP = Hypercall(
    xen.HYPERVISOR_hvm_op, "hvm_op", (Arg("op", "unsigned long", role="cmd"), Arg("arg", "void *", role="arg")),
    HVMOP,
    doc="Parameters and events of HVM guests.",
    errors={Errno.EFAULT: "`arg` cannot be read or written", Errno.ENOSYS: "`op` is not one of these"},
    test="guest_kernel/tests/refusals/refusals.c",
)

DM_OP = Hypercall(
    xen.HYPERVISOR_dm_op, "dm_op",
    (Arg("domid", "domid_t"), Arg("nr_bufs", "unsigned int"), Arg("bufs", "xen_dm_op_buf_t *", role="arg")),
    refusal=Errno.EINVAL, refused_by_handler=True,
    doc="A device model's work for an HVM guest.",
    errors={
        Errno.ENODATA: "`nr_bufs` is 0",
        Errno.E2BIG: f"`nr_bufs` is above {DM_OP_BUFS}",
        Errno.EFAULT: "`bufs` cannot be read",
        Errno.ESRCH: "`domid` names no domain; DOMID_SELF is not understood",
        Errno.EPERM: "`domid` is the caller itself, or is HVM and not the caller's to serve",
        Errno.EINVAL: _PV,
    },
    test="guest_kernel/tests/refusals/refusals.c",
)
