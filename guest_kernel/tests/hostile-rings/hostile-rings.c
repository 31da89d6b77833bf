/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Ring indices that lie: the console's and xenstore's, in every way. The backends take nothing that is not there, write
 * nowhere but into the ring, serve the others, and us again once the indices make sense.
 */
#include "test.h"

const char test_name[] = "hostile-rings";

static void kick(unsigned port)
{
    struct evtchn_send send = { .port = port };

    for (unsigned i = 0; i < 4; i++) {
        check_is(evtchn(EVTCHNOP_send, &send), 0);
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    }
}

/* A backend may take its time: the one there is another domain. */
#define comes(expression, value) \
    do { \
        for (unsigned long until_ = now() + 2000000000UL; (long)(expression) != (value) && now() < until_;) \
            kick(start_info->store_evtchn); \
        check_is(expression, value); \
    } while (0)

static void console(void)
{
    struct xencons_interface *ring = va_of_pfn(pfn_of_mfn(start_info->console.domU.mfn));
    unsigned port = start_info->console.domU.evtchn, prod, cons, in_prod;
    static const unsigned lies[] = { 2049, 4096, 0x7fffffff, 0x80000000, 0xffffff00 };

    console_flush();
    prod = ring->out_prod, cons = ring->out_cons, in_prod = ring->in_prod;
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        ring->out_prod = cons + lies[i]; /* more than there is room for */
        ring->in_cons = in_prod - lies[i]; /* of what was never written */
        kick(port);
        check_is(ring->out_cons, cons);
        ring->out_prod = prod;
        ring->out_cons = prod + lies[i]; /* the backend's own index is in our page as well */
        kick(port);
        ring->out_cons = cons, ring->in_cons = in_prod, ring->in_prod = in_prod;
    }
    say("still here\n");
    console_flush();
}

struct message {
    uint32_t type, req_id, tx_id, len;
    char payload[48];
};

static void put(struct xenstore_domain_interface *ring, const void *data, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        ring->req[MASK_XENSTORE_IDX(ring->req_prod + i)] = ((const char *)data)[i];
    barrier();
    ring->req_prod += size;
}

static int get(struct xenstore_domain_interface *ring, void *data, unsigned size)
{
    for (unsigned patience = 0; ring->rsp_prod - ring->rsp_cons < size; patience++) {
        if (patience > 200)
            return 0;
        kick(start_info->store_evtchn);
    }
    for (unsigned i = 0; i < size; i++)
        ((char *)data)[i] = ring->rsp[MASK_XENSTORE_IDX(ring->rsp_cons + i)];
    barrier();
    ring->rsp_cons += size;
    return 1;
}

/* Ask for our own domain's path, as domain number 0: the answer is that of any domain's. */
static int answers(struct xenstore_domain_interface *ring)
{
    struct message ask = { .type = XS_GET_DOMAIN_PATH, .req_id = 7, .len = 2, .payload = "0" }, answer;

    put(ring, &ask, 16 + 2);
    return get(ring, &answer, 16) && answer.req_id == 7 && answer.len < sizeof(answer.payload) &&
           get(ring, answer.payload, answer.len) && !memcmp(answer.payload, "/local/domain/0", 15);
}

static void reconnect(struct xenstore_domain_interface *ring)
{
    ring->connection = XENSTORE_RECONNECT;
    kick(start_info->store_evtchn);
    comes(ring->connection, XENSTORE_CONNECTED);
    check_is(ring->error, XENSTORE_ERROR_NONE);
    check_is(ring->req_prod | ring->req_cons | ring->rsp_prod | ring->rsp_cons, 0);
    check(answers(ring));
}

static void xenstore(void)
{
    struct xenstore_domain_interface *ring = va_of_pfn(pfn_of_mfn(start_info->store_mfn));
    static const unsigned lies[] = { 1025, 4096, 0x7fffffff, 0x80000000, 0xffffff00 };
    static const unsigned lengths[] = { 4097, 0x10000, 0x7fffffff, 0x80000000, ~0U, ~0U - 15 };

    check(answers(ring));
    reconnect(ring);
    /* Messages of types there are none of, with transactions there are none of: answered as errors. */
    for (unsigned type = 0; type < 40; type++) {
        struct message ask = { .type = type * 0x1001, .req_id = type, .tx_id = 99, .len = 3, .payload = "a/" }, answer;
        char payload[64];

        put(ring, &ask, 16 + 3);
        check(get(ring, &answer, 16));
        check(answer.len <= sizeof(payload));
        check(get(ring, payload, answer.len));
    }
    check(answers(ring));

    /* Xen's own xenstored never forgives a lie, or never takes one back; the one that tells why (xs_wire.h) does both. */
    if (!(ring->server_features & XENSTORE_SERVER_FEATURE_ERROR)) {
        ring->req_prod = ring->req_cons + lies[0];
        kick(start_info->store_evtchn);
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        ring->req_prod = ring->req_cons + lies[i];
        kick(start_info->store_evtchn);
        comes(ring->error, XENSTORE_ERROR_RINGIDX);
        reconnect(ring);
        struct message ask = { .type = XS_GET_DOMAIN_PATH, .len = 2, .payload = "0" };

        ring->rsp_cons = ring->rsp_prod - lies[i];
        put(ring, &ask, 16 + 2);
        kick(start_info->store_evtchn);
        comes(ring->error, XENSTORE_ERROR_RINGIDX);
        reconnect(ring);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct message ask = { .type = XS_WRITE, .len = lengths[i] };

        put(ring, &ask, 16);
        kick(start_info->store_evtchn);
        comes(ring->error, XENSTORE_ERROR_PROTO);
        reconnect(ring);
    }

    /* A message that never ends, and the backend's own index of it moved while it waits. */
    struct message ask = { .type = XS_WRITE, .len = 4096 };

    put(ring, &ask, 16);
    ring->req_cons -= 5;
    kick(start_info->store_evtchn);
    reconnect(ring);
    memset(ring, 0xff, sizeof(*ring)); /* and the whole page */
    kick(start_info->store_evtchn);
    reconnect(ring);
}

void test_main(void)
{
    if (start_info->flags & SIF_INITDOMAIN)
        return; /* a dom0 has no rings */
    console();
    xenstore();
}
