/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the machine asks of the engine beside unicorn's own interface. pvhv/machine/seam.py has the same list.
 *
 * The stock engine has none of this: there the machine searches for what it needs (cpustate.py), and does without the rest.
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/exec-all.h"
#include "exec/ram_addr.h"
#include "uc_priv.h"
#include "build_id.h"

#define SEAM_VERSION 3 /* changes with which functions there are, and what they take and mean */

UNICORN_EXPORT uint32_t pvhv_seam_version(void)
{
    return SEAM_VERSION;
}

/* Which source and corrections this library was made of. */
UNICORN_EXPORT const char *pvhv_build_id(void)
{
    return PVHV_BUILD;
}

/* The CPU state itself: what a context is a copy of the beginning of. It stays where it is, also when the engine is made
 * anew. */
UNICORN_EXPORT void *pvhv_cpu_state(uc_engine *uc)
{
    return uc->cpu->env_ptr;
}

/* Look for a stop only at the start of each block, hence between two instructions, and not in the middle of one behind
 * every memory access. Holds for what is translated from now on. */
UNICORN_EXPORT void pvhv_stop_at_blocks(uc_engine *uc, int wanted)
{
    uc->no_exit_request = wanted;
}

/* The words by which we are told of a stop that is asked for, of handlers on the stack, and of the users' page tables. */
UNICORN_EXPORT void pvhv_watch_words(uc_engine *uc, const volatile uint64_t *stop, const volatile uint64_t *in_python,
                                     const volatile uint64_t *user_root)
{
    uc->pvhv.stop = stop;
    uc->pvhv.in_python = in_python;
    uc->pvhv.user_root = user_root;
}

/* How many instructions a block may have (0: as many as the engine likes, 512). */
UNICORN_EXPORT void pvhv_limit_blocks(uc_engine *uc, uint32_t instructions)
{
    uc->pvhv.most_instructions = instructions;
}

/* Forget how one page is mapped, in every mode. */
UNICORN_EXPORT void pvhv_flush_page(uc_engine *uc, uint64_t address)
{
    tlb_flush_page(uc->cpu, address);
}

/* Drop what was translated from one page of memory, by its physical address. */
UNICORN_EXPORT void pvhv_forget_code(uc_engine *uc, uint64_t page)
{
    const MemoryRegion *region = uc->memory_mapping(uc, page);
    ram_addr_t address = region->ram_block->offset + page - region->addr;

    if (pvhv_page_has_code(uc, address)) {
        tb_invalidate_phys_range(uc, address, address + TARGET_PAGE_SIZE);
    }
}

/* In a hook of a #VMEXIT: leave the guest as the processor does it, its state in the VMCB, the host's from VM_HSAVE_PA.
 * RFLAGS is whole afterwards, as it is wherever hooks look at it. */
UNICORN_EXPORT void pvhv_return_to_host(uc_engine *uc, uint32_t exit_code, uint64_t exit_info_1)
{
    CPUX86State *env = uc->cpu->env_ptr;

    do_vmexit(env, exit_code, exit_info_1);
    env->eflags = cpu_compute_eflags(env);
}

/* What CPUID says of this CPU and the translator obeys: the vendor, and features to take away.
 * `keep` are leaf 1 EDX and ECX, leaf 7 EBX, leaf 0x80000001 EDX and ECX, leaf 0xd EAX. */
UNICORN_EXPORT void pvhv_keep_features(uc_engine *uc, const uint32_t *vendor, const uint32_t *keep)
{
    static const FeatureWord words[] = {
        FEAT_1_EDX, FEAT_1_ECX, FEAT_7_0_EBX, FEAT_8000_0001_EDX, FEAT_8000_0001_ECX, FEAT_XSAVE,
    };
    CPUX86State *env = uc->cpu->env_ptr;

    env->cpuid_vendor1 = vendor[0];
    env->cpuid_vendor2 = vendor[1];
    env->cpuid_vendor3 = vendor[2];
    for (size_t n = 0; n < ARRAY_SIZE(words); n++) {
        env->features[words[n]] &= keep[n];
    }
}

/* Who says whether INS and OUTS may be executed. */
UNICORN_EXPORT void pvhv_ask_before_io(uc_engine *uc, int (*may_io)(void *, uint32_t, int, void *), void *data)
{
    uc->pvhv.may_io = may_io;
    uc->pvhv.may_io_data = data;
}

/* In a hook of IN or OUT: it ends in #GP(0) instead. */
UNICORN_EXPORT void pvhv_refuse_io(uc_engine *uc)
{
    uc->pvhv.io_refused = true;
}

/* Breakpoints are those of DR0-3 and DR7 as they are in the CPU state, which was written there. */
UNICORN_EXPORT void pvhv_debug_registers(uc_engine *uc)
{
    CPUX86State *env = uc->cpu->env_ptr;
    uint32_t looks_at_io = env->hflags & HF_IOBPT_MASK;
    uint32_t dr7 = env->dr[7];

    for (int i = 0; i < DR7_MAX_BP; i++) {
        env->cpu_breakpoint[i] = NULL;
    }
    cpu_watchpoint_remove_all(uc->cpu, BP_CPU);
    env->dr[7] = DR7_FIXED_1;
    cpu_x86_update_dr7(env, dr7);
    env->hflags |= looks_at_io;
}

/* A debugger watches `size` bytes: its #VMEXIT (watchpoints.h) comes behind whatever reads (1) or writes (2) one of them. */
UNICORN_EXPORT int pvhv_watch(uc_engine *uc, uint64_t address, uint64_t size, int accesses)
{
    return cpu_watchpoint_insert(uc->cpu, address, size, BP_GDB | (accesses & BP_MEM_ACCESS), NULL);
}

/* It watches nothing any more. */
UNICORN_EXPORT void pvhv_watch_nothing(uc_engine *uc)
{
    cpu_watchpoint_remove_all(uc->cpu, BP_GDB);
}

/* In that #VMEXIT: the nth (from 0) of those that were hit, as it was given to pvhv_watch; 0: there are no more. */
UNICORN_EXPORT int pvhv_watch_hit(uc_engine *uc, int nth, uint64_t *address, uint64_t *size, int *accesses)
{
    CPUWatchpoint *wp;

    QTAILQ_FOREACH(wp, &uc->cpu->watchpoints, entry) {
        if ((wp->flags & BP_GDB) && (wp->flags & BP_WATCHPOINT_HIT) && !nth--) {
            *address = wp->vaddr;
            *size = wp->len;
            *accesses = wp->flags & BP_MEM_ACCESS;
            return 1;
        }
    }
    return 0;
}
