/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The test's voice: a small printf onto the console ring that start_info names.  (A dom0 has no ring;
 * there the words go to Xen's own console.)
 */
#include "test.h"

static void emit(const char *text, unsigned count)
{
    struct xencons_interface *ring;
    struct evtchn_send notify = { .port = start_info->console.domU.evtchn };

    if (start_info->flags & SIF_INITDOMAIN) {
        HYPERVISOR_console_io(CONSOLEIO_write, count, (char *)text);
        return;
    }
    ring = va_of_pfn(pfn_of_mfn(start_info->console.domU.mfn));
    while (count) {
        unsigned prod = ring->out_prod;

        while (count && prod - *(volatile XENCONS_RING_IDX *)&ring->out_cons < sizeof(ring->out)) {
            ring->out[MASK_XENCONS_IDX(prod, ring->out)] = *text++;
            prod++, count--;
        }
        barrier(); /* the words before their number; x86 keeps the order, the compiler must too */
        ring->out_prod = prod;
        HYPERVISOR_event_channel_op(EVTCHNOP_send, &notify);
        if (count)
            HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    }
}

/* Power off too early and the last line may still be in the ring: wait until the backend took it. */
void console_flush(void)
{
    struct xencons_interface *ring;

    if (start_info->flags & SIF_INITDOMAIN)
        return;
    ring = va_of_pfn(pfn_of_mfn(start_info->console.domU.mfn));
    while (*(volatile XENCONS_RING_IDX *)&ring->out_cons != ring->out_prod)
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
}

static char *number(char *end, unsigned long value, unsigned base)
{
    do {
        *--end = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    return end;
}

void vsay(const char *format, __builtin_va_list args)
{
    char line[256], digits[32];
    unsigned n = 0;

    for (const char *f = format; *f; f++) {
        const char *text = f;
        unsigned length = 1, wide = 0;

        if (*f == '%') {
            unsigned long value = 0;

            digits[31] = 0;
            while (*++f == 'l')
                wide = 1;
            if (*f == 'd' && !wide)
                value = (unsigned long)(long)__builtin_va_arg(args, int);
            else if ((*f == 'u' || *f == 'x' || *f == 'c') && !wide)
                value = __builtin_va_arg(args, unsigned);
            else
                value = __builtin_va_arg(args, unsigned long);

            if (*f == 's') {
                text = (const char *)value;
            } else if (*f == 'c') {
                digits[30] = (char)value;
                text = digits + 30;
            } else if (*f == 'd') {
                char *start = number(digits + 31, (long)value < 0 ? -value : value, 10);

                if ((long)value < 0)
                    *--start = '-';
                text = start;
            } else {
                text = number(digits + 31, value, *f == 'u' ? 10 : 16);
            }
            length = strlen(text);
        }
        for (unsigned i = 0; i < length; i++) {
            if (n == sizeof(line)) {
                emit(line, n);
                n = 0;
            }
            line[n++] = text[i];
        }
    }
    emit(line, n);
}

void say(const char *format, ...)
{
    __builtin_va_list args;

    __builtin_va_start(args, format);
    vsay(format, args);
    __builtin_va_end(args);
}
