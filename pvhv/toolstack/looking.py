# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients ask about domains beyond a row of a table: their configuration as xl prints it, and Xen's debug keys.

Read beside it: list_domains_details in tools/xl/xl_info.c, main_debug_keys in tools/xl/xl_misc.c.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from pvhv.core import keyhandler
from pvhv.toolstack.xl_json import as_xl_has_it

if TYPE_CHECKING:
    from pvhv.toolstack.host import Host
    from pvhv.toolstack.server import Call, Handler

MOST_KEYS = 64  # at once


class LookAccess:
    """The verbs of the host process for configurations and debug keys."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.handlers: dict[str, Handler] = {"configs": self.configs, "debug_keys": self.debug_keys}

    async def configs(self, call: Call, domain: str | None = None) -> Any:
        """The configuration of each domain, or of one."""

        def read() -> list[dict[str, Any]]:
            host = self.host
            guests = list(host.guests.values()) if domain is None else [host.find(domain)]
            return [{"domid": guest.domid, "config": as_xl_has_it(guest.config, guest.handle)} for guest in guests]

        return await asyncio.wrap_future(self.host.hypervisor.post(read))

    async def debug_keys(self, call: Call, keys: str) -> None:
        """Press debug keys of Xen's, one after another. What they print goes to the hypervisor's log."""
        hypervisor = self.host.hypervisor
        for key in keys[:MOST_KEYS]:
            steps = await asyncio.wrap_future(hypervisor.post(partial(keyhandler.press, hypervisor, key)))
            for step in steps:
                await asyncio.wrap_future(hypervisor.post(step))
