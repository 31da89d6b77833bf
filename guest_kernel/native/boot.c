/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From the loader's hands to kernel_main().
 */
#include <device.h>
#include <lib.h>

#include "instructions.h"
#include "native.h"
#include "start_info.h"

#define RAM_MAX 32

struct region ram[RAM_MAX];
unsigned ram_count;

static char command_line[256];

void kernel_main(void);

/* Everything of the loader's is copied: it lies in memory that is about to be ours. */
static void read_start_info(paddr_t where)
{
    struct pvh_start_info *info = virt(where);
    struct pvh_memory *map;

    if (info->magic != START_INFO_MAGIC || !info->version)
        panic("no PVH loader, or one without a memory map (magic %x, version %u)", info->magic, info->version);
    if (info->command_line)
        strlcpy(command_line, virt(info->command_line), sizeof(command_line));
    map = virt(info->memory_map);
    for (u32 i = 0; i < info->memory_map_entries && ram_count < RAM_MAX; i++)
        if (map[i].type == MEMORY_RAM)
            ram[ram_count++] = (struct region){ PAGE_UP(map[i].from), PAGE_DOWN(map[i].from + map[i].size) };
}

bool boot_option(const char *word)
{
    size_t length = strlen(word);

    for (const char *at = command_line; *at; at++)
        if ((at == command_line || at[-1] == ' ') && !strncmp(at, word, length) && (!at[length] || at[length] == ' '))
            return true;
    return false;
}

void native_boot(u32 start_info)
{
    user_cs = USER_CS;
    user_ss = USER_SS;
    uart_init();
    read_start_info(start_info);
    memory_init();
    tsc_init();
    rtc_init();
    kernel_main();
}

/* Asked for by kernel_main(), when traps are set. */
void platform_devices(void)
{
    pic_init();
    pit_init();
    uart_listen();
    ide_init();
    virtio_init();
}
