/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Round trips into the hypervisor, each whole: from a guest instruction to the next one.
 */
#include "bench.h"

const char test_name[] = "bench-exits";

#define BATCH 512   /* mmu_updates in a hypercall */
#define CALLS 64    /* entries in a multicall */

extern char fault_entry[], syscall_entry[], user_code[], user_code_end[];
void fault_loop(unsigned long count, unsigned long address);
void run_user(unsigned long rip, unsigned long rsp, unsigned long count);

static struct space *first, *second;
static unsigned long scale;

static void null_hypercalls(void)
{
    static struct multicall_entry calls[CALLS] PAGE_ALIGNED;
    unsigned long count = 20 * scale;

    measure("null_hypercall", count,
            for (unsigned long i = 0; i < count; i++) HYPERVISOR_xen_version(XENVER_version, 0));

    for (unsigned n = 0; n < CALLS; n++)
        calls[n].op = __HYPERVISOR_xen_version;
    count = scale;
    measure("multicall_entry", count * CALLS,
            for (unsigned long i = 0; i < count; i++) HYPERVISOR_multicall(calls, CALLS));
    check_is(calls[CALLS - 1].result, HYPERVISOR_xen_version(XENVER_version, 0));
}

/*
 * Three batches over the same 512 entries: map them, map each to another frame, unmap them. Every second
 * mapping is writable, and the second batch makes read-only what was writable: each entry takes or drops
 * references, half of them types as well.
 */
static void mmu_updates(void)
{
    static struct mmu_update batches[3][BATCH] PAGE_ALIGNED;
    unsigned long l1 = maddr_of(first->l1), count = scale / 40 + 1, bad = 0;

    for (unsigned n = 0; n < BATCH; n++) {
        unsigned long flags = PTE_P | PTE_A | PTE_NX;

        for (unsigned batch = 0; batch < 3; batch++)
            batches[batch][n].ptr = (l1 + n * 8) | MMU_NORMAL_PT_UPDATE;
        batches[0][n].val = PTE(spare_mfn(n), flags | (n & 1 ? PTE_RW : 0));
        batches[1][n].val = PTE(spare_mfn(n + 1), flags | (n & 1 ? 0 : PTE_RW));
        batches[2][n].val = 0;
    }
    measure("mmu_update_entry", count * 3 * BATCH,
            for (unsigned long i = 0; i < count; i++)
                for (unsigned batch = 0; batch < 3; batch++)
                    bad |= (unsigned long)HYPERVISOR_mmu_update(batches[batch], BATCH, 0, DOMID_SELF));
    check(!bad);
}

static void page_faults(void)
{
    struct trap_info table[2] = { { .vector = 14, .cs = FLAT_KERNEL_CS, .address = (unsigned long)fault_entry } };
    unsigned long count = 5 * scale;

    check_is(HYPERVISOR_set_trap_table(table), 0);
    measure("page_fault", count, fault_loop(count, USER_BASE));
    traps_init();
}

static void system_calls(void)
{
    static unsigned char code[PAGE_SIZE] PAGE_ALIGNED, stack[PAGE_SIZE] PAGE_ALIGNED;
    static struct callback_register entry = { .type = CALLBACKTYPE_syscall };
    unsigned long user = PTE_P | PTE_US | PTE_A, l1 = maddr_of(first->l1), count = 5 * scale;

    memcpy(code, user_code, (unsigned long)(user_code_end - user_code));
    check_is(readonly(code), 0); /* what runs is not to be writable: the fast case, and good manners */
    check_is(mmu_update(l1, PTE(mfn_of(code), user)), 0);
    check_is(mmu_update(l1 + 8, PTE(mfn_of(stack), user | PTE_RW | PTE_NX)), 0);
    entry.address = (unsigned long)syscall_entry;
    check_is(HYPERVISOR_callback_op(CALLBACKOP_register, &entry), 0);
    measure("system_call", count, run_user(USER_BASE, USER_BASE + 2 * PAGE_SIZE, count));
    check_is(mmu_update(l1, 0), 0);
    check_is(mmu_update(l1 + 8, 0), 0);
}

/* What a kernel's scheduler does between two processes. */
static void context_switches(void)
{
    static struct mmuext_op roots[2][2];
    static struct multicall_entry calls[2][3];
    static unsigned char stacks[2][PAGE_SIZE] PAGE_ALIGNED;
    unsigned long count = scale;

    for (unsigned n = 0; n < 2; n++) {
        const struct space *space = n ? second : first;

        roots[n][0].cmd = MMUEXT_NEW_BASEPTR;
        roots[n][0].arg1.mfn = space->kernel_l4;
        roots[n][1].cmd = MMUEXT_NEW_USER_BASEPTR;
        roots[n][1].arg1.mfn = space->user_l4;
        calls[n][0] = (struct multicall_entry){ .op = __HYPERVISOR_stack_switch,
            .args = { FLAT_KERNEL_SS, (unsigned long)stacks[n] + PAGE_SIZE } };
        calls[n][1] = (struct multicall_entry){ .op = __HYPERVISOR_mmuext_op,
            .args = { (unsigned long)roots[n], 2, 0, DOMID_SELF } };
        calls[n][2] = (struct multicall_entry){ .op = __HYPERVISOR_fpu_taskswitch, .args = { 1 } };
    }
    measure("context_switch", 2 * count,
            for (unsigned long i = 0; i < 2 * count; i++) HYPERVISOR_multicall(calls[(i + 1) & 1], 3));
    for (unsigned n = 0; n < 6; n++)
        check_is(calls[n / 3][n % 3].result, 0);
}

void test_main(void)
{
    scale = argument("scale", 100);
    first = new_space();
    second = new_space();
    use_space(first);
    null_hypercalls();
    mmu_updates();
    page_faults();
    system_calls();
    context_switches();
}
