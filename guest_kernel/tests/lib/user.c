/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * User mode: a page table of its own, and a way in and out.
 */
#include "test.h"

static unsigned long l4[512] PAGE_ALIGNED, l3[512] PAGE_ALIGNED, l2[512] PAGE_ALIGNED, l1[512] PAGE_ALIGNED;
PAGE(code);
PAGE(stack);
unsigned char user_data[PAGE_SIZE] PAGE_ALIGNED;
static unsigned char kernel_stack[8192] PAGE_ALIGNED; /* where Xen puts what comes from user mode */

unsigned long user_l4_mfn, kernel_l4_mfn;

extern char syscall_callback[];
void user_go(struct frame *frame);
void user_came_back(void);

#define TABLE (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)
#define INDEX(va, level) (((va) >> (12 + 9 * ((level) - 1))) & 511)

void user_init(void)
{
    struct callback_register op = { .type = CALLBACKTYPE_syscall,
                                    .flags = CALLBACKF_mask_events,
                                    .address = (unsigned long)syscall_callback };

    check_is(HYPERVISOR_callback_op(CALLBACKOP_register, &op), 0);
    l4[INDEX(USER_CODE, 4)] = PTE(mfn_of(l3), TABLE);
    l3[INDEX(USER_CODE, 3)] = PTE(mfn_of(l2), TABLE);
    l2[INDEX(USER_CODE, 2)] = PTE(mfn_of(l1), TABLE);
    l1[INDEX(USER_CODE, 1)] = PTE(mfn_of(code), PTE_P | PTE_US | PTE_A);
    l1[INDEX(USER_DATA, 1)] = PTE(mfn_of(user_data), PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX);
    l1[INDEX(USER_STACK_TOP - 1, 1)] = PTE(mfn_of(stack), PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX);
    readonly(l4);
    readonly(l3);
    readonly(l2);
    readonly(l1);
    user_l4_mfn = mfn_of(l4);
    kernel_l4_mfn = mfn_of((void *)start_info->pt_base);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, user_l4_mfn, 0), 0);
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, user_l4_mfn, 0), 0);
    check_is(HYPERVISOR_stack_switch(FLAT_KERNEL_SS, (unsigned long)kernel_stack + sizeof(kernel_stack)), 0);
}

void load_user(const void *start, const void *end)
{
    memcpy(code, start, (unsigned long)end - (unsigned long)start);
}

/* Called by trap_entry, on kernel_stack, with last_trap filled. */
void user_trapped(void)
{
    user_came_back();
}

struct frame *enter_user(struct frame *frame)
{
    if (!frame->rip)
        frame->rip = USER_CODE;
    if (!frame->rsp)
        frame->rsp = USER_STACK_TOP;
    frame->cs = FLAT_USER_CS;
    frame->ss = FLAT_USER_SS;
    frame->rflags |= 0x202;
    user_go(frame);
    return &last_trap;
}
