/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The GDT and the TSS: what is left of segmentation in 64-bit mode.  Bases and limits no longer count; a code
 * segment's descriptor says 64-bit and which ring, and the TSS says where the stacks are.
 * (Intel SDM volume 3A, 3.4.5 "Segment Descriptors", 8.7 "Task Management in 64-bit Mode".)
 *
 * The order of the GDT is that of syscall and sysret, which do not read it but compute selectors from MSR STAR:
 * syscall loads cs = K, ss = K + 8; sysret, to 64-bit code, cs = U + 16, ss = U + 8.  (At U would be 32-bit code.)
 */
#include <types.h>

#include "instructions.h"
#include "native.h"

#define CODE64 0x00af9b000000ffffUL /* present, code, readable, accessed, L */
#define DATA 0x00cf93000000ffffUL   /* present, data, writable, accessed */
#define RING3 (3UL << 45)
#define TSS_AVAILABLE (0x89UL << 40)

u64 gdt[8] __attribute__((aligned(16))) = {
    [KERNEL_CS / 8] = CODE64,
    [KERNEL_SS / 8] = DATA,
    [USER_SS / 8] = DATA | RING3, /* entry 3, below this, is U: no 32-bit programs here */
    [USER_CS / 8] = CODE64 | RING3,
    /* entries 6 and 7 together: the TSS, whose address is a 64-bit number */
};

struct tss {
    u32 reserved0;
    u64 rsp[3]; /* of the rings 0 to 2, when something comes in from an outer one */
    u64 reserved1;
    u64 ist[7]; /* stacks for the gates that ask for one */
    u64 reserved2;
    u16 reserved3, io_map;
} __attribute__((packed));

struct tss tss = { .io_map = sizeof(tss) }; /* beyond the end: user code has no ports */

/* For what may find any stack in use, or none: double faults, NMIs, machine checks (traps.c). */
static u8 last_resort[4096] __attribute__((aligned(16)));

struct descriptor_table {
    u16 limit;
    u64 base;
} __attribute__((packed));

void set_kernel_stack(u64 top)
{
    tss.rsp[0] = top;
}

void segments_init(void)
{
    struct descriptor_table table = { sizeof(gdt) - 1, (u64)gdt };
    u64 base = (u64)&tss;

    tss.ist[0] = (u64)last_resort + sizeof(last_resort);
    gdt[TSS_SELECTOR / 8] = TSS_AVAILABLE | (sizeof(tss) - 1) | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
    gdt[TSS_SELECTOR / 8 + 1] = base >> 32;
    /* The same table as at boot, now by its virtual address. What cs and ss hold of it stays true. */
    asm volatile("lgdt %0" : : "m"(table));
    asm volatile("ltr %w0" : : "r"(TSS_SELECTOR));
}
