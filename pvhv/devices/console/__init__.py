# SPDX-License-Identifier: GPL-2.0-or-later
"""The console: a guest's output is kept from its first byte, and what is typed goes to the guest.

    ring.py      the data half: two queues of bytes in one page
    console.py   a console's readers and typists, whichever device the guest has
    record.py    the output that is kept
    serial.py    a UART in place of the ring
    control.py   a console beside the first, which the guest finds by xenbus
"""
