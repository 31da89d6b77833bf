/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * xenstore: the tree of small strings in which the domains of a machine find each other.
 *
 * A page holds two byte rings, requests out and replies in.  A message is a header (type, request id, transaction id,
 * length) and up to 4096 bytes.  Programs speak this protocol themselves through /dev/xenstore: each write is one
 * request, each read gives its reply.  The kernel speaks it too: it watches control/shutdown, by which the toolstack
 * asks us politely to go; it lists what disks there are, and watches for more; and its drivers read and write the nodes
 * by which they find their backends.
 *
 * Everything is done by two pumps, one in each direction, so nothing here ever waits but processes.
 */
#include <api/errno.h>
#include <file.h>
#include <lib.h>
#include <page.h>
#include <process.h>
#include <shutdown.h>

#include "../pv/pv.h"

struct message {
    struct xsd_sockmsg header;
    char body[XENSTORE_PAYLOAD_MAX];
};

/* Somebody who asks and waits for the answer: an open /dev/xenstore, or a driver. */
struct session {
    u32 id; /* our request ids; the asker's own is put back into the reply */
    u32 own_id;
    bool waiting;
    struct message *reply; /* a page of body does not fit kmalloc, hence static: see replies[] */
    size_t length, given;
    struct session *next;
};

#define SESSIONS_MAX 4
#define KERNEL_ROOM 2048 /* for the kernel's own requests, which cannot wait: a few, of some 80 bytes, for each disk */

static struct message incoming;
static struct message replies[SESSIONS_MAX];
static bool reply_used[SESSIONS_MAX];
static size_t incoming_length;
static char outgoing[2 * sizeof(struct message) + KERNEL_ROOM];
static size_t outgoing_length;
static bool quiet; /* more is to come: do not tell the other side yet */
static struct session *sessions;
static u32 last_id = REQUESTS_OF_KERNEL; /* below: the kernel's own requests */

enum { REQUEST_SHUTDOWN = 2, REQUEST_DISKS = 3 };

#define SHUTDOWN_WATCH "shutdown" /* a token: a watch that fires says which one it is */
#define DISKS_WATCH "disks"

static volatile struct xenstore_domain_interface *ring(void)
{
    return virt(pseudo_frame(start_info->store_mfn) << PAGE_SHIFT);
}

static void notify(void)
{
    struct evtchn_send op = { .port = start_info->store_evtchn };

    HYPERVISOR_event_channel_op(EVTCHNOP_send, &op);
}

/* -- out ---------------------------------------------------------------------------------------------------------- */

static void pump_out(void)
{
    volatile struct xenstore_domain_interface *r = ring();
    XENSTORE_RING_IDX prod = r->req_prod;
    size_t done = 0;

    if (quiet)
        return;
    while (done < outgoing_length && prod - r->req_cons < XENSTORE_RING_SIZE)
        r->req[MASK_XENSTORE_IDX(prod++)] = outgoing[done++];
    barrier();
    r->req_prod = prod;
    if (!done)
        return;
    memmove(outgoing, outgoing + done, outgoing_length - done);
    outgoing_length -= done;
    notify();
    wake_up(outgoing);
}

static bool enqueue(const struct xsd_sockmsg *header, const void *body)
{
    size_t kept = header->req_id > REQUESTS_OF_KERNEL ? KERNEL_ROOM : 0;

    if (outgoing_length + sizeof(*header) + header->len + kept > sizeof(outgoing))
        return false;
    memcpy(outgoing + outgoing_length, header, sizeof(*header));
    memcpy(outgoing + outgoing_length + sizeof(*header), body, header->len);
    outgoing_length += sizeof(*header) + header->len;
    pump_out();
    return true;
}

/* A request of the kernel's own: strings, each with its zero byte. */
void xenstore_request(u32 type, u32 id, const char *first, const char *second, size_t second_length)
{
    char body[128];
    size_t n = strlcpy(body, first, sizeof(body)) + 1;
    struct xsd_sockmsg header = { .type = type, .req_id = id };

    memcpy(body + n, second, second_length);
    header.len = n + second_length;
    enqueue(&header, body);
}

/* -- in ----------------------------------------------------------------------------------------------------------- */

static void shutdown_word(const char *how, size_t length)
{
    if (!length)
        return; /* the watch fires once when it is set, and again when we clear the request */
    xenstore_request(XS_WRITE, REQUEST_IGNORED, "control/shutdown", "", 0); /* "I have read it" */
    if (length == 8 && !memcmp(how, "poweroff", 8)) {
        kprintf("The toolstack asks for power off.\n");
        shutdown_ask(SHUTDOWN_HOW_POWEROFF);
        return;
    }
    if (length == 6 && !memcmp(how, "reboot", 6)) {
        kprintf("The toolstack asks for a reboot.\n");
        shutdown_ask(SHUTDOWN_HOW_REBOOT);
        return;
    }
    kprintf("The toolstack asks for something unknown.\n");
}

static void deliver(void)
{
    struct xsd_sockmsg *header = &incoming.header;

    if (header->type == XS_WATCH_EVENT) {
        size_t path_length = strlen(incoming.body) + 1; /* and behind it the token */

        if (!strcmp(incoming.body + path_length, SHUTDOWN_WATCH)) {
            xenstore_request(XS_READ, REQUEST_SHUTDOWN, "control/shutdown", "", 0);
        } else if (!strcmp(incoming.body + path_length, DRIVERS_WATCH)) {
            xenbus_fired(incoming.body);
        } else if (path_length > 8 && !strcmp(incoming.body + path_length - 9, "/backend")) {
            xenstore_request(XS_DIRECTORY, REQUEST_DISKS, "device/vbd", "", 0); /* we were given one more */
        }
        return;
    }
    if (header->req_id >= REQUEST_DRIVERS && header->req_id < REQUESTS_OF_KERNEL)
        xenbus_answer(header->req_id, header->type == XS_READ && header->len == 1 ? incoming.body[0] - '0' : 0);
    if (header->req_id == REQUEST_DISKS && header->type == XS_DIRECTORY)
        vbds_found(incoming.body, header->len);
    if (header->req_id == REQUEST_SHUTDOWN && header->type == XS_READ)
        shutdown_word(incoming.body, header->len);
    for (struct session *session = sessions; session; session = session->next) {
        if (session->waiting && session->id == header->req_id) {
            header->req_id = session->own_id;
            memcpy(session->reply, &incoming, sizeof(*header) + header->len);
            session->length = sizeof(*header) + header->len;
            session->given = 0;
            session->waiting = false;
            wake_up(session);
        }
    }
}

static void pump_in(void)
{
    volatile struct xenstore_domain_interface *r = ring();
    XENSTORE_RING_IDX cons = r->rsp_cons;
    bool moved = false;

    while (cons != r->rsp_prod) {
        ((char *)&incoming)[incoming_length++] = r->rsp[MASK_XENSTORE_IDX(cons++)];
        moved = true;
        if (incoming_length < sizeof(incoming.header))
            continue;
        if (incoming.header.len > XENSTORE_PAYLOAD_MAX)
            panic("xenstore sends %u bytes in one message", incoming.header.len);
        if (incoming_length == sizeof(incoming.header) + incoming.header.len) {
            incoming_length = 0;
            r->rsp_cons = cons;
            deliver();
        }
    }
    barrier();
    r->rsp_cons = cons;
    if (moved)
        notify(); /* there is room again */
}

static void xenstore_event(unsigned port)
{
    pump_in();
    pump_out();
}

/* -- sessions ----------------------------------------------------------------------------------------------------- */

static struct session *session_open(void)
{
    struct session *session = kmalloc(sizeof(*session));
    unsigned i = 0;

    while (i < SESSIONS_MAX && reply_used[i])
        i++;
    if (!session || i == SESSIONS_MAX) {
        kfree(session);
        return NULL;
    }
    reply_used[i] = true;
    session->reply = &replies[i];
    session->next = sessions;
    sessions = session;
    return session;
}

static void session_close(struct session *session)
{
    struct session **link;

    for (link = &sessions; *link != session; link = &(*link)->next)
        ;
    *link = session->next;
    reply_used[session->reply - replies] = false;
    kfree(session);
}

/* One whole request, in the session's message, where its reply will be. Returns when that is there. */
static int ask(struct session *session)
{
    struct message *message = session->reply; /* until the reply comes, the space is free */

    session->own_id = message->header.req_id;
    message->header.req_id = session->id = ++last_id;
    session->waiting = true;
    session->length = 0;
    while (!enqueue(&message->header, message->body))
        if (sleep_on(outgoing))
            return -EINTR;
    while (session->waiting)
        if (sleep_on(session))
            return -EINTR;
    return 0;
}

/* For drivers, on behalf of a process: one request about a path, perhaps with more bytes. The length of the reply,
   which is at `reply` as a string, or an error. */
int xenstore_ask(u32 type, const char *path, const char *more, size_t more_length, char *reply, size_t room)
{
    struct session *session = session_open();
    struct message *message;
    size_t n = strlen(path) + 1;
    int result;

    if (!session)
        return -EAGAIN;
    ASSERT(n + more_length <= sizeof(message->body));
    message = session->reply;
    message->header = (struct xsd_sockmsg){ .type = type, .len = (u32)(n + more_length) };
    memcpy(message->body, path, n);
    memcpy(message->body + n, more, more_length);
    result = ask(session);
    if (!result && message->header.type == XS_ERROR)
        result = -ENOENT;
    else if (!result)
        result = message->header.len < room ? (int)message->header.len : -E2BIG;
    if (result >= 0) {
        memcpy(reply, message->body, result);
        reply[result] = 0;
    }
    session_close(session);
    return result;
}

/* -- /dev/xenstore ------------------------------------------------------------------------------------------------ */

static int open(struct file *file)
{
    file->device_data = session_open();
    return file->device_data ? 0 : -EAGAIN;
}

static void close(struct file *file)
{
    session_close(file->device_data);
}

static long write(struct file *file, u64 from, size_t n)
{
    struct session *session = file->device_data;
    struct message *message = session->reply;
    int error;

    if (n < sizeof(message->header) || n > sizeof(*message))
        return -EINVAL;
    if (copy_from_user(message, from, n))
        return -EFAULT;
    if (message->header.len != n - sizeof(message->header) || message->header.type == XS_WATCH)
        return -EINVAL; /* watches are the kernel's: nobody here could receive an event */
    error = ask(session);
    return error ? error : (long)n;
}

static long read(struct file *file, u64 to, size_t n)
{
    struct session *session = file->device_data;

    n = MIN(n, session->length - session->given);
    if (copy_to_user(to, (char *)session->reply + session->given, n))
        return -EFAULT;
    session->given += n;
    return (long)n;
}

static const struct device device = {
    .name = "xenstore", .open = open, .read = read, .write = write, .close = close };

/* All questions are in the ring before Xen's store is told to look: so the others cost no exit. */
void xenstore_init(void)
{
    if (is_dom0() || !start_info->store_evtchn)
        return;
    device_register(&device);
    event_attach(start_info->store_evtchn, xenstore_event);
    quiet = true;
    xenstore_request(XS_WATCH, REQUEST_IGNORED, "control/shutdown", SHUTDOWN_WATCH, sizeof(SHUTDOWN_WATCH));
    xenstore_request(XS_WATCH, REQUEST_IGNORED, "device/vbd", DISKS_WATCH, sizeof(DISKS_WATCH));
    quiet = false;
    xenstore_request(XS_DIRECTORY, REQUEST_DISKS, "device/vbd", "", 0);
}
