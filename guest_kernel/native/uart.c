/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The console: the first serial port, a 16550A.  (National Semiconductor's data sheet of the PC16550D.)
 *
 * It has two queues of 16 bytes.  What arrives raises line 4 of the interrupt controller; what is sent is put into the
 * queue when it is empty, and only who has more to say asks for an interrupt when it is empty again.
 */
#include <lib.h>
#include <process.h>
#include <pv_ops.h>
#include <tty.h>

#include "instructions.h"
#include "native.h"

enum { PORT = 0x3f8, LINE = 4, QUEUE = 16 };

/* Registers. With LCR_DIVISOR set, the first two are the baud rate's divisor. */
enum { DATA = PORT, IER, IIR, LCR, MCR, LSR, MSR, FCR = IIR };

#define IER_RECEIVED 1
#define IER_SENT 2
#define IIR_NOTHING 1
#define IIR_REASON 0x0e
#define REASON_MODEM 0x00
#define REASON_SENT 0x02
#define REASON_RECEIVED 0x04
#define REASON_ERROR 0x06
#define REASON_RECEIVED_WHILE_AGO 0x0c
#define FCR_ENABLE_AND_CLEAR 0x07
#define LCR_8N1 0x03
#define LCR_DIVISOR 0x80
#define MCR_DTR_RTS_INTERRUPTS 0x0b
#define LSR_RECEIVED 0x01
#define LSR_SEND_QUEUE_EMPTY 0x20

static u8 enabled;       /* what IER holds */
static u8 held;          /* a byte for which the tty had no room ... */
static bool is_held;     /* ... and until it has, we take no more */
static u64 sent_count;   /* interrupts */

static void enable(u8 interrupts)
{
    if (enabled != interrupts)
        out8(IER, enabled = interrupts);
}

void uart_init(void)
{
    out8(IER, 0);
    out8(LCR, LCR_DIVISOR);
    out8(DATA, 1); /* 115200 baud */
    out8(IER, 0);
    out8(LCR, LCR_8N1);
    out8(FCR, FCR_ENABLE_AND_CLEAR);
    out8(MCR, MCR_DTR_RTS_INTERRUPTS);
}

static size_t fill_queue(const char *bytes, size_t n)
{
    size_t done;

    if (!(in8(LSR) & LSR_SEND_QUEUE_EMPTY))
        return 0;
    for (done = 0; done < n && done < QUEUE; done++)
        out8(DATA, (u8)bytes[done]);
    return done;
}

/* The kernel's own words cannot wait for an interrupt. */
void uart_write(const char *text, size_t n)
{
    while (n) {
        size_t done = fill_queue(text, n);

        text += done;
        n -= done;
    }
}

static size_t put(const char *bytes, size_t n)
{
    size_t done = fill_queue(bytes, n);

    if (done < n)
        enable(enabled | IER_SENT);
    return done;
}

static void receive(void)
{
    while (!is_held && in8(LSR) & LSR_RECEIVED) {
        u8 byte = in8(DATA);

        if (!tty_input((char)byte)) {
            held = byte;
            is_held = true;
            enable(enabled & ~IER_RECEIVED); /* the sender is to wait: that is what the wire's flow control is for */
        }
    }
}

/* The tty has room. With the interrupt on again, the line rises again if the queue is not empty. */
static void refill(void)
{
    if (is_held && tty_input((char)held)) {
        is_held = false;
        enable(enabled | IER_RECEIVED);
    }
}

/* Until there is no reason left: only then does the line fall, and can rise anew. */
static void interrupt(void)
{
    u8 reason;

    while (!((reason = in8(IIR)) & IIR_NOTHING)) {
        switch (reason & IIR_REASON) {
        case REASON_RECEIVED:
        case REASON_RECEIVED_WHILE_AGO:
            receive();
            break;
        case REASON_SENT:
            enable(enabled & ~IER_SENT);
            sent_count++;
            tty_output_ready();
            break;
        case REASON_ERROR:
            in8(LSR);
            break;
        case REASON_MODEM:
            in8(MSR);
            break;
        }
    }
}

static const struct wire wire = { .put = put, .refill = refill };

void uart_listen(void)
{
    tty_attach(&wire);
    irq_attach(LINE, interrupt);
    enable(IER_RECEIVED);
}

/* For `bench`: ask to be told that the queue is empty, which it is; let the interrupt come. */
bool uart_interrupts_time(u64 count)
{
    u64 wanted = sent_count + count;

    while (!(in8(LSR) & LSR_SEND_QUEUE_EMPTY)) /* of what was said before */
        continue;
    for (u64 i = 0; i < count; i++) {
        enable(enabled | IER_SENT);
        pv.irq_enable();
        pv.irq_disable();
    }
    return sent_count == wanted;
}
