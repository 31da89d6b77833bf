/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From the domain builder's hands to kernel_main().
 */
#include <lib.h>
#include <pv_ops.h>
#include <trap.h>

#include "pv.h"

struct start_info *start_info;
struct shared_info *shared_info;

/* shared_info is a frame of the hypervisor's. This page of our image lends it its virtual address. */
static u8 shared_info_window[PAGE_SIZE] PAGE_ALIGNED;

void kernel_main(void);

void pv_boot(struct start_info *si, u64 boot_stack)
{
    user_cs = FLAT_USER_CS;
    user_ss = FLAT_USER_SS;
    start_info = si;
    HYPERVISOR_update_va_mapping((u64)shared_info_window, si->shared_info | PTE_KERNEL_RW, UVMF_INVLPG);
    shared_info = (struct shared_info *)shared_info_window;
    events_init();
    memory_init(boot_stack);
    kernel_main();
}
