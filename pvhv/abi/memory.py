# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's memory: getting frames, giving them back, and learning what there is.

increase_reservation, decrease_reservation and populate_physmap never fail: they return how many extents they did, and
stop at the first they could not do.  So a guest must compare the result with `nr_extents`, not look for a negative
number.

A pv guest keeps its own pfn-to-mfn map; populate_physmap only records the pfn in the machine-to-physical table. Calls
that need a map kept by the hypervisor (add_to_physmap and the like) are refused to a PV guest.

Read beside it: xen/include/public/memory.h, xen/common/memory.c, xen/arch/x86/mm.c (arch_memory_op).
"""

from __future__ import annotations

import struct

from pvhv.abi.arch_x86 import xen_pfn_t, xen_ulong_t
from pvhv.abi.errno import Errno
from pvhv.abi.layout import c_uint, cstruct, cunion, handle, record, uint8_t, uint16_t, uint32_t, uint64_t
from pvhv.abi.physdev import physdev_pci_device
from pvhv.abi.spec import Arg, Command, Commands, Hypercall
from pvhv.abi.xen import HYPERVISOR_memory_op, domid_t

XENMEM_increase_reservation = 0
XENMEM_decrease_reservation = 1
XENMEM_maximum_ram_page = 2
XENMEM_current_reservation = 3
XENMEM_maximum_reservation = 4
XENMEM_machphys_mfn_list = 5
XENMEM_populate_physmap = 6
XENMEM_add_to_physmap = 7
XENMEM_memory_map = 9
XENMEM_machine_memory_map = 10
XENMEM_exchange = 11
XENMEM_machphys_mapping = 12
XENMEM_set_memory_map = 13
XENMEM_maximum_gpfn = 14
XENMEM_remove_from_physmap = 15
XENMEM_set_pod_target = 16
XENMEM_get_pod_target = 17
XENMEM_get_sharing_freed_pages = 18
XENMEM_get_sharing_shared_pages = 19
XENMEM_paging_op = 20
XENMEM_access_op = 21
XENMEM_sharing_op = 22
XENMEM_add_to_physmap_batch = 23
XENMEM_claim_pages = 24
XENMEM_machphys_compat_mfn_list = 25
XENMEM_get_vnumainfo = 26
XENMEM_reserved_device_memory_map = 27
XENMEM_acquire_resource = 28

# xen_memory_reservation.mem_flags: address bits below 8, a node plus one in bits 8 to 15, then flags.
XENMEMF_populate_on_demand = 1 << 16
XENMEMF_exact_node_request = 1 << 17
XENMEMF_vnode = 1 << 18


def XENMEMF_address_bits(bits: int) -> int:
    return bits


def XENMEMF_get_address_bits(flags: int) -> int:
    return flags & 0xFF


def XENMEMF_node(node: int) -> int:
    return node + 1 << 8


def XENMEMF_get_node(flags: int) -> int:
    return (flags >> 8) - 1 & 0xFF


def XENMEMF_exact_node(node: int) -> int:
    return XENMEMF_node(node) | XENMEMF_exact_node_request


XENMAPSPACE_shared_info = 0
XENMAPSPACE_grant_table = 1
XENMAPSPACE_gmfn = 2
XENMAPSPACE_gmfn_range = 3
XENMAPSPACE_gmfn_foreign = 4
XENMAPSPACE_dev_mmio = 5
XENMAPIDX_grant_table_status = 0x8000_0000

XENMEM_RDM_ALL = 1
XENMEM_resource_ioreq_server = 0
XENMEM_resource_grant_table = 1
XENMEM_resource_vmtrace_buf = 2
XENMEM_resource_grant_table_id_shared = 0
XENMEM_resource_grant_table_id_status = 1

# One entry of a memory map: address, size, type, without padding.
E820_ENTRY = struct.Struct("<QQL")
E820_RAM = 1
E820_RESERVED = 2
E820_MAX = 128

# No extent of a guest's is larger than 2^DOMU_MAX_ORDER pages.
DOMU_MAX_ORDER = 9

# memory_op's first argument: six bits of command; above them, a continuation's progress.
MEMOP_EXTENT_SHIFT = 6
MEMOP_CMD_MASK = (1 << MEMOP_EXTENT_SHIFT) - 1

xen_memory_reservation = cstruct(
    "xen_memory_reservation",
    "extent_start" / handle("xen_pfn_t"),
    "nr_extents" / xen_ulong_t,
    "extent_order" / c_uint,
    "mem_flags" / c_uint,
    "domid" / domid_t,
)
XenMemoryReservation = record(xen_memory_reservation)

xen_memory_exchange = cstruct(
    "xen_memory_exchange",
    "in" / xen_memory_reservation,
    "out" / xen_memory_reservation,
    "nr_exchanged" / xen_ulong_t,
)
XenMemoryExchange = record(xen_memory_exchange)

xen_memory_domain = cstruct("xen_memory_domain", "domid" / domid_t, typedef=None)
XenMemoryDomain = record(xen_memory_domain)

xen_machphys_mfn_list = cstruct(
    "xen_machphys_mfn_list",
    "max_extents" / c_uint,
    "extent_start" / handle("xen_pfn_t"),
    "nr_extents" / c_uint,
)
XenMachphysMfnList = record(xen_machphys_mfn_list)

xen_machphys_mapping = cstruct(
    "xen_machphys_mapping", "v_start" / xen_ulong_t, "v_end" / xen_ulong_t, "max_mfn" / xen_ulong_t)
XenMachphysMapping = record(xen_machphys_mapping)

xen_add_to_physmap = cstruct(
    "xen_add_to_physmap",
    "domid" / domid_t,
    "size" / uint16_t,
    "space" / c_uint,
    "idx" / xen_ulong_t,
    "gpfn" / xen_pfn_t,
)
XenAddToPhysmap = record(xen_add_to_physmap)

xen_add_to_physmap_batch_extra = cunion(
    "xen_add_to_physmap_batch_extra", "foreign_domid" / domid_t, "res0" / uint16_t, typedef=None)
xen_add_to_physmap_batch = cstruct(
    "xen_add_to_physmap_batch",
    "domid" / domid_t,
    "space" / uint16_t,
    "size" / uint16_t,
    "u" / xen_add_to_physmap_batch_extra,
    "idxs" / handle("xen_ulong_t"),
    "gpfns" / handle("xen_pfn_t"),
    "errs" / handle("int"),
)
XenAddToPhysmapBatch = record(xen_add_to_physmap_batch)

xen_remove_from_physmap = cstruct("xen_remove_from_physmap", "domid" / domid_t, "gpfn" / xen_pfn_t)
XenRemoveFromPhysmap = record(xen_remove_from_physmap)

xen_memory_map = cstruct("xen_memory_map", "nr_entries" / c_uint, "buffer" / handle("void"))
XenMemoryMap = record(xen_memory_map)

xen_foreign_memory_map = cstruct("xen_foreign_memory_map", "domid" / domid_t, "map" / xen_memory_map)
XenForeignMemoryMap = record(xen_foreign_memory_map)

xen_pod_target = cstruct(
    "xen_pod_target",
    "target_pages" / uint64_t,
    "tot_pages" / uint64_t,
    "pod_cache_pages" / uint64_t,
    "pod_entries" / uint64_t,
    "domid" / domid_t,
)
XenPodTarget = record(xen_pod_target)

xen_reserved_device_memory = cstruct(
    "xen_reserved_device_memory", "start_pfn" / xen_pfn_t, "nr_pages" / xen_ulong_t)

xen_reserved_device_memory_map = cstruct(
    "xen_reserved_device_memory_map",
    "flags" / uint32_t,
    "nr_entries" / c_uint,
    "buffer" / handle("xen_reserved_device_memory_t"),
    "dev" / cunion(None, "pci" / physdev_pci_device),
)
XenReservedDeviceMemoryMap = record(xen_reserved_device_memory_map)

xen_mem_acquire_resource = cstruct(
    "xen_mem_acquire_resource",
    "domid" / domid_t,
    "type" / uint16_t,
    "id" / uint32_t,
    "nr_frames" / uint32_t,
    "pad" / uint32_t,
    "frame" / uint64_t,
    "frame_list" / handle("xen_pfn_t"),
)
XenMemAcquireResource = record(xen_mem_acquire_resource)

xen_mem_access_op = cstruct(
    "xen_mem_access_op",
    "op" / uint8_t,
    "access" / uint8_t,
    "domid" / domid_t,
    "nr" / uint32_t,
    "pfn" / uint64_t,
    "pfn_list" / handle("const_uint64"),
    "access_list" / handle("const_uint8"),
)
XenMemAccessOp = record(xen_mem_access_op)

xen_vmemrange = cstruct(
    "xen_vmemrange", "start" / uint64_t, "end" / uint64_t, "flags" / c_uint, "nid" / c_uint)

xen_vnuma_topology_info = cstruct(
    "xen_vnuma_topology_info",
    "domid" / domid_t,
    "pad" / uint16_t,
    "nr_vnodes" / c_uint,
    "nr_vcpus" / c_uint,
    "nr_vmemranges" / c_uint,
    "vdistance" / cunion(None, "h" / handle("uint"), "pad" / uint64_t),
    "vcpu_to_vnode" / cunion(None, "h" / handle("uint"), "pad" / uint64_t),
    "vmemrange" / cunion(None, "h" / handle("xen_vmemrange_t"), "pad" / uint64_t),
)
XenVnumaTopologyInfo = record(xen_vnuma_topology_info)

_EXTENTS = "how many extents were done; never an error"
_STOPS = ("It stops, short of `nr_extents`, at an extent that cannot be done: the reservation or the list "
          "cannot be read or written, `domid` is not the caller's to change, `extent_order` is above 9, ")
_ESRCH = {Errno.ESRCH: "`domid` names no domain"}
_EPERM = {Errno.EPERM: "`domid` is another domain and the caller does not control it"}
_EFAULT = {Errno.EFAULT: "the argument cannot be read or written"}
_WHOLE = {Errno.ENOSYS: "bits above the command are set"}
_POD = {**_WHOLE, **_EFAULT, **_ESRCH, Errno.EINVAL: "the domain is PV", Errno.EPERM: "only the control domain may"}
_CONTINUED = {Errno.EINVAL: "bits above the command are set, which only a continuation of a resumable one "
                            "has"}

XENMEM = Commands(
    "XENMEM",
    Command(
        "increase_reservation", XENMEM_increase_reservation, XenMemoryReservation, "in", returns=_EXTENTS,
        doc="Get new frames, without pfns. Their numbers are written to `extent_start`, which may be NULL. "
            + _STOPS + "the domain has all it may have, or memory is out.",
    ),
    Command(
        "decrease_reservation", XENMEM_decrease_reservation, XenMemoryReservation, "in", returns=_EXTENTS,
        doc="Give frames back: `extent_start` lists their numbers. A frame still mapped is lost to the "
            "domain now and free once the last mapping goes. " + _STOPS + "or the frame is not the domain's.",
    ),
    Command(
        "maximum_ram_page", XENMEM_maximum_ram_page, errors=_CONTINUED,
        doc="How far machine memory reaches.", returns="the highest frame number, plus one",
    ),
    Command(
        "current_reservation", XENMEM_current_reservation, XenMemoryDomain, "in",
        errors={**_ESRCH, **_EPERM, **_EFAULT, **_CONTINUED},
        doc="How many frames a domain has.", returns="the number of frames",
    ),
    Command(
        "maximum_reservation", XENMEM_maximum_reservation, XenMemoryDomain, "in",
        errors={**_ESRCH, **_EPERM, **_EFAULT, **_CONTINUED},
        doc="How many frames a domain may have.", returns="the number of frames",
    ),
    Command(
        "machphys_mfn_list", XENMEM_machphys_mfn_list, XenMachphysMfnList, "inout", out=("nr_extents",),
        errors=_EFAULT,
        doc="The frames of the machine-to-physical table, one of each 2 MiB of it.",
    ),
    Command(
        "populate_physmap", XENMEM_populate_physmap, XenMemoryReservation, "in", returns=_EXTENTS,
        doc="Get new frames for given pfns: `extent_start` lists pfns and is overwritten with the frame "
            "numbers. "
            + _STOPS + "the domain has all it may have, memory is out, or XENMEMF_populate_on_demand was "
                       "asked for oneself.",
    ),
    Command(
        "add_to_physmap", XENMEM_add_to_physmap, XenAddToPhysmap, "in",
        doc="Place a frame in a map the hypervisor keeps. A PV guest has none.",
        errors={
            **_EFAULT, **_ESRCH,
            Errno.ENOSYS: "`space` is XENMAPSPACE_gmfn_foreign",
            Errno.EDOM: "bits above the command are no progress a continuation could have",
            Errno.EACCES: "the domain is PV",
        },
    ),
    Command(
        "memory_map", XENMEM_memory_map, XenMemoryMap, "inout", out=("nr_entries",),
        doc="The memory map the toolstack gave the domain, in the BIOS's e820 format: packed entries of "
            "address, size and type.",
        errors={**_EFAULT, Errno.ENOSYS: "the domain was given no map"},
    ),
    Command(
        "machine_memory_map", XENMEM_machine_memory_map, XenMemoryMap, "inout", out=("nr_entries",),
        refusal=Errno.EPERM, refused_by_handler=True,
        doc="The machine's own memory map.",
        errors={**_WHOLE, Errno.EPERM: "only the control domain may ask; the argument is not looked at"},
    ),
    Command(
        "exchange", XENMEM_exchange, XenMemoryExchange, "inout", out=("nr_exchanged",),
        doc="Give frames back and get as many new ones, in extents of another order. `nr_exchanged` tells "
            "how far it came, and where to go on.",
        errors={
            **_EFAULT, **_ESRCH,
            Errno.EPERM: "an `extent_order` is above 9, or `domid` is another domain and the caller does not "
                         "control it",
            Errno.EINVAL: "the two reservations name different domains or sizes, `nr_exchanged` is beyond "
                          "the first's, an exact node is asked for; or a frame is not the domain's, or is "
                          "still referred to; or bits above the command are set",
            Errno.ENOMEM: "no frames of that order are free",
        },
    ),
    Command(
        "machphys_mapping", XENMEM_machphys_mapping, XenMachphysMapping, "out", errors=_EFAULT,
        doc="Where every address space shows the read-only machine-to-physical table.",
    ),
    Command(
        "set_memory_map", XENMEM_set_memory_map, XenForeignMemoryMap, "in",
        doc="Give a domain the map `memory_map` will tell it.",
        errors={
            **_EFAULT, **_ESRCH, **_EPERM,
            Errno.EINVAL: f"more than {E820_MAX} entries",
            Errno.ENOMEM: "no memory to keep it",
        },
        unreachable={Errno.ENOMEM: "the host's memory is never refused"},
    ),
    Command(
        "maximum_gpfn", XENMEM_maximum_gpfn, XenMemoryDomain, "in",
        errors={**_ESRCH, **_EPERM, **_EFAULT, **_CONTINUED},
        doc="A PV guest's highest pfn, as the guest wrote it into shared_info's max_pfn.", returns="the pfn",
    ),
    Command(
        "remove_from_physmap", XENMEM_remove_from_physmap, XenRemoveFromPhysmap, "in",
        doc="Take a frame out of a map the hypervisor keeps. A PV guest has none.",
        errors={**_EFAULT, **_ESRCH, **_CONTINUED, Errno.EACCES: "the domain is PV"},
    ),
    Command(
        "set_pod_target", XENMEM_set_pod_target, XenPodTarget, "inout", refusal=Errno.EINVAL, refused_by_handler=True,
        out=("tot_pages", "pod_cache_pages", "pod_entries"),
        doc="Populate on demand, which HVM guests have.", errors=_POD,
    ),
    Command(
        "get_pod_target", XENMEM_get_pod_target, XenPodTarget, "inout", refusal=Errno.EINVAL, refused_by_handler=True,
        out=("tot_pages", "pod_cache_pages", "pod_entries"),
        doc="Populate on demand, which HVM guests have.", errors=_POD,
    ),
    Command("get_sharing_freed_pages", XENMEM_get_sharing_freed_pages,
            doc="Frames saved by sharing memory between domains, which is never done.", returns="0: none"),
    Command("get_sharing_shared_pages", XENMEM_get_sharing_shared_pages,
            doc="Frames shared between domains, which is never done.", returns="0: none"),
    Command("paging_op", XENMEM_paging_op, doc="Page an HVM guest's memory out and in.",
            status="a default build of Xen cannot page guests to disk, either, and answers the same"),
    Command(
        "access_op", XENMEM_access_op, XenMemAccessOp, "inout", out=("access",), refusal=Errno.EINVAL,
        refused_by_handler=True, doc="Watch an HVM guest's memory for access.",
        errors={
            **_EFAULT, **_ESRCH,
            Errno.EPERM: "`domid` is the caller itself",
            Errno.EINVAL: "it takes an Intel processor, and an HVM guest with nested paging",
        },
    ),
    Command("sharing_op", XENMEM_sharing_op, doc="Share HVM guests' memory.",
            status="a default build of Xen cannot share memory, either, and answers the same"),
    Command(
        "add_to_physmap_batch", XENMEM_add_to_physmap_batch, XenAddToPhysmapBatch, "in",
        doc="add_to_physmap for many frames.",
        errors={
            **_EFAULT, **_ESRCH,
            Errno.EOPNOTSUPP: "`space` is XENMAPSPACE_gmfn_range",
            Errno.EDOM: "bits above the command are no progress a continuation could have",
            Errno.EACCES: "the domain is PV",
        },
    ),
    Command(
        "claim_pages", XENMEM_claim_pages, XenMemoryReservation, "in", refusal=Errno.EPERM, refused_by_handler=True,
        doc="Set frames aside for a domain that is being built.",
        errors={
            **_EFAULT,
            Errno.EINVAL: "bits above the command are set, `extent_start`, `extent_order` or `mem_flags` is not 0, or "
                          "`domid` names no domain",
            Errno.EPERM: "only the control domain may",
        },
    ),
    Command(
        "machphys_compat_mfn_list", XENMEM_machphys_compat_mfn_list, XenMachphysMfnList, "inout",
        out=("nr_extents",), refusal=Errno.EOPNOTSUPP, refused_by_handler=True,
        doc="The frames of the 32-bit machine-to-physical table.",
        errors={**_WHOLE, Errno.EOPNOTSUPP: "there are no 32-bit guests; the argument is not looked at"},
    ),
    Command(
        "get_vnumainfo", XENMEM_get_vnumainfo, XenVnumaTopologyInfo, "inout", refusal=Errno.EOPNOTSUPP,
        refused_by_handler=True, out=("nr_vnodes", "nr_vcpus", "nr_vmemranges"),
        doc="The domain's virtual NUMA topology.",
        errors={
            **_EFAULT,
            Errno.EINVAL: "bits above the command are set, or `pad` is",
            **_ESRCH, **_EPERM,
            Errno.EOPNOTSUPP: "the domain was given none",
        },
    ),
    Command("reserved_device_memory_map", XENMEM_reserved_device_memory_map, XenReservedDeviceMemoryMap,
            "inout", out=("nr_entries",),
            doc="Memory reserved for devices that could be passed through. There is none: `nr_entries` becomes 0.",
            errors={**_EFAULT, Errno.EINVAL: "bits above the command are set, or `flags` has unknown ones"}),
    Command(
        "acquire_resource", XENMEM_acquire_resource, XenMemAcquireResource, "inout", out=("nr_frames",),
        refusal=Errno.EPERM, refused_by_handler=True,
        doc="Map a resource (grant table, ioreq pages) of another domain, for its toolstack or device model.",
        errors={
            **_EFAULT,
            Errno.EINVAL: "`pad` is not 0, or `frame` or what `nr_frames` reaches from there is beyond 32 bits",
            Errno.ESRCH: "`domid` names no domain; DOMID_SELF is not understood",
            Errno.EPERM: "the caller does not control the domain; that includes the caller itself",
        },
    ),
)

MEMORY_OP = Hypercall(
    HYPERVISOR_memory_op, "memory_op",
    (Arg("cmd", "unsigned long", role="cmd"), Arg("arg", "void *", role="arg")),
    XENMEM,
    command_mask=MEMOP_CMD_MASK,
    doc="Get, give back and describe memory. The command is in the low six bits of `cmd`; the rest is how "
        "far a call that was interrupted had come, and a guest leaves it 0.",
    errors={Errno.ENOSYS: "the command is not one of these"},
    test="tests/core/test_memory_op.py",
)
