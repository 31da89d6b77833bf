/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From a number to a function.
 */
#include <api/syscalls.h>
#include <syscall.h>

static const syscall_handler handlers[SYS_COUNT] = {
    [SYS_exit] = sys_exit,
    [SYS_fork] = sys_fork,
    [SYS_exec] = sys_exec,
    [SYS_wait] = sys_wait,
    [SYS_kill] = sys_kill,
    [SYS_getpid] = sys_getpid,
    [SYS_yield] = sys_yield,
    [SYS_sleep] = sys_sleep,
    [SYS_setgroup] = sys_setgroup,
    [SYS_ps] = sys_ps,
    [SYS_sbrk] = sys_sbrk,
    [SYS_mmap] = sys_mmap,
    [SYS_munmap] = sys_munmap,
    [SYS_open] = sys_open,
    [SYS_close] = sys_close,
    [SYS_read] = sys_read,
    [SYS_write] = sys_write,
    [SYS_seek] = sys_seek,
    [SYS_dup] = sys_dup,
    [SYS_dup2] = sys_dup2,
    [SYS_pipe] = sys_pipe,
    [SYS_unlink] = sys_unlink,
    [SYS_mkdir] = sys_mkdir,
    [SYS_readdir] = sys_readdir,
    [SYS_stat] = sys_stat,
    [SYS_chdir] = sys_chdir,
    [SYS_getcwd] = sys_getcwd,
    [SYS_tty] = sys_tty,
    [SYS_uptime] = sys_uptime,
    [SYS_time] = sys_time,
    [SYS_memory] = sys_memory,
    [SYS_dmesg] = sys_dmesg,
    [SYS_machine] = sys_machine,
    [SYS_privileged] = sys_privileged,
    [SYS_shutdown] = sys_shutdown,
    [SYS_sync] = sys_sync,
    [SYS_mount] = sys_mount,
    [SYS_umount] = sys_umount,
    [SYS_mounts] = sys_mounts,
};

void syscall(struct trap_frame *frame)
{
    frame->rax = frame->rax < SYS_COUNT ? (u64)handlers[frame->rax](frame) : (u64)-ENOSYS;
}
