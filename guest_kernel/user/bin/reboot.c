/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * reboot: at once.
 */
#include <user.h>

int main(int argc, char **argv)
{
    return shutdown(SHUTDOWN_HOW_REBOOT);
}
