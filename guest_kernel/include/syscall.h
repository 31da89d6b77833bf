/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * System calls, as the table in kernel/syscall.c sees them: each gets the trap frame and takes its arguments from
 * there by ARG(); the result goes back in %rax.
 */
#pragma once

#include <api/errno.h>
#include <trap.h>
#include <types.h>

typedef s64 (*syscall_handler)(struct trap_frame *frame);

#define ARG1(frame) ((frame)->rdi)
#define ARG2(frame) ((frame)->rsi)
#define ARG3(frame) ((frame)->rdx)

/* kernel/sysprocess.c */
s64 sys_exit(struct trap_frame *), sys_fork(struct trap_frame *), sys_exec(struct trap_frame *);
s64 sys_wait(struct trap_frame *), sys_kill(struct trap_frame *), sys_getpid(struct trap_frame *);
s64 sys_yield(struct trap_frame *), sys_sleep(struct trap_frame *), sys_setgroup(struct trap_frame *);
s64 sys_ps(struct trap_frame *), sys_sbrk(struct trap_frame *), sys_mmap(struct trap_frame *);
s64 sys_munmap(struct trap_frame *);

/* kernel/sysfile.c */
s64 sys_open(struct trap_frame *), sys_close(struct trap_frame *), sys_read(struct trap_frame *);
s64 sys_write(struct trap_frame *), sys_seek(struct trap_frame *), sys_dup(struct trap_frame *);
s64 sys_dup2(struct trap_frame *), sys_pipe(struct trap_frame *), sys_unlink(struct trap_frame *);
s64 sys_mkdir(struct trap_frame *), sys_readdir(struct trap_frame *), sys_stat(struct trap_frame *);
s64 sys_chdir(struct trap_frame *), sys_getcwd(struct trap_frame *), sys_tty(struct trap_frame *);

/* kernel/sysmachine.c */
s64 sys_uptime(struct trap_frame *), sys_time(struct trap_frame *), sys_memory(struct trap_frame *);
s64 sys_dmesg(struct trap_frame *), sys_machine(struct trap_frame *), sys_privileged(struct trap_frame *);
s64 sys_shutdown(struct trap_frame *);

/* kernel/sysdisk.c */
s64 sys_sync(struct trap_frame *), sys_mount(struct trap_frame *), sys_umount(struct trap_frame *);
s64 sys_mounts(struct trap_frame *);
