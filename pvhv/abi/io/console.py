# SPDX-License-Identifier: GPL-2.0-or-later
"""The console ring: one page, two byte queues.

The guest writes ``out`` and reads ``in``; indices run freely modulo 2**32 and are masked only on use.  Each
side notifies the other through the console's event channel after moving an index.  The page's frame and the
port are in ``start_info.console.domU``.

Read beside it: xen/include/public/io/console.h.
"""

from __future__ import annotations

from pvhv.abi.layout import char, cstruct, record, typedef, uint32_t

XENCONS_RING_IDX = typedef("XENCONS_RING_IDX", uint32_t)

xencons_interface = cstruct(
    "xencons_interface",
    "in" / char[1024],
    "out" / char[2048],
    "in_cons" / XENCONS_RING_IDX,
    "in_prod" / XENCONS_RING_IDX,
    "out_cons" / XENCONS_RING_IDX,
    "out_prod" / XENCONS_RING_IDX,
    typedef=None,
)
XenconsInterface = record(xencons_interface)
