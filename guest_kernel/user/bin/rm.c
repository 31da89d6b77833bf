/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * rm files: and empty directories.
 */
#include <user.h>

int main(int argc, char **argv)
{
    int status = 0;

    for (int i = 1; i < argc; i++) {
        int error = unlink(argv[i]);

        if (error) {
            fprintf(2, "rm: %s: %s\n", argv[i], error_text(error));
            status = 1;
        }
    }
    return status;
}
