# SPDX-License-Identifier: GPL-2.0-or-later
"""How domain 0's backends map a guest's grants: as views of frames.

Domain 0 has no page tables, so its mapping of a grant is a memoryview of the frame. Everything else is what a
guest's mapping is: the same entry is checked, the same pins and references are held, and the frame goes back
to its owner when the view is released. A view keeps the frame even when the granter is destroyed meanwhile;
the domain is gone only after the last view is.

Read beside it: gntdev in Linux (drivers/xen/gntdev.c), map_grant_ref in xen/common/grant_table.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.abi.grant_table import GNTST_bad_domain
from pvhv.core.errors import GrantError
from pvhv.core.grants.entries import HOST_READ, HOST_WRITE

if TYPE_CHECKING:
    from pvhv.core.domain import Domain


class GrantView:
    """One grant mapped by domain 0: `bytes` and `words` are the frame until `release`."""

    def __init__(self, mapper: Domain, granter_domid: int, ref: int, readonly: bool = False) -> None:
        """Raises GrantError, with the status map_grant_ref would give."""
        granter = mapper.hypervisor.domain_by_id(granter_domid)
        if granter is None:
            raise GrantError(GNTST_bad_domain)
        self.mapper = mapper
        self.granter = granter
        self.ref = ref
        self.readonly = readonly
        self.increment = HOST_READ if readonly else HOST_WRITE
        grants = granter.grants
        self.mfn = grants.pin(ref, mapper.domid, self.increment, readonly).mfn
        if not readonly:
            try:
                grants.get_writable(self.mfn)
            except GrantError:
                grants.table.put_page(self.mfn)
                grants.unpin(ref, self.increment, readonly)
                raise
        frame = mapper.hypervisor.ram.frame(self.mfn)
        self.bytes = frame.toreadonly() if readonly else frame
        self.words = self.bytes.cast("Q")
        mapper.grants.views.add(self)

    def release(self) -> None:
        """Unmap the grant; `bytes` and `words` cannot be used afterwards. A second call does nothing."""
        if self not in self.mapper.grants.views:
            return
        self.mapper.grants.views.remove(self)
        self.words.release()
        self.bytes.release()
        self.wrote()
        grants = self.granter.grants
        if not self.readonly:
            grants.table.put_page_type(self.mfn)
        grants.table.put_page(self.mfn)
        grants.unpin(self.ref, self.increment, self.readonly)

    def wrote(self) -> None:
        """Drop translations of the frame: the bytes written may be code. `release` does so, too."""
        if not self.readonly:
            self.mapper.hypervisor.host_wrote(self.mfn)

    def __enter__(self) -> GrantView:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def wrote(views: list[GrantView]) -> None:
    """The same as `wrote` of each of the views, which one domain has mapped."""
    if views:
        views[0].mapper.hypervisor.host_wrote_all([view.mfn for view in views])
