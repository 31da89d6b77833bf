/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The processor's side of the proof: executes small pieces of user code natively and says what came of each.
 *
 * Reads `struct header` and as many `struct task` from standard input, and writes as many `struct outcome`. A child
 * executes them one after another: its signal handler notes what the last one did, writes the next one's registers into
 * the signal frame, and returns into it. So a case costs one signal, and the kernel itself puts back everything that the
 * last one may have changed: segments, flags, floating point. A case whose child dies of it is noted as that, and a new
 * child goes on behind it. A timer of processor time ends endless ones.
 *
 * No system call that a case makes is carried out: a seccomp filter knows ours by where they are, and answers any other
 * by a signal. There is no C library here (it would live in FS, which the cases change), nor any header but the
 * compiler's: the few structures of the kernel's are written out below.
 *
 * The Python beside it is processor.py; the layout of the three structures is records.py's as well.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define CODE 0x100000ul
#define DATA 0x140000ul
#define DATA_BYTES 8192ul
#define OPERAND 0x800
#define STACK 0x1800
#define READ_ONLY 0x142000ul
#define FX_BYTES 416

struct task {
    u8 code[64];
    u32 at;
    u16 mode32, cpl; /* the processor has no other ring than 3 for us */
    u64 regs[16], rflags, bases[2];
    u8 fx[FX_BYTES];
    u8 operand[128], stack[64];
};

struct change {
    u64 at, value;
};

struct outcome {
    u32 kind, error;
    u64 cr2, rip, regs[16], rflags, bases[2];
    u16 selectors[6]; /* es cs ss ds fs gs */
    u32 changes;
    u8 fx[FX_BYTES];
    struct change change[16];
};

struct header {
    u64 count;
};

enum { SYSCALL = 0x100, INT80 = 0x180, DIED = 0x200, ENDLESS = 0x300 };

/* ---- the kernel's structures and calls ------------------------------------------------------------------------- */
enum { NR_read, NR_write, NR_mmap = 9, NR_rt_sigaction = 13, NR_setitimer = 38, NR_fork = 57, NR_exit = 60, NR_wait4 = 61,
       NR_sigaltstack = 131, NR_prctl = 157, NR_arch_prctl = 158, NR_exit_group = 231, NR_memfd_create = 319,
       NR_ftruncate = 77 };
enum { SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGUSR1 = 10, SIGSEGV = 11, SIGPROF = 27, SIGSYS = 31 };

struct ucontext {
    u64 flags, link;
    u64 stack[3];
    u64 r8_to_r15[8], rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
    u16 cs, gs, fs, ss;
    u64 error, trap, oldmask, cr2;
    u8 *fpstate;
};

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static void copy(void *to, const void *from, u64 bytes)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

static void fill(void *to, u8 value, u64 bytes)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
}

void *memcpy(void *to, const void *from, u64 bytes) { copy(to, from, bytes); return to; }
void *memset(void *to, int value, u64 bytes) { fill(to, (u8)value, bytes); return to; }

static void die(const char *why)
{
    u64 n = 0;
    while (why[n])
        n++;
    call(NR_write, 2, (long)why, (long)n, 0, 0, 0);
    call(NR_exit_group, 2, 0, 0, 0, 0, 0);
}

static void *map(u64 at, u64 bytes, int protection, int flags, int fd)
{
    long got = call(NR_mmap, (long)at, (long)bytes, protection, flags, fd, 0);
    if (got < 0 && got > -4096)
        die("processor: no memory\n");
    return (void *)got;
}

enum { READ = 1, WRITE = 2, EXEC = 4, SHARED = 1, PRIVATE = 2, FIXED = 0x10, ANONYMOUS = 0x20 };

/* ---- one case after another ------------------------------------------------------------------------------------- */
static struct shared {
    u64 done;
} * shared;
static struct task *tasks;
static struct outcome *outcomes;
static u64 count;
static u8 *code; /* CODE's page, writable elsewhere */
static u64 pattern[DATA_BYTES / 8], fresh[DATA_BYTES / 8];
static int started, ticks;
__attribute__((used)) static u64 nt_and_id;
static u8 signal_stack[65536] __attribute__((aligned(4096)));

static u64 base_of(int get)
{
    u64 base = 0;
    call(NR_arch_prctl, get, (long)&base, 0, 0, 0, 0);
    return base;
}

static u16 get_ds(void) { u16 s; __asm__ volatile("mov %%ds, %0" : "=r"(s)); return s; }
static u16 get_es(void) { u16 s; __asm__ volatile("mov %%es, %0" : "=r"(s)); return s; }
static u16 get_fs(void) { u16 s; __asm__ volatile("mov %%fs, %0" : "=r"(s)); return s; }
static u16 get_gs(void) { u16 s; __asm__ volatile("mov %%gs, %0" : "=r"(s)); return s; }

static u32 kind_of(int sig, const int *info, const struct ucontext *uc)
{
    switch (sig) {
    case SIGSYS: /* info: signo, errno, code, -, address (2 words), call, arch */
        return (u32)info[7] == 0xc000003eu ? SYSCALL : INT80;
    case SIGPROF:
        return ENDLESS;
    default:
        return (u32)uc->trap;
    }
}

static void note(int sig, const int *info, struct ucontext *uc)
{
    struct outcome *o = &outcomes[shared->done];
    u64 *now = (u64 *)DATA;
    o->kind = kind_of(sig, info, uc);
    o->error = o->kind < 32 ? (u32)uc->error : 0;
    o->cr2 = o->kind == 14 ? uc->cr2 : 0;
    o->rip = uc->rip;
    u64 regs[8] = { uc->rax, uc->rcx, uc->rdx, uc->rbx, uc->rsp, uc->rbp, uc->rsi, uc->rdi };
    copy(o->regs, regs, sizeof regs);
    copy(o->regs + 8, uc->r8_to_r15, 64);
    o->rflags = uc->eflags;
    o->bases[0] = base_of(0x1003), o->bases[1] = base_of(0x1004);
    u16 selectors[6] = { get_es(), uc->cs, uc->ss, get_ds(), get_fs(), get_gs() };
    copy(o->selectors, selectors, sizeof selectors);
    copy(o->fx, uc->fpstate, FX_BYTES);
    o->changes = 0;
    for (u32 n = 0; n < DATA_BYTES / 8; n++)
        if (now[n] != fresh[n]) {
            if (o->changes < 16)
                o->change[o->changes].at = n * 8, o->change[o->changes].value = now[n];
            o->changes++;
        }
}

static void begin(struct ucontext *uc)
{
    const struct task *t = &tasks[shared->done];
    fill(code, 0xf4, 4096);
    copy(code + t->at, t->code, 64);
    copy(fresh, pattern, DATA_BYTES);
    copy((u8 *)fresh + OPERAND, t->operand, sizeof t->operand);
    copy((u8 *)fresh + STACK, t->stack, sizeof t->stack);
    copy((void *)DATA, fresh, DATA_BYTES);
    (void)*(volatile u8 *)READ_ONLY; /* there before anything is written to it: else the fault would say "not present" */
    uc->rax = t->regs[0], uc->rcx = t->regs[1], uc->rdx = t->regs[2], uc->rbx = t->regs[3];
    uc->rsp = t->regs[4], uc->rbp = t->regs[5], uc->rsi = t->regs[6], uc->rdi = t->regs[7];
    copy(uc->r8_to_r15, t->regs + 8, 64);
    uc->rip = CODE + t->at;
    uc->eflags = t->rflags;
    nt_and_id = 0x202 | (t->rflags & 0x204000);
    uc->cs = t->mode32 ? 0x23 : 0x33;
    uc->ss = 0x2b;
    u32 data = t->mode32 ? 0x2b : 0;
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(data));
    __asm__ volatile("mov %0, %%fs; mov %0, %%gs" : : "r"(0));
    call(NR_arch_prctl, 0x1002, (long)t->bases[0], 0, 0, 0, 0);
    call(NR_arch_prctl, 0x1001, (long)t->bases[1], 0, 0, 0, 0);
    copy(uc->fpstate, t->fx, FX_BYTES);
    *(u64 *)(uc->fpstate + 512) |= 3; /* what of XSAVE's components is there: x87 and SSE */
}

__attribute__((used)) static void handle(int sig, int *info, struct ucontext *uc)
{
    if (sig == SIGPROF && (!started || ++ticks < 3)) {
        nt_and_id = 0x202 | (uc->eflags & 0x204000);
        return;
    }
    if (started) {
        note(sig, info, uc);
        shared->done++;
    }
    started = 1;
    ticks = 0;
    if (shared->done == count)
        call(NR_exit_group, 0, 0, 0, 0, 0, 0);
    begin(uc);
}

/* The kernel leaves AC as the case had it: no C before that is clear. And it takes NT and ID not from the frame, but from
 * the flags with which it is asked to return. */
void enter_handler(void);
void restorer(void);
__asm__(".globl enter_handler\nenter_handler:\n"
        "    pushfq\n    andq $~0x244000, (%rsp)\n    popfq\n    jmp handle\n"
        ".globl restorer\nrestorer:\n    push nt_and_id\n    popfq\n    mov $15, %eax\n    syscall\n"
        ".globl _start\n_start:\n    xor %ebp, %ebp\n    and $-16, %rsp\n    call run\n");

extern u8 __executable_start[], etext[];

static void only_our_system_calls(void)
{
    struct { u16 code; u8 jt, jf; u32 k; } filter[] = {
        { 0x20, 0, 0, 12 },                                  /* the high half of the address it comes from */
        { 0x15, 0, 4, (u32)((u64)__executable_start >> 32) },
        { 0x20, 0, 0, 8 },                                   /* the low half */
        { 0x35, 0, 2, (u32)(u64)__executable_start },
        { 0x35, 1, 0, (u32)(u64)etext },
        { 0x06, 0, 0, 0x7fff0000 },                          /* allow */
        { 0x06, 0, 0, 0x00030000 },                          /* a signal */
    };
    struct { u16 length; void *filter; } program = { sizeof filter / sizeof filter[0], filter };
    call(NR_prctl, 38, 1, 0, 0, 0, 0);
    if (call(NR_prctl, 22, 2, (long)&program, 0, 0, 0))
        die("processor: no seccomp here\n");
}

static void child(void)
{
    static const int signals[] = { SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGUSR1, SIGSEGV, SIGPROF, SIGSYS };
    struct { void *sp; int flags; u64 size; } stack = { signal_stack, 0, sizeof signal_stack };
    struct { void *handler; u64 flags; void *restorer; u64 mask; } action =
        { enter_handler, 0x0c000004, restorer, ~0ul }; /* SA_ONSTACK SA_RESTORER SA_SIGINFO */
    struct { long interval[2], value[2]; } timer = { { 0, 20000 }, { 0, 20000 } };
    call(NR_sigaltstack, (long)&stack, 0, 0, 0, 0, 0);
    for (u32 n = 0; n < sizeof signals / sizeof signals[0]; n++)
        call(NR_rt_sigaction, signals[n], (long)&action, 0, 8, 0, 0);
    call(NR_setitimer, 2, (long)&timer, 0, 0, 0, 0);
    only_our_system_calls();
    __asm__ volatile("ud2");
}

static void transfer(int number, int fd, u8 *at, u64 bytes)
{
    while (bytes) {
        long got = call(number, fd, (long)at, (long)bytes, 0, 0, 0);
        if (got <= 0)
            die("processor: half a batch\n");
        at += got, bytes -= (u64)got;
    }
}

__attribute__((used)) static void run(void)
{
    struct header header;
    transfer(NR_read, 0, (u8 *)&header, sizeof header);
    count = header.count;
    tasks = map(0, count * sizeof *tasks + 4096, READ | WRITE, PRIVATE | ANONYMOUS, -1);
    outcomes = map(0, count * sizeof *outcomes + 4096, READ | WRITE, SHARED | ANONYMOUS, -1);
    shared = map(0, 4096, READ | WRITE, SHARED | ANONYMOUS, -1);
    transfer(NR_read, 0, (u8 *)tasks, count * sizeof *tasks);
    int fd = (int)call(NR_memfd_create, (long)"code", 0, 0, 0, 0, 0);
    call(NR_ftruncate, fd, 4096, 0, 0, 0, 0);
    code = map(0, 4096, READ | WRITE, SHARED, fd);
    map(CODE, 4096, READ | EXEC, SHARED | FIXED, fd);
    map(DATA, DATA_BYTES, READ | WRITE, PRIVATE | FIXED | ANONYMOUS, -1);
    map(READ_ONLY, 4096, READ, PRIVATE | FIXED | ANONYMOUS, -1);
    for (u32 n = 0; n < DATA_BYTES; n++)
        ((u8 *)pattern)[n] = (u8)(n * 7 + (n >> 8));
    while (shared->done < count) {
        int status = 0;
        long pid = call(NR_fork, 0, 0, 0, 0, 0, 0);
        if (pid == 0)
            child();
        call(NR_wait4, pid, (long)&status, 0, 0, 0, 0);
        if (shared->done < count) {
            if ((status & 0x7f) == 0)
                die("processor: a child gave up\n");
            outcomes[shared->done].kind = DIED + (status & 0x7f);
            shared->done++;
        }
    }
    transfer(NR_write, 1, (u8 *)outcomes, count * sizeof *outcomes);
    call(NR_exit_group, 0, 0, 0, 0, 0, 0);
}
