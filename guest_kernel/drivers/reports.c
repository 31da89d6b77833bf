/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * /dev/xen and /dev/events: what the hypervisor says about itself and about us, as text to `cat`.
 */
#include <api/errno.h>
#include <file.h>
#include <lib.h>
#include <page.h>
#include <vm.h>

#include "../pv/pv.h"

struct text {
    char *to;
    size_t used;
};

static void add(struct text *text, const char *format, ...) PRINTF(2, 3);

static void add(struct text *text, const char *format, ...)
{
    __builtin_va_list args;

    __builtin_va_start(args, format);
    text->used += vformat(text->to + text->used, PAGE_SIZE - text->used, format, args);
    __builtin_va_end(args);
    text->used = MIN(text->used, PAGE_SIZE - 1);
}

static void report_xen(struct text *text)
{
    struct xen_feature_info features = { .submap_idx = 0 };
    xen_platform_parameters_t platform = { 0 };
    char extra[XEN_EXTRAVERSION_LEN] = "";
    domid_t self = DOMID_SELF;
    long version = HYPERVISOR_xen_version(XENVER_version, NULL);

    HYPERVISOR_xen_version(XENVER_extraversion, extra);
    HYPERVISOR_xen_version(XENVER_get_features, &features);
    HYPERVISOR_xen_version(XENVER_platform_parameters, &platform);
    add(text, "version=%ld.%ld%s\n", version >> 16, version & 0xffff, extra);
    add(text, "magic=%s\n", start_info->magic);
    add(text, "domid=%u\n", own_domid());
    add(text, "features=%x\n", features.submap);
    add(text, "virt_start=%lx\n", (u64)platform.virt_start);
    add(text, "pages=%lu\n", start_info->nr_pages);
    add(text, "current_reservation=%ld\n", HYPERVISOR_memory_op(XENMEM_current_reservation, &self));
    add(text, "maximum_reservation=%ld\n", HYPERVISOR_memory_op(XENMEM_maximum_reservation, &self));
    add(text, "first_machine_frame=%lx\n", machine_frame(0));
}

static void report_events(struct text *text)
{
    char status[64];

    for (unsigned port = 0; port < 64; port++)
        if (event_status(port, status, sizeof(status)))
            add(text, "%2u %s%s\n", port, status,
                shared_info->evtchn_mask[port / 64] >> (port % 64) & 1 ? ", masked" : "");
}

/* The text is made when the file is opened. */
static int open_report(struct file *file, void (*report)(struct text *))
{
    struct text text = { kmalloc(PAGE_SIZE), 0 };

    if (!text.to)
        return -ENOMEM;
    report(&text);
    file->device_data = text.to;
    return 0;
}

static int open_xen(struct file *file)
{
    return open_report(file, report_xen);
}

static int open_events(struct file *file)
{
    return open_report(file, report_events);
}

static long read(struct file *file, u64 to, size_t n)
{
    char *text = file->device_data;

    n = MIN(n, strlen(text) - file->position);
    if (copy_to_user(to, text + file->position, n))
        return -EFAULT;
    file->position += n;
    return (long)n;
}

static void close(struct file *file)
{
    kfree(file->device_data);
}

static const struct device xen = { .name = "xen", .open = open_xen, .read = read, .close = close };
static const struct device events = { .name = "events", .open = open_events, .read = read, .close = close };

void reports_init(void)
{
    device_register(&xen);
    device_register(&events);
}
