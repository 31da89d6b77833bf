/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The paravirtual column of the table: which hypercall stands for which instruction. The rows are in the order of
 * include/pv_ops.h, where each says what it replaces.
 */
#include <pv_ops.h>

#include "pv.h"

const struct pv_ops pv = {
    .name = "pv",

    /* interrupts: cpu.c, events.c */
    .irq_disable = pv_irq_disable,
    .irq_enable = pv_irq_enable,
    .idle = pv_idle,

    /* the CPU: traps.c, cpu.c */
    .set_traps = pv_set_traps,
    .fpu_disable = pv_fpu_disable,
    .fault_address = pv_fault_address,
    .cpuid = pv_cpuid,
    .hypervisor = pv_hypervisor,

    /* page tables: pagetables.c, batch.c */
    .two_roots = true,
    .make_pte = pv_make_pte,
    .pte_physical = pv_pte_physical,
    .set_pte = pv_set_pte,
    .set_pte_at = pv_set_pte_at,
    .table_live = pv_table_live,
    .space_live = pv_space_live,
    .space_dead = pv_space_dead,
    .flush_page = pv_flush_page,
    .flush_all = pv_flush_all,
    .batch_begin = batch_begin,
    .batch_end = batch_end,

    /* going from one process to another: pagetables.c */
    .switch_to = pv_switch_to,

    /* time: time.c */
    .now = pv_now,
    .wallclock = pv_wallclock,
    .set_timer = pv_set_timer,
    .tsc_khz = pv_tsc_khz,

    /* the outer world: drivers/console.c, cpu.c, privileged.c */
    .emergency_write = console_write,
    .shutdown = pv_shutdown,
    .privileged = pv_privileged,
};
