/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The first process: opens the console, greets, keeps a shell running, and buries orphans.
 */
#include <user.h>

static void greet(void)
{
    struct machine_info info;
    struct lines motd = { .fd = open("/etc/motd", O_READ) };
    char line[128];

    while (next_line(&motd, line, sizeof(line)))
        printf("%s\n", line);
    close(motd.fd);
    machine(&info);
    printf("On %s. Type `help` for help, `exit` to power off.\n", info.hypervisor[0] ? info.hypervisor : "bare hardware");
}

static int start_shell(void)
{
    char *argv[] = { "sh", "-login", NULL };
    int pid = fork();

    if (pid == 0) {
        setgroup(0, 0);
        exec("/bin/sh", argv);
        fail("init: there is no shell\n");
    }
    return pid;
}

int main(int argc, char **argv)
{
    int status, shell, pid;

    open("/dev/console", O_READ | O_WRITE); /* 0, 1 and 2: everybody's, by inheritance */
    dup(0);
    dup(0);
    greet();
    for (;;) {
        shell = start_shell();
        do
            pid = wait(-1, &status, 0);
        while (pid >= 0 && pid != shell);
        printf("init: the shell ended with %d, here is another\n", status);
    }
}
