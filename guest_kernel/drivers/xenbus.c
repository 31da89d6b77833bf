/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * xenbus: how the two ends of a split device find each other.
 *
 * Each end has a directory in xenstore, with what the other one needs to know, and in it a node `state`, which says
 * how far it has come.  A driver writes its own, and waits for the other's; a *watch* tells when that changes.  Here
 * is what every front end needs of this; blkfront.c is one, and its connect() shows the whole conversation.
 *
 * (Xen: public/io/xenbus.h.)
 */
#include <api/errno.h>
#include <lib.h>
#include <process.h>
#include <pv_ops.h>

#include "../pv/pv.h"

#define NODE_MAX 128
#define PATIENCE 5000000000UL /* ns for the other end to come */

static const char *path_of(char path[NODE_MAX], const char *directory, const char *node)
{
    format(path, NODE_MAX, "%s/%s", directory, node);
    return path;
}

int xenbus_read(const char *directory, const char *node, char *to, size_t room)
{
    char path[NODE_MAX];

    return xenstore_ask(XS_READ, path_of(path, directory, node), "", 0, to, room);
}

int xenbus_read_number(const char *directory, const char *node, u64 *number)
{
    char text[24];
    int n = xenbus_read(directory, node, text, sizeof(text));

    if (n < 0)
        return n;
    *number = 0;
    for (int i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        *number = *number * 10 + (text[i] - '0');
    }
    return n ? 0 : -EINVAL;
}

int xenbus_write(const char *directory, const char *node, const char *value)
{
    char path[NODE_MAX];
    int result = xenstore_ask(XS_WRITE, path_of(path, directory, node), value, strlen(value), path, sizeof(path));

    return result < 0 ? result : 0;
}

int xenbus_write_number(const char *directory, const char *node, u64 number)
{
    char text[24];

    format(text, sizeof(text), "%lu", number);
    return xenbus_write(directory, node, text);
}

static int watch(u32 type, const char *directory)
{
    char path[NODE_MAX];
    int result = xenstore_ask(type, path_of(path, directory, "state"), DRIVERS_WATCH, sizeof(DRIVERS_WATCH), path,
                              sizeof(path));

    return result < 0 ? result : 0;
}

static int wait_for(const char *directory, unsigned wanted)
{
    u64 deadline = pv.now() + PATIENCE, state, seen;
    int error;

    for (;;) {
        seen = xenstore_changes; /* before we look: what changes after that is not missed */
        error = xenbus_read_number(directory, "state", &state);
        if (error || state == wanted)
            return error;
        if (state == XenbusStateClosing || state == XenbusStateClosed)
            return -ENXIO; /* it will not have us */
        while (xenstore_changes == seen) {
            if (pv.now() >= deadline)
                return -ENXIO;
            if (sleep_until(&xenstore_changes, deadline))
                return -EINTR;
        }
    }
}

int xenbus_wait(const char *directory, unsigned state)
{
    int error = watch(XS_WATCH, directory);

    if (!error) {
        error = wait_for(directory, state);
        watch(XS_UNWATCH, directory);
    }
    return error;
}
