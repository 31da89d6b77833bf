/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * As much of ELF as it takes to start a static program.
 */
#pragma once

#include <types.h>

struct elf_header {
    u8 magic[4], class, data, version, padding[9];
    u16 type, machine;
    u32 version2;
    u64 entry, program_headers, section_headers;
    u32 flags;
    u16 header_size, program_header_size, program_header_count;
    u16 section_header_size, section_header_count, section_names;
};

struct elf_segment {
    u32 type, flags;
    u64 offset, vaddr, paddr, file_size, memory_size, align;
};

#define ELF_LOAD 1
#define ELF_EXECUTE 1
#define ELF_WRITE 2
#define ELF_X86_64 62
