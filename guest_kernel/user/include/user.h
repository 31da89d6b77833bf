/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The C library of the user programs, whole.
 */
#pragma once

#include <api/errno.h>
#include <api/syscalls.h>
#include <string.h>

int main(int argc, char **argv);

/* syscalls.c: one function for each system call; a negative result is an error, negated. */
void exit(int code) __attribute__((noreturn));
int fork(void);
int exec(const char *path, char *const argv[]);
int wait(int pid, int *status, int flags);
int kill(int pid);
int getpid(void);
int yield(void);
int sleep_ns(u64 nanoseconds);
int setgroup(int pid, int group);
int ps(struct process_info *list, int room);
void *sbrk(long increment);
void *mmap(size_t length);
int munmap(void *start, size_t length);
int open(const char *path, int mode);
int close(int fd);
long read(int fd, void *to, size_t n);
long write(int fd, const void *from, size_t n);
long seek(int fd, long offset, int whence);
int dup(int fd);
int dup2(int fd, int wanted);
int pipe(int fds[2]);
int unlink(const char *path);
int mkdir(const char *path);
int readdir(int fd, struct directory_entry *entry);
int stat(const char *path, struct file_info *info);
int chdir(const char *path);
int getcwd(char *to, size_t room);
int tty(int command, long argument);
u64 uptime(void);
u64 time(void);
int memory(struct memory_info *info);
long dmesg(size_t from, char *to, size_t n);
int machine(struct machine_info *info);
long privileged(int op, u64 count);
int shutdown(int how);
int sync(void);
int mount(const char *device, const char *directory, int flags);
int umount(const char *directory);
int mounts(unsigned which, struct mount_info *info);

/* string.c, besides <string.h> */
char *strcpy(char *to, const char *from);
char *strchr(const char *s, int c);
char *strstr(const char *s, const char *what);
long atol(const char *s);

/* print.c: %d %u %x %s %c, with l, a width, and 0 or - before it */
int printf(const char *format, ...) PRINTF(1, 2);
int fprintf(int fd, const char *format, ...) PRINTF(2, 3);
int sprintf(char *to, const char *format, ...) PRINTF(2, 3);
void fail(const char *format, ...) PRINTF(1, 2) __attribute__((noreturn)); /* to fd 2, then exit(1) */
const char *error_text(long error);                                       /* of a negative result */

/* malloc.c */
void *malloc(size_t n);
void free(void *p);

/* lines.c: a file, line by line. False at the end. The line has no line feed. */
struct lines {
    int fd;
    size_t start, end;
    char buffer[512];
};
int next_line(struct lines *lines, char *line, size_t room);
