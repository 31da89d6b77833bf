# SPDX-License-Identifier: GPL-2.0-or-later
"""Feature bits: what XENVER_get_features reports, and what a kernel's notes ask for.

A kernel's XEN_ELFNOTE_FEATURES string names the same bits by words (``!writable_page_tables`` makes one
required); :data:`FEATURE_NAMES` is that vocabulary.

Read beside it: xen/include/public/features.h, xen/common/libelf/libelf-dominfo.c.
"""

from __future__ import annotations

XENFEAT_writable_page_tables = 0
XENFEAT_writable_descriptor_tables = 1
XENFEAT_auto_translated_physmap = 2
XENFEAT_supervisor_mode_kernel = 3
XENFEAT_pae_pgdir_above_4gb = 4
XENFEAT_mmu_pt_update_preserve_ad = 5
XENFEAT_highmem_assist = 6
XENFEAT_gnttab_map_avail_bits = 7
XENFEAT_hvm_callback_vector = 8
XENFEAT_hvm_safe_pvclock = 9
XENFEAT_hvm_pirqs = 10
XENFEAT_dom0 = 11
XENFEAT_memory_op_vnode_supported = 13
XENFEAT_ARM_SMCCC_supported = 14
XENFEAT_linux_rsdp_unrestricted = 15
XENFEAT_not_direct_mapped = 16
XENFEAT_direct_mapped = 17

# How many 32-bit words of features there are.
XENFEAT_NR_SUBMAPS = 1

# The words libelf knows; a name it does not know is an error only when the kernel requires it.
FEATURE_NAMES = {
    "writable_page_tables": XENFEAT_writable_page_tables,
    "writable_descriptor_tables": XENFEAT_writable_descriptor_tables,
    "auto_translated_physmap": XENFEAT_auto_translated_physmap,
    "supervisor_mode_kernel": XENFEAT_supervisor_mode_kernel,
    "pae_pgdir_above_4gb": XENFEAT_pae_pgdir_above_4gb,
    "hvm_callback_vector": XENFEAT_hvm_callback_vector,
    "dom0": XENFEAT_dom0,
}
