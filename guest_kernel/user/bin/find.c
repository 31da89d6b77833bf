/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * find [DIRECTORY]: the path of everything below it.
 */
#include <user.h>

#define DEPTH_MAX 32

static int status;

static void complain(const char *path, int error)
{
    fprintf(2, "find: %s: %s\n", path, error_text(error));
    status = 1;
}

static void walk(char *path, int depth)
{
    struct directory_entry entry;
    size_t length = strlen(path);
    int fd = open(path, O_READ), result = fd;

    while (fd >= 0 && (result = readdir(fd, &entry)) == 1) {
        if (length + 1 + strlen(entry.name) >= 512) {
            complain(entry.name, -ENAMETOOLONG);
            continue;
        }
        sprintf(path + length, "%s%s", path[length - 1] == '/' ? "" : "/", entry.name);
        printf("%s\n", path);
        if (entry.kind == KIND_DIRECTORY && depth < DEPTH_MAX)
            walk(path, depth + 1);
        path[length] = 0;
    }
    if (result < 0)
        complain(path, result);
    close(fd);
}

int main(int argc, char **argv)
{
    static char path[512];

    strlcpy(path, argc > 1 ? argv[1] : ".", sizeof(path));
    printf("%s\n", path);
    walk(path, 0);
    return status;
}
