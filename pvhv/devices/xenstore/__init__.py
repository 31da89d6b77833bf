# SPDX-License-Identifier: GPL-2.0-or-later
"""xenstored: the tree of small strings by which domains and backends find each other.

    permissions   who may read and write a node
    quotas        how much of everything an unprivileged domain may have
    nodes         what a node is, and how it may be called
    tree          all nodes, and what may be done with them
    transactions  a view of the tree whose changes happen together or not at all
    watches       who hears of changes, and which paths an event names
    connection    one party that asks, and the messages on their way to it
    requests      messages: what each means, what is answered
    control       messages to the store itself
    ring          a domain's way in: messages over the ring page and its event channel
    sockets       the way in of domain 0's tools
    domains       which domains may ask
    store         one tree, its connections, and who hears of changes
    daemon        the store of a whole machine

Everything runs on the hypervisor's thread, one message at a time, so an operation sees no other in between.

Read beside it: docs/misc/xenstore.txt, tools/xenstore/xenstored_*.c.
"""
