/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Privileged operations on their own, many times over, for `bench` to time.  Each checks that it did something.
 */
#include <api/errno.h>
#include <api/syscalls.h>
#include <lib.h>
#include <pv_ops.h>
#include <vm.h>

#include "instructions.h"
#include "native.h"

#define PIC_MASK 0x21

/* A device register that holds what we wrote into it: the interrupt controller's mask. */
static int port_reads(u64 count)
{
    for (u64 i = 0; i < count; i++)
        if (in8(PIC_MASK) != pic_mask())
            return -EIO;
    return 0;
}

static u8 window[PAGE_SIZE] PAGE_ALIGNED; /* the kernel's image is mapped in small pages */

/* Change what a page-table entry allows, back and forth: what the image's mapping says of a page of our data. */
static int pte_updates(u64 count, u64 batch)
{
    paddr_t frame = image_phys(window);
    pte_t *slot = (pte_t *)virt(pv.pte_physical(boot_l2[pte_index((u64)window, 2)])) + pte_index((u64)window, 1);

    for (u64 done = 0; done < count; done += batch) {
        pv.batch_begin();
        for (u64 i = 0; i < batch; i++)
            pv.set_pte(slot, pv.make_pte(frame, ((done + i) & 1 ? PTE_KERNEL_RW : PTE_KERNEL_RO) | PTE_GLOBAL));
        pv.batch_end();
        if (!(*slot & PTE_WRITE) != !((done + batch - 1) & 1)) /* is it what we wrote last? */
            return -EIO;
    }
    if (!(*slot & PTE_WRITE)) /* after an odd number of them */
        pv.set_pte_at((u64)window, slot, pv.make_pte(frame, PTE_KERNEL_RW | PTE_GLOBAL));
    *(volatile u8 *)window = 1;
    return 0;
}

/* The port that is read for the sake of the time it takes. */
static int delay_port_reads(u64 count)
{
    u8 last = 0;

    for (u64 i = 0; i < count; i++) {
        u8 value = in8(0x80);

        if (i && value != last)
            return -EIO;
        last = value;
    }
    return 0;
}

/* No interrupt is held back: there is no local APIC whose priorities these would be. */
static int priority_writes(u64 count)
{
    for (u64 i = 0; i < count; i++)
        asm volatile("movq %0, %%cr8" : : "r"(i & 1 ? 0UL : 1UL));
    return 0;
}

int native_privileged(int op, u64 count)
{
    switch (op) {
    case PRIVILEGED_NULL_CALL:
        return port_reads(count);
    case PRIVILEGED_PTE_UPDATE:
        return pte_updates(count, 1);
    case PRIVILEGED_PTE_BATCH:
        return pte_updates(count, 512);
    case PRIVILEGED_EVENT:
        return uart_interrupts_time(count) ? 0 : -EIO;
    case PRIVILEGED_PORT_READ:
        return delay_port_reads(count);
    case PRIVILEGED_CR8_WRITE:
        return priority_writes(count);
    case PRIVILEGED_GRANT_COPY:
    case PRIVILEGED_GRANT_MAP:
        return -ENODEV; /* granting takes another one to grant to */
    }
    return -EINVAL;
}
