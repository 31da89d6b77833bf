# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory: who owns a frame, what it is used as, and which page tables a guest may have.

    frames.py       the frame table: owners, references, types          pte.py        the bits of an entry
    free_frames.py  the frames nobody has                               pagetables.py the one door for entries
    reservation.py  frames come to a domain and go                      l1tables.py   ... of L1 tables, by the table
    m2p.py          machine to pseudo-physical                          linear.py     tables that name themselves
    guestmem.py     the one door from a guest address to bytes          ptwr.py       a guest's store to its own entry
    kept_pages.py   a guest's pages that the hypervisor writes          stores.py     ... decoded and computed
    descriptors.py  frames used as GDT and LDT                          fast_types.py the hottest of it, flat
    executable.py   frames that may hold code                           coherence.py  what pCPUs have to forget

Read `frames.py` first, then `pagetables.py`. `fast_types.py` repeats the most-used methods of the others in a faster
form; skip it at first.
"""
