/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A trap's entry says who may raise it by `int`, and whether events are masked on the way in.
 */
#include "test.h"

const char test_name[] = "trap-gates";

extern char int81_stub[];

static int masked_inside, rflags_inside;

static int look(struct frame *frame)
{
    unsigned long flags;

    asm volatile("pushfq; popq %0" : "=r"(flags));
    rflags_inside = (int)flags;
    masked_inside = shared_info->vcpu_info[0].evtchn_upcall_mask;
    return 1;
}

static void set_gate(unsigned flags)
{
    struct trap_info table[2] = {
        { .vector = 0x81, .flags = (uint8_t)flags, .cs = FLAT_KERNEL_CS, .address = (unsigned long)int81_stub },
    };

    check_is(HYPERVISOR_set_trap_table(table), 0);
}

void test_main(void)
{
    struct trap_info bad[2] = { { .vector = 0x81, .cs = FLAT_KERNEL_CS, .address = 0x8100000000000000UL } };

    trap_hooks[0x81] = look;
    events_on();
    set_gate(3); /* anybody; events stay as they are */
    asm volatile("int $0x81");
    check_is(masked_inside, 0);
    check_is(last_trap.rflags & 0x200, 0x200); /* IF in the frame is the upcall mask, upside down */
    check_is(last_trap.cs >> 32, 0);

    set_gate(3 | 4);
    asm volatile("int $0x81");
    check_is(masked_inside, 1);
    check_is(last_trap.rflags & 0x200, 0x200);
    check_is(shared_info->vcpu_info[0].evtchn_upcall_mask, 0); /* iret put it back */

    events_off();
    asm volatile("int $0x81");
    check_is(last_trap.rflags & 0x200, 0);
    check_is(last_trap.cs >> 32 & 0xff, 1);
    check_is(shared_info->vcpu_info[0].evtchn_upcall_mask, 1);

    set_gate(1); /* the kernel may */
    asm volatile("int $0x81");
    set_gate(0); /* nobody may */
    check_is(probe("int $0x81"), 13);
    check_is(last_trap.error, 0x81 * 8 + 2);

    check_is(HYPERVISOR_set_trap_table(bad), -XEN_EINVAL);
    check_is(HYPERVISOR_set_trap_table((void *)8), -XEN_EFAULT);
    check_is(HYPERVISOR_set_trap_table(0), 0); /* forgets them all */
}
