# SPDX-License-Identifier: GPL-2.0-or-later
"""The backends: what runs in domain 0 behind a guest's split drivers, in Python instead of C.

    link.py       domain 0's end of a ring: a granted page, mapped, and a port, bound
    xenbus.py     the states of the two ends of a device, and what a backend does about each
    backend.py    a backend's control half: its nodes in the store, and the handshake over them
    backends.py   the kinds of devices there are
    console/      the console: ring.py is its data half, control.py finds it by the handshake
    block/        the block device: sectors of a file
    xenstore/     xenstored; its data half is ring.py, and instead of a handshake a domain is introduced

A device is two files: the *data half* moves bytes between the guest's ring and whatever is behind it, and knows neither
the store nor domains; the *control half* finds the ring. A guest may write anything, to either half.
"""
