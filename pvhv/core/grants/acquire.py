# SPDX-License-Identifier: GPL-2.0-or-later
"""Begin and end the use of an entry for a copy. The entry grants a frame of the granter's own, or passes on another
domain's grant (GTF_transitive).

A transitive entry names an entry of a third domain. That entry has to grant to the domain that passes it on, and must
not be transitive itself. Then both entries are in use: the first by the user, the second by the domain that passes it
on. The frame and part that an entry grants are read when its first use begins. A later use that would find another
frame or part is refused; through a transitive entry it is retried later (`TryAgain`), as in Xen, which cannot tell such
a change from a race.

Read beside it: acquire_grant_for_copy, release_grant_for_copy in xen/common/grant_table.c.
"""

from __future__ import annotations

from pvhv.abi.grant_table import GNTST_bad_domain, GNTST_bad_page, GNTST_general_error
from pvhv.core.errors import GrantError
from pvhv.core.grants.entries import HOST_READ, HOST_WRITE, WRITERS, Part
from pvhv.core.grants.table import PIN_LIMIT, Active, Granter


class TryAgain(Exception):
    """A transitive entry was changed to name another grant while it was in use; the caller retries later."""


def acquire(granter: Granter, ref: int, user: int, readonly: bool, transitive: bool = True) -> Active:
    """Begin a use of entry `ref` of `granter` by domain `user`, for a copy; takes a reference to the frame.

    With `transitive` the entry may be a transitive one. Raises GrantError, TryAgain.
    """
    grants = granter.grants
    slot = grants.entries.slot(ref)
    increment = HOST_READ if readonly else HOST_WRITE
    active = grants.active.get(ref)
    if active is not None and (active.domid != user or active.pin & increment * PIN_LIMIT):
        raise GrantError(GNTST_general_error)
    passed_on = grants.entries.passed_on(slot)
    if passed_on is not None:
        active = acquire_passed_on(granter, ref, slot, user, readonly, active, passed_on if transitive else None)
    elif active is None or not (readonly or active.pin & WRITERS):
        active = acquire_own(granter, ref, slot, user, readonly, active)
    elif granter.dying or not grants.table.get_page(active.mfn, granter.domid):
        raise GrantError(GNTST_bad_domain)
    active.pin += increment
    return active


def acquire_own(granter: Granter, ref: int, slot: int, user: int, readonly: bool, active: Active | None) -> Active:
    """Begin the first use, or the first writing use, of an entry that grants a frame of the granter's own."""
    grants = granter.grants
    entries, pin = grants.entries, 0 if active is None else active.pin
    entries.claim(ref, slot, active is not None, user, readonly, False)
    part = entries.part(slot)
    if not grants.table.get_page(part[0], granter.domid):
        entries.reduce(ref, pin, readonly)
        raise GrantError(GNTST_bad_page)
    if active is None:
        active = grants.active[ref] = Active(user, part, granter, ref)
    elif not same_grant(active, part, granter, ref) or (active.is_sub_page and not same_part(active, part)):
        grants.table.put_page(part[0])  # the entry was changed under a use
        entries.reduce(ref, pin, readonly)
        raise GrantError(GNTST_general_error)
    return active


def acquire_passed_on(
    granter: Granter,
    ref: int,
    slot: int,
    user: int,
    readonly: bool,
    active: Active | None,
    target: tuple[int, int] | None,
) -> Active:
    """Begin a use of a transitive entry, and of the entry it names, `target` (domid, ref). `target` is None where a
    transitive entry is not allowed: behind another transitive entry."""
    entries, pin = granter.grants.entries, 0 if active is None else active.pin
    if active is None or not (readonly or pin & WRITERS):
        entries.claim(ref, slot, active is not None, user, readonly, False)
    owner = None
    if target is not None and target[0] != granter.domid:
        owner = granter.hypervisor.domain_by_id(target[0])
    if target is None or owner is None:
        entries.reduce(ref, pin, readonly)
        raise GrantError(GNTST_general_error)
    try:
        inner = acquire(owner, target[1], granter.domid, readonly, transitive=False)
    except GrantError:
        entries.reduce(ref, pin, readonly)
        raise
    part = inner.mfn, inner.start, inner.length, True  # as for a part of a frame: that is not mapped
    if active is None:
        active = granter.grants.active[ref] = Active(user, part, owner, target[1])
    elif not same_grant(active, part, owner, target[1]) or not same_part(active, part):
        owner.grants.table.put_page(inner.mfn)
        release(owner, target[1], readonly)
        entries.reduce(ref, pin, readonly)
        raise TryAgain
    return active


def same_grant(active: Active, part: Part, granter: Granter, ref: int) -> bool:
    return active.mfn == part[0] and active.granter is granter and active.ref == ref


def same_part(active: Active, part: Part) -> bool:
    return (active.start, active.length, active.is_sub_page) == part[1:]


def release(granter: Granter, ref: int, readonly: bool) -> None:
    """End a use that `acquire` began; the caller drops the reference to the frame."""
    active = granter.grants.unpin(ref, HOST_READ if readonly else HOST_WRITE, readonly)
    if active.granter is not granter:
        release(active.granter, active.ref, readonly)
