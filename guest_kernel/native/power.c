/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The power switch, by the ports that the PCs of QEMU have.
 *
 * Not modelled: finding them.  ACPI's tables say where the power management block is, and a program in its own
 * byte code what to write there; firmware for virtual machines puts it at 600H, and soft-off is 0.
 */
#include <api/syscalls.h>
#include <lib.h>

#include "instructions.h"
#include "native.h"

#define PM1A_CONTROL 0x604
#define PM1A_SLEEP 0x2000 /* enter the sleep state of bits 10-12: 0, off */
#define RESET_CONTROL 0xcf9
#define RESET_ALL 0x06
#define KEYBOARD_COMMAND 0x64
#define KEYBOARD_RESET_CPU 0xfe
#define DEBUG_EXIT 0xf4 /* QEMU: -device isa-debug-exit,iobase=0xf4,iosize=4; its exit status is twice this and one */

static NORETURN void halt(void)
{
    for (;;)
        asm volatile("cli; hlt");
}

void native_shutdown(int how)
{
    if (boot_option("debug-exit"))
        out32(DEBUG_EXIT, (u32)how);
    if (how == SHUTDOWN_HOW_POWEROFF)
        out16(PM1A_CONTROL, PM1A_SLEEP);
    if (how == SHUTDOWN_HOW_REBOOT) {
        out8(RESET_CONTROL, RESET_ALL);
        out8(KEYBOARD_COMMAND, KEYBOARD_RESET_CPU);
    }
    kprintf("Halted.\n"); /* after a crash: what is on the screen should stay there */
    halt();
}
