/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What pacer.c keeps between calls, and the words of the engine's state it knows; cpustate.py says how they are found.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define LAYOUT 16 /* of struct pacer: the number pacer.py has */
#define TABLE_BITS 15

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
int DllMainCRTStartup(void *instance, u32 reason, void *reserved)
{
    (void)instance, (void)reason, (void)reserved;
    return 1;
}
#else
#define EXPORT __attribute__((visibility("default")))
#endif

struct uc_tb {
    u64 pc;
    u16 icount, size;
};

/* A translated block.  `place` is where in the engine's buffer it calls us from. */
struct entry {
    u64 place, pc;
    u32 size, count;            /* bytes; instructions */
};

/* Every field but the table is one 64-bit word; pacer.py has the same list. */
struct pacer {
    u64 executed;               /* instructions, exact at every exit */
    volatile u64 limit;         /* take the slow path at the first block boundary where executed >= limit */
    volatile u64 stop;          /* a stop was asked for (which sets limit to 0 as well) */
    u64 goal;                   /* stop at the first block boundary where executed >= goal */
    struct entry *last;         /* the block last entered; 0: none, or it is settled */
    u64 new_pc, new_size, new_count; /* the block last translated; size 0: none */
    void *context;              /* where state is a copy: the uc_context that holds it, else 0 */
    u64 *state;                 /* the CPU state */
    const u64 *ram;             /* guest-physical 0 */
    u64 ram_bytes;
    u64 vmexit_error_code;      /* byte offset of error_code in state */
    int (*emu_stop)(void *);
    int (*ctl)(void *, int, ...);
    int (*context_save)(void *, void *);
    int (*context_restore)(void *, void *);
    void *engine;
    int (*reg_read)(void *, int, void *); /* of the engine, or of the context */
    void *registers;            /* the engine, or the context */
    void (*on_exit)(u32);       /* Python's hooks */
    void (*on_syscall)(void);
    void (*on_sysenter)(void);
    void (*on_invalid)(void);
    void (*on_cpuid)(void);
    u32 (*on_in)(u32, int);
    void (*on_out)(u32, int, u32);
    u64 window;                 /* stop, too, where the guest can take an interrupt */
    u64 executed_user;          /* of `executed`, those of users at CPL 3; kept if asked for */
    u64 syscall_rcx, syscall_r11; /* as they were before the present syscall */
    u64 broken;                 /* BROKEN: a breakpoint stopped the guest; else the address of one to pass, once */
    u64 step;                   /* STEP_WANTED: stop behind the next block, which is under way (BEGUN), or was LEFT */
    u64 eased, flag;            /* how many blocks pacer_ease has eased; what they look at (0: not known) */
    u64 flush;                  /* the TLB is to be flushed before guest code runs again */
    u64 keeps_cpl, entered_mode;    /* whether CPL 1 is to stay so; the mode guest code was entered in, if known */
    u64 blocks;                 /* translated under one of our block hooks, since pacer.py last began to count */
    u64 corrected;              /* the engine is the corrected one: it says how long a syscall is */
    u64 syscall_rip;            /* where the present one begins */
    u64 in_python;              /* how many of Python's hooks are on the stack */
    u64 guarded, escaped;       /* whether what follows is compared at exits (guard.py); what was not as it should be */
    u64 entered_cr0, entered_cr3, entered_cr4, entered_efer; /* as guest code was entered */
    u64 entered_gdt, entered_gdt_limit, entered_ldt, entered_ldt_limit, entered_idt, entered_idt_limit, entered_tr;
    u64 user_root;              /* the page tables of users at CPL 3; 0: CR3's */
    u32 (*on_may_io)(u32, int);
    u64 leaves_cs, leaves_ss;   /* the selectors that a syscall leaves; 0: those there were */
    struct entry table[1u << TABLE_BITS] __attribute__((aligned(512)));
};

#define BROKEN (~0ull)
enum { STEP_WANTED = 1, STEP_BEGUN = 2, STEP_LEFT = 3 }; /* by an exit */
enum { RCX = 1, R11 = 11, RIP = 16, EFLAGS = 17, CC_SRC = 19, CC_OP_DF = 21, HFLAGS = 22 };
enum { LDT_BASE = 42, TR_BASE = 45, GDT_BASE = 48, IDT_BASE = 51, CR0 = 53, CR3 = 56, CR4 = 57, EFER = 74 };
enum { EXCEPTION_NEXT_RIP = 5392 / 8, NESTED_CR3 = 5544 / 8, DR6 = 5400 / 8 + 6, DR7 };
enum { CS = 26, SS = 29 };
enum { TF = 1 << 8, DF = 1 << 10, IF = 1 << 9, RF = 1 << 16, ARITHMETIC_FLAGS = 0x8d5 };
enum { HF_CPL = 3, HF_PV_KERNEL = 1 << 29, MODE = HF_CPL | HF_PV_KERNEL, USERS = 3 }; /* rings.py */
enum { HF_INHIBIT_IRQ = 1 << 3, HF_CS64 = 1 << 15, HF2_NPT = 1 << 6 };
enum { ARMED = 0xff }; /* of DR7: a breakpoint is enabled */
enum { CC_OP_EFLAGS = 1, REG_RFLAGS = 253 };
enum { REQUEST_CACHE = (int)(8u | 2u << 26 | 3u << 30), FLUSH_TLB = (int)(11u | 1u << 30) };
enum { RW = 2, WATCHED = 1 << 9 }; /* of a nested entry; WATCHED: stores need no guard, because of watch.py */
enum { DB = 1, PF = 14, EXIT_EXCEPTION = 0x140, EXIT_DB = 0x141, EXIT_PF = 0x14e, EXIT_NPF = 0x500, EXIT_WATCH };
enum { USER = 1 << 2, FETCH = 1 << 4 }; /* of a #PF's error code */
enum { FAULTS = 0xb7ce1 }; /* by vector: all exceptions but #DB, NMI, #BP, #OF, #DF and #MC */
