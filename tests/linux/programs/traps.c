/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a process sees of traps and faults, and of breakpoints in its debug registers, compared with what it sees on an AMD
 * processor. (It says PASS there as well, but for "icebp" where that is itself a virtual machine: some leave RIP on it.)
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

typedef unsigned long u64;

#define NOWHERE 0x8000000000000000UL
#define AC (1UL << 18)
#define RF (1UL << 16)

static int failures;

static void check(const char *what, u64 is, u64 ought)
{
    if (is != ought) {
        printf("%s: is %lx, ought to be %lx\n", what, is, ought);
        failures++;
    }
}

/* ---- one instruction, and the signal that came of it ---------------------------------------------------------- */
static struct {
    int signal, code;
    u64 trap, error, rip, flags, address;
} got;
static u64 resume_at, resume_sp;
static char *data; /* one page that can be used, one that cannot */
static char *readonly;
static unsigned char *code;

static void on_signal(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;

    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~AC); /* Linux leaves it to us */
    got.signal = number, got.code = info->si_code;
    got.trap = (u64)registers[REG_TRAPNO], got.error = (u64)registers[REG_ERR];
    got.rip = (u64)registers[REG_RIP], got.flags = (u64)registers[REG_EFL], got.address = (u64)registers[REG_CR2];
    registers[REG_RIP] = (greg_t)resume_at, registers[REG_RSP] = (greg_t)resume_sp;
    registers[REG_EFL] &= ~(greg_t)(AC | 0x500);
}

struct registers {
    u64 rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, flags;
};

/* Execute `bytes` with these registers (RSP 0 is ours), and leave in them what they are then. */
static void run(const char *bytes, size_t length, struct registers *r)
{
    memset(&got, 0, sizeof(got));
    memcpy(code, bytes, length);
    code[length] = 0xf4; /* hlt: #GP, and we are back */
    asm volatile("lea -128(%%rsp), %%rsp; push %%rbp; push %%rbx; push %%rdi; lea 1f(%%rip), %%rax; mov %%rax, %[at]; mov %%rsp, %[sp]\n"
                 "mov %%rdi, %%r15; mov %[code], %%r14; pushq 64(%%r15); popfq\n"
                 "mov 0(%%r15), %%rax; mov 8(%%r15), %%rbx; mov 16(%%r15), %%rcx; mov 24(%%r15), %%rdx\n"
                 "mov 32(%%r15), %%rsi; mov 40(%%r15), %%rdi; mov 56(%%r15), %%rbp; mov 48(%%r15), %%r15\n"
                 "test %%r15, %%r15; cmovne %%r15, %%rsp; jmp *%%r14\n"
                 "1: pop %%rdi; mov %%rdi, %%r15; mov %%rax, 0(%%r15); mov %%rbx, 8(%%r15); pop %%rbx; pop %%rbp; lea 128(%%rsp), %%rsp\n"
                 : [at] "=m"(resume_at), [sp] "=m"(resume_sp), "+D"(r)
                 : [code] "m"(code)
                 : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

#define RUN(bytes, ...) run(bytes, sizeof(bytes) - 1, &(struct registers){__VA_ARGS__})

static void came(const char *what, int signal, int si_code, u64 trap, u64 error, u64 at)
{
    char name[64];
#define CAME(field, is, ought) snprintf(name, sizeof(name), "%s: %s", what, field), check(name, is, ought)
    CAME("signal", (u64)got.signal, (u64)signal);
    CAME("si_code", (u64)got.code, (u64)si_code);
    CAME("trap", got.trap, trap);
    CAME("error code", got.error, error);
    CAME("rip", got.rip - (u64)code, at);
    CAME("RF", got.flags & RF, trap == 1 || trap == 3 ? 0 : RF);
}

static void general(const char *what) { came(what, SIGSEGV, SI_KERNEL, 13, 0, 0); }
static void stack(const char *what) { came(what, SIGBUS, SI_KERNEL, 12, 0, 0); }
static void misaligned(const char *what) { came(what, SIGBUS, BUS_ADRALN, 17, 0, 0); }
static void page(const char *what, u64 error) { came(what, SIGSEGV, SEGV_MAPERR, 14, error, 0); }
static void protected_page(const char *what, u64 error) { came(what, SIGSEGV, SEGV_ACCERR, 14, error, 0); }

static void faults(void)
{
    u64 d = (u64)data, hole = 0x30000000, sp = d + 2048;

    RUN("\xf1");
    came("icebp", SIGTRAP, TRAP_BRKPT, 1, 0, 1);
    RUN("\x0f\x0b");
    came("ud2", SIGILL, ILL_ILLOPN, 6, 0, 0);

    memset(data, 'A', 4096);
    RUN("\x6c", .rdx = 0x80, .rdi = d), general("insb");
    RUN("\xf3\x6c", .rdx = 0x80, .rdi = d, .rcx = 4), general("rep insb");
    RUN("\x6d", .rdx = 0x80, .rdi = hole), general("insl to nowhere");
    RUN("\x6e", .rdx = 0x80, .rsi = hole), general("outsb from nowhere");
    check("what insb left", (u64)data[0], 'A');

    RUN("\xff\xe0", .rax = NOWHERE), general("jmp");
    RUN("\xff\xd0", .rax = NOWHERE, .rsp = sp), general("call");
    *(u64 *)sp = NOWHERE;
    RUN("\xc3", .rsp = sp), general("ret");
    RUN("\x50", .rsp = NOWHERE), stack("push");
    RUN("\x8b\x45\x00", .rbp = NOWHERE), stack("mov (%rbp)");
    RUN("\x8b\x04\x24", .rsp = NOWHERE), stack("mov (%rsp)");
    RUN("\xc9", .rbp = NOWHERE), stack("leave");
    RUN("\x8b\x03", .rbx = NOWHERE), general("mov (%rbx)");

    RUN("\x01\x0b", .rbx = hole), page("add", 6);
    RUN("\x01\x0b", .rbx = (u64)readonly), protected_page("add, read-only, not yet there", 6);
    check("what is read", (u64)*(volatile char *)readonly, 0);
    RUN("\x01\x0b", .rbx = (u64)readonly), protected_page("add, read-only", 7);
    RUN("\x0f\xab\x0b", .rbx = hole), page("bts", 6);
    RUN("\xd3\x23", .rbx = hole), page("shl", 6);
    RUN("\x39\x0b", .rbx = hole), page("cmp", 4);

    RUN("\x8b\x03", .rbx = d + 1, .flags = AC | 2), misaligned("mov, AC");
    RUN("\x89\x03", .rbx = d + 2, .flags = AC | 2), misaligned("mov to memory, AC");
    RUN("\x66\x8b\x03", .rbx = d + 1, .flags = AC | 2), misaligned("movw, AC");
    RUN("\x8b\x03", .rbx = d + 1), came("mov", SIGSEGV, SI_KERNEL, 13, 0, 2);
}

static void results(void)
{
    struct registers r = {.rax = 0x123456789abcdef0, .rbx = 0x777777779abcdef0, .rcx = 0x1111222233334444};

    run("\x0f\xb1\xcb", 3, &r);
    check("cmpxchg, equal: rax", r.rax, 0x123456789abcdef0);
    check("cmpxchg, equal: rbx", r.rbx, 0x33334444);
    r = (struct registers){.rax = 0x123456789abcdef0, .rbx = 0x7777777700000001, .rcx = 0x1111222233334444};
    run("\x0f\xb1\xcb", 3, &r);
    check("cmpxchg, not equal: rax", r.rax, 1);
    check("cmpxchg, not equal: rbx", r.rbx, 0x7777777700000001);
    data[0] = 1, data[1] = data[2] = data[3] = 0;
    RUN("\xf0\xf7\x1b", .rbx = (u64)data);
    check("lock neg: flags", got.flags & 0x8d5, 0x95);
}

/* ---- a child and its debug registers ------------------------------------------------------------------------------ */
static volatile long watched[4];

static __attribute__((noinline)) long reached(long n)
{
    asm volatile("" : "+r"(n));
    return n + 1;
}

static void child(void)
{
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    for (;;) {
        watched[2] = watched[0];
        watched[1] = reached(watched[1]);
    }
}

static void set(pid_t pid, int number, u64 value)
{
    check("PTRACE_POKEUSER", (u64)ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]) + 8 * (u64)number, value), 0);
}

/* It stops at the breakpoint `bits` describe, and no other; how many times in a row. */
static void stops(const char *what, pid_t pid, const volatile void *where, u64 bits, u64 change)
{
    siginfo_t info;
    int status;
    long before;

    set(pid, 7, 0);
    set(pid, 6, 0);
    set(pid, 0, (u64)where);
    set(pid, 7, bits);
    for (int turn = 0; turn < 3; turn++) {
        before = ptrace(PTRACE_PEEKDATA, pid, &watched[1], 0);
        ptrace(PTRACE_CONT, pid, 0, 0);
        waitpid(pid, &status, 0);
        check(what, WIFSTOPPED(status) ? (u64)WSTOPSIG(status) : 0, SIGTRAP);
        ptrace(PTRACE_GETSIGINFO, pid, 0, &info);
        check(what, (u64)info.si_code, TRAP_HWBKPT);
        check(what, (u64)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg[6]), 0) & 0x600f, 1);
        check(what, (u64)ptrace(PTRACE_PEEKDATA, pid, &watched[1], 0) - (u64)before, turn ? 1 : change);
    }
}

static void breakpoints(void)
{
    pid_t pid = fork();
    siginfo_t info;
    int status;

    if (!pid)
        child();
    waitpid(pid, &status, 0);
    stops("write", pid, &watched[1], 1 | 1 << 16 | 2 << 18, 1);
    stops("write beside", pid, (volatile char *)&watched[1] + 4, 1 | 1 << 16 | 3 << 18, 1);
    stops("execution", pid, (const volatile void *)reached, 1, 0);
    set(pid, 7, 0);
    ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
    waitpid(pid, &status, 0);
    ptrace(PTRACE_GETSIGINFO, pid, 0, &info);
    check("a step", (u64)info.si_code, TRAP_TRACE);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

int main(void)
{
    static char other_stack[65536];
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    const int own = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

    setvbuf(stdout, 0, _IONBF, 0);
    sigaltstack(&(stack_t){.ss_sp = other_stack, .ss_size = sizeof(other_stack)}, 0);
    for (size_t n = 0; n < sizeof(signals) / sizeof(*signals); n++)
        sigaction(signals[n], &action, 0);
    data = mmap((void *)0x10000000, 8192, PROT_READ | PROT_WRITE, own, -1, 0);
    mprotect(data + 4096, 4096, PROT_NONE);
    readonly = mmap((void *)0x20000000, 4096, PROT_READ, own, -1, 0);
    code = mmap((void *)0x40000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, own, -1, 0);
    faults();
    results();
    breakpoints();
    printf("traps: %s\n", failures ? "FAIL" : "PASS");
    return failures != 0;
}
