/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The devices that need no hardware.
 */
#include <api/errno.h>
#include <device.h>
#include <file.h>
#include <page.h>
#include <types.h>
#include <vm.h>

static long null_read(struct file *file, u64 to, size_t n)
{
    return 0;
}

static long null_write(struct file *file, u64 from, size_t n)
{
    return (long)n;
}

static long zero_read(struct file *file, u64 to, size_t n)
{
    static const u8 zeroes[PAGE_SIZE];

    for (size_t done = 0; done < n; done += PAGE_SIZE)
        if (copy_to_user(to + done, zeroes, MIN(n - done, PAGE_SIZE)))
            return -EFAULT;
    return (long)n;
}

static const struct device null_device = { .name = "null", .read = null_read, .write = null_write };
static const struct device zero_device = { .name = "zero", .read = zero_read, .write = null_write };

void devices_init(void)
{
    device_register(&null_device);
    device_register(&zero_device);
}
