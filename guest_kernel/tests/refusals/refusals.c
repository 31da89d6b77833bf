/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What is looked at first: every command of every hypercall, those there are none of as well, with arguments that cannot
 * be read, cannot be written, or make no sense. Nothing is judged here; each line is what a real Xen says, too.
 *
 * A line: the hypercall, the command or commands, the answers for addresses that are bad in four ways (or one, if they
 * are the same), and for structures that are all zeros, all ones, and all "DOMID_SELF", each in a page that may only be
 * read and in one that may be written.
 */
#include "test.h"

const char test_name[] = "refusals";

#define HOLE 8UL                    /* nothing is mapped there */
#define XEN 0xffff880000000000UL    /* the hypervisor's */
#define WILD 0x0000800000000000UL   /* no address at all */
#define CONTENTS 3
#define ANSWERS (4 + 2 * CONTENTS)

PAGE(to_read);
PAGE(to_write);

static unsigned nr;
static void (*place)(unsigned long cmd, unsigned long pointer, unsigned long arguments[5]);
static const char *label;
static unsigned interface; /* what stands in a structure's second word, if not 0 */
static int number_inside;  /* the command stands in its first */

static void fill(unsigned char *page, unsigned content, unsigned long cmd)
{
    static const unsigned short words[CONTENTS] = { 0, 0xffff, DOMID_SELF };

    for (unsigned i = 0; i < PAGE_SIZE / 2; i++)
        ((unsigned short *)page)[i] = words[content];
    if (number_inside)
        ((unsigned *)page)[0] = (unsigned)cmd;
    if (interface)
        ((unsigned *)page)[1] = interface;
}

static long ask(unsigned long cmd, unsigned long pointer)
{
    unsigned long a[5] = { 0 };

    place(cmd, pointer, a);
    return hypercall(nr, a[0], a[1], a[2], a[3], a[4]);
}

static void answers_of(unsigned long cmd, int structures, long answers[ANSWERS])
{
    static const unsigned long bad[] = { 0, HOLE, XEN, WILD };

    for (unsigned i = 0; i < 4; i++)
        answers[i] = ask(cmd, bad[i]);
    for (unsigned content = 0; content < CONTENTS; content++) {
        long *two = &answers[4 + 2 * content];

        two[0] = two[1] = 0;
        if (!structures)
            continue;
        check_is(writable(to_read), 0);
        fill(to_read, content, cmd);
        check_is(readonly(to_read), 0);
        two[0] = ask(cmd, (unsigned long)to_read);
        fill(to_write, content, cmd);
        two[1] = ask(cmd, (unsigned long)to_write);
    }
    for (unsigned i = 0; i < ANSWERS; i++)
        if (answers[i] > 0)
            answers[i] = 1; /* a count, a number of something: theirs and ours need not be the same */
}

static void show(unsigned long first, unsigned long last, const long answers[ANSWERS], int structures)
{
    if (first == last)
        say("%s %lu:", label, first);
    else
        say("%s %lu-%lu:", label, first, last);
    if (answers[0] == answers[1] && answers[0] == answers[2] && answers[0] == answers[3])
        say(" bad %ld", answers[0]);
    else
        say(" null %ld, hole %ld, xen %ld, wild %ld", answers[0], answers[1], answers[2], answers[3]);
    if (structures)
        say("; zeros %ld %ld, ones %ld %ld, selves %ld %ld", answers[4], answers[5], answers[6], answers[7], answers[8],
            answers[9]);
    say("\n");
}

/* All commands from `first` to `last`; neighbours with the same answers on one line. */
static void commands(unsigned long first, unsigned long last, int structures)
{
    long before[ANSWERS], now_[ANSWERS];
    unsigned long since = first;

    answers_of(first, structures, before);
    for (unsigned long cmd = first + 1; cmd <= last; cmd++) {
        answers_of(cmd, structures, now_);
        if (!memcmp(before, now_, sizeof(before)))
            continue;
        show(since, cmd - 1, before, structures);
        memcpy(before, now_, sizeof(before));
        since = cmd;
    }
    show(since, last, before, structures);
}

static void cmd_pointer(unsigned long cmd, unsigned long pointer, unsigned long a[5])
{
    a[0] = cmd;
    a[1] = pointer;
}

static void pointer_only(unsigned long cmd, unsigned long pointer, unsigned long a[5])
{
    a[0] = pointer;
}

static void pointer_count(unsigned long cmd, unsigned long pointer, unsigned long a[5])
{
    a[1] = cmd;
    a[3] = DOMID_SELF; /* of mmu_update and mmuext_op */
    a[0] = pointer;
}

static void cmd_pointer_one(unsigned long cmd, unsigned long pointer, unsigned long a[5])
{
    cmd_pointer(cmd, pointer, a);
    a[2] = 1;
}

static void no_vcpu(unsigned long cmd, unsigned long pointer, unsigned long a[5])
{
    a[0] = cmd;
    a[1] = 77;
    a[2] = pointer;
}

static void cmd_one_pointer(unsigned long cmd, unsigned long pointer, unsigned long a[5])
{
    a[0] = cmd;
    a[1] = 1;
    a[2] = pointer;
}

static void cmd_none_pointer(unsigned long cmd, unsigned long pointer, unsigned long a[5])
{
    a[0] = cmd;
    a[2] = pointer;
}

static void of(const char *name, unsigned number, void (*how)(unsigned long, unsigned long, unsigned long *))
{
    label = name;
    nr = number;
    place = how;
    number_inside = 0;
    interface = 0;
}

static void control(const char *name, unsigned number, unsigned version, unsigned long last)
{
    of(name, number, pointer_only);
    number_inside = 1;
    commands(0, 2, 1);
    interface = version;
    commands(0, last, 1);
}

void test_main(void)
{
    of("memory_op", __HYPERVISOR_memory_op, cmd_pointer);
    commands(0, 40, 1);
    commands(63, 80, 1); /* with progress that a continuation might have made */
    of("xen_version", __HYPERVISOR_xen_version, cmd_pointer);
    commands(0, 13, 1);
    of("physdev_op", __HYPERVISOR_physdev_op, cmd_pointer);
    commands(0, 40, 1);
    of("physdev_op_compat", __HYPERVISOR_physdev_op_compat, pointer_only);
    number_inside = 1;
    commands(0, 40, 1);
    of("sched_op", __HYPERVISOR_sched_op, cmd_pointer);
    commands(2, 3, 0); /* no shutdown, no waiting */
    commands(4, 5, 1);
    commands(6, 6, 0); /* no watchdog that bites at once */
    commands(7, 12, 1);
    of("sched_op_compat", __HYPERVISOR_sched_op_compat, cmd_pointer);
    commands(3, 5, 1);
    of("vcpu_op", __HYPERVISOR_vcpu_op, cmd_none_pointer);
    commands(0, 1, 1); /* not down: it is the only one */
    commands(3, 10, 1);
    commands(12, 20, 1); /* nor an NMI */
    of("vcpu_op of none", __HYPERVISOR_vcpu_op, no_vcpu);
    commands(0, 20, 1);
    of("event_channel_op", __HYPERVISOR_event_channel_op, cmd_pointer);
    commands(0, 9, 1);
    commands(10, 10, 0); /* no reset: the console is a channel, too */
    commands(11, 20, 1);
    of("grant_table_op, none", __HYPERVISOR_grant_table_op, cmd_pointer);
    commands(0, 15, 1);
    of("grant_table_op, one", __HYPERVISOR_grant_table_op, cmd_pointer_one);
    commands(0, 15, 1);
    of("callback_op", __HYPERVISOR_callback_op, cmd_pointer);
    commands(0, 3, 1);
    of("nmi_op", __HYPERVISOR_nmi_op, cmd_pointer);
    commands(0, 3, 1);
    of("set_trap_table", __HYPERVISOR_set_trap_table, pointer_only);
    commands(0, 0, 0);
    traps_init(); /* that was the NULL */
    of("set_gdt, entries", __HYPERVISOR_set_gdt, pointer_count);
    commands(1, 1, 1);
    commands(512, 512, 1);
    commands(7169, 7169, 1);
    of("mmu_update, count", __HYPERVISOR_mmu_update, pointer_count);
    commands(0, 3, 1);
    of("mmuext_op, count", __HYPERVISOR_mmuext_op, pointer_count);
    commands(0, 3, 1);
    of("multicall, count", __HYPERVISOR_multicall, pointer_count);
    commands(0, 0, 1);
    commands(1, 1, 0);
    of("console_io, one character", __HYPERVISOR_console_io, cmd_one_pointer);
    commands(1, 4, 0);
    of("vm_assist", __HYPERVISOR_vm_assist, cmd_pointer); /* its types are the "addresses" */
    commands(2, 4, 0);
    of("hvm_op", __HYPERVISOR_hvm_op, cmd_pointer);
    commands(0, 40, 1);
    of("xsm_op", __HYPERVISOR_xsm_op, pointer_only);
    commands(0, 0, 1);
    of("xenoprof_op", __HYPERVISOR_xenoprof_op, cmd_pointer);
    commands(0, 20, 1);
    of("kexec_op", __HYPERVISOR_kexec_op, cmd_pointer);
    commands(0, 8, 1);
    of("tmem_op", __HYPERVISOR_tmem_op, pointer_only);
    commands(0, 0, 1);
    of("argo_op", __HYPERVISOR_argo_op, cmd_pointer);
    commands(0, 8, 1);
    of("xenpmu_op", __HYPERVISOR_xenpmu_op, cmd_pointer);
    commands(0, 10, 1);
    of("dm_op, no buffers", __HYPERVISOR_dm_op, cmd_none_pointer);
    commands(0, 0, 1);
    commands(DOMID_SELF, DOMID_SELF, 1);
    of("dm_op, one buffer", __HYPERVISOR_dm_op, cmd_one_pointer);
    commands(0, 0, 1);
    commands(DOMID_SELF, DOMID_SELF, 1);
    of("hypfs_op", __HYPERVISOR_hypfs_op, cmd_pointer);
    commands(0, 4, 1);
    control("platform_op", __HYPERVISOR_platform_op, 0x03000001, 70);
    control("sysctl", __HYPERVISOR_sysctl, 0x15, 40);
    control("domctl", __HYPERVISOR_domctl, 0x15, 90);
    control("arch_1", __HYPERVISOR_arch_1, 0x15, 12);
    of("arch", 0, pointer_only);
    for (nr = 48; nr < 56; nr++) {
        say("%u ", nr);
        commands(0, 0, 1);
    }
    of("unknown", 0, cmd_pointer);
    for (nr = 0; nr < 64; nr++)
        if (nr == 11 || (nr > 42 && nr < 48) || nr > 55) {
            say("%u ", nr);
            commands(0, 0, 1);
        }
}
