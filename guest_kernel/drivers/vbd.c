/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Virtual block devices: which there are, and what they are called here.  Xenstore knows each by a number.
 *
 * (Xen: docs/man/xen-vbd-interface.7.)
 */
#include <block.h>
#include <lib.h>

#include "../pv/pv.h"

/* 51712 is xvda, 51713 its first partition, 51728 xvdb; from xvdq on, numbers have bit 28 and another format. */
static void name_of(unsigned n, char *name, size_t room)
{
    bool extended = n >> 28 == 1;
    unsigned letter = extended ? (n & 0xfffffff) >> 8 : n >> 8 == 202 ? (n & 0xff) >> 4 : 26;
    unsigned partition = n & (extended ? 0xff : 0xf);

    if (letter >= 26) /* a number of another system, or of very many disks */
        format(name, room, "vbd%u", n);
    else if (partition)
        format(name, room, "xvd%c%u", 'a' + letter, partition);
    else
        format(name, room, "xvd%c", 'a' + letter);
}

/* Xenstore's answer, at boot and when a disk came: the numbers of our disks, each a string with its zero byte. */
void vbds_found(const char *numbers, size_t length)
{
    for (const char *at = numbers; at < numbers + length; at += strlen(at) + 1) {
        char name[sizeof(((struct disk *)0)->name)];
        unsigned number = 0;

        for (const char *digit = at; *digit >= '0' && *digit <= '9'; digit++)
            number = number * 10 + (*digit - '0');
        name_of(number, name, sizeof(name));
        blkfront_add(number, name);
    }
}
