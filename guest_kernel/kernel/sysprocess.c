/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * System calls about processes and their memory.
 */
#include <file.h>
#include <lib.h>
#include <process.h>
#include <pv_ops.h>
#include <syscall.h>
#include <tty.h>

s64 sys_exit(struct trap_frame *frame)
{
    process_exit(ARG1(frame) & 0xff);
}

s64 sys_fork(struct trap_frame *frame)
{
    return process_fork(frame);
}

/* argv: copied string after string into one page, which exec lays out anew on the other side. */
s64 sys_exec(struct trap_frame *frame)
{
    char path[PATH_MAX], *arguments;
    s64 result = copy_string_from_user(path, ARG1(frame), sizeof(path));
    u64 argv = ARG2(frame), pointer;
    size_t used = 0;
    int count = 0;

    if (result < 0)
        return result;
    arguments = kmalloc(PAGE_SIZE);
    if (!arguments)
        return -ENOMEM;
    for (;; count++) {
        result = copy_from_user(&pointer, argv + count * sizeof(u64), sizeof(pointer));
        if (result < 0 || !pointer)
            break;
        result = copy_string_from_user(arguments + used, pointer, PAGE_SIZE - used);
        if (result < 0) {
            result = result == -ENAMETOOLONG ? -E2BIG : result;
            break;
        }
        used += result + 1;
    }
    if (result >= 0)
        result = process_exec(frame, path, arguments, count);
    kfree(arguments);
    /* exec wrote a new frame; the dispatcher will store our result into its %rax, where nobody looks. */
    return result;
}

s64 sys_wait(struct trap_frame *frame)
{
    int status = 0, pid = process_wait((int)ARG1(frame), &status, (int)ARG3(frame));

    if (pid > 0 && ARG2(frame) && copy_to_user(ARG2(frame), &status, sizeof(status)))
        return -EFAULT;
    return pid;
}

s64 sys_kill(struct trap_frame *frame)
{
    int pid = (int)ARG1(frame);

    if (pid >= 0)
        return process_kill(pid);
    process_kill_group(-pid);
    return 0;
}

s64 sys_getpid(struct trap_frame *frame)
{
    return current->pid;
}

s64 sys_yield(struct trap_frame *frame)
{
    yield();
    return 0;
}

s64 sys_sleep(struct trap_frame *frame)
{
    u64 now = pv.now(), length = ARG1(frame);

    /* Nobody calls wake_up on a stack address: only the clock ends this. */
    return sleep_until(&now, length > NEVER / 2 ? NEVER : now + length);
}

s64 sys_setgroup(struct trap_frame *frame)
{
    struct process *p = ARG1(frame) ? process_find((int)ARG1(frame)) : current;

    if (!p)
        return -ESRCH;
    if (p != current && p->parent != current)
        return -EPERM;
    p->group = ARG2(frame) ? (int)ARG2(frame) : p->pid;
    if (tty_interrupted(p->group))
        process_kill(p->pid);
    return 0;
}

s64 sys_ps(struct trap_frame *frame)
{
    struct process_info *list;
    int count;
    s64 result;

    /* At most a page of them at once; there are PROCESS_MAX at most. */
    _Static_assert(sizeof(*list) * PROCESS_MAX <= PAGE_SIZE, "the list does not fit a page");
    list = kmalloc(PAGE_SIZE);
    if (!list)
        return -ENOMEM;
    count = process_list(list, PROCESS_MAX);
    result = copy_to_user(ARG1(frame), list, sizeof(*list) * MIN((u64)count, ARG2(frame)));
    kfree(list);
    return result ? result : count;
}

s64 sys_sbrk(struct trap_frame *frame)
{
    struct address_space *space = current->space;
    u64 old = space->program_break, new = old + ARG1(frame);
    int error = 0;

    if (new < USER_TEXT || new > USER_MMAP)
        return -ENOMEM;
    if (PAGE_UP(new) > PAGE_UP(old))
        error = area_add(space, PAGE_UP(old), PAGE_UP(new), AREA_WRITE | AREA_HEAP);
    else if (PAGE_UP(new) < PAGE_UP(old)) {
        struct area *area = area_find(space, PAGE_UP(new));

        if (!area || !(area->flags & AREA_HEAP)) /* the program itself is not for giving back */
            return -EINVAL;
        error = space_remove(space, PAGE_UP(new), PAGE_UP(old));
    }
    if (error)
        return error;
    space->program_break = new;
    return old;
}

s64 sys_mmap(struct trap_frame *frame)
{
    u64 length = PAGE_UP(ARG1(frame)), at;
    int error;

    if (!ARG1(frame) || ARG1(frame) > USER_MMAP_END)
        return -EINVAL;
    at = area_find_hole(current->space, length);
    if (!at)
        return -ENOMEM;
    error = area_add(current->space, at, at + length, AREA_WRITE);
    return error ? error : (s64)at;
}

s64 sys_munmap(struct trap_frame *frame)
{
    u64 start = ARG1(frame), end = start + PAGE_UP(ARG2(frame));

    if (start % PAGE_SIZE || start < USER_MMAP || end <= start || end > USER_MMAP_END)
        return -EINVAL;
    return space_remove(current->space, start, end);
}
