/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The FPU is lazy.  Its 512 bytes are not exchanged at every process switch; it is only switched off (CR0.TS).
 * The first FPU instruction then traps, and only then the registers change hands.  Most processes never ask.
 */
#include <lib.h>
#include <process.h>
#include <pv_ops.h>

static struct process *owner; /* whose values are in the registers */
static struct fpu_state fresh;

static void save(struct fpu_state *to)
{
    asm volatile("fxsave (%0)" : : "r"(to) : "memory");
}

static void restore(const struct fpu_state *from)
{
    asm volatile("fxrstor (%0)" : : "r"(from));
}

void fpu_init(void)
{
    u32 mxcsr = 0x1f80; /* all SSE exceptions masked */

    pv.fpu_disable(false);
    asm volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
    save(&fresh);
}

bool fpu_is_mine(struct process *p)
{
    return owner == p;
}

void fpu_trap(void)
{
    pv.fpu_disable(false);
    if (owner == current)
        return;
    if (owner)
        save(owner->fpu);
    restore(current->fpu);
    owner = current;
}

void fpu_forget(struct process *p)
{
    if (owner == p) {
        owner = NULL;
        pv.fpu_disable(true);
    }
    *p->fpu = fresh;
}

void fpu_copy(struct process *to)
{
    if (owner == current)
        save(current->fpu);
    *to->fpu = *current->fpu;
}
