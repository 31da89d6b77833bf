/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Exits: between the guest and Python.
 */
#pragma once

#include "pacer.h"

/* A call of a Python function. While it runs, an engine that dies cannot be replaced (corrections/death.c). */
#define IN_PYTHON(p, call) ((p)->in_python++, (call), (p)->in_python--)

static void gather_flags(struct pacer *p)
{
    u64 flags = 0;
    p->reg_read(p->registers, REG_RFLAGS, &flags);
    p->state[EFLAGS] = flags;
}

/* The second line of defence (guard.py): record the registers that no guest may change without an exit. */
static void remember_entry(struct pacer *p)
{
    const u64 *state = p->state;
    p->entered_mode = state[HFLAGS] & MODE;
    p->entered_cr0 = state[CR0], p->entered_cr3 = state[CR3], p->entered_cr4 = state[CR4];
    p->entered_efer = state[EFER], p->entered_tr = state[TR_BASE];
    p->entered_gdt = state[GDT_BASE], p->entered_gdt_limit = state[GDT_BASE + 1];
    p->entered_ldt = state[LDT_BASE], p->entered_ldt_limit = state[LDT_BASE + 1];
    p->entered_idt = state[IDT_BASE], p->entered_idt_limit = state[IDT_BASE + 1];
}

/* The registers that differ from the record: a bit for each, in guard.py's order. */
static u64 changed_since_entry(const struct pacer *p)
{
    const u64 *state = p->state;
    u64 mode = state[HFLAGS] & MODE;
    u64 changed = (mode != p->entered_mode && !(mode == 3 && p->entered_mode == 1)) || !(mode & 1);
    changed |= (u64)(state[CR0] != p->entered_cr0) << 1 | (u64)(state[CR3] != p->entered_cr3) << 2;
    changed |= (u64)(state[CR4] != p->entered_cr4) << 3 | (u64)(state[EFER] != p->entered_efer) << 4;
    changed |= (u64)(state[GDT_BASE] != p->entered_gdt || state[GDT_BASE + 1] != p->entered_gdt_limit) << 5;
    changed |= (u64)(state[LDT_BASE] != p->entered_ldt || state[LDT_BASE + 1] != p->entered_ldt_limit) << 6;
    changed |= (u64)(state[IDT_BASE] != p->entered_idt || state[IDT_BASE + 1] != p->entered_idt_limit) << 7;
    return changed | (u64)(state[TR_BASE] != p->entered_tr) << 8;
}

/* At an exit of a guarded guest: if it escaped, the run ends, and no handler is called. */
static int has_escaped(void *uc, struct pacer *p)
{
    if (!p->guarded)
        return 0;
    p->escaped |= changed_since_entry(p);
    if (!__builtin_expect(p->escaped != 0, 0))
        return 0;
    p->stop = 1;
    p->limit = 0;
    p->emu_stop(uc);
    return 1;
}

/* The same at the beginning and end of a run, where there is no exit. */
EXPORT void pacer_begin(struct pacer *p)
{
    remember_entry(p);
}

EXPORT u64 pacer_end(struct pacer *p)
{
    return p->escaped |= changed_since_entry(p);
}

/* Whether an exit is a fault. A fault sets RF, so that a breakpoint at the instruction, which has fired, does not fire
 * again. */
static int is_fault(const struct pacer *p, u32 code)
{
    const u32 *error = (const u32 *)((const u8 *)p->state + p->vmexit_error_code); /* then exception_is_int */
    u32 vector = code >= EXIT_EXCEPTION ? code - EXIT_EXCEPTION : error[1] ? 32 : code;
    return vector < 32 && FAULTS >> vector & 1;
}

/* From here on the CPU state is Python's. */
static void leave_guest(void *uc, struct pacer *p)
{
    if (p->context)
        p->context_save(uc, p->context);
    gather_flags(p);
}

/* From here on the CPU state is the guest's again. */
static void enter_guest(void *uc, struct pacer *p)
{
    u64 flags = p->state[EFLAGS];
    if (!(p->state[DR7] & ARMED) && !p->stop)
        flags &= ~(u64)RF; /* without a breakpoint RF has no effect, and would cost a block of its own */
    p->state[CC_SRC] = flags & ARITHMETIC_FLAGS;
    p->state[CC_OP_DF] = (flags & DF ? 0xffffffffull : 1) << 32 | CC_OP_EFLAGS;
    p->state[EFLAGS] = (u32)flags & ~(u32)(ARITHMETIC_FLAGS | DF);
    remember_entry(p);
    if (p->context)
        p->context_restore(uc, p->context);
    if (p->flush) {
        p->flush = 0;
        p->ctl(uc, FLUSH_TLB);
    }
}

/* Stock engine: a guest kernel at CPL 1 executed an iretq to its own code (Linux does so to serialize, 100 000 times at
 * boot), which leaves it at CPL 3 and in a page fault.  CPL is set back to 1, and no handler is called. */
static int put_back(void *uc, u32 code, struct pacer *p)
{
    const u32 *error = (const u32 *)((const u8 *)p->state + p->vmexit_error_code);
    if (code != EXIT_PF || p->entered_mode != 1 || !p->keeps_cpl)
        return 0;
    if (p->context)
        p->context_save(uc, p->context);
    if (!(*error & USER) || (p->state[HFLAGS] & HF_CPL) != 3)
        return 0;
    p->state[HFLAGS] = (p->state[HFLAGS] & ~(u64)HF_CPL) | 1;
    settle(p, code);
    if (p->context)
        p->context_restore(uc, p->context);
    return 1;
}

/* UC_HOOK_INTR: exceptions, `int n`, and the other #VMEXITs. */
EXPORT void pacer_exit(void *uc, u32 code, struct pacer *p)
{
    u64 rip;
    int fault;
    if (put_back(uc, code, p)) {
        stop_if_due(uc, p);
        return;
    }
    leave_guest(uc, p);
    settle(p, code);
    if (has_escaped(uc, p))
        return;
    fault = is_fault(p, code), rip = p->state[RIP];
    if (fault)
        p->state[EFLAGS] |= RF;
    IN_PYTHON(p, p->on_exit(code));
    if (fault && p->state[RIP] != rip) /* a handler emulated the instruction */
        p->state[EFLAGS] &= ~(u64)RF;
    enter_guest(uc, p);
    stop_if_due(uc, p);
}

/* A `syscall`. The engine does nothing for it (the stock one adds the instruction's length to RIP afterwards, which is
 * not known here and taken as 2).  RCX, R11 and RIP are set here as the CPU sets them; Python decides where it
 * leads. */
EXPORT void pacer_syscall(void *uc, struct pacer *p)
{
    leave_guest(uc, p);
    if (has_escaped(uc, p))
        return;
    p->syscall_rcx = p->state[RCX], p->syscall_r11 = p->state[R11];
    p->state[EFLAGS] &= ~(u64)RF;
    p->state[R11] = p->state[EFLAGS];
    p->syscall_rip = p->corrected ? p->state[EXCEPTION_NEXT_RIP] : p->state[RIP];
    if (!p->corrected)
        p->state[RIP] += 2;
    p->state[RCX] = p->state[RIP];
    if (p->leaves_cs)
        p->state[CS] = p->leaves_cs, p->state[SS] = p->leaves_ss;
    IN_PYTHON(p, p->on_syscall());
    if (!p->corrected)
        p->state[RIP] -= 2;
    enter_guest(uc, p);
    stop_if_due(uc, p);
}

/* A `sysenter` of the stock engine: likewise, but for Python it is an exception, with RIP at the instruction. */
EXPORT void pacer_sysenter(void *uc, struct pacer *p)
{
    leave_guest(uc, p);
    if (has_escaped(uc, p))
        return;
    IN_PYTHON(p, p->on_sysenter());
    p->state[RIP] -= 2;
    enter_guest(uc, p);
    stop_if_due(uc, p);
}

/* UC_HOOK_INSN_INVALID, which the engine calls for an exception that is not intercepted. */
EXPORT u32 pacer_invalid(void *uc, struct pacer *p)
{
    leave_guest(uc, p);
    if (has_escaped(uc, p))
        return 1;
    IN_PYTHON(p, p->on_invalid());
    enter_guest(uc, p);
    return 1; /* handled */
}

/* Hooks inside a block, which continues afterwards.  While a hook runs, the rest of the block is not counted.  The
 * translation of the rest expects the flags where they were, so they are left there. */
struct pause {
    u64 rest, eflags;
};

static struct pause pause_block(void *uc, struct pacer *p)
{
    struct pause pause;
    if (p->context)
        p->context_save(uc, p->context);
    pause.rest = p->last ? remainder_of(p, p->state[RIP], 1) : 0;
    pause.eflags = p->state[EFLAGS];
    count(p, -pause.rest);
    gather_flags(p);
    return pause;
}

static void resume_block(void *uc, struct pacer *p, struct pause pause)
{
    p->state[EFLAGS] = pause.eflags;
    count(p, pause.rest);
    if (p->context)
        p->context_restore(uc, p->context);
}

EXPORT u32 pacer_cpuid(void *uc, struct pacer *p)
{
    struct pause pause = pause_block(uc, p);
    if (!has_escaped(uc, p))
        IN_PYTHON(p, p->on_cpuid());
    resume_block(uc, p, pause);
    return 1; /* the engine is not to answer as well */
}

EXPORT u32 pacer_in(void *uc, u32 port, int size, struct pacer *p)
{
    struct pause pause = pause_block(uc, p);
    u32 result = 0;
    if (!has_escaped(uc, p))
        IN_PYTHON(p, result = p->on_in(port, size));
    resume_block(uc, p, pause);
    return result;
}

EXPORT void pacer_out(void *uc, u32 port, int size, u32 value, struct pacer *p)
{
    struct pause pause = pause_block(uc, p);
    if (!has_escaped(uc, p))
        IN_PYTHON(p, p->on_out(port, size, value));
    resume_block(uc, p, pause);
}

/* INS or OUTS is about to access memory. */
EXPORT u32 pacer_may_io(void *uc, u32 port, int size, struct pacer *p)
{
    struct pause pause = pause_block(uc, p);
    u32 result;
    IN_PYTHON(p, result = p->on_may_io(port, size));
    resume_block(uc, p, pause);
    return result;
}
