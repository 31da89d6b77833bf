# SPDX-License-Identifier: GPL-2.0-or-later
"""What a domain finds in xenstore about itself, and how dom0 asks it for something.

The nodes are those libxl makes, in its order and with its permissions: under /local/domain/<domid> the guest may
read what it is, and write where it has something to say (`data`, `control/shutdown`, ...); under /vm is what
outlives a domain's number, which the guest may read, and under /libxl what dom0 keeps for itself. The console is a
device: it has a backend's directory, too, and a copy of that in /libxl.

A request (to shut down, a key for sysrq) is a word written to a node of `control`; the guest's driver takes it by
emptying the node.

Not modelled: a terminal behind the console (`console/tty` is empty: `pvhv console` is the way there), nodes that libxl
makes for fully virtualized domains only.

Read beside it: libxl__domain_make in tools/libs/light/libxl_create.c, libxl__build_post in libxl_dom.c,
libxl__device_console_add in libxl_console.c; docs/misc/xenstore-paths.pandoc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.abi.io.xenbus import XenbusStateInitialising
from pvhv.devices.xenstore.daemon import Xenstore
from pvhv.devices.xenstore.permissions import READ, Permission
from pvhv.toolstack.builder import Ports
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import DOMAIN_0, as_bytes, shown

if TYPE_CHECKING:
    from pvhv.core.domain import Domain

SHUTDOWNS = ("poweroff", "reboot")  # what a guest can be asked to do
READABLE_NODES = ("cpu", "memory", "device", "control")
WRITABLE_NODES = (
    "device/suspend/event-channel",
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/sysrq",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
)
DOM0 = Permission(0, 0)
CONSOLE_LIMIT = 1 << 20


def home(domid: int) -> str:
    """A domain's own part of the store."""
    return f"/local/domain/{domid}"


def describe_domain_0(store: Xenstore) -> None:
    """Make the nodes of domain 0. (xen-init-dom0)"""
    store.write(f"{home(0)}/domid", "0")
    store.write(f"{home(0)}/name", DOMAIN_0)


def make_nodes(store: Xenstore, domain: Domain, name: str, handle: str, config: DomainConfig) -> None:
    """Make all nodes of a new domain, but for those of its rings. (libxl__domain_make, libxl__build_post)"""
    domid = domain.domid
    path, vm, libxl = home(domid), f"/vm/{handle}", f"/libxl/{domid}"
    readable = (DOM0, Permission(domid, READ))
    for root, permissions in ((path, readable), (vm, readable), (libxl, (DOM0,))):
        store.remove(root)
        store.make(root, "", *permissions)
    store.make(f"{libxl}/device", "", DOM0)
    store.write(f"{path}/vm", vm)
    store.write(f"{path}/name", as_bytes(name))
    for node in READABLE_NODES:
        store.make(f"{path}/{node}", "", *readable)
    for node in WRITABLE_NODES:
        store.make(f"{path}/{node}", "", Permission(domid, 0))
    store.write(f"{vm}/uuid", handle)
    store.write(f"{vm}/name", as_bytes(name))
    hundredths = (domain.timeline.wallclock() + domain.timeline.now()) // 10_000_000
    values = {
        f"{path}/control/platform-feature-multiprocessor-suspend": "1",
        f"{path}/control/platform-feature-xs_reset_watches": "1",
        f"{libxl}/type": config.type,
        f"{libxl}/dm-version": "qemu_xen",
        f"{path}/memory/static-max": str(config.maxmem << 10),
        f"{path}/memory/target": str(config.memory << 10),
        f"{path}/memory/videoram": "0",
        f"{path}/domid": str(domid),
    }
    for number in range(config.maxvcpus):
        values[f"{path}/cpu/{number}/availability"] = "online" if number < config.vcpus else "offline"
    values[f"{vm}/image/ostype"] = "linux" if config.type == "pv" else config.type
    values[f"{vm}/image/kernel"] = str(config.kernel)
    values[f"{vm}/start_time"] = f"{hundredths // 100}.{hundredths % 100:02}"
    if config.ramdisk is not None:
        values[f"{vm}/image/ramdisk"] = str(config.ramdisk)
    if config.cmdline:
        values[f"{vm}/image/cmdline"] = config.cmdline
    for node, value in values.items():
        store.write(node, as_bytes(value))


def describe_rings(store: Xenstore, domid: int, ports: Ports, console_mfn: int, store_mfn: int) -> None:
    """Write where the domain's two rings are. (libxl__device_generic_add, for the console)"""
    path = home(domid)
    store.write(f"{path}/store/port", str(ports.xenstore))
    store.write(f"{path}/store/ring-ref", str(store_mfn))
    front, back, copy = f"{path}/console", console_backend(domid), f"/libxl/{domid}/device/console/0"
    readable = (DOM0, Permission(domid, READ))
    store.make(front, "", *readable)
    store.make(f"{front}/backend", back, *readable)
    store.make(f"{front}/backend-id", "0", Permission(domid, 0), Permission(0, READ))
    ours = {
        "limit": str(CONSOLE_LIMIT),
        "type": "xenconsoled",
        "output": "pty",
        "tty": "",
        "port": str(ports.console),
        "ring-ref": str(console_mfn),
    }
    for node, value in ours.items():
        store.make(f"{front}/{node}", value, *readable)
    state = str(XenbusStateInitialising)
    backs = {"frontend-id": str(domid), "online": "1", "state": state, "protocol": "vt100"}
    store.make(back, "", *readable)
    for where, permissions in ((back, readable), (copy, (DOM0,))):
        store.make(where, "", *permissions)
        store.write(f"{where}/frontend", front)
        if where == copy:
            store.write(f"{copy}/backend", back)
        for node, value in backs.items():
            store.write(f"{where}/{node}", value)


def console_backend(domid: int) -> str:
    """The directory of the console's backend."""
    return f"{home(0)}/backend/console/{domid}/0"


def rename(store: Xenstore, domid: int, handle: str, name: str) -> None:
    """Write a domain's new name everywhere."""
    store.write(f"{home(domid)}/name", as_bytes(name))
    store.write(f"/vm/{handle}/name", as_bytes(name))


def remove_nodes(store: Xenstore, domid: int, handle: str) -> None:
    """Remove the nodes of a domain that is gone, and directories of backends that are empty now.
    (libxl__xs_path_cleanup)"""
    back = console_backend(domid)
    store.remove(back)
    for path in (back.rsplit("/", count)[0] for count in (1, 2, 3)):
        if not store.children(path):
            store.remove(path)
    for path in (f"/vm/{handle}", home(domid), f"/libxl/{domid}"):
        store.remove(path)


def request(store: Xenstore, domid: int, node: str, word: str) -> None:
    """Write a request to the guest: a word for its `control/shutdown`, or a key for `control/sysrq`. Raises
    ToolstackError for a word or a key that does not exist."""
    if node == "shutdown" and word not in SHUTDOWNS:
        raise ToolstackError(f"a guest can be asked to {' or to '.join(SHUTDOWNS)}, and not to {shown(word[:40])}")
    if node == "sysrq" and not (len(word) == 1 and word.isascii() and word.isprintable() and word != " "):
        raise ToolstackError(f"{word[:40]!a} is not a key of the magic SysRq", "it is one letter, for example h")
    store.write(f"{home(domid)}/control/{node}", word)


def answered(store: Xenstore, domid: int, node: str) -> bool:
    """Whether the guest has taken the last request."""
    return not store.read(f"{home(domid)}/control/{node}")
