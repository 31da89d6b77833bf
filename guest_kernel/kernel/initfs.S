/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The archive of user programs, inside the kernel's constants.
 */
    .section .rodata
    .balign 16
    .globl initfs_start, initfs_end
initfs_start:
    .incbin "initfs.cpio"
initfs_end:
    .byte 0
