/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A lock that one sleeps for.  The kernel is not preempted, so what is done in one go needs none; but who waits for a
 * disk in the middle of his work lets others run, and they shall not find it half done.
 */
#pragma once

#include <types.h>

struct lock {
    bool taken;
};

void lock_take(struct lock *lock);
void lock_release(struct lock *lock);
