/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A hypercall needs no hypercall page: `syscall` in kernel mode, from any address, is one.  The number is
 * in %rax, the arguments in %rdi %rsi %rdx %r10 %r8, all of them kept but %rax, %rcx and %r11: those are
 * %rip and %rflags as `syscall` found them, for that is what Xen's `sysret` goes back by.
 */
#include "test.h"

const char test_name[] = "direct-syscall";

void test_main(void)
{
    unsigned long rax = __HYPERVISOR_xen_version, rdi = XENVER_version, rsi = 0, rdx = 0x1111, r9 = 0x3333;
    register unsigned long r10 asm("r10") = 0x2222;
    register unsigned long r8 asm("r8") = 0x4444;
    register unsigned long r11 asm("r11") = 0x5555;
    unsigned long flags_before, flags_after, rcx = 0x6666, behind;

    asm volatile("leaq 1f(%%rip), %[behind]\n"
                 "std; stc\n"
                 "pushfq; popq %[before]\n"
                 "syscall\n"
                 "1: pushfq; popq %[after]\n"
                 "cld\n"
                 : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r10), "+r"(r8), "+b"(r9), "+c"(rcx), "+r"(r11),
                   [before] "=&r"(flags_before), [after] "=&r"(flags_after), [behind] "=&r"(behind)
                 :
                 : "memory");

    say("Xen %lu.%lu\n", rax >> 16, rax & 0xffff);
    check(rax >> 16 == 4);
    check(rdi == XENVER_version && rsi == 0);
    check(rdx == 0x1111 && r10 == 0x2222 && r8 == 0x4444 && r9 == 0x3333);
    check((flags_before & 0x401) == 0x401 && flags_after == flags_before);
    check(rcx == behind && r11 == flags_before);

    /* A number nobody has: -ENOSYS, not a crash. 55 is the last reserved one, 63 is none. */
    check_is(hypercall1(63, 0), -XEN_ENOSYS);
    check_is(hypercall1(0x10000, 0), -XEN_ENOSYS);
}
