/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An engine that cannot go on ends its run, not the process.
 *
 * Assertions and aborts of the engine come to pvhv_die (engine.py renames them as it compiles), what the processor
 * raises in it comes by signal. Either way the run that this thread is in ends: pvhv_run returns PVHV_DIED, and whoever
 * called it reads what happened, lets the engine be, and makes it anew (pvhv_reopen).
 *
 * Leaving by siglongjmp is sound here because nothing lies between us and pvhv_run but the engine itself: the run
 * released Python's lock before, and where a handler written in Python is on the stack (in_python) we do not leave, but
 * die as anybody would. What the engine had allocated is lost, and if it had taken a lock of the C library, that is
 * held for ever: the second is why this is the second line and not the first.
 *
 * Read beside it: sigaction(2), sigaltstack(2); section 5.1.2.3 of ISO C on what a handler may do.
 */

#include "qemu/osdep.h"
#include <dlfcn.h>
#include <ucontext.h>
#include "cpu.h"
#include "exec/exec-all.h"
#include "uc_priv.h"

#undef abort
extern void abort(void) __attribute__((noreturn));

enum { PVHV_DIED = 1000 }; /* beside unicorn's uc_err */

struct death {
    uint32_t signal; /* 0: by an assertion */
    uint64_t address; /* of the instruction of the engine's, 0 if not known */
    uint64_t data;    /* what it accessed */
    char place[64]; /* the same, within its library */
    char text[176]; /* what was not so */
};

static __thread sigjmp_buf *way_out; /* of the run this thread is in */
static __thread uc_engine *running;
static __thread struct death death;

static bool may_leave(void)
{
    return way_out && !(running->pvhv.in_python && *running->pvhv.in_python);
}

/* Where it happened, as a place in this library: what a stripped library's reader can look up. */
static void tell_place(uint64_t address)
{
    Dl_info place;

    death.address = address;
    if (dladdr((void *)(uintptr_t)address, &place) && place.dli_fname) {
        const char *name = strrchr(place.dli_fname, '/');
        snprintf(death.place, sizeof(death.place), "%s+%#" PRIx64, name ? name + 1 : place.dli_fname,
                 address - (uint64_t)(uintptr_t)place.dli_fbase);
    } else {
        snprintf(death.place, sizeof(death.place), "translated code");
    }
}

static void leave(void)
{
    sigjmp_buf *out = way_out;
    way_out = NULL;
    siglongjmp(*out, 1);
}

static void say_last_words(const char *what);

void pvhv_die(const char *format, ...)
{
    va_list arguments;

    memset(&death, 0, sizeof(death));
    va_start(arguments, format);
    vsnprintf(death.text, sizeof(death.text), format, arguments);
    va_end(arguments);
    tell_place((uint64_t)__builtin_return_address(0));
    if (may_leave()) {
        leave();
    }
    say_last_words(death.text);
    abort();
}

/* What abort() and a failed assert() of the engine's own files are compiled to. */
void pvhv_abort(void);
void pvhv_abort(void)
{
    pvhv_die("it aborted at %p", __builtin_return_address(0));
}

void pvhv_assert_fail(const char *what, const char *file, unsigned int line, const char *function);
void pvhv_assert_fail(const char *what, const char *file, unsigned int line, const char *function)
{
    pvhv_die("%s:%u: %s: not so: %s", file, line, function, what);
}

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
static struct sigaction before[ARRAY_SIZE(signals)];

static uint64_t place_of(const void *context)
{
#if defined(__x86_64__) && defined(__linux__)
    return ((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#else
    return 0;
#endif
}

/* For whoever reads the log of a process that is no more: where to say it, and what ran last. */
static int last_words_to = -1;
static const char *ran_last = "";

UNICORN_EXPORT void pvhv_tell_last_words(int descriptor, const char *what_runs)
{
    last_words_to = descriptor;
    ran_last = what_runs;
}

static void say_last_words(const char *what)
{
    char line[400];
    int length = snprintf(line, sizeof(line), "this process dies: %s; on the engine ran last: %s\n", what, ran_last);

    if (last_words_to >= 0 && length > 0) {
        (void)!write(last_words_to, line, MIN((size_t)length, sizeof(line) - 1));
    }
}

/* Whether it was raised in this process, and not sent by another (a watchdog, `kill -ABRT`), which means the process. */
static bool is_from_here(const siginfo_t *information)
{
    return information->si_code > 0 || information->si_pid == getpid();
}

static void caught(int number, siginfo_t *information, void *context)
{
    static volatile sig_atomic_t dying;

    if (may_leave() && is_from_here(information)) {
        memset(&death, 0, sizeof(death));
        death.signal = number;
        death.data = (uint64_t)information->si_addr;
        tell_place(place_of(context));
        leave();
    }
    /* Not ours: as it was before us. What the processor raised comes again as soon as we return. Who was there before may
     * hand it back to us (faulthandler does, where it was enabled between two calls of pvhv_catch_signals): once is enough. */
    if (dying) {
        signal(number, SIG_DFL);
    } else {
        dying = 1;
        tell_place(place_of(context));
        snprintf(death.text, sizeof(death.text), "signal %d at %s", number, death.place);
        say_last_words(death.text);
        for (size_t n = 0; n < ARRAY_SIZE(signals); n++) {
            if (signals[n] == number) {
                sigaction(number, &before[n], NULL);
            }
        }
    }
    if (number == SIGABRT || information->si_code <= 0) {
        raise(number);
    }
}

/* Have the signals of a dying engine come to us. May be called again, when somebody else has put handlers of theirs. */
UNICORN_EXPORT void pvhv_catch_signals(void)
{
    struct sigaction ours = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

    for (size_t n = 0; n < ARRAY_SIZE(signals); n++) {
        struct sigaction old;
        sigaction(signals[n], NULL, &old);
        if (!(old.sa_flags & SA_SIGINFO) || old.sa_sigaction != caught) {
            before[n] = old;
            sigaction(signals[n], &ours, NULL);
        }
    }
}

/* A handler must have a stack even where the engine's own has run out. */
static void stand_on_own_stack(void)
{
    static __thread bool done;
    stack_t stack = {.ss_size = 64 << 10};

    if (!done) {
        stack.ss_sp = malloc(stack.ss_size); /* never given back: there are few threads that run guests */
        done = stack.ss_sp && sigaltstack(&stack, NULL) == 0;
    }
}

/* Run guest code from `rip` until a stop; a uc_err, or PVHV_DIED. */
UNICORN_EXPORT int pvhv_run(uc_engine *uc, uint64_t rip)
{
    sigjmp_buf out;
    int error;

    stand_on_own_stack();
    running = uc;
    if (sigsetjmp(out, 0)) {
        return PVHV_DIED;
    }
    way_out = &out;
    error = uc_emu_start(uc, rip, 0, 0, 0);
    way_out = NULL;
    return error;
}

/* How the last run of this thread that died did. */
UNICORN_EXPORT void pvhv_how_it_died(struct death *told)
{
    *told = death;
}

void free_code_gen_buffer(struct uc_struct *uc); /* of translate-all.c */

static __thread uc_engine *place; /* where uc_open is to make an engine: where a dead one was */

void *pvhv_engine_memory(size_t size);
void *pvhv_engine_memory(size_t size)
{
    void *cpu;

    if (!place) {
        return calloc(1, size);
    }
    cpu = place->pvhv.cpu;
    memset(place, 0, size);
    place->pvhv.cpu = cpu;
    return place;
}

/* Make a dead engine anew, at the same address, its CPU too. What it knew is forgotten: memory, hooks, words, options. */
UNICORN_EXPORT int pvhv_reopen(uc_engine *uc)
{
    uc_engine *made;
    int error;

    if (uc->tcg_ctx) {
        free_code_gen_buffer(uc); /* which is most of what it has */
    }
    place = uc;
    error = uc_open(UC_ARCH_X86, UC_MODE_64, &made);
    place = NULL;
    return error;
}

/* For tests, as a hook at an instruction: die in one of the ways there are. */
UNICORN_EXPORT void pvhv_fail(uc_engine *uc, uint64_t address, uint32_t size, void *how)
{
    volatile uint64_t *nowhere = (volatile uint64_t *)8;
    volatile int zero = 0, hundred = 100;

    switch ((uintptr_t)how) {
    case SIGSEGV: *nowhere = 1; break;
    case SIGFPE: zero = hundred / zero; break;
    case SIGILL: __builtin_trap();
    case SIGABRT: abort();
    case SIGBUS: raise(SIGBUS); break;
    default: pvhv_die("asked to");
    }
}
