/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * user/bin/measure.c as the only program of a stock Linux: the kernel starts it as process 1, it starts itself again
 * for every benchmark, one after the other, and powers the machine off.  The same operations by the same code, over
 * another kernel: what differs is that kernel's.
 *
 * By the name it is started with it is also the program that `exec` executes: one that does nothing, and fails.
 */
#include <user.h>

void power_off(void);
int begin(int argc, char **argv);

/* Those of measure's operations that are of user programs, and need no shell. */
static char *const benches[] = {
    "syscall", "null-call", "fork", "exec", "ctx-2p-0k", "ctx-2p-16k", "ctx-2p-64k", "ctx-8p-16k", "ctx-8p-64k",
    "ctx-16p-16k", "ctx-16p-64k", "mmap", "prot-fault", "page-fault", "pipe", "file-create", "file-delete",
};

static void run_all(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(benches); i++) {
        char *arguments[] = { "measure", benches[i], NULL };
        int pid = fork();

        if (pid == 0) {
            exec("/bin/measure", arguments);
            fail("/bin/measure does not start\n");
        }
        wait(pid, NULL, 0);
    }
}

int begin(int argc, char **argv)
{
    if (!strcmp(argv[0], "false"))
        return 1;
    if (!strcmp(argv[0], "measure"))
        return main(argc, argv);
    run_all();
    power_off();
    return 1;
}
