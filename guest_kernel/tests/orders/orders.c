/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What is looked at first, of several things that are wrong: every command of event_channel_op and grant_table_op, with
 * all combinations of a few good and bad values in its fields. Nothing is judged here; each line is what a real Xen says,
 * too.
 *
 * A line: the command, the value of the first field, and the answers for the others, the last one changing fastest. What
 * went well is undone.
 */
#include "grants.h"

const char test_name[] = "orders";

#define FIELDS 7
#define VALUES 6
#define NOBODY 0x6fffUL
#define HOLE 8UL
#define XEN 0xffff880000000000UL
#define BEYOND 100000UL

PAGE(page);
PAGE(other);
PAGE(at);
static unsigned long table[512] PAGE_ALIGNED;

struct field {
    unsigned count;
    unsigned long values[VALUES];
};

static unsigned long v[FIELDS]; /* the values of one request */
static unsigned self, used;

/* All combinations of the fields; neighbours with one answer are told together. */
static void each(const char *name, long (*ask)(void), const struct field *fields, unsigned count)
{
    unsigned index[FIELDS] = { 0 };
    long last = 0;
    unsigned long times = 0;

    for (;;) {
        for (unsigned i = 0; i < count; i++)
            v[i] = fields[i].values[index[i]];
        long answer = ask();

        if (times && answer != last) {
            say(times > 1 ? " %ldx%lu" : " %ld", last, times);
            times = 0;
        }
        unsigned first = 1;

        for (unsigned i = 1; i < count; i++)
            first &= !index[i];
        if (first)
            say("%s%s %lu:", times || index[0] ? "\n" : "", name, (unsigned long)index[0]);
        last = answer;
        times++;
        unsigned i = count;

        while (i && ++index[i - 1] == fields[i - 1].count)
            index[--i] = 0;
        if (i <= 1) { /* the first one's next value, or the end: tell what there is */
            say(times > 1 ? " %ldx%lu" : " %ld", last, times);
            times = 0;
        }
        if (!i)
            break;
    }
    say("\n");
}

#define EACH(name, ask, ...) \
    do { \
        static struct field fields_[] = { __VA_ARGS__ }; \
        each(name, ask, fields_, ARRAY_SIZE(fields_)); \
    } while (0)
#define F(...) { sizeof((unsigned long[]){ __VA_ARGS__ }) / sizeof(unsigned long), { __VA_ARGS__ } }

static unsigned ports[4]; /* one offered to us, one to nobody, an IPI, and VIRQ_TIMER's */

static unsigned long port_of(unsigned long which)
{
    return which >= 0x10000 && which < 0x10004 ? ports[which - 0x10000] : which;
}

#define OFFERED 0x10000UL
#define NOBODYS 0x10001UL
#define IPI 0x10002UL
#define TIMER 0x10003UL

static int close_port(unsigned port)
{
    struct evtchn_close op = { .port = port };

    return evtchn(EVTCHNOP_close, &op);
}

static long alloc_unbound(void)
{
    struct evtchn_alloc_unbound op = { .dom = (domid_t)v[0], .remote_dom = (domid_t)v[1] };
    long result = evtchn(EVTCHNOP_alloc_unbound, &op);

    if (!result)
        check_is(close_port(op.port), 0);
    return result;
}

static long bind_interdomain(void)
{
    struct evtchn_bind_interdomain op = { .remote_dom = (domid_t)v[0], .remote_port = (unsigned)port_of(v[1]) };
    long result = evtchn(EVTCHNOP_bind_interdomain, &op);

    if (!result)
        check_is(close_port(op.local_port), 0);
    return result;
}

static long bind_a_virq(void)
{
    struct evtchn_bind_virq op = { .virq = (unsigned)v[0], .vcpu = (unsigned)v[1] };
    long result = evtchn(EVTCHNOP_bind_virq, &op);

    if (!result)
        check_is(close_port(op.port), 0);
    return result;
}

static long bind_pirq(void)
{
    struct evtchn_bind_pirq op = { .pirq = (unsigned)v[0], .flags = (unsigned)v[1] };

    return evtchn(EVTCHNOP_bind_pirq, &op);
}

static long bind_ipi(void)
{
    struct evtchn_bind_ipi op = { .vcpu = (unsigned)v[0] };
    long result = evtchn(EVTCHNOP_bind_ipi, &op);

    if (!result)
        check_is(close_port(op.port), 0);
    return result;
}

static long bind_vcpu(void)
{
    struct evtchn_bind_vcpu op = { .port = (unsigned)port_of(v[0]), .vcpu = (unsigned)v[1] };

    return evtchn(EVTCHNOP_bind_vcpu, &op);
}

static long by_port(void) /* close, send, unmask */
{
    unsigned port = (unsigned)port_of(v[1]);

    return evtchn((unsigned)v[0], &port);
}

static long status(void)
{
    struct evtchn_status op = { .dom = (domid_t)v[0], .port = (unsigned)port_of(v[1]) };
    long result = evtchn(EVTCHNOP_status, &op);

    return result ? result : (long)op.status;
}

static long reset(void)
{
    struct evtchn_reset op = { .dom = (domid_t)v[1] };

    return evtchn((unsigned)v[0], &op);
}

static unsigned long frame_of(unsigned long which)
{
    return which == 0x20000 ? mfn_of(page) : which == 0x20001 ? mfn_of(table) : which;
}

#define OURS 0x20000UL
#define TABLE 0x20001UL
#define NOWHERE (1UL << 40)

static long init_control(void)
{
    struct evtchn_init_control op = { .control_gfn = frame_of(v[2]), .offset = (unsigned)v[1], .vcpu = (unsigned)v[0] };

    return evtchn(EVTCHNOP_init_control, &op);
}

static long expand_array(void)
{
    struct evtchn_expand_array op = { .array_gfn = frame_of(v[0]) };

    return evtchn(EVTCHNOP_expand_array, &op);
}

static long set_priority(void)
{
    struct evtchn_set_priority op = { .port = (unsigned)port_of(v[0]), .priority = (unsigned)v[1] };

    return evtchn(EVTCHNOP_set_priority, &op);
}

static void events(void)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    struct evtchn_bind_ipi bind = { 0 };
    struct evtchn_bind_virq virq = { .virq = VIRQ_TIMER };

    check_is(evtchn(EVTCHNOP_alloc_unbound, &alloc), 0);
    ports[0] = alloc.port, alloc.remote_dom = NOBODY;
    check_is(evtchn(EVTCHNOP_alloc_unbound, &alloc), 0);
    ports[1] = alloc.port;
    check_is(evtchn(EVTCHNOP_bind_ipi, &bind), 0);
    ports[2] = bind.port;
    check_is(evtchn(EVTCHNOP_bind_virq, &virq), 0);
    ports[3] = virq.port;
    EACH("alloc_unbound", alloc_unbound, F(DOMID_SELF, 0, NOBODY, DOMID_IO, 0xffff), F(DOMID_SELF, 0, NOBODY, 0xffff));
    EACH("bind_interdomain", bind_interdomain, F(DOMID_SELF, NOBODY, DOMID_XEN),
         F(OFFERED, NOBODYS, IPI, 0, 63, BEYOND));
    EACH("bind_virq", bind_a_virq, F(VIRQ_TIMER, VIRQ_DEBUG, VIRQ_CONSOLE, VIRQ_ARCH_0, 24, ~0UL), F(0, 1, 77, ~0UL));
    EACH("bind_pirq", bind_pirq, F(0, 3, 55, 1000, ~0UL), F(0, 1, ~0UL));
    EACH("bind_ipi", bind_ipi, F(0, 1, 77, ~0UL));
    EACH("bind_vcpu", bind_vcpu, F(OFFERED, IPI, TIMER, 0, 63, BEYOND), F(0, 1, 77, ~0UL));
    EACH("close, send, unmask", by_port, F(EVTCHNOP_close, EVTCHNOP_send, EVTCHNOP_unmask), F(0, 63, BEYOND, ~0UL));
    EACH("send", by_port, F(EVTCHNOP_send), F(OFFERED, NOBODYS, IPI, TIMER));
    EACH("status", status, F(DOMID_SELF, 0, NOBODY, DOMID_XEN), F(OFFERED, IPI, TIMER, 0, 63, BEYOND));
    EACH("reset", reset, F(EVTCHNOP_reset, EVTCHNOP_reset_cont), F(0, NOBODY, DOMID_XEN));
    EACH("reset_cont", reset, F(EVTCHNOP_reset_cont), F(DOMID_SELF, 0, NOBODY));
    EACH("init_control", init_control, F(0, 77, ~0UL), F(0, 4, 4032, 4096, ~0UL), F(TABLE, NOWHERE, ~0UL));
    EACH("expand_array", expand_array, F(OURS, TABLE, NOWHERE));
    EACH("set_priority", set_priority, F(IPI, 0, 63, BEYOND), F(0, 15, 16, ~0UL));

    /* Once there are queues; the words of all ports are in one page, which has them masked. */
    for (unsigned i = 0; i < PAGE_SIZE / 4; i++)
        ((unsigned *)page)[i] = 1U << EVTCHN_FIFO_MASKED;
    struct evtchn_init_control control = { .control_gfn = mfn_of(other) };

    check_is(evtchn(EVTCHNOP_init_control, &control), 0);
    EACH("init_control again", init_control, F(0, 77), F(0, 4, 4032), F(OURS, TABLE, NOWHERE));
    EACH("set_priority of queues", set_priority, F(IPI, 0, 63, BEYOND), F(0, 15, 16, ~0UL));
    for (unsigned i = 0; i < 127; i++) {
        v[0] = OURS;
        check_is(expand_array(), 0);
    }
    EACH("expand_array, the last", expand_array, F(TABLE, NOWHERE, OURS));
    EACH("expand_array, no more", expand_array, F(OURS, TABLE, NOWHERE));
    EACH("close, send, unmask of queues", by_port, F(EVTCHNOP_close, EVTCHNOP_send, EVTCHNOP_unmask),
         F(0, 63, 131072, ~0UL));
}

#define GRANTED ((unsigned long)FIRST_REF)
#define READABLE (GRANTED + 1)
#define UNGRANTED (GRANTED + 2)
#define BADFRAME (GRANTED + 3)
#define GRANTED_TABLE (GRANTED + 4)

static int status_of(unsigned cmd, void *op, const short *status)
{
    int result = grant_op(cmd, op);

    return result ? 1000 + result : *status;
}

static long map_grant(void)
{
    struct gnttab_map_grant_ref op = { .flags = (unsigned)v[0], .dom = (domid_t)v[1], .ref = (unsigned)v[2],
                                       .host_addr = v[3] };
    int result = status_of(GNTTABOP_map_grant_ref, &op, &op.status);

    if (!result) {
        struct gnttab_unmap_grant_ref undo = { .host_addr = op.host_addr, .handle = op.handle,
                                               .dev_bus_addr = op.flags & GNTMAP_device_map ? op.dev_bus_addr : 0 };

        check_is(status_of(GNTTABOP_unmap_grant_ref, &undo, &undo.status), 0);
    }
    return result;
}

static long unmap_grant(void)
{
    struct gnttab_map_grant_ref op = { .flags = GNTMAP_host_map | GNTMAP_device_map, .dom = (domid_t)self,
                                       .ref = GRANTED, .host_addr = (unsigned long)at };

    check_is(status_of(GNTTABOP_map_grant_ref, &op, &op.status), 0);
    struct gnttab_unmap_grant_ref undo = { .host_addr = v[1], .handle = v[0] ? (unsigned)v[0] : op.handle,
                                           .dev_bus_addr = v[2] == 1 ? op.dev_bus_addr : v[2] };
    int result = status_of(GNTTABOP_unmap_grant_ref, &undo, &undo.status);

    undo.handle = op.handle, undo.host_addr = op.host_addr, undo.dev_bus_addr = op.dev_bus_addr;
    grant_op(GNTTABOP_unmap_grant_ref, &undo);
    undo.host_addr = 0; /* should just the other be left */
    grant_op(GNTTABOP_unmap_grant_ref, &undo);
    check_is(grants[GRANTED].flags, GTF_permit_access);
    return result;
}

static long replace_grant(void)
{
    struct gnttab_map_grant_ref op = { .flags = GNTMAP_host_map, .dom = (domid_t)self, .ref = GRANTED,
                                       .host_addr = (unsigned long)at };

    check_is(status_of(GNTTABOP_map_grant_ref, &op, &op.status), 0);
    struct gnttab_unmap_and_replace undo = { .host_addr = v[1], .handle = v[0] ? (unsigned)v[0] : op.handle,
                                             .new_addr = v[2] };
    int result = status_of(GNTTABOP_unmap_and_replace, &undo, &undo.status);
    struct gnttab_unmap_grant_ref rest = { .host_addr = op.host_addr, .handle = op.handle };

    grant_op(GNTTABOP_unmap_grant_ref, &rest);
    check_is(grants[GRANTED].flags, GTF_permit_access);
    return result;
}

static long copy(void)
{
    struct gnttab_copy op = { .flags = (uint16_t)v[0], .len = (uint16_t)v[1] };

    op.source.domid = (domid_t)v[2], op.dest.domid = (domid_t)v[4];
    op.source.u.gmfn = v[0] & GNTCOPY_source_gref ? (unsigned)v[3] : frame_of(v[3] == UNGRANTED ? NOWHERE : OURS);
    op.dest.u.gmfn = v[0] & GNTCOPY_dest_gref ? (unsigned)v[5] : frame_of(v[5] == READABLE ? TABLE : OURS);
    return status_of(GNTTABOP_copy, &op, &op.status);
}

static long transfer(void)
{
    struct gnttab_transfer op = { .mfn = frame_of(v[0]), .domid = (domid_t)v[1], .ref = (unsigned)v[2] };

    return status_of(GNTTABOP_transfer, &op, &op.status);
}

static long table_frames(void) /* setup_table, get_status_frames */
{
    struct gnttab_setup_table setup = { .dom = (domid_t)v[1], .nr_frames = (unsigned)v[2] };
    struct gnttab_get_status_frames get = { .dom = (domid_t)v[1], .nr_frames = (unsigned)v[2] };
    long result;

    set_handle(setup.frame_list, (void *)v[3]);
    set_handle(get.frame_list, (void *)v[3]);
    if (v[0] == GNTTABOP_setup_table)
        result = HYPERVISOR_grant_table_op(GNTTABOP_setup_table, &setup, (unsigned)v[4]);
    else
        result = HYPERVISOR_grant_table_op(GNTTABOP_get_status_frames, &get, (unsigned)v[4]);
    return result ? 1000 + result : v[0] == GNTTABOP_setup_table ? setup.status : get.status;
}

static long set_version(void)
{
    struct gnttab_set_version op = { .version = (unsigned)v[1] };
    unsigned handle;
    long result;

    if (v[0])
        check_is(grant_map(GRANTED, self, GNTMAP_host_map, at, &handle), 0);
    result = grant_op(GNTTABOP_set_version, &op);
    if (v[0])
        check_is(grant_unmap(at, handle), 0);
    return result * 10 - op.version;
}

static long by_domain(void) /* query_size, get_version */
{
    struct gnttab_query_size size = { .dom = (domid_t)v[1] };
    struct gnttab_get_version version = { .dom = (domid_t)v[1] };

    if (v[0] == GNTTABOP_get_version)
        return grant_op(GNTTABOP_get_version, &version);
    return status_of(GNTTABOP_query_size, &size, &size.status);
}

static long swap(void)
{
    struct gnttab_swap_grant_ref op = { .ref_a = (unsigned)(v[0] == 1 ? used : v[0]),
                                        .ref_b = (unsigned)(v[1] == 1 ? used : v[1]) };

    return status_of(GNTTABOP_swap_grant_ref, &op, &op.status);
}

static long cache_flush(void)
{
    struct gnttab_cache_flush op = { .offset = (uint16_t)v[1], .length = (uint16_t)v[2], .op = (unsigned)v[3] };

    op.a.dev_bus_addr = frame_of(v[4]) << 12;
    return HYPERVISOR_grant_table_op(GNTTABOP_cache_flush | (unsigned)v[0], &op, 1);
}

static long whole_call(void)
{
    return HYPERVISOR_grant_table_op((unsigned)v[0], (void *)v[2], (unsigned)v[1]);
}

static void tables(void)
{
    unsigned long lists = (unsigned long)other, here = (unsigned long)at;
    unsigned handle;

    grant(GRANTED, self, page, GTF_permit_access);
    grant(READABLE, self, page, GTF_permit_access | GTF_readonly);
    grants[BADFRAME].domid = (domid_t)self, grants[BADFRAME].frame = ~0U;
    grants[BADFRAME].flags = GTF_permit_access;
    grant(GRANTED_TABLE, self, table, GTF_permit_access);
    static struct field mapped[] = {
        F(0, GNTMAP_host_map, GNTMAP_host_map | GNTMAP_readonly, GNTMAP_device_map | GNTMAP_host_map,
          GNTMAP_host_map | GNTMAP_contains_pte),
        F(0, NOBODY, DOMID_SELF), F(GRANTED, READABLE, UNGRANTED, BADFRAME, GRANTED_TABLE, BEYOND), F(0, HOLE, XEN, 1) };

    mapped[1].values[0] = self, mapped[3].values[0] = here;
    each("map_grant_ref", map_grant, mapped, ARRAY_SIZE(mapped));
    static struct field unmapped[] = { F(0, 200, ~0UL), F(0, 0, HOLE, XEN), F(0, 1, 4096) };

    unmapped[1].values[1] = here;
    each("unmap_grant_ref", unmap_grant, unmapped, ARRAY_SIZE(unmapped));
    static struct field replaced[] = { F(0, 200, ~0UL), F(0, 0, HOLE, XEN), F(0, 0, HOLE, XEN) };

    replaced[1].values[1] = here, replaced[2].values[1] = (unsigned long)other;
    each("unmap_and_replace", replace_grant, replaced, ARRAY_SIZE(replaced));
    check_is(remap(other, PTE(mfn_of(other), PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);
    static struct field copied[] = { F(0, 1, 2, 3), F(16, 5000), F(DOMID_SELF, 0, NOBODY), F(GRANTED, UNGRANTED, BEYOND),
                                     F(DOMID_SELF, 0, NOBODY), F(GRANTED, READABLE, BADFRAME, BEYOND) };

    copied[2].values[1] = copied[4].values[1] = self;
    each("copy", copy, copied, ARRAY_SIZE(copied));
    EACH("transfer", transfer, F(OURS, TABLE, NOWHERE), F(DOMID_SELF, NOBODY), F(GRANTED, BEYOND));
    static struct field listed[] = { F(GNTTABOP_setup_table, GNTTABOP_get_status_frames), F(DOMID_SELF, 0, NOBODY),
                                     F(0, 1, 65, 0x7fffffff, ~0UL), F(0, HOLE, XEN), F(0, 1, 2) };

    listed[3].values[0] = lists;
    each("setup_table, get_status_frames", table_frames, listed, ARRAY_SIZE(listed));
    EACH("set_version", set_version, F(0, 1), F(0, 1, 3, ~0UL));
    EACH("set_version in use", set_version, F(1), F(2));
    EACH("query_size, get_version", by_domain, F(GNTTABOP_query_size, GNTTABOP_get_version),
         F(DOMID_SELF, 0, NOBODY, DOMID_XEN));
    used = READABLE;
    check_is(grant_map(READABLE, self, GNTMAP_host_map | GNTMAP_readonly, at, &handle), 0);
    EACH("swap_grant_ref", swap, F(UNGRANTED, 1, BEYOND), F(UNGRANTED, 1, BEYOND));
    check_is(grant_unmap(at, handle), 0);
    EACH("cache_flush", cache_flush, F(0, 0x1000), F(0, 4000, 4096), F(0, 64, 4097), F(0, 1, 2, 3, 4, 1UL << 31),
         F(OURS, NOWHERE));
    EACH("the call", whole_call, F(0, 2, 5, 6, 8, 0x1002), F(0, 0x80000000UL), F(0, HOLE, XEN));
    EACH("the call, others", whole_call, F(3, 12, 13, 0xfff, 0x100c, 0xfffff000), F(0, 1, 0x80000000UL), F(0, HOLE, XEN));
}

void test_main(void)
{
    self = own_domid();
    events_off();
    check_is(readonly(table), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(table), 0), 0);
    grants_init();
    tables();
    events();
}
