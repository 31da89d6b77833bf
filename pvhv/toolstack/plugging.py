# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of a running domain: given to it, taken from it, and listed.

A disk is attached at once: the domain's driver finds its directory in xenstore, and connects when it likes. To detach
one needs the driver. It is asked to close the device, and when it has done so, the device is gone. A driver that does
not (it never connected, its domain is paused, somebody has the disk open) keeps it. It may then be taken away, as soon
as the requests under way are done; the guest's programs get I/O errors.

Which disks a domain has is part of its configuration. So a reboot begins with those that it has then.

Everything here runs on the hypervisor's thread, and nothing waits.

Read beside it: device_disk_add in tools/libs/light/libxl_disk.c, libxl__initiate_device_generic_remove in
libxl_device.c.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pvhv.abi.io.xenbus import STATE_NAMES, XenbusStateInitialising
from pvhv.core.sched.asked import Counts
from pvhv.devices.backend import Backend
from pvhv.devices.block.control import BlockBackend
from pvhv.devices.block.names import number_of
from pvhv.devices.xenbus import state_of
from pvhv.observe.device_probes import VBD
from pvhv.toolstack.beside import settle
from pvhv.toolstack.config import why_not_all
from pvhv.toolstack.disk_spec import DiskConfig
from pvhv.toolstack.disks import OpenDisk
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.full_guest import pc_requests
from pvhv.toolstack.lifecycle import State
from pvhv.toolstack.names import as_bytes, quoted, shown

if TYPE_CHECKING:
    from pvhv.toolstack.guest import Guest
    from pvhv.toolstack.host import Host

LIVING = (State.RUNNING, State.PAUSED)
NONE = -1  # in place of a number
SHOWN_OF_NAME = 40  # characters of what somebody calls a disk


def require_room(guest: Guest, disk: DiskConfig) -> None:
    """Check that a domain may have one more disk, and that one. Raises ToolstackError."""
    if guest.config.type == "hvm":
        raise ToolstackError(
            f"domain {guest.name} is fully virtualized: it finds its disks when it boots", "disk = [...] in its file"
        )
    if guest.state not in LIVING:
        raise ToolstackError(f"domain {guest.name} is {guest.state.value}: it cannot be given a disk")
    number = number_of(disk.vdev)
    if number is None:
        raise ToolstackError(f"a paravirtual domain has no disk {disk.vdev}", "use xvda, xvdb and so on")
    if any(backend.number == number for backend in _disks(guest)):
        raise ToolstackError(
            f"domain {guest.name} has a disk {disk.vdev} already", f"pvhv block-list {quoted(guest.name)} shows them"
        )
    if reason := why_not_all([*guest.config.disks, disk]):
        raise ToolstackError(f"domain {guest.name} cannot be given {disk.vdev}: {reason}")


def attach(host: Host, guest: Guest, disk: DiskConfig, file: OpenDisk) -> Backend:
    """Give a domain a disk, whose file is open. Raises ToolstackError, and then the file is closed."""
    try:
        require_room(guest, disk)
        host.require_unshared([file])
    except ToolstackError:
        file.close()
        raise
    guest.files.append(file)
    guest.config = replace(guest.config, disks=[*guest.config.disks, disk])
    return guest.plug_disk(file)


def find(guest: Guest, who: str) -> Backend:
    """A domain's disk, by its name or its number. Raises ToolstackError."""
    if guest.config.type == "hvm":
        raise ToolstackError(
            f"domain {guest.name} is fully virtualized: its disks are devices of a PC, and stay as they are",
            "disk = [...] in its file",
        )
    number = number_of(who)
    for backend in _disks(guest):
        if backend.number == number:
            return backend
    raise ToolstackError(
        f"domain {guest.name} has no disk {shown(who[:SHOWN_OF_NAME])}",
        f"pvhv block-list {quoted(guest.name)} shows them",
    )


def detach(guest: Guest, who: str) -> Backend:
    """Ask a domain to close a disk. `gone` of the result says when it is done. Raises ToolstackError."""
    backend = find(guest, who)
    if guest.state not in (*LIVING, State.SHUT_DOWN):
        raise ToolstackError(f"domain {guest.name} is {guest.state.value}: its disks go with it")
    backend.on_gone = lambda: _forget(guest, backend)
    backend.unplug()
    return backend


def take_away(backend: Backend) -> None:
    """Take a device from a domain that was asked to close it, and did not."""
    if not backend.gone:
        backend.take_away()


def require_drive(guest: Guest, who: str) -> BlockBackend:
    """Check that a disk is a CD-ROM drive. Raises ToolstackError."""
    backend = find(guest, who)
    assert isinstance(backend, BlockBackend)
    if not backend.data.cdrom:
        raise ToolstackError(
            f"{shown(who[:SHOWN_OF_NAME])} of domain {guest.name} is no CD-ROM drive",
            "a disk of its file is one with devtype=cdrom",
        )
    if backend.data.changing:
        raise ToolstackError(f"the medium of {who} is being changed already", "try again in a moment")
    return backend


def change_medium(host: Host, guest: Guest, who: str, file: OpenDisk) -> Future[None]:
    """Put another medium into a CD-ROM drive. The Future is done when the old one is out. Raises ToolstackError, and
    then the file is closed."""
    try:
        backend = require_drive(guest, who)
        host.require_unshared([file])
    except ToolstackError:
        file.close()
        raise
    future: Future[None] = Future()

    def changed() -> None:
        at = next(at for at, each in enumerate(guest.files) if each.number == backend.number)
        guest.files[at].close()
        guest.files[at] = file
        kept = [file.wanted if number_of(disk.vdev) == backend.number else disk for disk in guest.config.disks]
        guest.config = replace(guest.config, disks=kept)
        for directory in (backend.back, backend.copy):
            guest.store.write(f"{directory}/params", as_bytes(file.target))
        settle(future)

    backend.data.change_image(file.image, file.thread, changed)
    return future


def _forget(guest: Guest, backend: Backend) -> None:
    """A disk that was to be detached is gone."""
    if not guest.stays:
        return  # its domain is destroyed, and may have another life
    guest.backends.remove(backend)
    for file in [each for each in guest.files if each.number == backend.number]:
        guest.files.remove(file)
        file.close()
    kept = [disk for disk in guest.config.disks if number_of(disk.vdev) != backend.number]
    guest.config = replace(guest.config, disks=kept)


def is_kept_for(host: Host, guest: Guest, backend: Backend) -> bool:
    """Whether a disk that is gone is only gone with this life of its domain: another one follows, and has it."""
    if not any(number_of(disk.vdev) == backend.number for disk in guest.config.disks):
        return False
    others = (each for each in host.guests.values() if each is not guest)
    return guest.restarts or any(each.lineage is guest.lineage for each in others)


def why_kept(guest: Guest, backend: Backend) -> str:
    """Why a disk was not given up, as far as can be known from outside."""
    if guest.state is State.PAUSED:
        return "the domain is paused"
    if guest.domain.debugger is not None and guest.domain.debugger.stopped:
        return "its debugger has stopped the domain"
    front = state_of(guest.store.read(f"{backend.front}/state"))
    if front == XenbusStateInitialising:
        return "no driver of the domain has found it"
    return f"the domain's driver keeps it ({STATE_NAMES[front]}), perhaps because something there has it open"


def rows(guest: Guest) -> list[dict[str, Any]]:
    """A row for each disk of a domain, with what xl's block-list shows of it, and more."""
    split = [_row(guest, backend) for backend in _disks(guest)]
    by_name = {disk.vdev: disk for disk in guest.config.disks}
    return [*split, *(_pc_row(guest, by_name[name], asked.model) for name, asked in pc_requests(guest).items())]


def counts(guest: Guest) -> dict[str, int]:
    """How much a domain has asked of its disks, all of them together, by blkback's names; `vbds` is how many it has."""
    found = Counter[str](vbds=0, **vars(Counts()))
    of_disks = [backend.data.counts for backend in guest.backends if isinstance(backend, BlockBackend)]
    for each in (*of_disks, *(requests.counts for requests in pc_requests(guest).values())):
        found.update(vbds=1, **vars(each))
    return dict(found)


def _row(guest: Guest, backend: Backend) -> dict[str, Any]:
    def number(node: str) -> int:
        value = guest.store.read(f"{backend.front}/{node}") or b""
        return int(value) if value.isdigit() and len(value) <= 10 else NONE

    disk = next(each for each in guest.config.disks if number_of(each.vdev) == backend.number)
    return {
        "name": guest.name,
        "domid": guest.domid,
        "vdev": disk.vdev,
        "devid": backend.number,
        "backend_id": 0,
        "handle": guest.domid,
        "state": number("state"),
        "evtch": number("event-channel"),
        "rref": number("ring-ref"),
        "backend": backend.back,
        "backend_state": backend.state,
        "target": disk.target,
        "access": disk.access,
        "model": VBD,
    }


def _pc_row(guest: Guest, disk: DiskConfig, model: str) -> dict[str, Any]:
    """The row of a device of a PC: what only a split driver has is -1, or no word. A virtio disk has no number."""
    number = number_of(disk.vdev)
    return {
        "name": guest.name,
        "domid": guest.domid,
        "vdev": disk.vdev,
        "devid": NONE if number is None else number,
        "backend_id": 0,
        "handle": guest.domid,
        **dict.fromkeys(("state", "evtch", "rref"), NONE),
        "backend": "",
        "backend_state": NONE,
        "target": disk.target,
        "access": disk.access,
        "model": model,
    }


def _disks(guest: Guest) -> list[Backend]:
    named = {number_of(disk.vdev) for disk in guest.config.disks}
    return [each for each in guest.backends if isinstance(each, BlockBackend) and each.number in named]
