/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What ring 0 could do, tried from a guest's kernel and from its user code: control registers, MSRs, descriptor-table
 * registers, ports, debug registers. What Xen does not carry out for a PV kernel is #GP (or #UD), and changes nothing.
 */
#include "test.h"

const char test_name[] = "hostile-privileges";


static long write_msr(unsigned msr, unsigned long value)
{
    long trap = PROBE_NONE;

    asm volatile("movq %%rax, %%rbx; movl %%edi, %%eax\n"
                 "1: wrmsr\n"
                 "movq %%rbx, %%rax\n"
                 "2:\n"
                 ".pushsection .fixups, \"aw\"; .quad 1b, 2b; .popsection"
                 : "+a"(trap)
                 : "c"(msr), "D"((unsigned)value), "d"((unsigned)(value >> 32))
                 : "rbx");
    return trap;
}

void test_main(void)
{
    static const unsigned msrs[] = { 0x1b, 0x10, 0x174, 0x175, 0x176, 0x1d9, 0x277, 0xc0000080, 0xc0000081, 0xc0000082,
                                     0xc0000083, 0xc0000084, 0xc0010117, 0x8000 };
    unsigned long cr0, cr4, value;

    asm volatile("movq %%cr0, %0; movq %%cr4, %1" : "=r"(cr0), "=r"(cr4));
    /* CR0: TS is the guest's, nothing else. */
    for (unsigned bit = 0; bit < 64; bit++)
        if (bit != 3)
            check_is(probe("movq %1, %%cr0", : "r"(cr0 ^ 1UL << bit)), 13);
    check_is(probe("lmsw %w1", : "r"(cr0 ^ 1)), 13);
    check_is(probe("movq %1, %%cr3", : "r"(~0UL)), 13);
    check_is(probe("movq %1, %%cr3", : "r"(0UL)), 13);
    check_is(probe("movq %1, %%cr8", : "r"(0UL)), 13);
    check_is(probe("movq %%cr8, %%rbx", : : "rbx"), 13);
    asm volatile("movq %%cr0, %0" : "=r"(value));
    check_is(value, cr0);

    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        check_is(write_msr(msrs[i], 0x1234567812345678UL), 13);
    check_is(write_msr(0xc0000100, 0x8000000000000000UL), 13); /* FS base, not canonical */
    check_is(write_msr(0xc0000101, 0x0000800000000000UL), 13);
    check_is(write_msr(0xc0000102, 0xfffe000000000000UL), 13);

    check_is(probe("lgdt (%%rsp)"), 13);
    check_is(probe("lidt (%%rsp)"), 13);
    check_is(probe("lldt %w1", : "r"(0)), 13);
    check_is(probe("ltr %w1", : "r"(0xe040)), 13);
    say("invd=%ld\n", probe("invd")); /* said, not judged: QEMU's processor lets it pass in any ring */
    check_is(probe("hlt"), 13);
    check_is(probe("swapgs"), 13);
    check_is(probe("sysretq"), 13);
    check_is(probe("rdpmc", : "c"(0)), 13);
    check_is(probe("clts"), PROBE_NONE);
    check_is(probe("vmcall"), 6);
    check_is(probe("vmmcall"), 6);

    /* Ports: none, without a virtual IOPL; and with one, those that nobody has read as ones. */
    struct physdev_set_iopl iopl = { .iopl = 4 };

    if (!(start_info->flags & SIF_INITDOMAIN)) {
        check_is(probe("inb $0x70, %%al"), 13);
        check_is(probe("outb %%al, $0x70"), 13);
        check_is(probe("cli"), 13);
        check_is(HYPERVISOR_physdev_op(PHYSDEVOP_set_iopl, &iopl), -XEN_EINVAL);
        iopl.iopl = 3;
        check_is(HYPERVISOR_physdev_op(PHYSDEVOP_set_iopl, &iopl), 0);
        check_is(probe("cli; sti"), PROBE_NONE);
        iopl.iopl = 0;
        check_is(HYPERVISOR_physdev_op(PHYSDEVOP_set_iopl, &iopl), 0);
    }

    /* Debug registers: no breakpoints in the hypervisor, and no general detect. */
    for (unsigned reg = 0; reg < 4; reg++) {
        check_is(HYPERVISOR_set_debugreg((int)reg, 0xffff82d080000000UL), -XEN_EPERM);
        check_is(HYPERVISOR_set_debugreg((int)reg, 0xffff87ffffffffffUL), -XEN_EPERM);
        check_is(HYPERVISOR_set_debugreg((int)reg, 0xffff880000000000UL), 0);
        check_is(HYPERVISOR_set_debugreg((int)reg, 0x8000000000000000UL), -XEN_EPERM);
        check_is(HYPERVISOR_set_debugreg((int)reg, 0), 0);
    }
    check_is(HYPERVISOR_set_debugreg(7, 1 << 13), -XEN_EPERM);
    check_is(HYPERVISOR_set_debugreg(7, 0x20001), -XEN_EPERM); /* an I/O breakpoint */
    check_is(HYPERVISOR_set_debugreg(7, 1UL << 32), -XEN_EINVAL);
    check_is(HYPERVISOR_set_debugreg(6, 1UL << 32), -XEN_EINVAL);
    check_is(HYPERVISOR_set_debugreg(8, 0), -XEN_ENODEV);
    check_is(HYPERVISOR_set_debugreg(-1, 0), -XEN_ENODEV);
    check_is(HYPERVISOR_set_debugreg(0x7fffffff, 0), -XEN_ENODEV);
    check_is(HYPERVISOR_get_debugreg(99), -XEN_ENODEV);

    /* What the hypervisor has no such call for, or not for a guest. */
    check_is(HYPERVISOR_set_segment_base(4, 0), -XEN_EINVAL);
    check_is(HYPERVISOR_set_segment_base(SEGBASE_FS, 0x0000800000000000UL), -XEN_EINVAL);
    check_is(HYPERVISOR_set_segment_base(SEGBASE_GS_KERNEL, ~0UL >> 1), -XEN_EINVAL);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, 6), -XEN_EINVAL);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, 64), -XEN_EINVAL);
    check_is(HYPERVISOR_vm_assist(2, 0), -XEN_ENOSYS);
    check_is(hypercall(11, 0, 0, 0, 0, 0), -XEN_ENOSYS);
    check_is(hypercall(56, 0, 0, 0, 0, 0), -XEN_ENOSYS);
    check_is(hypercall(~0U, 0, 0, 0, 0, 0), -XEN_ENOSYS);
}
