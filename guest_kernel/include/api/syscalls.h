/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a user program may ask of the kernel: `syscall` with the number in %rax and up to five arguments in
 * %rdi %rsi %rdx %r10 %r8.  A result in -4095..-1 is an error of api/errno.h, negated.
 *
 * This folder is the whole contract between kernel and programs; both sides include it.
 */
#pragma once

enum syscall_number {
    /* processes */
    SYS_exit,     /* (code) */
    SYS_fork,     /* () -> the child's pid, 0 in the child */
    SYS_exec,     /* (path, argv) */
    SYS_wait,     /* (pid or -1, int *status, flags) -> pid */
    SYS_kill,     /* (pid; or -group) */
    SYS_getpid,   /* () */
    SYS_yield,    /* () */
    SYS_sleep,    /* (nanoseconds) */
    SYS_setgroup, /* (pid, group): for job control; 0 means "own" */
    SYS_ps,       /* (struct process_info *, how many) -> how many there are */

    /* memory */
    SYS_sbrk,   /* (increment) -> the old break */
    SYS_mmap,   /* (length) -> the address of fresh zeroed memory */
    SYS_munmap, /* (address, length) */

    /* files */
    SYS_open,    /* (path, O_ flags) -> descriptor */
    SYS_close,   /* (fd) */
    SYS_read,    /* (fd, buffer, n) -> bytes, 0 at the end */
    SYS_write,   /* (fd, buffer, n) -> bytes */
    SYS_seek,    /* (fd, offset, SEEK_) -> position */
    SYS_dup,     /* (fd) -> descriptor, the lowest free one */
    SYS_dup2,    /* (fd, wanted descriptor) */
    SYS_pipe,    /* (int fds[2]) */
    SYS_unlink,  /* (path): a file, or an empty directory */
    SYS_mkdir,   /* (path) */
    SYS_readdir, /* (fd, struct directory_entry *) -> 1, or 0 at the end */
    SYS_stat,    /* (path, struct file_info *) */
    SYS_chdir,   /* (path) */
    SYS_getcwd,  /* (buffer, n) */
    SYS_tty,     /* (TTY_ command, argument) */

    /* the machine */
    SYS_uptime,     /* () -> nanoseconds since boot */
    SYS_time,       /* () -> nanoseconds since 1970 */
    SYS_memory,     /* (struct memory_info *) */
    SYS_dmesg,      /* (offset, buffer, n) -> bytes of the kernel log */
    SYS_machine,    /* (struct machine_info *) */
    SYS_privileged, /* (PRIVILEGED_ operation, count) -> nanoseconds it took */
    SYS_shutdown,   /* (SHUTDOWN_HOW_) */

    /* disks */
    SYS_sync,   /* () -> when it returns, all that was written is safe on the disks */
    SYS_mount,  /* (device, directory, MOUNT_ flags): the file system of a disk appears there */
    SYS_umount, /* (directory) */
    SYS_mounts, /* (which, struct mount_info *) -> 1, or 0 behind the last */
    SYS_COUNT
};

/* open */
#define O_READ 1
#define O_WRITE 2
#define O_CREATE 4
#define O_TRUNCATE 8
#define O_APPEND 16
#define O_DIRECT 32 /* of a disk: past the kernel's buffers */

enum { SEEK_SET, SEEK_CUR, SEEK_END };

/* wait: flags, and the meaning of a status */
#define WAIT_NOHANG 1
#define STATUS_FAULT 256  /* + the exception's vector: the process did what it may not */
#define STATUS_KILLED 512 /* by kill or ^C */

/* tty */
enum {
    TTY_RAW,   /* the reader gets every byte and echoes for itself */
    TTY_LINES, /* the kernel echoes, edits, and hands out whole lines */
    TTY_GROUP, /* ^C kills this process group */
};

struct directory_entry {
    char name[256];
    unsigned long size;
    int kind; /* KIND_ */
};

enum { KIND_FILE, KIND_DIRECTORY, KIND_DEVICE, KIND_OTHER /* what this kernel cannot open */ };

/* mount */
#define MOUNT_READONLY 1

struct mount_info {
    char device[16], directory[512];
    int flags;
    unsigned long block_size, blocks, free_blocks;
};

struct file_info {
    unsigned long size;
    int kind;
};

struct process_info {
    int pid, parent, group;
    char state;                /* R running or ready, S sleeping, Z dead and not yet waited for */
    unsigned long pages;       /* of memory mapped in its user half */
    unsigned long nanoseconds; /* of CPU time */
    char name[32];
};

struct memory_info {
    unsigned long total_pages, free_pages, table_pages;
};

struct machine_info {
    char hypervisor[16]; /* e.g. "Xen 4.17", or as it calls itself; empty on bare metal */
    char vendor[16];
    char model[52];
    unsigned long tsc_khz;
};

/* Operations of the kernel that `bench` times and that need privilege: see the column's privileged.c. */
enum {
    PRIVILEGED_NULL_CALL,  /* the cheapest call into the hypervisor; native: read a port */
    PRIVILEGED_PTE_UPDATE, /* change one page-table entry, and back */
    PRIVILEGED_PTE_BATCH,  /* the same, 512 entries a batch; timed per entry */
    PRIVILEGED_EVENT,      /* send an event to ourselves, and receive it; native: an interrupt */
    PRIVILEGED_GRANT_COPY, /* copy a page by grant reference */
    PRIVILEGED_GRANT_MAP,  /* map and unmap a granted page */
    PRIVILEGED_CALL_RETURN,  /* the rest is for `measure`: a call of an empty function */
    PRIVILEGED_PAGE_FAULT,   /* a fault of the kernel's, and its handler */
    PRIVILEGED_DIVIDE_ERROR, /* the same of a division by zero */
    PRIVILEGED_PORT_READ,    /* read a device's port; native only */
    PRIVILEGED_CR8_WRITE,    /* set the task priority; native only */
    PRIVILEGED_COUNT
};

/* To do one of these between two marks, a few times beforehand, add this to it. */
#define PRIVILEGED_MARKED 256

/* A mark is a call of a function that does nothing. In a program it stands at this address; its argument is one of: */
#define MARK_ADDRESS 0x7ff000
#define MARK_BEGIN 1
#define MARK_END 2

enum { SHUTDOWN_HOW_POWEROFF, SHUTDOWN_HOW_REBOOT, SHUTDOWN_HOW_CRASH };
