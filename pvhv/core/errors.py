# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors, named by whose fault they are.

- The guest asked for something it may not have: `HypercallError`, which the dispatcher turns into -errno in RAX.
- The guest handed over an address that is not there: `GuestFault`, which the dispatcher turns into -EFAULT.
- One item of a grant operation did not work: `GrantError`, whose status (GNTST_*) is written into that item.
- The guest broke its own world (its kernel stack is gone, it faults inside its failsafe handler):
  `DomainCrash`, which ends that domain, first reason wins, and harms nobody else.
- A long operation ran out of its share of work: `Restart` and `Interrupted`. They are no errors but the two ways in
  which Xen puts a page-table operation aside (-ERESTART and -EINTR of xen/arch/x86/mm.c).

Anything else that escapes a handler is our bug: it crashes the domain that met it and is kept, traceback and all, in
the hypervisor's log.
"""

from __future__ import annotations

from pvhv.abi.errno import Errno


class HypercallError(Exception):
    """The guest asked wrongly: RAX becomes -errno."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno)
        self.errno = errno


class ValidationFailed(HypercallError):
    """A page table did not pass after part of it had been taken: undoing that part is still to be done.

    `mfn` is the frame that stands in the vCPU's `deferred` now, as in Xen's old_guest_table.
    """

    def __init__(self, errno: Errno, mfn: int) -> None:
        super().__init__(errno)
        self.mfn = mfn


class GuestFault(Exception):
    """A guest-virtual address that does not translate (or may not be written)."""

    def __init__(self, address: int) -> None:
        super().__init__(f"guest address {address:#x} is not accessible")
        self.address = address


class GrantError(Exception):
    """One item of a batch did not work: `status` (GNTST_*) is its answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class DomainCrash(Exception):
    """The guest broke its own world; `reason` is what the crash report says."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Restart(Exception):
    """Put aside with progress made; the state is kept in the frame (PGT_partial). -ERESTART in Xen."""


class Interrupted(Exception):
    """Put aside before any progress was made; nothing is held. -EINTR in Xen."""
