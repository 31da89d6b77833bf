/* SPDX-License-Identifier: GPL-2.0-or-later
 * needs: engine=corrected
 *
 * A 64-bit PV kernel runs at CPL 3 and finds it so, whatever it asks the processor: which selectors load, where far
 * jumps, calls and returns may go, what LAR, LSL, VERR and VERW say, and what is pushed.
 */
#include "test.h"

const char test_name[] = "selectors";

#define CODE64 0x00affb000000ffffUL       /* DPL 3 */
#define CONFORMING64 0x00afff000000ffffUL /* DPL 3 */
#define DATA 0x00cff3000000ffffUL
#define READ_ONLY 0x00cff1000000ffffUL
#define ABSENT 0x00cf73000000ffffUL
#define EXPAND_DOWN 0x00c0f70000000fffUL

enum { OWN_CODE = 1, OWN_CONFORMING, OWN_DATA, OWN_READ_ONLY, OWN_ABSENT, OWN_NOTHING, OWN_EXPAND_DOWN };
#define SELECTOR(index, rpl) ((index) * 8 | (rpl))

static unsigned long gdt[512] PAGE_ALIGNED = {
    [OWN_CODE] = CODE64,       [OWN_CONFORMING] = CONFORMING64, [OWN_DATA] = DATA,
    [OWN_READ_ONLY] = READ_ONLY, [OWN_ABSENT] = ABSENT,         [OWN_EXPAND_DOWN] = EXPAND_DOWN,
};

static unsigned selector_of_cs(void)
{
    unsigned selector;

    asm volatile("movl %%cs, %0" : "=r"(selector));
    return selector;
}

static unsigned selector_of_ss(void)
{
    unsigned selector;

    asm volatile("movl %%ss, %0" : "=r"(selector));
    return selector;
}

#define LOAD(segment, selector) probe("movl %k1, %%" segment, : "r"(selector))

/* An instruction raises this exception, for this selector. */
#define refused(what, vector_, error_) \
    do { \
        check_is(what, vector_); \
        check_is(last_trap.error, error_); \
    } while (0)

static void stack_segments(void)
{
    for (unsigned rpl = 0; rpl < 3; rpl++) {
        refused(LOAD("ss", (FLAT_KERNEL_SS & ~3) | rpl), 13, FLAT_KERNEL_SS & ~3);
        refused(LOAD("ss", SELECTOR(OWN_DATA, rpl)), 13, SELECTOR(OWN_DATA, 0));
        refused(LOAD("ss", rpl), 13, 0); /* the null one */
    }
    refused(LOAD("ss", 3), 13, 0);
    refused(LOAD("ss", SELECTOR(OWN_READ_ONLY, 3)), 13, SELECTOR(OWN_READ_ONLY, 0));
    refused(LOAD("ss", SELECTOR(OWN_CODE, 3)), 13, SELECTOR(OWN_CODE, 0));
    refused(LOAD("ss", SELECTOR(OWN_NOTHING, 3)), 13, SELECTOR(OWN_NOTHING, 0));
    refused(LOAD("ss", SELECTOR(OWN_ABSENT, 3)), 12, SELECTOR(OWN_ABSENT, 0));
    refused(LOAD("ss", 0xe010), 13, 0xe010); /* Xen's own */
    check_is(selector_of_ss(), FLAT_KERNEL_SS);
    check_is(LOAD("ss", SELECTOR(OWN_DATA, 3)), PROBE_NONE);
    check_is(selector_of_ss(), SELECTOR(OWN_DATA, 3));
    check_is(probe("ud2"), 6); /* where it is seen in the frame; Xen returns with its own */
    check_is(last_trap.ss, SELECTOR(OWN_DATA, 3));
    check_is(LOAD("ss", FLAT_KERNEL_SS), PROBE_NONE);
}

static void data_segments(void)
{
    for (unsigned rpl = 0; rpl < 4; rpl++) {
        check_is(LOAD("ds", (FLAT_KERNEL_SS & ~3) | rpl), PROBE_NONE);
        check_is(LOAD("es", SELECTOR(OWN_READ_ONLY, rpl)), PROBE_NONE);
        check_is(LOAD("es", SELECTOR(OWN_CODE, rpl)), PROBE_NONE); /* readable */
        check_is(LOAD("es", rpl), PROBE_NONE);
        refused(LOAD("ds", 0xe010 | rpl), 13, 0xe010);
        refused(LOAD("ds", 0xe008 | rpl), 13, 0xe008);
        refused(LOAD("ds", SELECTOR(OWN_ABSENT, rpl)), 11, SELECTOR(OWN_ABSENT, 0));
    }
    asm volatile("movl %0, %%ds; movl %0, %%es" : : "r"(0));
}

/* lretq to what stands behind it, and the CS it then had. Whoever calls goes back to the flat one. */
static long lret_to(unsigned long selector, unsigned *cs)
{
    long trap = PROBE_NONE;
    unsigned got = 0;

    asm volatile("movq %%rsp, %%rbx\n"
                 "pushq %[selector]\n"
                 "leaq 2f(%%rip), %%rcx\n"
                 "pushq %%rcx\n"
                 "1: lretq\n"
                 "2: movl %%cs, %[got]\n"
                 "movq %%rbx, %%rsp\n"
                 ".pushsection .fixups, \"aw\"; .quad 1b, 2b; .popsection\n"
                 : "+a"(trap), [got] "=r"(got) : [selector] "r"(selector) : "rbx", "rcx", "memory");
    *cs = got;
    return trap;
}

static long iret_to(unsigned long selector, unsigned long stack, unsigned *cs, unsigned *ss)
{
    long trap = PROBE_NONE;
    unsigned got_cs = 0, got_ss = 0;

    asm volatile("movq %%rsp, %%rbx\n"
                 "pushq %[stack]\n"
                 "pushq %%rbx\n"
                 "pushfq\n"
                 "pushq %[selector]\n"
                 "leaq 2f(%%rip), %%rcx\n"
                 "pushq %%rcx\n"
                 "1: iretq\n"
                 "2: movl %%cs, %[cs]\n"
                 "movl %%ss, %[ss]\n"
                 "movq %%rbx, %%rsp\n"
                 ".pushsection .fixups, \"aw\"; .quad 1b, 2b; .popsection\n"
                 : "+a"(trap), [cs] "=&r"(got_cs), [ss] "=&r"(got_ss) : [selector] "r"(selector), [stack] "r"(stack)
                 : "rbx", "rcx", "memory");
    *cs = got_cs;
    *ss = got_ss;
    return trap;
}

static void far_transfers(void)
{
    unsigned cs, ss;
    struct {
        unsigned long offset;
        unsigned short selector;
    } __attribute__((packed)) target;
    unsigned long pushed;
    static const unsigned good[] = { FLAT_KERNEL_CS, SELECTOR(OWN_CODE, 3), SELECTOR(OWN_CONFORMING, 3) };

    for (unsigned n = 0; n < ARRAY_SIZE(good); n++) {
        check_is(lret_to(good[n], &cs), PROBE_NONE);
        check_is(cs, good[n]);
        check_is(iret_to(good[n], SELECTOR(OWN_DATA, 3), &cs, &ss), PROBE_NONE);
        check_is(cs, good[n]);
        check_is(ss, SELECTOR(OWN_DATA, 3));
        check_is(probe("ud2"), 6);
        check_is(last_trap.cs & 0xffff, good[n] & ~3); /* RPL 0 says that it was the kernel */
        check_is(selector_of_cs(), good[n]);           /* and Xen goes back to what it was */
        for (unsigned rpl = 0; rpl < 3; rpl++) {
            refused(lret_to((good[n] & ~3) | rpl, &cs), 13, good[n] & ~3);
            refused(iret_to((good[n] & ~3) | rpl, FLAT_KERNEL_SS, &cs, &ss), 13, good[n] & ~3);
        }
    }
    refused(iret_to(FLAT_KERNEL_CS, FLAT_KERNEL_SS & ~3, &cs, &ss), 13, FLAT_KERNEL_SS & ~3);
    refused(iret_to(FLAT_KERNEL_CS, 3, &cs, &ss), 13, 0);
    refused(lret_to(3, &cs), 13, 0);
    refused(lret_to(SELECTOR(OWN_DATA, 3), &cs), 13, SELECTOR(OWN_DATA, 0));
    refused(lret_to(0xe008 | 3, &cs), 13, 0xe008); /* Xen's own */
    check_is(lret_to(FLAT_KERNEL_CS, &cs), PROBE_NONE);

    /* Far calls push the selector there was; the RPL of the one they go to does not count, CS gets that of the CPL. */
    for (unsigned rpl = 0; rpl < 4; rpl++) {
        target.selector = SELECTOR(OWN_CODE, rpl);
        asm volatile("movq %%rsp, %%rbx\n"
                     "leaq 1f(%%rip), %%rcx\n"
                     "movq %%rcx, %[target]\n"
                     ".byte 0x48; lcall *%[target]\n"
                     "1: movl %%cs, %[cs]\n"
                     "movq 8(%%rsp), %[pushed]\n"
                     "movq %%rbx, %%rsp\n"
                     : [cs] "=&r"(cs), [pushed] "=&r"(pushed), [target] "+m"(target) : : "rbx", "rcx", "memory");
        check_is(cs, SELECTOR(OWN_CODE, 3));
        check_is(pushed & 0xffff, FLAT_KERNEL_CS);
        check_is(lret_to(FLAT_KERNEL_CS, &cs), PROBE_NONE);
    }
}

#define ASK(instruction, selector) \
    ({ \
        unsigned char said_; \
        unsigned long answer_ = 0; \
        asm volatile(instruction "; setz %0" : "=q"(said_), "+r"(answer_) : "r"((unsigned)(selector)) : "cc"); \
        said_ ? (long)(answer_ & 0xffffffff) : -1L; \
    })
#define LAR(selector) (ASK("larl %k2, %k1", selector) & ~0xf0000L) /* those four bits are undefined */
#define REFUSED (-1L & ~0xf0000L)
#define LSL(selector) ASK("lsll %k2, %k1", selector)
#define VERR(selector) ASK("verr %w2", selector)
#define VERW(selector) ASK("verw %w2", selector)

static void questions(void)
{
    for (unsigned rpl = 0; rpl < 4; rpl++) {
        check_is(LAR((FLAT_KERNEL_CS & ~3) | rpl), 0xa0fb00);
        check_is(LAR((FLAT_KERNEL_SS & ~3) | rpl), 0xc0f300);
        check_is(LAR(SELECTOR(OWN_CONFORMING, rpl)), 0xa0ff00);
        check_is(LSL((FLAT_KERNEL_SS & ~3) | rpl), 0xffffffff);
        check_is(LSL(SELECTOR(OWN_EXPAND_DOWN, rpl)), 0xffffff);
        check_is(VERR((FLAT_KERNEL_CS & ~3) | rpl), 0);
        check_is(VERW((FLAT_KERNEL_CS & ~3) | rpl), -1);
        check_is(VERR(SELECTOR(OWN_READ_ONLY, rpl)), 0);
        check_is(VERW(SELECTOR(OWN_READ_ONLY, rpl)), -1);
        check_is(VERW(SELECTOR(OWN_DATA, rpl)), 0);
        for (unsigned own = 0xe008; own <= 0xe010; own += 8) { /* Xen's */
            check_is(LAR(own | rpl), REFUSED);
            check_is(LSL(own | rpl), -1);
            check_is(VERR(own | rpl), -1);
            check_is(VERW(own | rpl), -1);
        }
        check_is(LAR(SELECTOR(OWN_NOTHING, rpl)), REFUSED);
        check_is(LAR(rpl), REFUSED);
    }
}

/* A hypercall comes back by sysret, with the flat selectors. */
static void hypercalls(void)
{
    unsigned cs;

    check_is(lret_to(SELECTOR(OWN_CODE, 3), &cs), PROBE_NONE);
    check_is(LOAD("ss", SELECTOR(OWN_DATA, 3)), PROBE_NONE);
    check_is(selector_of_cs(), SELECTOR(OWN_CODE, 3));
    check(HYPERVISOR_xen_version(XENVER_version, 0) > 0);
    check_is(selector_of_cs(), FLAT_KERNEL_CS);
    check_is(selector_of_ss(), FLAT_KERNEL_SS);
}

void test_main(void)
{
    unsigned long frame = mfn_of(gdt), pushed;

    check_is(selector_of_cs(), FLAT_KERNEL_CS);
    check_is(selector_of_ss(), FLAT_KERNEL_SS);
    check_is(readonly(gdt), 0);
    check_is(HYPERVISOR_set_gdt(&frame, 512), 0);

    stack_segments();
    data_segments();
    far_transfers();
    questions();
    hypercalls();

    /* fs and gs are pushed as they are. */
    asm volatile("movl %1, %%fs; pushq %%fs; popq %0; movl %2, %%fs" : "=&r"(pushed) : "r"(SELECTOR(OWN_DATA, 1)), "r"(0));
    check_is(pushed, SELECTOR(OWN_DATA, 1));
}
