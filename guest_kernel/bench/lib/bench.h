/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the benchmark kernels share, on top of the test kernels' runtime (tests/lib).
 *
 * A benchmark prints pairs of lines "begin=NAME" and "NAME=TICKS/OPERATIONS"; in between it has run what the
 * row is about.  tools/bench.py compares that with the same code, or with empty callbacks, in a bare engine,
 * which it runs when it reads the first line.  Ticks are the TSC's.
 */
#pragma once

#include "test.h"

#define BEST_OF 5 /* tries of each sample, of which the shortest counts */

/*
 * Take the samples of one row: as often as the command line says (samples=7), announce it (that is when the
 * host measures its yardstick), and let `body` do `operations` of them.
 */
#define measure(name, operations, body) \
    for (unsigned long sample_ = argument("samples", 7); sample_; sample_--) { \
        unsigned long best_ = -1UL; \
        say("begin=%s\n", name); \
        for (int try_ = 0; try_ < BEST_OF; try_++) { \
            unsigned long began_ = rdtsc(), took_; \
            body; \
            took_ = rdtsc() - began_; \
            if (took_ < best_) \
                best_ = took_; \
        } \
        report(name, best_, operations); \
    }

void report(const char *name, unsigned long ticks, unsigned long operations);
unsigned long argument(const char *name, unsigned long otherwise); /* "name=123" on the command line */

/* loops.S: each runs `count` rounds; run_timed(loop, count) is how many ticks that took. */
typedef void loop(unsigned long count);
loop loop_xorshift, loop_branchy, loop_callret, loop_loads, loop_movsq, loop_int;
unsigned long run_timed(loop *loop, unsigned long count);

/* spaces.c: user halves of address spaces. */
struct space {
    unsigned long kernel_l4, user_l4; /* mfns */
    unsigned long *l1;                /* maps USER_BASE on, 512 entries, read-only as every table */
};
#define USER_BASE 0x400000UL
struct space *new_space(void); /* the two L4s, pinned; USER_BASE mapped by an empty L1 */
void use_space(const struct space *space);
unsigned long spare_mfn(unsigned long n); /* frames of ours that nothing maps, from the end of memory */
