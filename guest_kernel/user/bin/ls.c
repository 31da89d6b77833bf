/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ls [-l] [directories]
 */
#include <user.h>

static int list(const char *path, int with_sizes)
{
    struct directory_entry entry;
    struct file_info info;
    int error = stat(path, &info), fd;

    if (error) {
        fprintf(2, "ls: %s: %s\n", path, error_text(error));
        return 1;
    }
    if (info.kind != KIND_DIRECTORY) {
        printf("%s\n", path);
        return 0;
    }
    fd = open(path, O_READ);
    while ((error = readdir(fd, &entry)) == 1) {
        if (with_sizes)
            printf("%c %8lu %s\n", "-dc?"[entry.kind], entry.size, entry.name);
        else
            printf("%s%s\n", entry.name, entry.kind == KIND_DIRECTORY ? "/" : "");
    }
    close(fd);
    if (error)
        fprintf(2, "ls: %s: %s\n", path, error_text(error));
    return error != 0;
}

int main(int argc, char **argv)
{
    int with_sizes = argc > 1 && !strcmp(argv[1], "-l"), status = 0;

    if (argc == 1 + with_sizes)
        return list(".", with_sizes);
    for (int i = 1 + with_sizes; i < argc; i++)
        status |= list(argv[i], with_sizes);
    return status;
}
