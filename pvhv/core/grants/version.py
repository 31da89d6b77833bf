# SPDX-License-Identifier: GPL-2.0-or-later
"""Changing the version of a grant table. No entry may be in use, except the ones the toolstack made.

The first eight entries (GNTTAB_NR_RESERVED_ENTRIES) are for the console, xenstore and the like, whose backends keep
them mapped all the time. These entries are converted, with the flags of their uses; all others are cleared. Version 2
has status frames besides, which are allocated with the change; they can be given back only when the guest has no
mapping of them left.

Read beside it: gnttab_set_version, gnttab_populate_status_frames, gnttab_unpopulate_status_frames in
xen/common/grant_table.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pvhv.abi.errno import Errno
from pvhv.abi.grant_table import (
    GNTTAB_NR_RESERVED_ENTRIES,
    GTF_invalid,
    GTF_permit_access,
    GTF_transitive,
    GTF_type_mask,
)
from pvhv.core.errors import HypercallError
from pvhv.core.grants.entries import USE_FLAGS, EntriesV2, status_frames_for
from pvhv.machine.ram import PAGE_SIZE

if TYPE_CHECKING:
    from pvhv.core.grants.table import GrantTable

RESERVED = range(GNTTAB_NR_RESERVED_ENTRIES)


def set_version(table: GrantTable, version: int, must_yield: Callable[[int], bool]) -> None:
    """Change the table to that version. Raises HypercallError: EINVAL, ENOSYS, EBUSY, ENOMEM, ERANGE."""
    if version not in (1, 2):
        raise HypercallError(Errno.EINVAL)
    if version > table.max_version:
        raise HypercallError(Errno.ENOSYS)
    if version == table.version:
        return
    must_yield(len(table.active) // 8 + 2 * len(table.frames))
    if any(ref not in RESERVED for ref in table.active):
        raise HypercallError(Errno.EBUSY)
    if version == 2:
        table.grow(table.status_frames, status_frames_for(len(table.frames)))
        kept = as_version_1(table)
    else:
        check_representable(table)
        kept = as_version_1(table)
        give_status_frames_back(table)
    for mfn in table.frames:
        table.ram.frame(mfn)[:] = bytes(PAGE_SIZE)
    table.use_version(version)
    write(table, kept)


def check_representable(table: GrantTable) -> None:
    """Raises HypercallError(ERANGE) when version 1 cannot represent one of the reserved entries."""
    words, entries = words_of(table), table.entries
    for ref in RESERVED:
        slot = entries.slot(ref)
        kind = words[slot] & GTF_type_mask
        if kind == GTF_transitive or (kind == GTF_permit_access and entries.frame(slot) >> 32):
            raise HypercallError(Errno.ERANGE)


def as_version_1(table: GrantTable) -> list[int]:
    """The reserved entries as version 1 words; of a version 2 table, those that grant something."""
    words, entries = words_of(table), table.entries
    kept = []
    for ref in RESERVED:
        slot = entries.slot(ref)
        word = words[slot]
        if isinstance(entries, EntriesV2):
            granted = word & GTF_type_mask == GTF_permit_access
            word = word & 0xFFFF_FFFF | entries.statuses[entries.status_place(ref)] | entries.frame(slot) << 32
            word = word & 0xFFFF_FFFF_FFFF_FFFF if granted else GTF_invalid
        kept.append(word)
    return kept


def write(table: GrantTable, kept: list[int]) -> None:
    """Write the reserved entries into the table, in its current version."""
    words, entries = words_of(table), table.entries
    for ref, word in enumerate(kept):
        slot = entries.slot(ref)
        if isinstance(entries, EntriesV2):
            entries.statuses[entries.status_place(ref)] = word & USE_FLAGS
            words[slot] = word & 0xFFFF_FFFF & ~USE_FLAGS
            entries.set_frame(slot, word >> 32)
        else:
            words[slot] = word


def give_status_frames_back(table: GrantTable) -> None:
    """Free the status frames. Raises HypercallError(EBUSY), and frees none, when one is still mapped."""
    refs = table.table.refs
    if any(refs[mfn] != 1 for mfn in table.status_frames):
        raise HypercallError(Errno.EBUSY)
    table.shrink(table.status_frames, 0)


def words_of(table: GrantTable) -> memoryview:
    """Machine memory as 64-bit words."""
    return table.ram.words
