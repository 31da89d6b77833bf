# SPDX-License-Identifier: GPL-2.0-or-later
"""The console: what a guest says kept from its first byte, and what is typed handed to it.

    ring.py      the data half: two queues of bytes in one page
    console.py   those who listen and those who type, whatever is between them and the guest
    record.py    what is kept of what was said
    serial.py    a UART in place of the ring
    control.py   a console beside the first, which the guest finds by xenbus
"""
