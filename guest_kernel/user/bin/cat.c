/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * cat [files]: their bytes, or standard input's.
 */
#include <user.h>

static int copy(int fd, const char *name)
{
    char bytes[1024];
    long n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        if (write(1, bytes, n) != n)
            return 1;
    if (n < 0)
        fprintf(2, "cat: %s: %s\n", name, error_text(n));
    return n < 0;
}

int main(int argc, char **argv)
{
    int status = 0;

    if (argc < 2)
        return copy(0, "standard input");
    for (int i = 1; i < argc; i++) {
        int fd = open(argv[i], O_READ);

        if (fd < 0) {
            fprintf(2, "cat: %s: %s\n", argv[i], error_text(fd));
            status = 1;
            continue;
        }
        status |= copy(fd, argv[i]);
        close(fd);
    }
    return status;
}
