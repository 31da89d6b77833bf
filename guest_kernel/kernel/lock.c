/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locks that one sleeps for: see lock.h.
 */
#include <lib.h>
#include <lock.h>
#include <process.h>

void lock_take(struct lock *lock)
{
    while (lock->taken)
        wait_on(lock);
    lock->taken = true;
}

void lock_release(struct lock *lock)
{
    ASSERT(lock->taken);
    lock->taken = false;
    wake_up(lock);
}
