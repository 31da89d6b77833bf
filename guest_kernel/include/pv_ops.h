/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The seam.  A kernel needs a few dozen operations that only privileged code can do.  On bare hardware each
 * is an instruction or a device register; in a paravirtual guest it is a hypercall or a word in a page shared
 * with the hypervisor.  This table names them all, once.  native/pv_ops.c fills it for bare hardware, pv/pv_ops.c
 * for Xen; nothing in kernel/ knows which.
 *
 * Each row:                                        native instruction       | what Xen PV has instead
 */
#pragma once

#include <page.h>
#include <pte.h>
#include <types.h>

struct address_space;
struct fpu_state;

struct pv_ops {
    const char *name; /* "pv" or "native" */

    /* -- interrupts ------------------------------------------------------------------------------------ */
    void (*irq_disable)(void);                   /* cli                      | vcpu_info.evtchn_upcall_mask = 1 */
    void (*irq_enable)(void);                    /* sti                      | mask = 0, then look at pending */
    void (*idle)(void);                          /* sti; hlt; cli            | sched_op block */

    /* -- the CPU --------------------------------------------------------------------------------------- */
    void (*set_traps)(void);                     /* lgdt, ltr, lidt, wrmsr   | set_trap_table, callback_op */
    void (*fpu_disable)(bool disable);           /* mov cr0 (TS), clts       | fpu_taskswitch */
    u64 (*fault_address)(void);                  /* mov %cr2                 | vcpu_info.arch.cr2 */
    void (*cpuid)(u32 leaf, u32 out[4]);         /* cpuid                    | the same, behind a prefix that traps */
    void (*hypervisor)(char *name, size_t room); /* cpuid: is there one?     | cpuid: which version of Xen */

    /* -- page tables ----------------------------------------------------------------------------------- */
    bool two_roots; /* see vm.h */               /* no: one table, bit U/S   | yes: the kernel is in ring 3 too */
    pte_t (*make_pte)(paddr_t to, u64 flags);    /* the address itself       | pseudo-physical -> machine (p2m) */
    paddr_t (*pte_physical)(pte_t pte);          /* the address itself       | machine -> pseudo-physical (m2p) */
    void (*set_pte)(pte_t *slot, pte_t value);   /* mov                      | mmu_update, if the table is live */
    void (*set_pte_at)(u64 va, pte_t *slot, pte_t value); /* mov; invlpg  | update_va_mapping, of our own space */
    void (*table_live)(struct page *table);      /* nothing                  | write-protect, ready for linking */
    void (*space_live)(struct address_space *);  /* nothing                  | write-protect all; pin both roots */
    void (*space_dead)(struct address_space *);  /* nothing                  | unpin; make the tables writable */
    void (*flush_page)(u64 va);                  /* invlpg                   | mmuext_op INVLPG_LOCAL */
    void (*flush_all)(void);                     /* mov cr3                  | mmuext_op TLB_FLUSH_LOCAL */
    void (*batch_begin)(void);                   /* nothing                  | queue what follows ... */
    void (*batch_end)(void);                     /* nothing                  | ... and do it in one multicall */

    /* -- going from one process to another: everything in one step ------------------------------------- */
    /* mov cr3; TSS.rsp0 = ...; mov cr0, clts   | multicall: mmuext_op NEW_BASEPTR + NEW_USER_BASEPTR,
                                                   stack_switch, fpu_taskswitch */
    void (*switch_to)(struct address_space *space, u64 kernel_stack_top, bool fpu_disable);

    /* -- time ------------------------------------------------------------------------------------------ */
    u64 (*now)(void);                            /* rdtsc, calibrated        | rdtsc, scaled by vcpu_time_info */
    u64 (*wallclock)(void);                      /* CMOS clock at boot + now | shared_info.wc_sec + now */
    void (*set_timer)(u64 deadline);             /* out to the PIT; IRQ 0    | set_timer_op; VIRQ_TIMER */
    u64 (*tsc_khz)(void);                        /* cpuid 0x15, or measured  | from vcpu_time_info's scale */

    /* -- the outer world ------------------------------------------------------------------------------- */
    void (*emergency_write)(const char *, size_t); /* out to the UART        | console ring, waiting for room */
    void (*shutdown)(int how) NORETURN;          /* out to ACPI, 0xcf9; hlt  | sched_op shutdown */
    int (*privileged)(int op, u64 count);        /* in, PTEs, an interrupt   | hypercalls, for bench to time */
};

extern const struct pv_ops pv;
