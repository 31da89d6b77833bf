/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The native column of the table: one machine, all of it ours. The rows are in the order of include/pv_ops.h, where
 * each says what it is.
 */
#include <pv_ops.h>

#include "native.h"

const struct pv_ops pv = {
    .name = "native",

    /* interrupts: cpu.c, pic.c */
    .irq_disable = native_irq_disable,
    .irq_enable = native_irq_enable,
    .idle = native_idle,

    /* the CPU: traps.c, segments.c, cpu.c */
    .set_traps = native_set_traps,
    .fpu_disable = native_fpu_disable,
    .fault_address = native_fault_address,
    .cpuid = native_cpuid,
    .hypervisor = native_hypervisor,

    /* page tables: pagetables.c */
    .two_roots = false,
    .make_pte = native_make_pte,
    .pte_physical = native_pte_physical,
    .set_pte = native_set_pte,
    .set_pte_at = native_set_pte_at,
    .table_live = native_table_live,
    .space_live = native_space_live,
    .space_dead = native_space_live,
    .flush_page = native_flush_page,
    .flush_all = native_flush_all,
    .batch_begin = native_batch,
    .batch_end = native_batch,

    /* going from one process to another: pagetables.c */
    .switch_to = native_switch_to,

    /* time: tsc.c, rtc.c, pit.c */
    .now = native_now,
    .wallclock = native_wallclock,
    .set_timer = native_set_timer,
    .tsc_khz = native_tsc_khz,

    /* the outer world: uart.c, power.c, privileged.c */
    .emergency_write = uart_write,
    .shutdown = native_shutdown,
    .privileged = native_privileged,
};
