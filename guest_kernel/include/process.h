/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Processes.
 *
 * The kernel is not preempted: it runs with interrupts off, and gives the CPU up only where it says so
 * (sleep_on, wait_on, yield).  User code is preempted at any instruction.  That is the whole locking rule; only who
 * waits for a disk may need more (lock.h).
 */
#pragma once

#include <api/syscalls.h>
#include <trap.h>
#include <types.h>
#include <vm.h>

#define PROCESS_MAX 64
#define KERNEL_STACK_SIZE 8192
#define FILES_MAX 16
#define TIME_SLICE 10000000UL /* ns */
#define NEVER (~0UL)

struct file;
struct inode;

enum process_state { UNUSED, READY, RUNNING, SLEEPING, ZOMBIE };

struct fpu_state {
    u8 bytes[512];
} __attribute__((aligned(16)));

struct process {
    enum process_state state;
    int pid, group;
    struct process *parent;
    char name[32];

    struct address_space *space;
    u8 *kernel_stack;
    u64 kernel_rsp;      /* where switch_stacks() left it */
    struct fpu_state *fpu; /* valid while another process owns the FPU */

    const void *waiting_for; /* the address given to sleep_on */
    u64 wake_at;             /* or this time, whichever comes first */
    bool killed;
    int exit_status;

    u64 started, cpu_time; /* when it last got the CPU; its time before that */
    struct file *files[FILES_MAX];
    struct inode *directory;
};

/* kernel/current.c */
extern struct process processes[PROCESS_MAX];
extern struct process *current;

/* kernel/process.c: lives */
void processes_init(void);
struct process *process_start_init(const char *path);
int process_fork(struct trap_frame *frame);
void process_exit(int status) NORETURN;
int process_wait(int pid, int *status, int flags);
int process_kill(int pid);
void process_kill_group(int group);
void process_kill_init(void);
struct process *process_find(int pid);
int process_list(struct process_info *to, int room);

/* kernel/exec.c */
int process_exec(struct trap_frame *frame, const char *path, char *arguments, int count);

/* kernel/schedule.c: the CPU goes round */
void schedule(void);   /* somebody else's turn; returns when it is ours again */
void yield(void);
int sleep_on(const void *event);                   /* 0, or -EINTR when killed */
int sleep_until(const void *event, u64 deadline);  /* also 0 when the time came */
void wait_on(const void *event);                   /* also when killed; may return for no reason */
void wake_up(const void *event);
void make_ready(struct process *p);
void timer_interrupt(void);
void preempt(struct trap_frame *frame);             /* on the way to user mode: is it somebody else's turn? */

/* kernel/fpu.c */
void fpu_init(void);
void fpu_trap(void);                     /* first FPU instruction since the switch */
bool fpu_is_mine(struct process *p);
void fpu_copy(struct process *to);       /* fork */
void fpu_forget(struct process *p);      /* exit, exec */

/* kernel/switch.c */
void switch_stacks(u64 *save_rsp, u64 load_rsp);
