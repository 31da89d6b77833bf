# SPDX-License-Identifier: GPL-2.0-or-later
"""The request/response ring of split drivers: a page of slots for requests and responses.

The shared part opens with four free-running indices.  ``req_event`` and ``rsp_event`` say at which index the
other side wants to be notified, so that a busy ring sends no events.  A ring has the largest power of two of
slots that fits its page (or pages).

Each driver makes its own ring type from its request and response, as DEFINE_RING_TYPES does in C:
``sring("blkif", request, response)``.

Read beside it: xen/include/public/io/ring.h.
"""

from __future__ import annotations

from typing import Any

from pvhv.abi.layout import CStruct, c_uint, cstruct, cunion, size_of, typedef, uint8_t

XEN_PAGE_SHIFT = 12
SRING_HEADER_SIZE = 64

RING_IDX = typedef("RING_IDX", c_uint)


def sring(name: str, request: Any, response: Any) -> CStruct:
    """``struct NAME_sring`` with one slot declared; more slots fill the rest of the page."""
    return cstruct(
        f"{name}_sring",
        "req_prod" / RING_IDX,
        "req_event" / RING_IDX,
        "rsp_prod" / RING_IDX,
        "rsp_event" / RING_IDX,
        "pvt" / cunion(
            None,
            "netif" / cstruct(None, "smartpoll_active" / uint8_t),
            "tapif_user" / cstruct(None, "msg" / uint8_t),
            "pvt_pad" / uint8_t[4],
        ),
        "__pad" / uint8_t[44],
        "ring" / cunion(f"{name}_sring_entry", "req" / request, "rsp" / response, typedef=None)[1],
    )


def ring_size(request: Any, response: Any, size: int = 1 << XEN_PAGE_SHIFT) -> int:
    """How many slots a ring of ``size`` bytes has: __RING_SIZE."""
    slots = (size - SRING_HEADER_SIZE) // max(size_of(request), size_of(response))
    return 1 << (slots.bit_length() - 1) if slots else 0
