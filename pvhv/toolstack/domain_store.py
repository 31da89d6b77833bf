# SPDX-License-Identifier: GPL-2.0-or-later
"""What a domain finds in xenstore about itself, and how dom0 asks it to shut down.

The nodes are those libxl makes: under /local/domain/<domid> the guest may read what it is, and write where it
has something to say (`data`, `control/shutdown`, ...); under /vm and /libxl dom0 keeps its own notes. A
request to shut down is a word written to `control/shutdown`; the guest's driver answers by emptying the node.

Read beside it: libxl__domain_make in tools/libs/light/libxl_create.c, docs/misc/xenstore-paths.pandoc.
"""

from __future__ import annotations

from pvhv.devices.xenstore.daemon import Xenstore
from pvhv.devices.xenstore.permissions import READ, Permission
from pvhv.toolstack.builder import Ports
from pvhv.toolstack.config import DomainConfig

WRITABLE_NODES = (
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/sysrq",
    "device/suspend/event-channel",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
)


def home(domid: int) -> str:
    """A domain's own part of the store."""
    return f"/local/domain/{domid}"


def make_nodes(store: Xenstore, domid: int, name: str, handle: str, config: DomainConfig) -> None:
    """Everything a new domain finds."""
    path, vm = home(domid), f"/vm/{handle}"
    readable = (Permission(0, 0), Permission(domid, READ))
    for root in (path, vm):
        store.remove(root)
        store.make(root, "", *readable)
    store.make(f"/libxl/{domid}", "", Permission(0, 0))
    store.write(f"/libxl/{domid}/type", "pv")
    for node in ("cpu", "memory", "device", "control", "console", "store"):
        store.make(f"{path}/{node}", "", *readable)
    for node in WRITABLE_NODES:
        store.make(f"{path}/{node}", "", Permission(domid, 0))
    values = {
        "name": name,
        "domid": str(domid),
        "vm": vm,
        "memory/target": str(config.memory << 10),
        "memory/static-max": str(config.maxmem << 10),
        "control/platform-feature-multiprocessor-suspend": "1",
        "control/platform-feature-xs_reset_watches": "1",
    }
    for number in range(config.maxvcpus):
        values[f"cpu/{number}/availability"] = "online" if number < config.vcpus else "offline"
    for node, value in values.items():
        store.write(f"{path}/{node}", value)
    store.write(f"{vm}/name", name)
    store.write(f"{vm}/uuid", handle)


def describe_rings(store: Xenstore, domid: int, ports: Ports, console_mfn: int, store_mfn: int) -> None:
    """Where the domain's two rings are, for whoever looks."""
    path = home(domid)
    store.write(f"{path}/store/ring-ref", str(store_mfn))
    store.write(f"{path}/store/port", str(ports.xenstore))
    store.write(f"{path}/console/ring-ref", str(console_mfn))
    store.write(f"{path}/console/port", str(ports.console))
    store.write(f"{path}/console/type", "xenconsoled")
    store.write(f"{path}/console/output", "pty")
    store.write(f"{path}/console/limit", "1048576")


def rename(store: Xenstore, domid: int, handle: str, name: str) -> None:
    """Write a domain's new name everywhere."""
    store.write(f"{home(domid)}/name", name)
    store.write(f"/vm/{handle}/name", name)


def remove_nodes(store: Xenstore, domid: int, handle: str) -> None:
    """The domain is gone."""
    for path in (home(domid), f"/vm/{handle}", f"/libxl/{domid}"):
        store.remove(path)


def request(store: Xenstore, domid: int, word: str) -> None:
    """Ask the guest for something: "poweroff" or "reboot"."""
    store.write(f"{home(domid)}/control/shutdown", word)


def answered(store: Xenstore, domid: int) -> bool:
    """Whether the guest took notice of the last request."""
    return not store.read(f"{home(domid)}/control/shutdown")
