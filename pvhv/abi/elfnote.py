# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF notes by which a kernel says how it wants to be started.

A note's name is "Xen"; its value is a string or a 4- or 8-byte number, as each line says.  The domain builder
reads them; a kernel without them is not a Xen kernel.

Read beside it: xen/include/public/elfnote.h.
"""

from __future__ import annotations

XEN_ELFNOTE_INFO = 0  # string, free
XEN_ELFNOTE_ENTRY = 1  # number: where the first vCPU starts
XEN_ELFNOTE_HYPERCALL_PAGE = 2  # number: the page to fill with hypercall stubs
XEN_ELFNOTE_VIRT_BASE = 3  # number: virtual address of pfn 0
XEN_ELFNOTE_PADDR_OFFSET = 4  # number: what the ELF's physical addresses start from
XEN_ELFNOTE_XEN_VERSION = 5  # string, "xen-3.0"
XEN_ELFNOTE_GUEST_OS = 6  # string
XEN_ELFNOTE_GUEST_VERSION = 7  # string
XEN_ELFNOTE_LOADER = 8  # string, "generic"
XEN_ELFNOTE_PAE_MODE = 9  # string
XEN_ELFNOTE_FEATURES = 10  # string: words of features.FEATURE_NAMES joined by |, "!" before a required one
XEN_ELFNOTE_BSD_SYMTAB = 11  # string
XEN_ELFNOTE_HV_START_LOW = 12  # number: the lowest address Xen may take
XEN_ELFNOTE_L1_MFN_VALID = 13  # pairs of numbers: mask and value of a valid not-present PTE
XEN_ELFNOTE_SUSPEND_CANCEL = 14  # number
XEN_ELFNOTE_INIT_P2M = 15  # number: where to map the p2m list
XEN_ELFNOTE_MOD_START_PFN = 16  # number: non-zero when start_info.mod_start may be a pfn
XEN_ELFNOTE_SUPPORTED_FEATURES = 17  # number: a bitmap of XENFEAT_*
XEN_ELFNOTE_PHYS32_ENTRY = 18  # number: PVH's entry point
XEN_ELFNOTE_MAX = XEN_ELFNOTE_PHYS32_ENTRY

# Notes of crash dumps and of dump-core files.
XEN_ELFNOTE_CRASH_INFO = 0x100_0001
XEN_ELFNOTE_CRASH_REGS = 0x100_0002
XEN_ELFNOTE_DUMPCORE_NONE = 0x200_0000
XEN_ELFNOTE_DUMPCORE_HEADER = 0x200_0001
XEN_ELFNOTE_DUMPCORE_XEN_VERSION = 0x200_0002
XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION = 0x200_0003
