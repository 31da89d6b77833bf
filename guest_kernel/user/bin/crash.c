/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * crash [how]: make the kernel write where it may not; or, with a word, do wrong in user mode: null, divide, invalid,
 * privileged, stack.  Those only end this program.
 */
#include <user.h>

static __attribute__((noinline)) int recurse(volatile int *depth)
{
    volatile int here[256];

    here[0] = *depth + 1;
    return here[0] < 0 ? 0 : recurse(here) + here[0]; /* "until it overflows": the stack ends long before */
}

int main(int argc, char **argv)
{
    int zero = 0;

    if (argc < 2)
        return shutdown(SHUTDOWN_HOW_CRASH);
    if (!strcmp(argv[1], "null"))
        *(volatile int *)(u64)zero = 1;
    else if (!strcmp(argv[1], "divide"))
        asm volatile("divl %0" : : "r"(zero), "a"(1), "d"(0));
    else if (!strcmp(argv[1], "invalid"))
        asm volatile("ud2");
    else if (!strcmp(argv[1], "privileged"))
        asm volatile("hlt");
    else if (!strcmp(argv[1], "stack"))
        return recurse(&zero);
    fail("crash: still here\n");
}
