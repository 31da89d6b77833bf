/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the files of native/ tell each other. Nothing in kernel/ includes this.
 */
#pragma once

#include <page.h>
#include <pte.h>
#include <trap.h>
#include <types.h>

struct address_space;

/* Bits of page-table entries that only this column uses. */
#define PTE_LARGE (1UL << 7)  /* in a level 2 entry: it maps 2 MiB itself */
#define PTE_GLOBAL (1UL << 8) /* the same in every space: a mov to cr3 may leave it in the TLB */

/* boot.c */
struct region {
    paddr_t from, to;
};
extern struct region ram[]; /* in ascending order, as the loader lists it */
extern unsigned ram_count;
bool boot_option(const char *word); /* is it on the kernel's command line? */

/* boot.S */
extern pte_t boot_l4[], boot_l3[], boot_l2[];

/* memory.c */
void memory_init(void);

/* segments.c */
void segments_init(void);
extern struct tss tss;
void set_kernel_stack(u64 top);

/* pic.c: the lines of the two interrupt controllers */
typedef void (*irq_handler)(void);
void pic_init(void);
void irq_attach(unsigned line, irq_handler handler);
u8 pic_mask(void); /* as the controller should have it */

/* ide.c, virtio_blk.c: disks */
void ide_init(void);
void virtio_init(void);

/* pci.c: registers of a device by its slot, each a doubleword */
#define PCI_DEVICE 0x00 /* its number, and below it its vendor's */
#define PCI_COMMAND 0x04
#define PCI_COMMAND_IO 1     /* it may answer at its I/O ports */
#define PCI_COMMAND_MASTER 4 /* it may access memory */
#define PCI_BAR_0 0x10       /* where its own registers are */
#define PCI_BAR_IO 1         /* ... I/O ports */
#define PCI_INTERRUPT 0x3c   /* in the lowest byte: its line */
u32 pci_read(unsigned slot, unsigned reg);
void pci_write(unsigned slot, unsigned reg, u32 value);
int pci_find(u32 device, unsigned from);

/* tsc.c, rtc.c, pit.c */
void tsc_init(void);
void rtc_init(void);
void pit_init(void);

/* uart.c */
void uart_init(void);   /* output, for the kernel's own words */
void uart_listen(void); /* and now as the console's wire, by interrupts */
bool uart_interrupts_time(u64 count);

/* The rows of the table. */
void native_irq_disable(void);
void native_irq_enable(void);
void native_idle(void);
void native_set_traps(void);
void native_fpu_disable(bool disable);
u64 native_fault_address(void);
void native_cpuid(u32 leaf, u32 out[4]);
void native_hypervisor(char *name, size_t room);
pte_t native_make_pte(paddr_t to, u64 flags);
paddr_t native_pte_physical(pte_t pte);
void native_set_pte(pte_t *slot, pte_t value);
void native_set_pte_at(u64 va, pte_t *slot, pte_t value);
void native_table_live(struct page *table);
void native_space_live(struct address_space *space);
void native_flush_page(u64 va);
void native_flush_all(void);
void native_batch(void);
void native_switch_to(struct address_space *space, u64 stack_top, bool fpu_disable);
u64 native_now(void);
u64 native_wallclock(void);
void native_set_timer(u64 deadline);
u64 native_tsc_khz(void);
void uart_write(const char *text, size_t n);
void native_shutdown(int how) NORETURN;
int native_privileged(int op, u64 count);
