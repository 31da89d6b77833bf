# SPDX-License-Identifier: GPL-2.0-or-later
"""xenstored: the tree of small strings by which domains and backends find each other.

    permissions   who may read and write a node
    tree          nodes, and what may be done with them
    transactions  a view of the tree whose changes happen together or not at all
    watches       who wants to hear of changes, and in which words
    requests      messages: what each means, what is answered
    ring          a domain's way in: messages over the ring page and its event channel
    daemon        all of it together, with domains coming and going

Everything runs on the hypervisor's thread, one message at a time, so an operation sees no other in between.

Read beside it: docs/misc/xenstore.txt, tools/xenstore/xenstored_*.c.
"""
