/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The PCI bus: which devices there are.  Each has 256 bytes of registers that say what it is, where its own registers are,
 * and on which line it interrupts; firmware has chosen addresses and lines before us, so we only read them.
 *
 * Mechanism #1: a doubleword at 0xcf8 says which register of whom, then that register is at 0xcfc.
 *
 * Not modelled: bridges to other buses, choosing addresses, message-signalled interrupts.
 */
#include <lib.h>

#include "instructions.h"
#include "native.h"

#define ADDRESS 0xcf8
#define DATA 0xcfc
#define ENABLE (1U << 31)
#define SLOTS 32

static void select(unsigned slot, unsigned reg)
{
    out32(ADDRESS, ENABLE | slot << 11 | reg);
}

u32 pci_read(unsigned slot, unsigned reg)
{
    select(slot, reg);
    return in32(DATA);
}

void pci_write(unsigned slot, unsigned reg, u32 value)
{
    select(slot, reg);
    out32(DATA, value);
}

/* The first slot from `from` on with this device (its number above the vendor's); -1 if there is none. */
int pci_find(u32 device, unsigned from)
{
    for (unsigned slot = from; slot < SLOTS; slot++)
        if (pci_read(slot, PCI_DEVICE) == device)
            return (int)slot;
    return -1;
}
