/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the machine asks of the engine beside unicorn's own interface. pvhv/machine/seam.py has the same list.
 *
 * The stock engine has none of this: there the machine searches for what it needs (cpustate.py).
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "uc_priv.h"
#include "build_id.h"

#define SEAM_VERSION 1 /* changes with what a function here takes or means */

UNICORN_EXPORT uint32_t pvhv_seam_version(void)
{
    return SEAM_VERSION;
}

/* Which source and corrections this library was made of. */
UNICORN_EXPORT const char *pvhv_build_id(void)
{
    return PVHV_BUILD;
}

/* The CPU state itself: what a context is a copy of the beginning of. */
UNICORN_EXPORT void *pvhv_cpu_state(uc_engine *uc)
{
    return uc->cpu->env_ptr;
}

/* Translate without looking for a stop behind every memory access: only at the start of each block, hence between two
 * instructions. Holds for what is translated from now on. */
UNICORN_EXPORT void pvhv_stop_at_blocks(uc_engine *uc, int wanted)
{
    uc->no_exit_request = wanted;
}
