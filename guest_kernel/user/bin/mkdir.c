/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mkdir directories
 */
#include <user.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int error = mkdir(argv[i]);

        if (error)
            fail("mkdir: %s: %s\n", argv[i], error_text(error));
    }
    return 0;
}
