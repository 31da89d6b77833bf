/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * soak SECONDS: keep a Linux busy, and check every result.
 *
 * One process per kind of work (the table at the end names them) does rounds of it until the time is over. Each round
 * knows what must come out: sums, contents, statuses, how often a handler ran. A wrong result is said at once, in a
 * line that begins with "soak: FAILED", and nothing is repeated to make it good.
 *
 * The ticker, at real-time priority, sleeps a second at a time and says after each what clock it is ("tick MONOTONIC
 * REALTIME"), so that whoever reads along can compare with a clock of his own; at the end it says how long its
 * seconds were.
 *
 * Memory runs out on purpose: a child that is the OOM killer's first choice takes pages until it is killed, while all
 * others are exempt and have to live through it.
 *
 * Last line: "soak: PASS" or "soak: FAIL", after a line with the rounds of each kind.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000ll
#define WORST_LATENESS (60 * NS) /* of a worker that has to notice that the time is over */

struct score {
	volatile long rounds;
	volatile long kills; /* by the OOM killer */
};

static struct score *score; /* of this process; shared with the first */
static const char *kind = "first";
static int64_t deadline;
static uint64_t seed;
static char **environment;

/* ---- what every kind of work uses ---- */

static int64_t now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NS + ts.tv_nsec;
}

static void say(const char *format, ...)
{
	char line[256];
	va_list list;

	va_start(list, format);
	vsnprintf(line, sizeof(line) - 1, format, list);
	va_end(list);
	strcat(line, "\n");
	if (write(1, line, strlen(line)) < 0) /* one write, one line: others write too */
		_exit(3);
}

#define CHECK(truth, ...) \
	do { \
		if (!(truth)) { \
			char why[128]; \
			int error = errno; \
			snprintf(why, sizeof(why), __VA_ARGS__); \
			say("soak: FAILED %s: %s (%s, line %d, errno %d)", kind, why, #truth, __LINE__, error); \
			_exit(1); \
		} \
	} while (0)

static uint64_t xorshift(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static unsigned below(unsigned limit)
{
	return xorshift(&seed) % limit;
}

/* Bytes that depend on where they belong, so that lost, doubled and swapped ones are noticed. */
static void fill(unsigned char *bytes, size_t size, uint64_t key)
{
	uint64_t state = key * 2 + 1;

	for (size_t at = 0; at < size; at++)
		bytes[at] = xorshift(&state) >> 24;
}

static int is_filled(const unsigned char *bytes, size_t size, uint64_t key)
{
	uint64_t state = key * 2 + 1;

	for (size_t at = 0; at < size; at++)
		if (bytes[at] != (unsigned char)(xorshift(&state) >> 24))
			return 0;
	return 1;
}

static size_t read_all(int fd, void *into, size_t size)
{
	size_t done = 0;
	ssize_t got;

	while (done < size && ((got = read(fd, (char *)into + done, size - done)) > 0 || (got < 0 && errno == EINTR)))
		done += got > 0 ? got : 0;
	return done;
}

static void write_all(int fd, const void *from, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t put = write(fd, (const char *)from + done, size - done);

		CHECK(put > 0 || errno == EINTR, "write of %zu", size - done);
		done += put > 0 ? put : 0;
	}
}

static int ended(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		CHECK(errno == EINTR, "waitpid %d", child);
	return status;
}

static pid_t forked(void)
{
	pid_t child = fork();

	CHECK(child >= 0, "fork");
	return child;
}

static void adjust_oom(const char *value)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);

	CHECK(fd >= 0, "oom_score_adj");
	write_all(fd, value, strlen(value));
	close(fd);
}

/* ---- processes: fork, exec, what they say and how they end ---- */

static void processes(void)
{
	enum { MANY = 4 };
	pid_t children[MANY];
	int ends[MANY][2], numbers[MANY];

	for (int n = 0; n < MANY; n++) {
		char number[16];
		char *arguments[] = { "soak", "square", number, NULL };

		numbers[n] = below(30000);
		snprintf(number, sizeof(number), "%d", numbers[n]);
		CHECK(pipe2(ends[n], O_CLOEXEC) == 0, "pipe");
		if (n % 2) {
			posix_spawn_file_actions_t actions;

			posix_spawn_file_actions_init(&actions);
			posix_spawn_file_actions_adddup2(&actions, ends[n][1], 1);
			errno = posix_spawn(&children[n], "/proc/self/exe", &actions, NULL, arguments, environment);
			CHECK(errno == 0, "posix_spawn");
			posix_spawn_file_actions_destroy(&actions);
		} else if ((children[n] = forked()) == 0) {
			dup2(ends[n][1], 1);
			execv("/proc/self/exe", arguments);
			_exit(127);
		}
		close(ends[n][1]);
	}
	for (int n = 0; n < MANY; n++) {
		char said[32] = "";
		int status;

		read_all(ends[n][0], said, sizeof(said) - 1);
		close(ends[n][0]);
		status = ended(children[n]);
		CHECK(atol(said) == (long)numbers[n] * numbers[n], "%d squared is '%s'", numbers[n], said);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (numbers[n] & 63), "status %#x", status);
	}
}

static int square(long number)
{
	say("%ld", number * number);
	return number & 63;
}

/* ---- pipes: bytes through three processes and a socket ---- */

static void pipes(void)
{
	enum { SIZE = 192 << 10 };
	static unsigned char bytes[SIZE];
	uint64_t key = xorshift(&seed);
	int first[2], second[2];
	pid_t producer, changer;
	char more;

	CHECK(pipe(first) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, second) == 0, "ends");
	if ((producer = forked()) == 0) {
		fill(bytes, SIZE, key);
		for (size_t at = 0; at < SIZE;) {
			size_t piece = 1 + below(9000);

			piece = piece < SIZE - at ? piece : SIZE - at;
			write_all(first[1], bytes + at, piece);
			at += piece;
		}
		_exit(11);
	}
	close(first[1]);
	if ((changer = forked()) == 0) {
		ssize_t got;

		close(second[0]);
		while ((got = read(first[0], bytes, 1 + below(9000))) > 0) {
			for (ssize_t at = 0; at < got; at++)
				bytes[at] ^= 0x5a;
			write_all(second[1], bytes, got);
		}
		_exit(12);
	}
	close(first[0]);
	close(second[1]);
	CHECK(read_all(second[0], bytes, SIZE) == SIZE, "cut short");
	CHECK(read(second[0], &more, 1) == 0, "more than was sent");
	close(second[0]);
	for (size_t at = 0; at < SIZE; at++)
		bytes[at] ^= 0x5a;
	CHECK(ended(producer) == 11 << 8 && ended(changer) == 12 << 8, "an end");
	CHECK(is_filled(bytes, SIZE, key), "other bytes");
}

/* ---- files on tmpfs, and on the disk: contents through write, mmap, truncate and rename ---- */

/* Those on the disk are flushed and dropped from the page cache, so that they are read from it. */
static void files_in(const char *directory, int on_disk)
{
	enum { MANY = 4, LARGEST = 400 << 10 };
	static unsigned char bytes[LARGEST];
	size_t sizes[MANY];
	uint64_t key = xorshift(&seed) >> 8;
	char name[64], other[64];

	CHECK(mkdir(directory, 0700) == 0, "mkdir");
	for (int n = 0; n < MANY; n++) {
		int fd;

		sizes[n] = 1 + below(LARGEST);
		snprintf(name, sizeof(name), "%s/new%d", directory, n);
		snprintf(other, sizeof(other), "%s/file%d", directory, n);
		fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
		CHECK(fd >= 0, "open %s", name);
		fill(bytes, sizes[n], key + n);
		write_all(fd, bytes, sizes[n] / 2);
		CHECK(ftruncate(fd, sizes[n] + 5000) == 0, "grow");
		if (n % 2) {
			unsigned char *map = mmap(NULL, sizes[n], PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

			CHECK(map != MAP_FAILED, "mmap");
			memcpy(map + sizes[n] / 2, bytes + sizes[n] / 2, sizes[n] - sizes[n] / 2);
			munmap(map, sizes[n]);
		} else {
			CHECK(pwrite(fd, bytes + sizes[n] / 2, sizes[n] - sizes[n] / 2, sizes[n] / 2) ==
				      (ssize_t)(sizes[n] - sizes[n] / 2), "pwrite");
		}
		CHECK(ftruncate(fd, sizes[n]) == 0 && rename(name, other) == 0, "shrink and rename");
		if (on_disk)
			CHECK(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0, "fsync");
		close(fd);
	}
	for (int n = 0; n < MANY; n++) {
		struct stat found;
		int fd;

		snprintf(name, sizeof(name), "%s/file%d", directory, n);
		fd = open(name, O_RDONLY);
		CHECK(fd >= 0 && fstat(fd, &found) == 0, "%s is gone", name);
		CHECK((size_t)found.st_size == sizes[n], "%s has %ld bytes", name, (long)found.st_size);
		CHECK(read_all(fd, bytes, sizeof(bytes)) == sizes[n] && is_filled(bytes, sizes[n], key + n), "contents");
		close(fd);
		unlink(name);
	}
	CHECK(rmdir(directory) == 0, "rmdir");
}

static void files(void)
{
	files_in("/tmp/soak", 0);
}

static void disk(void)
{
	files_in("/mnt/soak", 1);
}

/* ---- signals: queued ones with values, faults that are answered, a child's end ---- */

static volatile long caught, values;
static unsigned char *guarded;
static sigjmp_buf back;

static void on_value(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	caught++;
	values += info->si_value.sival_int;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	unsigned char *page = (unsigned char *)((uintptr_t)info->si_addr & ~4095ul);

	(void)context;
	if (number == SIGFPE)
		siglongjmp(back, 1);
	CHECK(page >= guarded && page < guarded + 16 * 4096, "a fault at %p", info->si_addr);
	caught++;
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART };

	sigaction(number, &action, NULL);
}

static void signals(void)
{
	enum { MANY = 50 };
	volatile int zero = 0, divided = 0;
	siginfo_t info;
	long expected = 0;
	sigset_t set;
	pid_t sender;

	handle(SIGRTMIN, on_value);
	caught = values = 0;
	if ((sender = forked()) == 0) {
		for (int n = 1; n <= MANY; n++) {
			union sigval value = { .sival_int = n };

			CHECK(sigqueue(getppid(), SIGRTMIN, value) == 0, "sigqueue");
		}
		_exit(0);
	}
	for (int n = 1; n <= MANY; n++)
		expected += n;
	CHECK(ended(sender) == 0, "sender");
	CHECK(caught == MANY && values == expected, "%ld signals, their sum %ld", caught, values);

	handle(SIGSEGV, on_fault);
	caught = 0;
	guarded = mmap(NULL, 16 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(guarded != MAP_FAILED, "mmap");
	for (int n = 0; n < 16; n++)
		guarded[n * 4096 + n] = n + 1;
	CHECK(caught == 16, "%ld faults for 16 pages", caught);
	for (int n = 0; n < 16; n++)
		CHECK(guarded[n * 4096 + n] == n + 1, "page %d", n);
	munmap(guarded, 16 * 4096);

	handle(SIGFPE, on_fault);
	if (sigsetjmp(back, 1) == 0)
		divided = 7 / zero; /* 1 / zero would be compiled to a comparison */
	else
		divided = 2;
	CHECK(divided == 2, "a division by zero");

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if ((sender = forked()) == 0) {
		kill(getppid(), SIGUSR2);
		for (;;)
			pause();
	}
	CHECK(sigwaitinfo(&set, &info) == SIGUSR2 && info.si_pid == sender, "sigwaitinfo");
	kill(sender, SIGTERM);
	CHECK(ended(sender) == SIGTERM, "the end of a child that was told to");
}

/* ---- memory: copies on write, and no memory at all ---- */

static void exhaust(void)
{
	pid_t hog = forked();

	if (hog == 0) {
		adjust_oom("1000");
		for (;;) {
			unsigned char *piece = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			for (size_t at = 0; piece != MAP_FAILED && at < 1 << 20; at += 4096)
				piece[at] = 1;
		}
	}
	CHECK(ended(hog) == SIGKILL, "one that takes all memory was not killed for it");
	score->kills++;
}

static void memory(void)
{
	enum { SIZE = 2 << 20 };
	static int64_t exhausted;
	uint64_t key = xorshift(&seed);
	unsigned char *bytes, *moved;
	pid_t child;

	/* At the very beginning, and now and then; not so late that the kernel's report is in the way of ours. */
	if (!exhausted || (now(CLOCK_MONOTONIC) - exhausted > 15 * NS && deadline - now(CLOCK_MONOTONIC) > 15 * NS)) {
		exhaust();
		exhausted = now(CLOCK_MONOTONIC);
	}
	bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(bytes != MAP_FAILED, "mmap");
	fill(bytes, SIZE, key);
	if ((child = forked()) == 0) {
		CHECK(is_filled(bytes, SIZE, key), "the child's copy");
		fill(bytes, SIZE / 2, key + 1);
		CHECK(is_filled(bytes, SIZE / 2, key + 1), "what the child wrote");
		_exit(0);
	}
	for (size_t at = 0; at < SIZE; at += 4096 * 3) /* at the same time as the child */
		bytes[at] = bytes[at];
	CHECK(ended(child) == 0, "child");
	moved = mremap(bytes, SIZE, SIZE * 2, MREMAP_MAYMOVE);
	CHECK(moved != MAP_FAILED && is_filled(moved, SIZE, key), "the parent's own, moved");
	for (size_t at = SIZE; at < SIZE * 2; at += 4096)
		CHECK(moved[at] == 0, "new memory is not empty");
	madvise(moved, SIZE, MADV_DONTNEED);
	CHECK(moved[SIZE / 2] == 0, "memory given back is not empty");
	munmap(moved, SIZE * 2);
}

/* ---- timers: never early, never lost, and the same time on every processor ---- */

static void on_alarm(int number)
{
	(void)number;
	caught++;
}

static void timers(void)
{
	struct itimerval every = { { 0, 10000 }, { 0, 10000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct itimerspec after = { { 0, 5000000 }, { 0, 20000000 } };
	int fd = timerfd_create(CLOCK_MONOTONIC, 0), processors = sysconf(_SC_NPROCESSORS_CONF);
	int64_t began, last;
	uint64_t expired, total = 0;
	cpu_set_t all;

	sched_getaffinity(0, sizeof(all), &all);
	last = now(CLOCK_MONOTONIC);
	for (int cpu = 0; cpu < processors; cpu++) {
		cpu_set_t one;
		int64_t here;

		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one) == 0) {
			here = now(CLOCK_MONOTONIC);
			CHECK(here >= last, "%lld ns back in time on processor %d", (long long)(last - here), cpu);
			last = here;
		}
	}
	sched_setaffinity(0, sizeof(all), &all);

	CHECK(fd >= 0, "timerfd");
	began = now(CLOCK_MONOTONIC);
	timerfd_settime(fd, 0, &after, NULL);
	while (total < 9) {
		CHECK(read(fd, &expired, 8) == 8, "read of a timer");
		total += expired;
		last = now(CLOCK_MONOTONIC) - began;
		CHECK(last >= 20000000 + (int64_t)(total - 1) * 5000000, "%lu ticks within %lld ns", (long)total, (long long)last);
	}
	close(fd);

	signal(SIGALRM, on_alarm);
	caught = 0;
	began = now(CLOCK_MONOTONIC);
	setitimer(ITIMER_REAL, &every, NULL);
	while (caught < 5)
		pause();
	setitimer(ITIMER_REAL, &never, NULL);
	last = now(CLOCK_MONOTONIC) - began;
	CHECK(last >= 50000000, "5 alarms of 10 ms within %lld ns", (long long)last);

	began = now(CLOCK_REALTIME);
	usleep(30000);
	last = now(CLOCK_REALTIME) - began;
	CHECK(last >= 29000000 && last < WORST_LATENESS, "30 ms were %lld ns", (long long)last);
}

/* ---- threads: locks, and sums that come out ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static long turns, atomic_sum, locked_sum;

static void *thread(void *which)
{
	double sum = 0;

	for (int n = 0; n < 200; n++) {
		__atomic_add_fetch(&atomic_sum, n, __ATOMIC_RELAXED);
		pthread_mutex_lock(&lock);
		locked_sum += n;
		pthread_mutex_unlock(&lock);
		sum += 0.5 * n;
	}
	pthread_mutex_lock(&lock);
	for (int n = 0; n < 20; n++) { /* one after the other, in turn */
		while (turns % 4 != (long)which)
			pthread_cond_wait(&turned, &lock);
		turns++;
		pthread_cond_broadcast(&turned);
	}
	pthread_mutex_unlock(&lock);
	return (void *)(long)sum;
}

static void threads(void)
{
	pthread_t all[4];

	turns = atomic_sum = locked_sum = 0;
	for (long n = 0; n < 4; n++) {
		errno = pthread_create(&all[n], NULL, thread, (void *)n);
		CHECK(errno == 0, "pthread_create");
	}
	for (int n = 0; n < 4; n++) {
		void *sum;

		pthread_join(all[n], &sum);
		CHECK((long)sum == 9950, "a thread's sum is %ld", (long)sum);
	}
	CHECK(atomic_sum == 4 * 19900 && locked_sum == 4 * 19900 && turns == 80, "%ld, %ld, %ld", atomic_sum,
	      locked_sum, turns);
}

/* ---- the ticker ---- */

static int by_size(const void *one, const void *other)
{
	int64_t difference = *(const int64_t *)one - *(const int64_t *)other;

	return difference < 0 ? -1 : difference > 0;
}

static void ticker(void)
{
	enum { MANY = 8192 };
	static int64_t slept[MANY];
	struct sched_param priority = { .sched_priority = 10 };
	int count = 0;

	CHECK(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &priority) == 0, /* musl has none */
	      "sched_setscheduler");
	while (now(CLOCK_MONOTONIC) < deadline && count < MANY) {
		int64_t began = now(CLOCK_MONOTONIC);
		int64_t real = now(CLOCK_REALTIME);

		sleep(1);
		slept[count] = now(CLOCK_MONOTONIC) - began;
		CHECK(slept[count] >= NS, "a second of %lld ns", (long long)slept[count]);
		real = now(CLOCK_REALTIME) - real;
		CHECK(real - slept[count] < NS && slept[count] - real < NS, "a second, and its date went on by %lld ns", (long long)real);
		count++;
		say("tick %lld %lld", (long long)now(CLOCK_MONOTONIC), (long long)now(CLOCK_REALTIME));
		score->rounds++;
	}
	qsort(slept, count, sizeof(*slept), by_size);
	say("soak: seconds lasted, in ms: least %lld, median %lld, 9 of 10 at most %lld, most %lld",
	    (long long)slept[0] / 1000000, (long long)slept[count / 2] / 1000000,
	    (long long)slept[count * 9 / 10] / 1000000, (long long)slept[count - 1] / 1000000);
	_exit(0);
}

/* ---- all of it ---- */

static const struct work {
	const char *name;
	void (*round)(void);
} works[] = {
	{ "ticks", ticker },	 { "processes", processes }, { "pipes", pipes },   { "files", files },
	{ "signals", signals },	 { "memory", memory },	     { "timers", timers }, { "threads", threads },
	{ "disk", disk },
};
enum { WORKS = sizeof(works) / sizeof(*works) };

int main(int argc, char **argv, char **envp)
{
	struct score *scores = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char line[256] = "";
	pid_t workers[WORKS];
	int failed = 0;

	environment = envp;
	if (argc == 3 && strcmp(argv[1], "square") == 0)
		return square(atol(argv[2]));
	if (argc != 2 || atoi(argv[1]) < 1 || scores == MAP_FAILED) {
		say("usage: soak SECONDS");
		return 2;
	}
	deadline = now(CLOCK_MONOTONIC) + atoi(argv[1]) * NS;
	adjust_oom("-1000");
	for (int n = 0; n < WORKS; n++) {
		if ((workers[n] = forked()) != 0)
			continue;
		kind = works[n].name;
		score = &scores[n];
		seed = 88172645463325252ull + n * 7919;
		while (now(CLOCK_MONOTONIC) < deadline) {
			works[n].round();
			score->rounds++;
			usleep(10000);
		}
		_exit(0);
	}
	for (int n = 0; n < WORKS; n++) {
		int status = ended(workers[n]);

		if (status) {
			say("soak: FAILED %s ended with status %#x", works[n].name, status);
			failed = 1;
		}
		snprintf(line + strlen(line), sizeof(line) - strlen(line), " %s=%ld", works[n].name, scores[n].rounds);
		if (scores[n].kills)
			snprintf(line + strlen(line), sizeof(line) - strlen(line), " kills=%ld", scores[n].kills);
	}
	say("soak: rounds%s", line);
	say("soak: %s", failed ? "FAIL" : "PASS");
	return failed;
}
