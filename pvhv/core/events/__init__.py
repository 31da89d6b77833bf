# SPDX-License-Identifier: GPL-2.0-or-later
"""Event channels: Xen's interrupts.

    channels.py   the ports of a domain: bind, close, signal     two_level.py  what a guest sees: bitmaps
    ports.py      a port and its states                          fifo.py       ... or words on queues
    virq.py       the hypervisor's own signals                   handlers.py   what domain 0 has instead: functions
                                                                 abis.py       ... and which a domain gets
"""
