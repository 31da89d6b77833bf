# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of running domains for clients: the verbs block_attach, block_detach and block_list of the host process.

What takes long does not keep a guest waiting: an image is opened on another thread, and a driver that is to close a
device is waited for here, in the server's loop. As with libxl, it has ten seconds.

Read beside it: tools/xl/xl_block.c; plugging.py, which does the work.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from pvhv.devices.backend import Backend
from pvhv.toolstack import plugging
from pvhv.toolstack.beside import await_or_undo
from pvhv.toolstack.config import disk_from_wire
from pvhv.toolstack.disk_spec import DiskConfig
from pvhv.toolstack.disks import OpenDisk, open_all
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import Guest
from pvhv.toolstack.host import Host
from pvhv.toolstack.names import quoted
from pvhv.toolstack.server import Call, Handler

T = TypeVar("T")
DESTROY_TIMEOUT_S = 10.0  # LIBXL_DESTROY_TIMEOUT
ASKED_FIRST_S = 0.5
POLL_S = 0.02


class BlockAccess:
    """The verbs of the host process for disks."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.handlers: dict[str, Handler] = {
            "block_attach": self.attach,
            "block_detach": self.detach,
            "block_list": self.list,
            "cd_change": self.change_medium,
        }

    async def _post(self, function: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self.host.hypervisor.post(function))

    async def attach(self, call: Call, domain: str, disk: Sequence[str]) -> dict[str, Any]:
        """Give a domain a disk: the fields of a DiskConfig."""
        wanted = disk_from_wire(disk)
        await self._post(lambda: plugging.require_room(self.host.find(domain), wanted))
        opening = self.host.beside.do(lambda: open_all([wanted]))
        (file,) = await await_or_undo(opening, lambda opened: opened[0].close())
        backend = await self._post(lambda: self._attach(domain, wanted, file))
        return {"devid": backend.number, "backend": backend.back}

    def _attach(self, domain: str, wanted: DiskConfig, file: OpenDisk) -> Backend:
        try:
            guest = self.host.find(domain)
        except ToolstackError:
            file.close()
            raise
        return plugging.attach(self.host, guest, wanted, file)

    async def detach(self, call: Call, domain: str, disk: str, force: bool = False) -> None:
        """Take a disk from a domain, by its name or number, and wait until it is gone.

        A front end is asked first, with `force` as well: one that does not know may put another request into the ring,
        which nobody answers, and its programs wait for ever. With `force` it has `ASKED_FIRST_S` to close."""

        def begin() -> tuple[Guest, Backend]:
            guest = self.host.find(domain)
            return guest, plugging.detach(guest, disk)

        guest, backend = await self._post(begin)
        loop = asyncio.get_running_loop()
        deadline, patient_until = loop.time() + DESTROY_TIMEOUT_S, loop.time() + ASKED_FIRST_S
        while not backend.gone:
            if force and loop.time() > patient_until:
                patient_until = math.inf  # once
                await self._post(partial(plugging.take_away, backend))
            elif loop.time() > deadline and force:  # the host's file does not answer, or the domain's clock stands
                await self._post(backend.close)
            elif loop.time() > deadline:
                why = await self._post(lambda: plugging.why_kept(guest, backend))
                raise ToolstackError(
                    f"{guest.name} did not release {disk} within {DESTROY_TIMEOUT_S:g} s: {why}",
                    f"pvhv block-detach --force {quoted(guest.name)} {disk} takes it away; programs get I/O errors",
                )
            await asyncio.sleep(POLL_S)
        if await self._post(lambda: plugging.is_kept_for(self.host, guest, backend)):
            raise ToolstackError(
                f"{guest.name} began another life before it released {disk}, and has it again",
                f"pvhv block-detach {quoted(guest.name)} {disk} asks once more",
            )

    async def change_medium(self, call: Call, domain: str, disk: Sequence[str]) -> None:
        """Put another medium, or none, into a CD-ROM drive: the fields of a DiskConfig with the drive's name."""
        wanted = disk_from_wire(disk)
        await self._post(lambda: plugging.require_drive(self.host.find(domain), wanted.vdev))
        opening = self.host.beside.do(lambda: open_all([wanted]))
        (file,) = await await_or_undo(opening, lambda opened: opened[0].close())
        changing = await self._post(lambda: self._change(domain, file))
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(changing)), DESTROY_TIMEOUT_S)
        except TimeoutError:
            raise ToolstackError(
                f"the drive {wanted.vdev} of {domain} is still being read after {DESTROY_TIMEOUT_S:g} s",
                "its medium is changed when that ends",
            ) from None

    def _change(self, domain: str, file: OpenDisk) -> Future[None]:
        try:
            guest = self.host.find(domain)
        except ToolstackError:
            file.close()
            raise
        return plugging.change_medium(self.host, guest, file.wanted.vdev, file)

    async def list(self, call: Call, domain: str) -> list[dict[str, Any]]:
        """A row for each disk of a domain."""
        return await self._post(lambda: plugging.rows(self.host.find(domain)))
