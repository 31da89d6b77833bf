# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypercalls of xen.h by which a PV guest changes page tables and descriptor tables.

A PV guest's page tables hold machine addresses, and the processor uses them directly. That is safe because a page in
use as a table is never mapped writable, and every entry is checked when it is written. So a guest changes entries by
these calls. A page table has a type (L1 to L4) as long as anything refers to it; pinning adds a reference for the
guest.

Structures and constants are in :mod:`pvhv.abi.xen`; the model behind the errors is in xen/arch/x86/mm.c.
"""

from __future__ import annotations

from pvhv.abi import xen
from pvhv.abi.errno import Errno
from pvhv.abi.spec import Arg, Command, Commands, Hypercall

_ENTRY = {
    Errno.EINVAL: "the address is not in a page table of the right owner; the entry has bits a guest may "
                  "not set, is in one of the hypervisor's L4 slots, or refers to a page that is not, and "
                  "cannot become, a table of the next level (nor, for an entry that is read-only, one of the same)",
    Errno.EBUSY: "an L1 entry maps a frame that is another domain's, or writably one that is in use as a "
                 "page table or descriptor table",
    Errno.EPERM: "the foreign domain is not the caller's to control, or an L1 entry maps a frame that is no "
                 "RAM",
    Errno.EACCES: "an L1 entry asks for special cacheability of a page the hypervisor shares",
}

_UNREACHABLE = {
    Errno.EACCES: "bits that ask for cacheability are refused before (EINVAL); no guest has device memory",
}

MMU_UPDATE = Hypercall(
    xen.HYPERVISOR_mmu_update, "mmu_update",
    (
        Arg("req", "mmu_update_t *", role="arg"),
        Arg("count", "unsigned int", role="count"),
        Arg("done_out", "unsigned int *", "NULL, or where to add how many were done"),
        Arg("foreigndom", "unsigned int", "DOMID_SELF; or whose frames are mapped, and in the upper half, "
                                          "plus one, whose tables are changed"),
    ),
    arg=xen.MmuUpdate, direction="in", batch=True,
    doc="Change entries of page tables, or of the machine-to-physical table, in order, until one fails. The "
        "low two bits of `ptr` say which: MMU_NORMAL_PT_UPDATE writes `val` to the entry at machine address "
        "`ptr` (any level; a plain writable page is written too); MMU_PT_UPDATE_PRESERVE_AD also keeps the "
        "accessed and dirty bits that are set; MMU_PT_UPDATE_NO_TRANSLATE is the same as normal for PV; "
        "MMU_MACHPHYS_UPDATE records `val` as the pfn of the frame `ptr` is in.",
    errors={
        Errno.EFAULT: "a request cannot be read",
        Errno.ESRCH: "`foreigndom` names no domain; the caller's own id, too, is not understood",
        Errno.ENOSYS: "the low three bits of `ptr` are above 3",
        **_ENTRY,
    },
    unreachable=_UNREACHABLE,
    test="tests/core/test_pagetables.py",
)

_PIN = {
    Errno.EINVAL: "`mfn` is not a frame of the domain's; it is pinned already; or it is in use as something "
                  "else, or an entry in it, or in a table below it, is not one the domain may install",
    Errno.EBUSY: "an L1 entry below it maps another domain's frame, or a table writably",
    Errno.EPERM: "an L1 entry below it maps a frame that is no RAM",
    Errno.EACCES: "an L1 entry below it asks for special cacheability of a page the hypervisor shares",
}
_OWN = {Errno.EPERM: "`foreigndom` is another domain"}

MMUEXT = Commands(
    "MMUEXT",
    Command("PIN_L1_TABLE", xen.MMUEXT_PIN_L1_TABLE, batch=True, errors=_PIN, unreachable=_UNREACHABLE,
            doc="Keep a page as an L1 table, whether or not anything refers to it."),
    Command("PIN_L2_TABLE", xen.MMUEXT_PIN_L2_TABLE, batch=True, errors=_PIN, unreachable=_UNREACHABLE,
            doc="Keep a page as an L2 table, with all below it."),
    Command("PIN_L3_TABLE", xen.MMUEXT_PIN_L3_TABLE, batch=True, errors=_PIN, unreachable=_UNREACHABLE,
            doc="Keep a page as an L3 table, with all below it."),
    Command("PIN_L4_TABLE", xen.MMUEXT_PIN_L4_TABLE, batch=True, errors=_PIN, unreachable=_UNREACHABLE,
            doc="Keep a page as an L4 table, with all below it. The hypervisor fills its own slots."),
    Command("UNPIN_TABLE", xen.MMUEXT_UNPIN_TABLE, batch=True,
            doc="Stop keeping it. With no other reference, it and what only it held become ordinary pages.",
            errors={Errno.EINVAL: "`mfn` is not a frame of the domain's, or not pinned"}),
    Command("NEW_BASEPTR", xen.MMUEXT_NEW_BASEPTR, batch=True,
            doc="Load the kernel's L4 table, validating it if it is not one yet. The TLB is flushed.",
            errors={**_PIN, Errno.EPERM: "`foreigndom` is another domain, or as for pinning",
                    Errno.EINVAL: "`mfn` is not, and cannot become, an L4 table of the domain's"},
            unreachable=_UNREACHABLE),
    Command("TLB_FLUSH_LOCAL", xen.MMUEXT_TLB_FLUSH_LOCAL, batch=True, errors=_OWN,
            doc="Flush the calling vCPU's TLB."),
    Command("INVLPG_LOCAL", xen.MMUEXT_INVLPG_LOCAL, batch=True, errors=_OWN,
            doc="Flush one address from the calling vCPU's TLB."),
    Command("TLB_FLUSH_MULTI", xen.MMUEXT_TLB_FLUSH_MULTI, batch=True,
            doc="Flush the TLBs of the vCPUs in a bitmap.",
            errors={**_OWN, Errno.EINVAL: "`vcpumask` cannot be read"}),
    Command("INVLPG_MULTI", xen.MMUEXT_INVLPG_MULTI, batch=True,
            doc="Flush one address from the TLBs of the vCPUs in a bitmap.",
            errors={**_OWN, Errno.EINVAL: "`vcpumask` cannot be read"}),
    Command("TLB_FLUSH_ALL", xen.MMUEXT_TLB_FLUSH_ALL, batch=True, errors=_OWN,
            doc="Flush the TLBs of all the domain's vCPUs."),
    Command("INVLPG_ALL", xen.MMUEXT_INVLPG_ALL, batch=True, errors=_OWN,
            doc="Flush one address from the TLBs of all the domain's vCPUs."),
    Command("FLUSH_CACHE", xen.MMUEXT_FLUSH_CACHE, batch=True,
            doc="Write back and empty the processor's caches.",
            errors={**_OWN, Errno.EACCES: "the domain has no device that would make it necessary"}),
    Command("SET_LDT", xen.MMUEXT_SET_LDT, batch=True,
            doc="Load an LDT: its address and number of entries, none with 0. Its pages are looked at when a "
                "descriptor of them is used, and must then hold nothing but descriptors a guest may have.",
            errors={**_OWN, Errno.EINVAL: "more than 8192 entries, or an address that is not on a page's "
                                          "boundary or is in the hypervisor's part of the address space"}),
    Command("NEW_USER_BASEPTR", xen.MMUEXT_NEW_USER_BASEPTR, batch=True,
            doc="Choose the L4 table user code runs on; 0 for none.",
            errors={**_PIN, Errno.EPERM: "`foreigndom` is another domain, or as for pinning",
                    Errno.EINVAL: "`mfn` is not, and cannot become, an L4 table of the domain's"},
            unreachable=_UNREACHABLE),
    Command("CLEAR_PAGE", xen.MMUEXT_CLEAR_PAGE, batch=True, doc="Fill a frame with zeros.",
            errors={Errno.EINVAL: "`mfn` is not a frame of the domain's that may be written"}),
    Command("COPY_PAGE", xen.MMUEXT_COPY_PAGE, batch=True, doc="Copy a frame (`src_mfn`) to another (`mfn`).",
            errors={Errno.EINVAL: "one of the two is not a frame of the domain's, or `mfn` may not be "
                                  "written"}),
    Command("FLUSH_CACHE_GLOBAL", xen.MMUEXT_FLUSH_CACHE_GLOBAL, batch=True,
            doc="Write back and empty every processor's caches.",
            errors={**_OWN, Errno.EINVAL: "the domain has no device that would make it necessary"}),
    Command("MARK_SUPER", xen.MMUEXT_MARK_SUPER, batch=True, refusal=Errno.EOPNOTSUPP,
            doc="Mark 2 MiB of frames as a superpage.",
            errors={Errno.EOPNOTSUPP: "Xen has dropped it"}),
    Command("UNMARK_SUPER", xen.MMUEXT_UNMARK_SUPER, batch=True, refusal=Errno.EOPNOTSUPP,
            doc="Undo that.", errors={Errno.EOPNOTSUPP: "Xen has dropped it"}),
)

MMUEXT_OP = Hypercall(
    xen.HYPERVISOR_mmuext_op, "mmuext_op",
    (
        Arg("op", "mmuext_op_t *", role="arg"),
        Arg("count", "unsigned int", role="count"),
        Arg("done_out", "unsigned int *", "NULL, or where to add how many were done"),
        Arg("foreigndom", "unsigned int", "DOMID_SELF, or whose frames are meant"),
    ),
    MMUEXT,
    arg=xen.MmuextOp, direction="in", batch=True, command_field="cmd",
    doc="What mmu_update cannot say: pinning, loading of base pointers and LDT, TLB flushes; in order, "
        "until one fails.",
    errors={
        Errno.EFAULT: "an operation cannot be read",
        Errno.ESRCH: "`foreigndom` names no domain; the caller's own id, too, is not understood",
        Errno.EPERM: "`foreigndom` is another domain and the caller does not control it",
        Errno.ENOSYS: "`cmd` is not one of these",
    },
    test="guest_kernel/tests/mmuext-pages/mmuext-pages.c",
)

_FLUSH = ("what to flush afterwards (UVMF_TLB_FLUSH, UVMF_INVLPG or nothing) and where (UVMF_LOCAL, "
          "UVMF_ALL, or a pointer to a bitmap of vCPUs)")
_UPDATE_VA = {**_ENTRY, Errno.EINVAL: "no L1 table of the caller's covers `va`, or the entry has bits a "
                                      "guest may not set"}

UPDATE_VA_MAPPING = Hypercall(
    xen.HYPERVISOR_update_va_mapping, "update_va_mapping",
    (Arg("va", "unsigned long"), Arg("val", "uint64_t"), Arg("flags", "unsigned long", _FLUSH)),
    doc="Write the L1 entry that maps `va` in the address space the vCPU runs on, and flush.",
    errors={
        **_UPDATE_VA,
        Errno.EPERM: "the entry maps a frame that is no RAM",
        Errno.EFAULT: "the bitmap of vCPUs cannot be read; the entry is written by then",
    },
    unreachable=_UNREACHABLE,
    test="guest_kernel/tests/update-va-mapping/update-va-mapping.c",
)

UPDATE_VA_MAPPING_OTHERDOMAIN = Hypercall(
    xen.HYPERVISOR_update_va_mapping_otherdomain, "update_va_mapping_otherdomain",
    (
        Arg("va", "unsigned long"),
        Arg("val", "uint64_t"),
        Arg("flags", "unsigned long", _FLUSH),
        Arg("domid", "domid_t", "whose frame it is"),
    ),
    doc="The same, to map a frame of another domain's.",
    errors={
        **_UPDATE_VA,
        Errno.EFAULT: "the bitmap of vCPUs cannot be read; the entry is written by then",
        Errno.ESRCH: "`domid` names no domain; the caller's own id, too, is not understood",
    },
    unreachable=_UNREACHABLE,
    test="tests/core/test_pagetables.py",
)

SET_GDT = Hypercall(
    xen.HYPERVISOR_set_gdt, "set_gdt",
    (Arg("frame_list", "const unsigned long *"), Arg("entries", "unsigned int")),
    doc="Load the calling vCPU's GDT from a list of frames, each of 512 descriptors. While loaded, they are "
        "descriptor pages: not writable, changed by update_descriptor.",
    errors={
        Errno.EINVAL: f"more than {14 * 512} entries, or a frame is not the domain's, is mapped writably or "
                      "holds a descriptor a guest may not have",
        Errno.EFAULT: "`frame_list` cannot be read",
    },
    test="guest_kernel/tests/descriptors/descriptors.c",
)

UPDATE_DESCRIPTOR = Hypercall(
    xen.HYPERVISOR_update_descriptor, "update_descriptor",
    (Arg("ma", "uint64_t", "machine address of the descriptor"), Arg("desc", "uint64_t")),
    doc="Write a descriptor. Its privilege level is raised to what a guest may have; call gates are kept "
        "with level 0, so that using one traps.",
    errors={
        Errno.EINVAL: "`ma` is not on a multiple of 8 or not in a frame of the domain's that is a "
                      "descriptor page or may be written; or the descriptor is a gate or system segment "
                      "other than a call gate",
    },
    test="guest_kernel/tests/descriptors/descriptors.c",
)
