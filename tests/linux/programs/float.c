/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Floating-point exceptions as a program of a stock Linux sees them: flags, what rests on them in a C library, SIGFPE.
 *
 * Says "float: PASS", or what was another.
 */
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

static int failures;

static void is(const char *what, long got, long wanted)
{
    if (got != wanted) {
        printf("float: %s: %#lx, not %#lx\n", what, got, wanted);
        failures++;
    }
}

static volatile double zero = 0, one = 1, three = 3, big = 1e308, small = 1e-308, result;
static volatile long double long_one = 1, long_three = 3, long_zero = 0, long_result;

#define FLAGS_OF(expression) (feclearexcept(FE_ALL_EXCEPT), (void)(expression), fetestexcept(FE_ALL_EXCEPT))

static void flags(void)
{
    is("1 / 2", FLAGS_OF(result = one / 2), 0);
    is("1 / 3", FLAGS_OF(result = one / three), FE_INEXACT);
    is("1 / 0", FLAGS_OF(result = one / zero), FE_DIVBYZERO);
    is("0 / 0", FLAGS_OF(result = zero / zero), FE_INVALID);
    is("overflow", FLAGS_OF(result = big * big), FE_OVERFLOW | FE_INEXACT);
    is("underflow", FLAGS_OF(result = small * small) & ~2, FE_UNDERFLOW | FE_INEXACT); /* and a denormal operand */
    is("x87: 1 / 2", FLAGS_OF(long_result = long_one / 2), 0);
    is("x87: 1 / 3", FLAGS_OF(long_result = long_one / long_three), FE_INEXACT);
    is("x87: 1 / 0", FLAGS_OF(long_result = long_one / long_zero), FE_DIVBYZERO);
    is("x87: 0 / 0", FLAGS_OF(long_result = long_zero / long_zero), FE_INVALID);
    feclearexcept(FE_ALL_EXCEPT);
}

/* Rounded once: a tie that is broken by what is far below. */
static void rounding(void)
{
    volatile double x = 0x1.0000001p0, y = 0x1.0000001p0, minus = -0x1.0000002p0;
    volatile double tie = 0x1.0000000000001p0, tiny = 0x1p-60;
    is("fma, exact", fma(x, y, minus) == 0x1p-56, 1);
    is("fma, of a tie", fma(tie, tie, tiny) == 0x1.0000000000002p0, 1);
    fesetround(FE_UPWARD);
    result = one / three;
    fesetround(FE_TONEAREST);
    is("1 / 3, upward", result == 0x1.5555555555556p-2, 1);
}

static sigjmp_buf back;
static volatile int signalled, mxcsr_there;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    signalled = info->si_code;
    mxcsr_there = (int)((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr;
    siglongjmp(back, 1);
}

static void signals(void)
{
    struct sigaction action = { .sa_flags = SA_SIGINFO | SA_NODEFER, .sa_sigaction = handler };
    uint32_t mxcsr = 0x1d80;
    uint16_t control = 0x37b;

    sigaction(SIGFPE, &action, NULL);
    if (!sigsetjmp(back, 1)) {
        __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
        result = one / zero;
        is("SSE's SIGFPE comes", 0, 1);
    }
    is("SSE's si_code", signalled, FPE_FLTDIV);
    is("MXCSR in the frame", mxcsr_there, 0x1d84);
    mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    signalled = 0;
    if (!sigsetjmp(back, 1)) {
        __asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp; fwait; fninit" : : "m"(control));
        is("the x87's SIGFPE comes", 0, 1);
    }
    is("the x87's si_code", signalled, FPE_FLTDIV);
    __asm__ volatile("fninit");
}

static void misaligned(void)
{
    static char line[64] __attribute__((aligned(64)));
    struct sigaction action = { .sa_flags = SA_SIGINFO | SA_NODEFER, .sa_sigaction = handler };

    sigaction(SIGSEGV, &action, NULL);
    signalled = 0;
    if (!sigsetjmp(back, 1)) {
        __asm__ volatile("movaps %0, %%xmm0" : : "m"(line[1]) : "xmm0");
        is("SIGSEGV comes", 0, 1);
    }
    is("its si_code", signalled, SI_KERNEL);
}

int main(void)
{
    flags();
    rounding();
    signals();
    misaligned();
    flags();
    puts(failures ? "float: FAIL" : "float: PASS");
    return failures != 0;
}
