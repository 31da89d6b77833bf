# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's core, taken piece by piece while that domain and all others run on.

The parts of a core are asked of the hypervisor, as a tool of domain 0 asks for them: vCPU contexts, the shared page,
the owners of frames, the bytes in them. Each question is a step on the hypervisor's thread, and takes about a
millisecond. The answers become a core file (pvhv.toolstack.core_file) on another thread, so even the largest domain
stops no other.

A domain may run while it is dumped, as with xl: its vCPUs and pages are then of different moments. For a core of one
moment, pause it first. Pages that the domain gives back meanwhile are left out.

A page's pfn is what the machine-to-physical table says: the guest's own list need not be there yet, or be true. Pages
without one that the domain could have are left out.

Not modelled: fully virtualized domains, the FPU's registers.

Read beside it: xc_domain_dumpcore_via_callback in tools/libs/guest/xg_core.c.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pvhv.core.errors import HypercallError
from pvhv.machine.ram import PAGE_SIZE
from pvhv.toolstack import core_file
from pvhv.toolstack.core_file import INVALID
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.lifecycle import State

if TYPE_CHECKING:
    from pvhv.toolstack.guest import Guest

T = TypeVar("T")
Ask = Callable[[Callable[[], T]], T]

FRAMES_A_STEP = 4096  # looked through
PAGES_A_STEP = 128  # copied


def require_dumpable(guest: Guest) -> None:
    """Raises ToolstackError where a domain has no core to dump."""
    if guest.config.type == "hvm":
        raise ToolstackError(
            f"domain {guest.name} is fully virtualized: dump-core is for paravirtual domains",
            "pvhv trace shows what it does",
        )
    if guest.state in (State.BUILDING, State.DYING, State.GONE):
        raise ToolstackError(f"domain {guest.name} is {guest.state.value}: there is nothing to dump")


class CoreDump:
    """One dump. Made on the hypervisor's thread; `pieces` runs on any other."""

    def __init__(self, guest: Guest) -> None:
        require_dumpable(guest)
        self.name = guest.name
        self.control = guest.control
        self.domid = guest.domid
        self.handle = guest.domain.handle
        self.machine = guest.hypervisor.frames.count
        self.limit = min(max(guest.domain.max_pages, guest.domain.tot_pages), 4 * self.machine)
        self.mfns: dict[int, array[int]] = {}  # of PAGES_A_STEP pfns each, by the first of these
        self.pages = 0
        self.found_pages = array("Q")  # pfn and mfn of each page that is in the file

    def pieces(self, ask: Ask[bytes | None]) -> Iterator[bytes]:
        """The file from its beginning to its end; `ask` runs a step on the hypervisor's thread.

        Raises ToolstackError when the domain goes meanwhile.
        """
        for start in range(0, self.machine, FRAMES_A_STEP):
            ask(partial(self._survey, start))
        yield ask(self._head) or b""
        for first in sorted(self.mfns):
            yield ask(partial(self._copy, first)) or b""
        for _missing in range(self.pages - len(self.found_pages) // 2):
            yield bytes(PAGE_SIZE)
        yield from core_file.tail(self.found_pages, self.pages)

    # -- steps, on the hypervisor's thread -------------------------------------------------------------------
    def _survey(self, start: int) -> None:
        self._require_there()
        for pfn, mfn in self.control.frames_of(self.domid, start, start + FRAMES_A_STEP):
            if pfn < self.limit:
                first = pfn - pfn % PAGES_A_STEP
                block = self.mfns.get(first)
                if block is None:
                    block = self.mfns[first] = array("Q", [INVALID]) * PAGES_A_STEP
                self.pages += block[pfn - first] == INVALID
                block[pfn - first] = mfn

    def _head(self) -> bytes:
        self._require_there()
        info = self.control.getdomaininfo(self.domid)
        contexts = []
        for vcpu_id in range(info.max_vcpu_id + 1):
            try:
                contexts.append(bytes(self.control.getvcpucontext(self.domid, vcpu_id)))
            except HypercallError:
                continue  # never brought up
        shared = self.control.foreign_page(self.domid, info.shared_info_frame)
        return core_file.head(self.control.xen_version(), contexts, bytes(shared or PAGE_SIZE), self.pages)

    def _copy(self, first: int) -> bytes:
        self._require_there()
        found = []
        for index, mfn in enumerate(self.mfns[first]):
            page = None if mfn == INVALID else self.control.foreign_page(self.domid, mfn)
            if page is not None:
                found.append(page)
                self.found_pages.extend((first + index, mfn))
        return b"".join(found)

    def _require_there(self) -> None:
        """Raise ToolstackError if the domain is gone; another domain may have its id now."""
        domain = self.control.hypervisor.domain_by_id(self.domid)
        if domain is None or domain.dying or domain.handle != self.handle:
            raise ToolstackError(f"domain {self.name} went away while its core was dumped")
