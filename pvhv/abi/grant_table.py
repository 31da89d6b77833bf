# SPDX-License-Identifier: GPL-2.0-or-later
"""Grant tables: a domain says which of its frames another may map, copy or take.

The granting domain writes entries into its own shared table; the other names them by reference.  Every
command takes an array, and each item has its own answer in ``status`` (GNTST_*): the hypercall as a whole
fails only when the array cannot be read or written.

A table begins with version 1 entries.  In version 2 an entry may grant a part of a frame (GTF_sub_page) or pass another
domain's grant on (GTF_transitive), both of which can be copied only, not mapped. In version 2 the current use of an
entry is in separate status frames.

Not modelled: device mappings through an IOMMU, ARM's cache_flush.

Read beside it: xen/include/public/grant_table.h, xen/common/grant_table.c, xen/arch/x86/pv/grant_table.c.
"""

from __future__ import annotations

from pvhv.abi.arch_x86 import xen_pfn_t
from pvhv.abi.errno import Errno
from pvhv.abi.layout import (
    codec,
    cstruct,
    cunion,
    handle,
    int16_t,
    record,
    typedef,
    uint16_t,
    uint32_t,
    uint64_t,
)
from pvhv.abi.spec import Arg, Command, Commands, Hypercall
from pvhv.abi.xen import HYPERVISOR_grant_table_op, domid_t

GNTTAB_NR_RESERVED_ENTRIES = 8
GNTTAB_RESERVED_CONSOLE = 0
GNTTAB_RESERVED_XENSTORE = 1

# grant_entry flags: the type in the low two bits, then what the owner allows and what the hypervisor reports.
GTF_invalid = 0
GTF_permit_access = 1
GTF_accept_transfer = 2
GTF_transitive = 3
GTF_type_mask = 3
GTF_readonly = 1 << 2
GTF_reading = 1 << 3
GTF_writing = 1 << 4
GTF_PWT = 1 << 5
GTF_PCD = 1 << 6
GTF_PAT = 1 << 7
GTF_sub_page = 1 << 8
GTF_transfer_committed = 1 << 2
GTF_transfer_completed = 1 << 3

GNTTABOP_map_grant_ref = 0
GNTTABOP_unmap_grant_ref = 1
GNTTABOP_setup_table = 2
GNTTABOP_dump_table = 3
GNTTABOP_transfer = 4
GNTTABOP_copy = 5
GNTTABOP_query_size = 6
GNTTABOP_unmap_and_replace = 7
GNTTABOP_set_version = 8
GNTTABOP_get_status_frames = 9
GNTTABOP_get_version = 10
GNTTABOP_swap_grant_ref = 11
GNTTABOP_cache_flush = 12

GNTCOPY_source_gref = 1 << 0
GNTCOPY_dest_gref = 1 << 1

GNTTAB_CACHE_CLEAN = 1 << 0
GNTTAB_CACHE_INVAL = 1 << 1
GNTTAB_CACHE_SOURCE_GREF = 1 << 31

# map_grant_ref's flags.
GNTMAP_device_map = 1 << 0
GNTMAP_host_map = 1 << 1
GNTMAP_readonly = 1 << 2
GNTMAP_application_map = 1 << 3
GNTMAP_contains_pte = 1 << 4
GNTMAP_guest_avail_mask = 0xFFFF_0000

GNTST_okay = 0
GNTST_general_error = -1
GNTST_bad_domain = -2
GNTST_bad_gntref = -3
GNTST_bad_handle = -4
GNTST_bad_virt_addr = -5
GNTST_bad_dev_addr = -6
GNTST_no_device_space = -7
GNTST_permission_denied = -8
GNTST_bad_page = -9
GNTST_bad_copy_arg = -10
GNTST_address_too_big = -11
GNTST_eagain = -12
GNTST_no_space = -13

grant_ref_t = typedef("grant_ref_t", uint32_t)
grant_handle_t = typedef("grant_handle_t", uint32_t)
grant_status_t = typedef("grant_status_t", uint16_t)

grant_entry_v1 = cstruct("grant_entry_v1", "flags" / uint16_t, "domid" / domid_t, "frame" / uint32_t)
GrantEntryV1 = record(grant_entry_v1)
GRANT_ENTRY_V1_CODEC = codec(grant_entry_v1)

grant_entry_header = cstruct("grant_entry_header", "flags" / uint16_t, "domid" / domid_t)

grant_entry_v2 = cunion(
    "grant_entry_v2",
    "hdr" / grant_entry_header,
    "full_page" / cstruct(None, "hdr" / grant_entry_header, "pad0" / uint32_t, "frame" / uint64_t),
    "sub_page" / cstruct(
        None,
        "hdr" / grant_entry_header,
        "page_off" / uint16_t,
        "length" / uint16_t,
        "frame" / uint64_t,
    ),
    "transitive" / cstruct(
        None,
        "hdr" / grant_entry_header,
        "trans_domid" / domid_t,
        "pad0" / uint16_t,
        "gref" / grant_ref_t,
    ),
    "__spacer" / uint32_t[4],
)
GrantEntryV2 = record(grant_entry_v2)

gnttab_map_grant_ref = cstruct(
    "gnttab_map_grant_ref",
    "host_addr" / uint64_t,
    "flags" / uint32_t,
    "ref" / grant_ref_t,
    "dom" / domid_t,
    "status" / int16_t,
    "handle" / grant_handle_t,
    "dev_bus_addr" / uint64_t,
)
GnttabMapGrantRef = record(gnttab_map_grant_ref)
GNTTAB_MAP_GRANT_REF_CODEC = codec(gnttab_map_grant_ref)

gnttab_unmap_grant_ref = cstruct(
    "gnttab_unmap_grant_ref",
    "host_addr" / uint64_t,
    "dev_bus_addr" / uint64_t,
    "handle" / grant_handle_t,
    "status" / int16_t,
)
GnttabUnmapGrantRef = record(gnttab_unmap_grant_ref)

gnttab_setup_table = cstruct(
    "gnttab_setup_table",
    "dom" / domid_t,
    "nr_frames" / uint32_t,
    "status" / int16_t,
    "frame_list" / handle("xen_pfn_t"),
)
GnttabSetupTable = record(gnttab_setup_table)

gnttab_dump_table = cstruct("gnttab_dump_table", "dom" / domid_t, "status" / int16_t)
GnttabDumpTable = record(gnttab_dump_table)

gnttab_transfer = cstruct(
    "gnttab_transfer",
    "mfn" / xen_pfn_t,
    "domid" / domid_t,
    "ref" / grant_ref_t,
    "status" / int16_t,
)
GnttabTransfer = record(gnttab_transfer)

gnttab_copy_ptr = cstruct(
    "gnttab_copy_ptr",
    "u" / cunion(None, "ref" / grant_ref_t, "gmfn" / xen_pfn_t),
    "domid" / domid_t,
    "offset" / uint16_t,
    typedef=None,
)
gnttab_copy = cstruct(
    "gnttab_copy",
    "source" / gnttab_copy_ptr,
    "dest" / gnttab_copy_ptr,
    "len" / uint16_t,
    "flags" / uint16_t,
    "status" / int16_t,
)
GnttabCopy = record(gnttab_copy)

gnttab_query_size = cstruct(
    "gnttab_query_size",
    "dom" / domid_t,
    "nr_frames" / uint32_t,
    "max_nr_frames" / uint32_t,
    "status" / int16_t,
)
GnttabQuerySize = record(gnttab_query_size)

gnttab_unmap_and_replace = cstruct(
    "gnttab_unmap_and_replace",
    "host_addr" / uint64_t,
    "new_addr" / uint64_t,
    "handle" / grant_handle_t,
    "status" / int16_t,
)
GnttabUnmapAndReplace = record(gnttab_unmap_and_replace)

gnttab_set_version = cstruct("gnttab_set_version", "version" / uint32_t)
GnttabSetVersion = record(gnttab_set_version)

gnttab_get_status_frames = cstruct(
    "gnttab_get_status_frames",
    "nr_frames" / uint32_t,
    "dom" / domid_t,
    "status" / int16_t,
    "frame_list" / handle("uint64_t"),
)
GnttabGetStatusFrames = record(gnttab_get_status_frames)

gnttab_get_version = cstruct("gnttab_get_version", "dom" / domid_t, "pad" / uint16_t, "version" / uint32_t)
GnttabGetVersion = record(gnttab_get_version)

gnttab_swap_grant_ref = cstruct(
    "gnttab_swap_grant_ref", "ref_a" / grant_ref_t, "ref_b" / grant_ref_t, "status" / int16_t)
GnttabSwapGrantRef = record(gnttab_swap_grant_ref)

gnttab_cache_flush = cstruct(
    "gnttab_cache_flush",
    "a" / cunion(None, "dev_bus_addr" / uint64_t, "ref" / grant_ref_t),
    "offset" / uint16_t,
    "length" / uint16_t,
    "op" / uint32_t,
)
GnttabCacheFlush = record(gnttab_cache_flush)

_ONE_ONLY = {Errno.EINVAL: "`count` is not 1"}
_NOT_YOURS = "`dom` is another domain and the caller does not control it"
_BAD_GRANT = "the entry does not permit access, names another domain, or is read-only and writing was asked"
_OTHER_USE = "it is in use by another domain, or too often, or was changed under a use"

GNTTABOP = Commands(
    "GNTTABOP",
    Command(
        "map_grant_ref", GNTTABOP_map_grant_ref, GnttabMapGrantRef, "inout",
        out=("status", "handle", "dev_bus_addr"), batch=True,
        doc="Map a granted frame. `host_addr` is the virtual address to map at, or with GNTMAP_contains_pte "
            "the machine address of the L1 entry to write; the table it is in must be there already. The "
            "handle is what unmapping wants.",
        statuses={
            GNTST_bad_gntref: "neither GNTMAP_host_map nor GNTMAP_device_map is set, or `ref` is beyond the "
                              "table",
            GNTST_bad_domain: "`dom` names no domain",
            GNTST_no_space: "the caller has as many mappings as it may",
            GNTST_general_error: f"{_BAD_GRANT}, or is for a part of a frame or transitive; {_OTHER_USE}; the "
                                 "frame is a page table and writing was asked; or `host_addr` has no L1 entry "
                                 "of the caller's",
            GNTST_bad_page: "the entry's frame is not a frame of the granter's",
        },
    ),
    Command(
        "unmap_grant_ref", GNTTABOP_unmap_grant_ref, GnttabUnmapGrantRef, "inout", out=("status",),
        batch=True,
        doc="Undo a mapping: the host's where `host_addr` is not 0, the device's where `dev_bus_addr` is "
            "not. When neither is left the handle is free and the granter may end the grant.",
        statuses={
            GNTST_bad_handle: "`handle` names no mapping of the caller's",
            GNTST_bad_dev_addr: "`dev_bus_addr` is not the frame's address",
            GNTST_general_error: "`host_addr` does not map the granted frame as it was granted",
        },
    ),
    Command(
        "setup_table", GNTTABOP_setup_table, GnttabSetupTable, "inout", out=("status",),
        doc="Grow a domain's grant table to `nr_frames` and list its frames in `frame_list`, for the domain "
            "to map.",
        errors=_ONE_ONLY,
        statuses={
            GNTST_bad_domain: "`dom` names no domain",
            GNTST_permission_denied: _NOT_YOURS,
            GNTST_general_error: "`nr_frames` is more than the domain may have, or there is no memory for "
                                 "them",
            GNTST_bad_virt_addr: "`frame_list` cannot be written",
        },
    ),
    Command(
        "dump_table", GNTTABOP_dump_table, GnttabDumpTable, "inout", out=("status",),
        doc="Print a grant table for debugging, which Xen has dropped.",
        status="Xen 4.17 knows the number and answers -ENOSYS too",
    ),
    Command(
        "transfer", GNTTABOP_transfer, GnttabTransfer, "inout", out=("status",), batch=True,
        doc="Give a frame away to a domain whose entry accepts a transfer. The frame is lost to the caller "
            "even when the receiver turns out not to take it.",
        statuses={
            GNTST_bad_page: "`mfn` is not an ordinary frame of the caller's, or is still referred to: "
                            "mapped, a page table, granted and in use",
            GNTST_bad_domain: "`domid` names no domain",
            GNTST_address_too_big: "the frame's number does not fit a version 1 entry and no lower one is "
                                   "free",
            GNTST_general_error: "the receiver is dying, has no room, or its entry `ref` does not accept a "
                                 "transfer from the caller",
        },
    ),
    Command(
        "copy", GNTTABOP_copy, GnttabCopy, "inout", out=("status",), batch=True,
        doc="Copy up to a page between two frames, each the caller's own (DOMID_SELF, by frame) or granted "
            "(by reference). Of a transitive entry, the one it names is used in the granter's name; that one must "
            "not be transitive. As long as a transitive entry in use was changed, the call is continued.",
        statuses={
            GNTST_bad_domain: "`domid` of source or destination names no domain, or one that is dying",
            GNTST_permission_denied: "a frame is named without a grant, and `domid` is not DOMID_SELF",
            GNTST_bad_gntref: "a reference is beyond its domain's table",
            GNTST_general_error: f"{_BAD_GRANT}, or passes a grant on that it cannot; {_OTHER_USE}; the "
                                 "destination is a page table or a descriptor page; or, after all else, offset "
                                 "and length are not within the part that is granted",
            GNTST_bad_page: "a frame is not an ordinary frame of the domain's",
            GNTST_bad_copy_arg: "offset and length cross the end of a page",
        },
    ),
    Command(
        "query_size", GNTTABOP_query_size, GnttabQuerySize, "inout",
        out=("nr_frames", "max_nr_frames", "status"),
        doc="How many frames a domain's grant table has and may have.",
        errors=_ONE_ONLY,
        statuses={
            GNTST_bad_domain: "`dom` names no domain",
            GNTST_permission_denied: _NOT_YOURS,
        },
    ),
    Command(
        "unmap_and_replace", GNTTABOP_unmap_and_replace, GnttabUnmapAndReplace, "inout", out=("status",),
        batch=True,
        doc="Undo a mapping and put the entry that maps `new_addr` in its place, so that no moment passes "
            "without one; `new_addr` is left unmapped. 0 just unmaps.",
        statuses={
            GNTST_bad_handle: "`handle` names no mapping of the caller's",
            GNTST_general_error: "`host_addr` does not map the granted frame as it was granted, `new_addr` "
                                 "has no L1 entry, or the mapping was made with GNTMAP_contains_pte",
        },
    ),
    Command(
        "set_version", GNTTABOP_set_version, GnttabSetVersion, "inout", out=("version",),
        doc="Choose the format of the caller's table. The first eight entries are kept, all others cleared. With "
            "version 2 come the status frames that go with the table. `version` tells which one the table has, "
            "whatever the answer.",
        test="tests/core/test_grants_v2.py",
        errors={
            Errno.EINVAL: "`version` is neither 1 nor 2",
            Errno.ENOSYS: "the domain may not have version 2 (`max_grant_version`)",
            Errno.EBUSY: "an entry other than the first eight is in use; or a status frame is mapped when version "
                         "1 is wanted",
            Errno.ENOMEM: "no memory for the status frames",
            Errno.EAGAIN: "one of the first eight is being copied by, in a way only version 2 knows",
            Errno.ERANGE: "one of the first eight is transitive, or grants a frame beyond 2^32",
        },
        unreachable={Errno.EAGAIN: "a copy is not interleaved with this"},
    ),
    Command(
        "get_status_frames", GNTTABOP_get_status_frames, GnttabGetStatusFrames, "inout", out=("status",),
        doc="List the status frames of a version 2 table, for the domain to map: 2048 entries' in each. Version 1 "
            "has none.",
        test="tests/core/test_grants_v2.py",
        errors=_ONE_ONLY,
        statuses={
            GNTST_bad_domain: "`dom` names no domain",
            GNTST_permission_denied: _NOT_YOURS,
            GNTST_general_error: "`nr_frames` is more than the table has",
            GNTST_bad_virt_addr: "`frame_list` cannot be written",
        },
    ),
    Command(
        "get_version", GNTTABOP_get_version, GnttabGetVersion, "inout", out=("version",),
        doc="Which format a domain's table has.",
        errors={Errno.ESRCH: "`dom` names no domain", Errno.EPERM: _NOT_YOURS},
    ),
    Command(
        "swap_grant_ref", GNTTABOP_swap_grant_ref, GnttabSwapGrantRef, "inout", out=("status",), batch=True,
        doc="Exchange two entries of the caller's table.",
        statuses={
            GNTST_bad_gntref: "a reference is beyond the table",
            GNTST_eagain: "one of the two is in use",
        },
    ),
    Command(
        "cache_flush", GNTTABOP_cache_flush, GnttabCacheFlush, "in", batch=True,
        doc="Clean caches over a frame of the caller's, or one granted to it and in use. Caches are "
            "coherent here, so what is left is the checking; the first item that fails ends the batch.",
        errors={
            Errno.EINVAL: "the range is not inside one page, `op` has unknown bits (or names the frame by "
                          "reference), or the frame is no RAM, or another domain's and not granted to the "
                          "caller",
            Errno.EILSEQ: "`cmd` has bits above its command, as a continuation's, but there is nothing to "
                          "flush",
            Errno.EPERM: "the frame belongs to no domain",
            Errno.EOPNOTSUPP: "invalidating without cleaning is asked for, which x86 does not do",
        },
    ),
)

GRANT_TABLE_OP = Hypercall(
    HYPERVISOR_grant_table_op, "grant_table_op",
    (
        Arg("cmd", "unsigned int", role="cmd"),
        Arg("uop", "void *", role="arg"),
        Arg("count", "unsigned int", role="count"),
    ),
    GNTTABOP,
    doc="Share frames between domains. `uop` is an array of `count` items, each answered in its own status "
        "field. A long array is worked through in pieces; items done stay done.",
    errors={
        Errno.EINVAL: "`count` is negative as an int, or `cmd` has bits above its command",
        Errno.ENOSYS: "`cmd` is not one of these",
        Errno.EFAULT: "an item cannot be read or written",
    },
    test="tests/core/test_grants.py",
)
