/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * cpuinfo: the processor, as the kernel sees it and as a program that asks the CPU itself sees it.  Under a PV
 * hypervisor they may differ: `cpuid` is not a privileged instruction.
 */
#include <user.h>

int main(int argc, char **argv)
{
    struct machine_info info;
    char vendor[13] = "";
    u32 a = 0, b, c = 0, d;

    machine(&info);
    asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    memcpy(vendor, &b, 4);
    memcpy(vendor + 4, &d, 4);
    memcpy(vendor + 8, &c, 4);
    printf("vendor=%s\nmodel=%s\nhypervisor=%s\ntsc_mhz=%lu.%03lu\nvendor_seen_by_user=%s\n", info.vendor, info.model,
           info.hypervisor, info.tsc_khz / 1000, info.tsc_khz % 1000, vendor);
    return 0;
}
