# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors, by whose fault they are.

- The guest asked for something it may not have: `HypercallError`, which the dispatcher turns into -errno in RAX.
- The guest passed an address that is not mapped, or not writable: `GuestFault`, which the dispatcher turns into
  -EFAULT.
- One item of a grant operation did not work: `GrantError`, whose status (GNTST_*) is written into that item.
- The guest cannot continue (its kernel stack is not mapped, it has no handler for an exception): `DomainCrash`, which
  ends that domain and no other; the first reason is kept.
- A long operation used up its share of work: `Restart` and `Interrupted`. These are not errors, but the two ways in
  which Xen preempts a page-table operation (-ERESTART and -EINTR of xen/arch/x86/mm.c).

Anything else that escapes a handler is a bug of pvhv: it crashes the domain it happened to, and its traceback goes to
the hypervisor's log.
"""

from __future__ import annotations

from pvhv.abi.errno import Errno


class HypercallError(Exception):
    """A hypercall fails: RAX becomes -errno."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno)
        self.errno = errno


class ValidationFailed(HypercallError):
    """Validation of a page table failed after some entries had taken references; these are still to be dropped.

    `mfn` is the table, now in the vCPU's `deferred`, as in Xen's old_guest_table.
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
    """The guest cannot continue and its domain ends; `reason` is what the crash report says."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Restart(Exception):
    """Preempted after some progress; the frame keeps the state (PGT_partial). -ERESTART in Xen."""


class Interrupted(Exception):
    """Preempted before any progress; no reference is held. -EINTR in Xen."""
