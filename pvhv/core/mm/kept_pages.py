# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages of a guest's that the hypervisor writes for as long as it has them: a vCPU's vcpu_info, the control blocks and
event words of the FIFO ABI, frames that are granted for writing.

The hypervisor holds such a page as a writable mapping would: by one reference and one use as writable memory. So the
page keeps its owner, and cannot become a page table, until it is given back (FrameTable.put_page_and_type).

Not modelled: instruction-cache coherence for such a page. If it is executed as well, what the hypervisor writes there
may not be seen (see pvhv.core.mm.coherence).

Read beside it: map_guest_page in xen/common/event_fifo.c, map_vcpu_info in xen/common/domain.c.
"""

from __future__ import annotations

from pvhv.abi.errno import Errno
from pvhv.core.errors import HypercallError
from pvhv.core.mm.frames import WRITABLE
from pvhv.core.mm.pagetables import PageTables
from pvhv.core.mm.pte import NX


def keep_page(tables: PageTables, domid: int, mfn: int) -> None:
    """Take a reference and a writable use of a frame of `domid`. Raises HypercallError(EINVAL)."""
    frames = tables.frames
    if not frames.get_page(mfn, domid):
        raise HypercallError(Errno.EINVAL)
    try:
        use_writable(tables, mfn)
    except HypercallError:
        frames.put_page(mfn)
        raise


def use_writable(tables: PageTables, mfn: int) -> None:
    """Take a writable use of a frame the caller holds. Raises HypercallError(EINVAL) if it has another type."""
    frames = tables.frames
    frames.get_page_type(mfn, WRITABLE)
    if frames.code[mfn]:
        tables.executable.made_writable(mfn, NX, 0)
