/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * kill pids
 */
#include <user.h>

int main(int argc, char **argv)
{
    int status = 0;

    if (argc < 2)
        fail("usage: kill pid ...\n");
    for (int i = 1; i < argc; i++) {
        int error = kill((int)atol(argv[i]));

        if (error) {
            fprintf(2, "kill: %s: %s\n", argv[i], error_text(error));
            status = 1;
        }
    }
    return status;
}
