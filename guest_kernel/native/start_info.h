/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a PVH loader leaves in memory for the kernel, and whose physical address is in %ebx.  The ABI is Xen's, but
 * many loaders speak it, QEMU's -kernel among them.  (Xen: docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h.)
 */
#pragma once

#include <types.h>

#define START_INFO_MAGIC 0x336ec578 /* "xEn3" with its highest bit set */

struct pvh_start_info {
    u32 magic;
    u32 version; /* 1 and later: with a memory map */
    u32 flags;
    u32 module_count;
    u64 modules;
    u64 command_line; /* physical addresses, 0 if there is none */
    u64 acpi_tables;
    u64 memory_map;
    u32 memory_map_entries;
    u32 reserved;
};

#define MEMORY_RAM 1 /* the types are those of the BIOS's E820 call */

struct pvh_memory {
    u64 from, size;
    u32 type, reserved;
};
