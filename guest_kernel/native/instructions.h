/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Privileged instructions as functions, and the bits their registers have.  (Intel SDM volume 3A, 2.5 "Control
 * Registers", 2.2.1 for EFER; volume 4 for the other MSRs.)
 *
 * This kernel uses only instructions that fault where they are not allowed.  A few others work in any ring but tell
 * or do less there: pushf and popf with the interrupt flag, sgdt, sidt, sldt, str, smsw, lar, lsl, verr, verw, and
 * reading cs or ss back.  Whoever runs this kernel in an outer ring, and watches for faults, could not see those;
 * so, like any kernel that knows what it loaded, it does not ask.
 */
#pragma once

#define CR0_PE (1 << 0)  /* protected mode */
#define CR0_MP (1 << 1)  /* TS counts for wait, too */
#define CR0_TS (1 << 3)  /* the next FPU instruction traps */
#define CR0_ET (1 << 4)
#define CR0_NE (1 << 5)  /* FPU errors are exceptions, not interrupts */
#define CR0_WP (1 << 16) /* the kernel, too, heeds read-only */
#define CR0_PG 0x80000000
#define CR0_KERNEL (CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE)
#define CR4_PAE (1 << 5)
#define CR4_PGE (1 << 7)         /* PTE_GLOBAL means something */
#define CR4_OSFXSR (1 << 9)      /* SSE, and fxsave saves it */
#define CR4_OSXMMEXCPT (1 << 10) /* its errors are exception 19 */
#define CR4_KERNEL (CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT)

#define MSR_EFER 0xc0000080
#define EFER_SCE (1 << 0)  /* syscall, sysret */
#define EFER_LME (1 << 8)  /* long mode, once there is paging */
#define EFER_NXE (1 << 11) /* PTE_NX */
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_FMASK 0xc0000084

/* Selectors. syscall and sysret fix the order: see segments.c. */
#define KERNEL_CS 0x08
#define KERNEL_SS 0x10
#define USER_SS 0x23
#define USER_CS 0x2b
#define TSS_SELECTOR 0x30

#ifndef __ASSEMBLER__
#include <types.h>

static inline void out8(u16 port, u8 value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void out16(u16 port, u16 value) { asm volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static inline void out32(u16 port, u32 value) { asm volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }

static inline u8 in8(u16 port)
{
    u8 value;

    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u16 in16(u16 port)
{
    u16 value;

    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u32 in32(u16 port)
{
    u32 value;

    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* Many words at one port, one after the other. */
static inline void in16_many(u16 port, void *to, u64 count)
{
    asm volatile("rep insw" : "+D"(to), "+c"(count) : "d"(port) : "memory");
}

static inline void out16_many(u16 port, const void *from, u64 count)
{
    asm volatile("rep outsw" : "+S"(from), "+c"(count) : "d"(port) : "memory");
}

static inline void write_msr(u32 msr, u64 value)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)));
}

static inline void write_cr0(u64 value) { asm volatile("movq %0, %%cr0" : : "r"(value)); }
static inline void write_cr3(u64 value) { asm volatile("movq %0, %%cr3" : : "r"(value) : "memory"); }
static inline void write_cr4(u64 value) { asm volatile("movq %0, %%cr4" : : "r"(value) : "memory"); }

static inline u64 rdtsc(void)
{
    u32 low, high;

    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return ((u64)high << 32) | low;
}
#endif
