/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The test kernel's world, whole.  A test is one file with one function,
 *
 *     const char test_name[] = "NAME";
 *     void test_main(void) { ...  check(...)  ... }
 *
 * and argues one rule of the ABI.  Returning is passing: the runtime prints "PASS NAME" as the last line
 * and powers the domain off.  The first check that does not hold prints "FAIL NAME: why" instead.
 */
#pragma once

#include <xen/hypercall.h>

#define PAGE_SIZE 4096UL
#define VIRT_BASE 0xffffffff80000000UL
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE_ALIGNED __attribute__((aligned(4096)))

/* A page of our own to play with: `PAGE(name);` */
#define PAGE(name) static unsigned char name[PAGE_SIZE] PAGE_ALIGNED

#define barrier() asm volatile("" ::: "memory")

/* boot.S, main.c */
extern const char test_name[];
void test_main(void);
extern struct start_info *start_info;
extern struct shared_info *shared_info;
extern char _end[];

/* say.c: printf to the console. Knows %d %u %x %lx %ld %lu %s %c %p. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void console_flush(void);

/* main.c: verdicts */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void pass(void) __attribute__((noreturn));
void shutdown(unsigned reason) __attribute__((noreturn));

/* facts.c: what the command line says, NAME=HEX; 0 where it does not. For the hostile-* tests, which are told about the
 * domain beside them: domid, frames, a port and grants. */
unsigned long fact(const char *name);

/* check(cond): the rule as a C expression. The expression is the message. */
#define check(cond) \
    do { \
        if (!(cond)) \
            fail("line %d: not so: %s", __LINE__, #cond); \
    } while (0)

/* check_is(expression, value): for hypercall results; prints what it was and what it ought to be. */
#define check_is(expression, value) \
    do { \
        long is_ = (long)(expression), ought_ = (long)(value); \
        if (is_ != ought_) \
            fail("line %d: %s is %ld, ought to be %ld", __LINE__, #expression, is_, ought_); \
    } while (0)

/* string.c */
void *memset(void *to, int byte, unsigned long n);
void *memcpy(void *to, const void *from, unsigned long n);
int memcmp(const void *a, const void *b, unsigned long n);
unsigned long strlen(const char *s);
int strcmp(const char *a, const char *b);

/* Guest handles are typed pointers in Xen's headers; this fits every spelling of them. */
#define set_handle(handle, pointer) \
    do { \
        const void *p_ = (pointer); \
        __builtin_memcpy(&(handle), &p_, sizeof(p_)); \
    } while (0)

/*
 * paging.c: direct paging as the domain builder left it. The first pages of the domain are mapped from
 * VIRT_BASE on, in order; the tables themselves lie there too, read-only.
 */
#define PTE_P (1UL << 0)
#define PTE_RW (1UL << 1)
#define PTE_US (1UL << 2)
#define PTE_A (1UL << 5)
#define PTE_D (1UL << 6)
#define PTE_PSE (1UL << 7)
#define PTE_NX (1UL << 63)
#define PTE_MFN(pte) (((pte) & 0x000ffffffffff000UL) >> 12)
#define PTE(mfn, flags) (((unsigned long)(mfn) << 12) | (flags))

static inline unsigned long pfn_of(const void *va) { return ((unsigned long)va - VIRT_BASE) >> 12; }
static inline void *va_of_pfn(unsigned long pfn) { return (void *)(VIRT_BASE + (pfn << 12)); }
unsigned long mfn_of(const void *va);           /* machine frame of a page in the boot mapping */
unsigned long maddr_of(const void *va);         /* machine address of a byte there */
unsigned long pfn_of_mfn(unsigned long mfn);    /* by the M2P */
unsigned long *pte_of(const void *va, int level); /* the level's entry that maps va (level 1..4), readable */
unsigned long pte_maddr(const void *va, int level); /* where that entry is, for mmu_update */
int mmu_update(unsigned long maddr, unsigned long value); /* one entry, MMU_NORMAL_PT_UPDATE */
int remap(const void *va, unsigned long pte);   /* update_va_mapping and INVLPG */
int mmuext(unsigned cmd, unsigned long arg1, unsigned long arg2); /* one mmuext_op */
int readonly(const void *va);                   /* write-protect, or the reverse, a page of the boot mapping */
int writable(const void *va);

/*
 * traps.c: exceptions.  Each lands in trap_entry(), which asks, in this order: a hook the test set; a
 * fix-up recorded where the fault was (see probe()); else it is the end of the test.
 *
 * The order of the fields is the order of pushes in entry.S; from rax on it is what HYPERVISOR_iret wants.
 */
struct frame {
    unsigned long vector;
    unsigned long r15, r14, r13, r12, rbp, rbx, r9, r8, r10, rdx, rsi, rdi;
    unsigned long rax, r11, rcx, error; /* `error` becomes iret's flags word: it is zeroed on the way out */
    unsigned long rip, cs, rflags, rsp, ss;
};

typedef int (*trap_hook)(struct frame *); /* true: dealt with, go on */
extern trap_hook trap_hooks[256];
extern struct frame last_trap; /* the last one that was fixed up or hooked */
extern unsigned long last_cr2;
void traps_init(void); /* all 32 vectors, DPL 3 for int3 and into; called before test_main */

/* Run ONE instruction. Result: -1 if it did not trap, else its vector; last_trap has the rest. */
#define PROBE_NONE (-1L)
#define probe(instruction, ...) \
    ({ \
        long trap_ = PROBE_NONE; \
        asm volatile("1: " instruction "\n2:\n" \
                     ".pushsection .fixups, \"aw\"; .quad 1b, 2b; .popsection\n" \
                     : "+a"(trap_) __VA_ARGS__); \
        trap_; \
    })
long probe_read(const void *va, unsigned long *value);
long probe_write(void *va, unsigned long value);

/* events.c */
extern unsigned event_count[4096]; /* upcalls seen for each port */
extern void (*event_hook)(unsigned port);
void bits_upcall(void);  /* takes events from the two levels of bits: what an upcall does, as a rule */
void events_init(void);  /* callback registered, everything masked but what is bound with event_enable */
void event_enable(unsigned port);
void events_on(void);    /* upcall mask off (and pending looked at) */
void events_off(void);
int event_pending(unsigned port);
void event_clear(unsigned port);

unsigned own_domid(void);
int evtchn(unsigned cmd, void *op); /* EVENT_CHANNEL_OP */
unsigned bind_virq(unsigned virq);  /* -> the port, unmasked */
void wait_for_events(unsigned port, unsigned count); /* block until event_count[port] has come that far */

/*
 * user.c: code in user mode, on page tables of its own: the lower half holds just a page of code, one of data and
 * one of stack.  enter_user() goes there and comes back with the frame of whatever trapped; a system call has vector 256.
 */
#define USER_CODE 0x400000UL
#define USER_DATA 0x401000UL
#define USER_STACK_TOP 0x403000UL
#define SYSCALL_VECTOR 256
void user_init(void);                                    /* build the tables, register the callbacks */
void load_user(const void *start, const void *end);      /* what stands at USER_CODE */
struct frame *enter_user(struct frame *frame);             /* rip 0 means USER_CODE */
extern unsigned char user_data[PAGE_SIZE];
extern unsigned long user_l4_mfn, kernel_l4_mfn;

/* A piece of user code: USER_CODE_BLOB(name, "instructions"); then load_user(name, name_end). */
#define USER_CODE_BLOB(name, instructions) \
    extern const char name[], name##_end[]; \
    asm(".pushsection .rodata\n" #name ":\n" instructions "\n" #name "_end:\n.popsection")

/* vcpus.c: a second vCPU. Its context may be changed before VCPUOP_initialise; each call makes a fresh one. */
struct vcpu_guest_context *second_context(void (*entry)(void));
void second_starts(void (*entry)(void)); /* initialised and up */

/* dice.c: `rounds` requests, each of one of `kinds`; what a real Xen made of them, by seed (0 is none) */
unsigned dice(unsigned sides);
void throw_dice(long (*one)(unsigned what), unsigned kinds, unsigned rounds, const unsigned long *xens, unsigned known);

/* time.c */
unsigned long now(void); /* nanoseconds of system time */
unsigned long rdtsc(void);
void delay_until(unsigned long time); /* busy, but looking at the clock only now and then: that may be dear */
