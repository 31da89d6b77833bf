# SPDX-License-Identifier: GPL-2.0-or-later
"""The block device: sectors of a file, which a guest reads and writes through pages that it grants.

    ring.py      the shared page: requests are copied out of it, once each, and responses are written into it
    disk.py      the data half: checks a request, maps its pages, moves its bytes, and answers it
    control.py   the control half: the nodes of a disk in the store
    names.py     the names of disks (xvda) and their numbers

The image is read and written on another thread: pvhv/core/sched/worker.py.

Not modelled: indirect segments, persistent grants, several queues, rings of several pages, discarding. The backend does
not offer them, so a front end does not use them.
"""
