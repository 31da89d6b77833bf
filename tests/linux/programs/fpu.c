/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * fpu ROUNDS: whether a process finds in the FPU what it left there.
 *
 * Several processes at a time fill all of it (eight registers of the x87, sixteen of SSE, both control words) with
 * what is nobody else's, let the others have the processor, and look again. How they let go differs: yielding, asleep,
 * preempted while they spin, and moved from processor to processor; and so does where they run, pinned or free. What
 * happens in between happens inside one stretch of assembly, so that no compiler's use of a register interferes.
 *
 * Then signals: a handler has an FPU of its own, finds the interrupted one's in its frame, and what it writes there is
 * what the interrupted code goes on with; fork() copies it, exec() clears it; and an exception the x87 was told to
 * report comes as a signal.
 *
 * Says "fpu: FAILED ..." for what is wrong; the last line is "fpu: PASS" or "fpu: FAIL".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

struct state {
	uint16_t control; /* of the x87 */
	uint16_t unused;
	uint32_t mxcsr;
	uint64_t unused2;
	long double x87[8];
	uint8_t xmm[16][16];
} __attribute__((aligned(16)));

enum { DEFAULT_CONTROL = 0x37f, DEFAULT_MXCSR = 0x1f80, X87_DIVIDES = 0x37b };

static int failures;

#define CHECK(truth, ...) \
	do { \
		if (!(truth)) { \
			printf("fpu: FAILED %s: ", #truth); \
			printf(__VA_ARGS__); \
			printf("\n"); \
			fflush(stdout); \
			failures++; \
		} \
	} while (0)

#define LOAD \
	"fninit\n fldcw (%[in])\n ldmxcsr 4(%[in])\n" \
	"fldt 128(%[in])\n fldt 112(%[in])\n fldt 96(%[in])\n fldt 80(%[in])\n" \
	"fldt 64(%[in])\n fldt 48(%[in])\n fldt 32(%[in])\n fldt 16(%[in])\n" \
	"movups 144(%[in]), %%xmm0\n movups 160(%[in]), %%xmm1\n movups 176(%[in]), %%xmm2\n" \
	"movups 192(%[in]), %%xmm3\n movups 208(%[in]), %%xmm4\n movups 224(%[in]), %%xmm5\n" \
	"movups 240(%[in]), %%xmm6\n movups 256(%[in]), %%xmm7\n movups 272(%[in]), %%xmm8\n" \
	"movups 288(%[in]), %%xmm9\n movups 304(%[in]), %%xmm10\n movups 320(%[in]), %%xmm11\n" \
	"movups 336(%[in]), %%xmm12\n movups 352(%[in]), %%xmm13\n movups 368(%[in]), %%xmm14\n" \
	"movups 384(%[in]), %%xmm15\n"
#define STORE \
	"fnstcw (%[out])\n stmxcsr 4(%[out])\n" \
	"fstpt 16(%[out])\n fstpt 32(%[out])\n fstpt 48(%[out])\n fstpt 64(%[out])\n" \
	"fstpt 80(%[out])\n fstpt 96(%[out])\n fstpt 112(%[out])\n fstpt 128(%[out])\n" \
	"movups %%xmm0, 144(%[out])\n movups %%xmm1, 160(%[out])\n movups %%xmm2, 176(%[out])\n" \
	"movups %%xmm3, 192(%[out])\n movups %%xmm4, 208(%[out])\n movups %%xmm5, 224(%[out])\n" \
	"movups %%xmm6, 240(%[out])\n movups %%xmm7, 256(%[out])\n movups %%xmm8, 272(%[out])\n" \
	"movups %%xmm9, 288(%[out])\n movups %%xmm10, 304(%[out])\n movups %%xmm11, 320(%[out])\n" \
	"movups %%xmm12, 336(%[out])\n movups %%xmm13, 352(%[out])\n movups %%xmm14, 368(%[out])\n" \
	"movups %%xmm15, 384(%[out])\n fninit\n ldmxcsr %[ordinary]\n"
#define EVERY_XMM \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
		"xmm13", "xmm14", "xmm15"

static const uint32_t ordinary = DEFAULT_MXCSR;

/* Fill the FPU from `in`; make a system call `times` times, the third argument going on by 128 bytes each time until
 * `span` of them are through; spin in between; save the FPU to `out`. Returns what the last call returned. */
static long across(const struct state *in, struct state *out, long times, long spin, long call, long first, long second,
		   long third, long span)
{
	register long r10 __asm__("r10") = 0;
	long result = call, step = 0;

	__asm__ volatile(LOAD
			 "1: movq %[call], %%rax\n"
			 "movq %[third], %%rdx\n addq %[step], %%rdx\n"
			 "syscall\n"
			 "addq $128, %[step]\n cmpq %[span], %[step]\n jb 2f\n xorl %k[step], %k[step]\n"
			 "2: movq %[spin], %%rcx\n"
			 "3: pause\n subq $1, %%rcx\n jg 3b\n"
			 "subq $1, %[times]\n jg 1b\n" STORE
			 : "=&a"(result), [times] "+r"(times), [step] "+r"(step), "+r"(r10)
			 : [in] "r"(in), [out] "r"(out), [call] "m"(call), "D"(first), "S"(second), [third] "m"(third),
			   [span] "m"(span), [spin] "m"(spin), [ordinary] "m"(ordinary)
			 : "rcx", "rdx", "r11", "memory", "cc", EVERY_XMM);
	return result;
}

/* A state that is nobody else's: control words that differ by precision, rounding and masks, and values by all bits. */
static void invent(struct state *state, unsigned who, unsigned round)
{
	memset(state, 0, sizeof(*state));
	state->control = 0x7f | (who % 4 == 1 ? 0 : 2 + who % 2) << 8 | (who + round) % 4 << 10;
	state->mxcsr = DEFAULT_MXCSR | (who + round) % 4 << 13 | (who & 1) << 15;
	for (int n = 0; n < 8; n++)
		state->x87[n] = (long double)(1 + who * 1000 + n) / (3 + round + n);
	for (int n = 0; n < 16; n++)
		for (int at = 0; at < 16; at++)
			state->xmm[n][at] = who * 37 + n * 16 + at + round * 5;
}

/* Word by word: the padding of a long double is nobody's. */
static int differ(const struct state *is, const struct state *was)
{
	if (is->control != was->control || is->mxcsr != was->mxcsr)
		return 1;
	for (int n = 0; n < 8; n++)
		if (memcmp(&is->x87[n], &was->x87[n], 10))
			return 2 + n;
	return memcmp(is->xmm, was->xmm, sizeof(is->xmm)) ? 16 : 0;
}

static cpu_set_t places[8];
static int processors;

enum { YIELD, SLEEP, SPIN, MOVE, WAYS };
static const char *const names[] = { "yielding", "asleep", "preempted", "moved" };

static void leave_and_look(unsigned who, unsigned rounds)
{
	struct state in, out;
	struct timespec nap = { 0, 200000 };
	int way = who % WAYS;

	if (way != MOVE && who >= WAYS) /* the second of each kind stays where it is put */
		sched_setaffinity(0, sizeof(places[0]), &places[who % processors]);
	for (unsigned round = 0; round < rounds && !failures; round++) {
		int wrong;

		invent(&in, who, round);
		switch (way) {
		case YIELD:
			across(&in, &out, 40, 10, SYS_sched_yield, 0, 0, 0, 0);
			break;
		case SLEEP:
			across(&in, &out, 3, 10, SYS_nanosleep, (long)&nap, 0, 0, 0);
			break;
		case SPIN:
			across(&in, &out, 2, 400000, SYS_getppid, 0, 0, 0, 0);
			break;
		case MOVE:
			across(&in, &out, 2 * processors, 100, SYS_sched_setaffinity, 0, sizeof(places[0]),
			       (long)places, processors * sizeof(places[0]));
			break;
		}
		wrong = differ(&out, &in);
		CHECK(!wrong, "process %u, %s, round %u, place %d: control %#x was %#x, mxcsr %#x was %#x", who, names[way],
		      round, wrong, out.control, in.control, out.mxcsr, in.mxcsr);
	}
}

static void processes(unsigned rounds)
{
	enum { MANY = 2 * WAYS };
	struct rusage usage;
	pid_t children[MANY];
	int status;

	for (int n = 0; n < MANY; n++)
		if ((children[n] = fork()) == 0) {
			leave_and_look(n, rounds);
			_exit(failures != 0);
		}
	for (int n = 0; n < MANY; n++) {
		waitpid(children[n], &status, 0);
		CHECK(status == 0, "process %d ended with %#x", n, status);
	}
	getrusage(RUSAGE_CHILDREN, &usage);
	printf("fpu: switches %ld\n", usage.ru_nvcsw + usage.ru_nivcsw);
}

/* ---- signals ---- */

static struct state interrupted;
static volatile int handled;
static int change;

/* Likewise, but one call only, and then on until a handler has run. */
static void until_handled(const struct state *in, struct state *out, long call, long first, long second, long third)
{
	register long r10 __asm__("r10") = 0;

	__asm__ volatile(LOAD
			 "movq %[call], %%rax\n movq %[third], %%rdx\n syscall\n"
			 "1: pause\n cmpl $0, %[handled]\n je 1b\n" STORE
			 : "+r"(r10)
			 : [in] "r"(in), [out] "r"(out), [call] "m"(call), "D"(first), "S"(second), [third] "m"(third),
			   [handled] "m"(handled), [ordinary] "m"(ordinary)
			 : "rax", "rcx", "rdx", "r11", "memory", "cc", EVERY_XMM);
}

static void handler(int number, siginfo_t *info, void *context)
{
	fpregset_t frame = ((ucontext_t *)context)->uc_mcontext.fpregs;
	struct state other, after;
	uint16_t control;
	uint32_t mxcsr;

	(void)number, (void)info;
	__asm__ volatile("fnstcw %0\n stmxcsr %1" : "=m"(control), "=m"(mxcsr));
	CHECK(control == DEFAULT_CONTROL && mxcsr == DEFAULT_MXCSR, "a handler begins with %#x, %#x", control, mxcsr);
	CHECK(frame->cwd == interrupted.control && frame->mxcsr == interrupted.mxcsr, "the frame has %#x, %#x", frame->cwd,
	      frame->mxcsr);
	for (int n = 0; n < 8; n++)
		CHECK(memcmp(&frame->_st[n], &interrupted.x87[n], 10) == 0, "st%d in the frame", n);
	CHECK(memcmp(frame->_xmm, interrupted.xmm, sizeof(interrupted.xmm)) == 0, "a register in the frame");
	invent(&other, 77, number);
	across(&other, &after, 3, 50, SYS_sched_yield, 0, 0, 0, 0);
	CHECK(!differ(&after, &other), "in the handler");
	if (change) {
		memset(&frame->_xmm[5], 0xa5, 16);
		memset(interrupted.xmm[5], 0xa5, 16);
		frame->mxcsr = interrupted.mxcsr ^= 1 << 14;
	}
	handled = 1;
}

static void signals(unsigned rounds)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	struct itimerval soon = { { 0, 0 }, { 0, 3000 } };
	struct state out;

	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
	for (unsigned round = 0; round < rounds && !failures; round++) {
		invent(&interrupted, 90, round);
		change = round % 2;
		handled = 0;
		if (round & 2)
			until_handled(&interrupted, &out, SYS_kill, getpid(), SIGUSR1, 0);
		else
			until_handled(&interrupted, &out, SYS_setitimer, ITIMER_REAL, (long)&soon, 0);
		CHECK(!differ(&out, &interrupted), "round %u, after the handler", round);
	}
}

/* ---- what is copied, what is cleared, and what is reported ---- */

static void copies(char *self)
{
	char *arguments[] = { self, "exec", NULL };
	struct state in, out;
	int status;
	long child;

	invent(&in, 60, 1);
	child = across(&in, &out, 1, 100, SYS_fork, 0, 0, 0, 0);
	CHECK(!differ(&out, &in), "after fork, %s", child ? "the parent" : "the child");
	if (child == 0)
		_exit(failures != 0);
	waitpid(child, &status, 0);
	CHECK(status == 0, "the child of fork ended with %#x", status);
	if ((child = fork()) == 0) {
		invent(&in, 61, 2);
		across(&in, &out, 1, 1, SYS_execve, (long)"/proc/self/exe", (long)arguments, 0, 0);
		_exit(99);
	}
	waitpid(child, &status, 0);
	CHECK(status == 0, "the new program ended with %#x", status);
}

static volatile sig_atomic_t reported;

static void report(int number, siginfo_t *info, void *context)
{
	fpregset_t frame = ((ucontext_t *)context)->uc_mcontext.fpregs;

	(void)number;
	reported = info->si_code;
	frame->cwd = DEFAULT_CONTROL; /* or it would be reported again */
	frame->swd &= 0x7f00;
}

static void exceptions(void)
{
	struct sigaction action = { .sa_sigaction = report, .sa_flags = SA_SIGINFO };
	uint16_t control = X87_DIVIDES;

	sigaction(SIGFPE, &action, NULL);
	__asm__ volatile("fninit\n fldcw %0\n fld1\n fldz\n fdivrp\n fwait\n fninit" : : "m"(control));
	CHECK(reported == FPE_FLTDIV, "a division by zero was reported with code %d", reported);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 0;
	uint16_t control;
	uint32_t mxcsr;

	__asm__ volatile("fnstcw %0\n stmxcsr %1" : "=m"(control), "=m"(mxcsr));
	CHECK(control == DEFAULT_CONTROL && mxcsr == DEFAULT_MXCSR, "a program begins with %#x, %#x", control, mxcsr);
	if (argc > 1 && strcmp(argv[1], "exec") == 0)
		return failures != 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	processors = sysconf(_SC_NPROCESSORS_ONLN);
	for (int n = 0; n < processors; n++)
		CPU_SET(n, &places[n]);
	processes(rounds);
	signals(rounds);
	copies(argv[0]);
	exceptions();
	printf("fpu: %s\n", failures ? "FAIL" : "PASS");
	return failures != 0;
}
