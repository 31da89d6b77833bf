/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * wc [files]: lines, words, bytes.
 */
#include <user.h>

static void count(int fd, const char *name)
{
    u64 lines = 0, words = 0, bytes = 0;
    char buffer[1024];
    int in_word = 0;
    long n;

    while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
        bytes += n;
        for (long i = 0; i < n; i++) {
            int space = buffer[i] == ' ' || buffer[i] == '\n' || buffer[i] == '\t';

            lines += buffer[i] == '\n';
            words += !space && !in_word;
            in_word = !space;
        }
    }
    printf("%lu %lu %lu%s%s\n", lines, words, bytes, *name ? " " : "", name);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        count(0, "");
    for (int i = 1; i < argc; i++) {
        int fd = open(argv[i], O_READ);

        if (fd < 0)
            fail("wc: %s: %s\n", argv[i], error_text(fd));
        count(fd, argv[i]);
        close(fd);
    }
    return 0;
}
