/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Who runs next: everybody in turn, a time slice each.
 *
 * The timer is set only for a reason: somebody sleeps until a time, or somebody else is ready.  One busy process
 * alone is never interrupted, and an idle system is silent until an event comes.
 */
#include <api/errno.h>
#include <lib.h>
#include <process.h>
#include <pv_ops.h>

static u64 timer_armed = NEVER;
static bool turn_is_over;

static void set_timer_by(u64 deadline)
{
    /* An earlier one may stay: it will find nothing to do, and look again. */
    if (deadline < timer_armed) {
        timer_armed = deadline;
        pv.set_timer(deadline);
    }
}

static bool anybody_ready(void)
{
    for (struct process *p = processes; p < processes + PROCESS_MAX; p++)
        if (p->state == READY)
            return true;
    return false;
}

static void set_timer_for_sleepers(void)
{
    u64 first = NEVER;

    for (struct process *p = processes; p < processes + PROCESS_MAX; p++)
        if (p->state == SLEEPING)
            first = MIN(first, p->wake_at);
    set_timer_by(first);
}

static void leave_sleep(struct process *p)
{
    p->state = READY;
    p->waiting_for = NULL;
    p->wake_at = NEVER;
}

/* Somebody besides us wants the CPU now: our slice ends some time. */
void make_ready(struct process *p)
{
    leave_sleep(p);
    if (current && current->state == RUNNING)
        set_timer_by(current->started + TIME_SLICE);
}

static struct process *next_ready(void)
{
    struct process *start = current ? current : processes;

    for (unsigned i = 1; i <= PROCESS_MAX; i++) {
        struct process *p = processes + (start - processes + i) % PROCESS_MAX;

        if (p->state == READY)
            return p;
    }
    return NULL;
}

void schedule(void)
{
    struct process *before = current, *next;
    u64 now = pv.now();

    if (before)
        before->cpu_time += now - before->started;
    turn_is_over = false;
    set_timer_for_sleepers();
    while (!(next = next_ready())) {
        pv.idle(); /* interrupts are on in there, and only there */
        now = pv.now();
    }

    next->state = RUNNING;
    next->started = now;
    if (anybody_ready()) /* besides `next` */
        set_timer_by(now + TIME_SLICE);
    if (next != before) {
        u64 nowhere, *save = before ? &before->kernel_rsp : &nowhere;

        current = next;
        pv.switch_to(next->space, (u64)next->kernel_stack + KERNEL_STACK_SIZE, !fpu_is_mine(next));
        switch_stacks(save, next->kernel_rsp);
        /* We are back, and others have run in between. A new process never comes here: it starts elsewhere. */
    }
}

void yield(void)
{
    leave_sleep(current);
    schedule();
}

static void sleep(const void *event, u64 deadline)
{
    current->state = SLEEPING;
    current->waiting_for = event;
    current->wake_at = deadline;
    schedule();
}

int sleep_until(const void *event, u64 deadline)
{
    if (current->killed)
        return -EINTR;
    sleep(event, deadline);
    return current->killed ? -EINTR : 0;
}

int sleep_on(const void *event)
{
    return sleep_until(event, NEVER);
}

/* For what is sure to come, as a disk's answer is: it may not be left waiting for us. Look again before going on. */
void wait_on(const void *event)
{
    sleep(event, NEVER);
}

void wake_up(const void *event)
{
    for (struct process *p = processes; p < processes + PROCESS_MAX; p++) {
        if (p->state == SLEEPING && p->waiting_for == event)
            make_ready(p);
    }
}

void timer_interrupt(void)
{
    u64 now = pv.now();

    timer_armed = NEVER;
    for (struct process *p = processes; p < processes + PROCESS_MAX; p++)
        if (p->state == SLEEPING && p->wake_at <= now)
            leave_sleep(p);
    turn_is_over = true;
    set_timer_for_sleepers();
}

void preempt(struct trap_frame *frame)
{
    /* Whom an interrupt woke should not wait for a long computation to end its slice. */
    if (turn_is_over || frame->vector == TRAP_INTERRUPT) {
        turn_is_over = false;
        if (anybody_ready())
            yield();
    }
}
