/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The smallest guest: it says hello on its console and powers itself off.  From the top of the tree:
 *
 *     pvhv build examples/first-guest
 *     pvhv create -c examples/first-guest/first-guest.cfg
 *
 * A PV guest is an ELF file with notes.  It needs no boot loader and no privileged instruction: it starts
 * in 64-bit mode with paging on, its memory mapped from VIRT_BASE, and a stack.
 */
#include <xen/hypercall.h>

#define VIRT_BASE 0xffffffff80000000 /* as in the linker script that pvhv build uses */

/* The notes tell the domain builder where pseudo-physical address 0 is mapped, and where to begin. */
#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)
#define NOTE(type, value)                                    \
    asm(".pushsection .note.Xen, \"a\", @note; .balign 4;"   \
        ".long 4, 2f - 1f, " STRING(type) "; .asciz \"Xen\";" \
        "1:" value "; 2: .balign 4; .popsection")

NOTE(XEN_ELFNOTE_GUEST_OS, ".asciz \"first-guest\"");
NOTE(XEN_ELFNOTE_XEN_VERSION, ".asciz \"xen-3.0\"");
NOTE(XEN_ELFNOTE_LOADER, ".asciz \"generic\"");
NOTE(XEN_ELFNOTE_VIRT_BASE, ".quad " STRING(VIRT_BASE));
NOTE(XEN_ELFNOTE_PADDR_OFFSET, ".quad 0");
NOTE(XEN_ELFNOTE_ENTRY, ".quad _start");

/* The first instruction: %rsi points to start_info, which says what the domain was given. */
asm(".globl _start; _start: movq %rsi, %rdi; xorl %ebp, %ebp; call begin; ud2");

/* The console is a page shared with domain 0: a ring of bytes, and an event channel to ring the bell. */
static void print(const struct start_info *start_info, const char *text)
{
    unsigned long pfn = machine_to_phys_mapping[start_info->console.domU.mfn];
    volatile struct xencons_interface *ring = (void *)(VIRT_BASE + (pfn << 12));
    struct evtchn_send bell = { .port = start_info->console.domU.evtchn };
    unsigned put = ring->out_prod;

    while (*text)
        ring->out[put++ % sizeof(ring->out)] = *text++;
    ring->out_prod = put;
    HYPERVISOR_event_channel_op(EVTCHNOP_send, &bell);
    while (ring->out_cons != put) /* a domain that is gone says nothing any more: let it be read first */
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
}

void begin(const struct start_info *start_info)
{
    struct sched_shutdown off = { .reason = SHUTDOWN_poweroff };

    print(start_info, "Hello from a guest of one's own!\n");
    HYPERVISOR_sched_op(SCHEDOP_shutdown, &off);
}
