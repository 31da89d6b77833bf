/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Time: the CPU counts cycles since power-on, and reading the count is one instruction.  How long a cycle is must be
 * found out once: newer CPUs say it (CPUID leaf 15H: the crystal's frequency, and the ratio of the count to it); for
 * the others we count cycles while another clock runs for a known time, channel 2 of the 8254, which has an input to
 * start it and an output to read, both in port 61H.
 */
#include <lib.h>

#include "instructions.h"
#include "native.h"

#define CHANNEL_2 0x42
#define CONTROL 0x43
#define CHANNEL_2_MODE_0 0xb0
#define GATE 0x61
#define GATE_OPEN 0x01
#define SPEAKER 0x02
#define OUTPUT 0x20
#define HERTZ 1193182UL
#define TICKS (HERTZ / 100) /* 10 ms */

static u64 khz, boot_tsc;
static u64 to_nanoseconds; /* cycles times this, shifted right by 32 */

static u64 khz_from_cpuid(void)
{
    u32 r[4];

    native_cpuid(0, r);
    if (r[0] < 0x15)
        return 0;
    native_cpuid(0x15, r); /* the count is the crystal times ebx / eax; ecx is the crystal's frequency in Hz */
    return r[0] && r[1] && r[2] ? (u64)r[2] * r[1] / r[0] / 1000 : 0;
}

static u64 cycles_in_10_ms(void)
{
    u64 start;

    out8(GATE, (in8(GATE) & ~SPEAKER) | GATE_OPEN);
    out8(CONTROL, CHANNEL_2_MODE_0);
    out8(CHANNEL_2, (u8)TICKS);
    out8(CHANNEL_2, (u8)(TICKS >> 8));
    start = rdtsc();
    while (!(in8(GATE) & OUTPUT))
        continue;
    return rdtsc() - start;
}

/* Whatever disturbs a measurement makes it longer, never shorter. */
static u64 khz_measured(void)
{
    u64 least = ~0UL;

    for (int i = 0; i < 5; i++)
        least = MIN(least, cycles_in_10_ms());
    return least * HERTZ / TICKS / 1000;
}

void tsc_init(void)
{
    khz = khz_from_cpuid();
    if (!khz)
        khz = khz_measured();
    to_nanoseconds = (1000000UL << 32) / khz;
    boot_tsc = rdtsc();
}

u64 native_now(void)
{
    return (u64)(((unsigned __int128)(rdtsc() - boot_tsc) * to_nanoseconds) >> 32);
}

u64 native_tsc_khz(void)
{
    return khz;
}
