# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2, QEMU's image format: a disk's clusters, wherever in a file they are, and tables that say where.

    header.py      the first cluster: what the image is, and where its tables are
    tables.py      tables in the file, in slices, of which the latest are in memory
    refcounts.py   how many times each cluster of the file is used; which are free
    mapping.py     which cluster of the file has a cluster of the disk (the L1 table and the L2 tables)
    regions.py     where the tables themselves are, so that nothing else is written there
    compressed.py  clusters that are packed
    snapshots.py   what the image keeps beside its present state
    disk.py        the image: reads, writes, discards, flushes
    make.py        new images, and longer ones

All numbers in the file are big-endian. The file is divided into clusters of one size; each table begins at a cluster.

Read beside it: docs/interop/qcow2.txt in QEMU's source.
"""
