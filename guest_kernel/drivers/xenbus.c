/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * xenbus: how the two ends of a split device find each other.
 *
 * Each end has a directory in xenstore, with what the other one needs to know, and in it a node `state`, which says
 * how far it has come.  A driver writes its own, and a *watch* tells when the other's changes: it is read then, and the
 * driver told, for as long as the device is there.  Here is what every front end needs of this; blkfront.c is one, and
 * its connect() and leave() show the whole conversation.
 *
 * (Xen: public/io/xenbus.h.)
 */
#include <api/errno.h>
#include <lib.h>
#include <page.h>
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

/* The same without waiting, for who may not. */
void xenbus_tell_number(const char *directory, const char *node, u64 number)
{
    char path[NODE_MAX], text[24];

    format(text, sizeof(text), "%lu", number);
    xenstore_request(XS_WRITE, REQUEST_IGNORED, path_of(path, directory, node), text, strlen(text));
}

static struct xenbus_backend *backends;

static void ask_state(struct xenbus_backend *backend)
{
    char path[NODE_MAX];

    xenstore_request(XS_READ, backend->id, path_of(path, backend->directory, "state"), "", 0);
}

int xenbus_meet(struct xenbus_backend *backend, const char *ours)
{
    char path[NODE_MAX], directory[sizeof(backend->directory)];

    if (xenbus_read(ours, "backend", directory, sizeof(directory)) < 0)
        return -ENXIO;
    backend->state = XenbusStateInitialising; /* until it says another one */
    if (!backend->id) {
        backend->id = backends ? backends->id + 1 : REQUEST_DRIVERS;
        backend->next = backends;
        backends = backend;
    }
    if (strcmp(backend->directory, directory)) { /* a watch fires once when it is set */
        strlcpy(backend->directory, directory, sizeof(backend->directory));
        xenstore_request(XS_WATCH, REQUEST_IGNORED, path_of(path, directory, "state"), DRIVERS_WATCH,
                         sizeof(DRIVERS_WATCH));
    } else { /* the device was here before: the watch still is */
        ask_state(backend);
    }
    return 0;
}

void xenbus_fired(const char *path)
{
    char state[NODE_MAX];

    for (struct xenbus_backend *backend = backends; backend; backend = backend->next)
        if (!strcmp(path, path_of(state, backend->directory, "state")))
            ask_state(backend);
}

void xenbus_answer(unsigned id, unsigned state)
{
    for (struct xenbus_backend *backend = backends; backend; backend = backend->next) {
        if (backend->id == id && backend->state != state) {
            backend->state = state;
            wake_up(backend);
            backend->changed(backend->driver_data);
        }
    }
}

/* Whether an end with this state wants no more of the other, or is gone. */
bool xenbus_is_over(unsigned state)
{
    return state == XenbusStateClosing || state == XenbusStateClosed || state == XenbusStateUnknown;
}

int xenbus_wait(struct xenbus_backend *backend, unsigned state)
{
    u64 deadline = pv.now() + PATIENCE;

    while (backend->state != state) {
        if (xenbus_is_over(backend->state) || pv.now() >= deadline)
            return -ENXIO; /* it will not have us */
        if (sleep_until(backend, deadline))
            return -EINTR;
    }
    return 0;
}

/* A ring of our own: a page, a grant of it for domain 0, and a port that domain 0 may bind to. */
void *xenbus_make_ring(int *reference, int *port, event_handler handler)
{
    struct page *page = page_alloc_zeroed();

    if (!page)
        return NULL;
    *reference = grant_access(0, page_phys(page), false);
    *port = event_alloc_unbound(0, handler);
    if (*reference >= 0 && *port > 0)
        return page_virt(page);
    xenbus_drop_ring(page_virt(page), *reference, *port);
    return NULL;
}

void xenbus_drop_ring(void *ring, int reference, int port)
{
    if (port > 0)
        event_close(port);
    if (reference < 0 || !grant_end(reference))
        page_put(page_of(phys(ring))); /* else it is lost: domain 0 still has it mapped */
}
