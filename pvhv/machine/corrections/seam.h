/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the seam keeps in an engine (struct uc_struct, as `pvhv`). The words pointed to are pvhv's pacer's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pvhv {
    const volatile uint64_t *stop;      /* not 0: a stop is asked for, and a run that begins ends at once */
    const volatile uint64_t *in_python; /* not 0: a handler of pvhv's is on the stack */
    const volatile uint64_t *user_root; /* the L4 that users at CPL 3 run on; 0: CR3's (user-tables.toml) */
    void *cpu;                          /* where the CPU lies, and will lie if the engine is made anew */
    uint32_t alignment;                 /* log2 of the one that an access wanted and had not (alignment.toml) */
    int64_t flushes;                    /* of the TLB: its clock (tlb-size.toml) */
    uint32_t most_instructions;         /* of a translated block; 0: as many as the engine likes */
    int (*may_io)(void *uc, uint32_t port, int size, void *data); /* asked before INS and OUTS reach for memory */
    void *may_io_data;
    bool io_refused;                    /* by the hook of IN or OUT that was just called */
};

/* The engine cannot go on: what `pvhv_run` is in ends, with this text. Does not return. */
void pvhv_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
