# SPDX-License-Identifier: GPL-2.0-or-later
"""The block device: sectors of a file, which a guest reads and writes through pages that it grants.

    ring.py      requests out of the shared page, each copied once, and responses into it
    image.py     the file, as sectors
    worker.py    what takes time is done beside the guests, and heard of at a time of the guest's
    disk.py      the data half: a request is checked, its pages are mapped, its bytes moved, and it is answered
    control.py   the control half: what a disk says of itself in the store
    names.py     xvda, and the number that stands for it

Not modelled: indirect segments, persistent grants, several queues, rings of several pages, discarding. A front end does
without what it is not offered.
"""
