/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * forktest [rounds]: forks until the kernel says no more, each time, and sees that everything comes back.
 */
#include <user.h>

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 3;
    struct memory_info before, after;

    memory(&before);
    for (long round = 0; round < rounds; round++) {
        int count = 0, pid, status, sum = 0;

        while ((pid = fork()) > 0)
            count++;
        if (pid == 0) {
            sleep_ns(20000000); /* so that the parent can fill the table */
            exit(1);
        }
        if (pid != -EAGAIN && pid != -ENOMEM)
            fail("forktest: fork said %d\n", pid);
        for (int i = 0; i < count; i++) {
            if (wait(-1, &status, 0) < 0)
                fail("forktest: a child is lost\n");
            sum += status;
        }
        if (wait(-1, &status, 0) != -ECHILD)
            fail("forktest: a child too many\n");
        if (sum != count || count < 10)
            fail("forktest: %d children, %d of them ended well\n", count, sum);
        printf("forktest: %d children\n", count);
    }
    memory(&after);
    if (before.table_pages != after.table_pages)
        fail("forktest: %lu page tables before, %lu after\n", before.table_pages, after.table_pages);
    printf("forktest: ok\n");
    return 0;
}
