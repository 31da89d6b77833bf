# SPDX-License-Identifier: GPL-2.0-or-later
"""The block device: sectors of an image, which a guest reads and writes through pages that it grants.

A request goes down this list, and its answer up again:

    control.py    the control half: the nodes of a disk in the store, and where a front end says that its rings are
    disk.py       the data half: an image and the rings that reach it, served in turn; resizing, changing a CD-ROM
    queue.py      one ring at work: a request is checked, begun, and answered
    ring.py       its slots, in one or more shared pages: each is copied out once, and responses are written into them
    request.py    what a slot asks for, and whether that can be: the checks of Linux's blkback, in its order
    pages.py      the guest's pages: mapped for a request, or kept mapped for later ones (persistent grants)
    transfer.py   the bytes of a request, copied out of these pages, or into them
    names.py      the names of disks (xvda) and their numbers

File I/O runs on another thread, and its end is reported at a time that the guest's clock decides: that is
pvhv/core/sched/worker.py. The images are in pvhv/images.
"""
