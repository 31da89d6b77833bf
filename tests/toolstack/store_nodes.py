# SPDX-License-Identifier: GPL-2.0-or-later
"""A part of the store as the record of a real Xen has it: values and permissions by path."""

from __future__ import annotations

from pvhv.devices.xenstore.store import Store
from tools.reference.disks import Nodes

DIRECTORIES = (
    "/local/domain/{domid}/device/vbd/{devid}", "/local/domain/0/backend/vbd/{domid}/{devid}",
    "/libxl/{domid}/device/vbd/{devid}", "/local/domain/0/error/backend/vbd/{domid}/{devid}",
    "/local/domain/{domid}/error/device/vbd/{devid}",
)  # fmt: skip


def of_disk(store: Store, domid: int, devid: int) -> Nodes:
    """All nodes below the directories of a disk."""
    found: Nodes = {}
    for directory in DIRECTORIES:
        _add_below(store, directory.format(domid=domid, devid=devid), found)
    return found


def _add_below(store: Store, directory: str, found: Nodes) -> None:
    for child in store.children(directory):
        path = f"{directory}/{child}"
        node = store.tree.get(path)
        assert node is not None
        found[path] = node.value.decode(), ",".join(map(str, node.permissions))
        _add_below(store, path, found)
