/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A process's life: fork, exit, wait, kill.
 */
#include <api/errno.h>
#include <file.h>
#include <lib.h>
#include <process.h>
#include <pv_ops.h>


static u8 stacks[PROCESS_MAX][KERNEL_STACK_SIZE] PAGE_ALIGNED;
static struct fpu_state fpu_states[PROCESS_MAX];
static int last_pid;

void processes_init(void)
{
    for (unsigned i = 0; i < PROCESS_MAX; i++) {
        processes[i].kernel_stack = stacks[i];
        processes[i].fpu = &fpu_states[i];
    }
}

struct process *process_find(int pid)
{
    for (struct process *p = processes; p < processes + PROCESS_MAX; p++)
        if (p->state != UNUSED && p->pid == pid)
            return p;
    return NULL;
}

static struct process *allocate(void)
{
    for (struct process *p = processes; p < processes + PROCESS_MAX; p++) {
        if (p->state == UNUSED) {
            u8 *stack = p->kernel_stack;
            struct fpu_state *fpu = p->fpu;

            memset(p, 0, sizeof(*p));
            p->kernel_stack = stack;
            p->fpu = fpu;
            p->wake_at = NEVER;
            p->pid = ++last_pid;
            return p;
        }
    }
    return NULL;
}

static struct trap_frame *frame_of(struct process *p)
{
    return (struct trap_frame *)(p->kernel_stack + KERNEL_STACK_SIZE) - 1;
}

/* switch_stacks() "returns" here the first time: there is no kernel work to go back to, only the frame. */
static void user_first_steps(void)
{
    trap_return(frame_of(current));
}

/* A stack as switch_stacks() would have left it. */
static void prepare_stack(struct process *p, void (*first_steps)(void))
{
    u64 *rsp = (u64 *)frame_of(p);

    *--rsp = 0; /* keeps the stack aligned, and ends a backtrace */
    *--rsp = (u64)first_steps;
    for (int i = 0; i < 6; i++)
        *--rsp = 0;
    p->kernel_rsp = (u64)rsp;
}

/* Process 1 is made by hand. It begins inside the kernel, where it execs its program like anybody else. */
static const char *init_path;

static void init_first_steps(void)
{
    char arguments[] = "init";
    struct trap_frame *frame = frame_of(current);
    int error = process_exec(frame, init_path, arguments, 1);

    if (error)
        panic("cannot run %s: error %d", init_path, -error);
    trap_return(frame);
}

struct process *process_start_init(const char *path)
{
    struct process *p = allocate();

    init_path = path;
    p->space = space_create();
    if (!p->space)
        panic("no memory for the first process");
    space_live(p->space);
    p->group = p->pid;
    p->directory = inode_get(root_directory);
    fpu_forget(p);
    prepare_stack(p, init_first_steps);
    make_ready(p);
    return p;
}

int process_fork(struct trap_frame *frame)
{
    struct process *child = allocate();

    if (!child)
        return -EAGAIN;
    child->space = space_copy(current->space);
    if (!child->space)
        return -ENOMEM;
    memcpy(child->name, current->name, sizeof(child->name));
    child->parent = current;
    child->group = current->group;
    child->directory = inode_get(current->directory);
    for (unsigned fd = 0; fd < FILES_MAX; fd++)
        if (current->files[fd])
            child->files[fd] = file_get(current->files[fd]);
    fpu_copy(child);

    *frame_of(child) = *frame;
    frame_of(child)->rax = 0;
    prepare_stack(child, user_first_steps);
    make_ready(child);
    return child->pid;
}

void process_exit(int status)
{
    if (current->pid == 1)
        panic("init is gone (status %d)", status);
    for (unsigned fd = 0; fd < FILES_MAX; fd++)
        if (current->files[fd])
            file_put(current->files[fd]);
    inode_put(current->directory);
    memset(current->files, 0, sizeof(current->files));
    fpu_forget(current);

    /* Orphans go to init, which waits for anybody. */
    for (struct process *p = processes; p < processes + PROCESS_MAX; p++) {
        if (p->state != UNUSED && p->parent == current) {
            p->parent = &processes[0];
            wake_up(p->parent);
        }
    }
    current->exit_status = status;
    current->state = ZOMBIE;
    wake_up(current->parent); /* a parent in wait() sleeps on its own address */

    /* Our space stays loaded until another process runs: the one who waits for us frees it. */
    schedule();
    panic("a zombie walks");
}

static void bury(struct process *p)
{
    space_destroy(p->space);
    p->space = NULL;
    p->state = UNUSED;
}

int process_wait(int pid, int *status, int flags)
{
    for (;;) {
        bool children = false;

        for (struct process *p = processes; p < processes + PROCESS_MAX; p++) {
            if (p->state == UNUSED || p->parent != current || (pid > 0 && p->pid != pid))
                continue;
            children = true;
            if (p->state == ZOMBIE) {
                *status = p->exit_status;
                bury(p);
                return p->pid;
            }
        }
        if (!children)
            return -ECHILD;
        if (flags & WAIT_NOHANG)
            return 0;
        if (sleep_on(current))
            return -EINTR;
    }
}

static void kill_one(struct process *p)
{
    p->killed = true;
    if (p->state == SLEEPING) /* it will find out in sleep_on, or on its way to user mode */
        make_ready(p);
}

int process_kill(int pid)
{
    struct process *p = process_find(pid);

    if (!p || p->state == ZOMBIE)
        return -ESRCH;
    if (p->pid == 1)
        return -EPERM;
    kill_one(p);
    return 0;
}

/* Not for programs: see shutdown.c. */
void process_kill_init(void)
{
    kill_one(&processes[0]);
}

void process_kill_group(int group)
{
    for (struct process *p = processes; p < processes + PROCESS_MAX; p++)
        if (p->state != UNUSED && p->state != ZOMBIE && p->group == group && p->pid != 1)
            kill_one(p);
}

int process_list(struct process_info *to, int room)
{
    static const char letters[] = { [READY] = 'R', [RUNNING] = 'R', [SLEEPING] = 'S', [ZOMBIE] = 'Z' };
    int n = 0;

    for (struct process *p = processes; p < processes + PROCESS_MAX; p++) {
        if (p->state == UNUSED || n == room)
            continue;
        to[n] = (struct process_info){
            .pid = p->pid,
            .parent = p->parent ? p->parent->pid : 0,
            .group = p->group,
            .state = letters[p->state],
            .pages = p->space ? p->space->user_pages : 0,
            .nanoseconds = p->cpu_time + (p == current ? pv.now() - p->started : 0),
        };
        strlcpy(to[n++].name, p->name, sizeof(to->name));
    }
    return n;
}
