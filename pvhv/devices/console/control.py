# SPDX-License-Identifier: GPL-2.0-or-later
"""A console beside the first one: the guest finds it by xenbus, as /dev/hvc1 and so on in Linux.

The first console needs no handshake: its page and port stand in start_info, and its page is the grant that is reserved
for it. So the toolstack makes that link itself, when it builds the domain.

Read beside it: xencons_probe and xencons_connect_backend in Linux's drivers/tty/hvc/hvc_xen.c; docs/misc/console.txt.
"""

from __future__ import annotations

from pvhv.devices.backend import Backend


class ConsoleBackend(Backend):
    """Console `number` of a domain, from 1 on; its data half is a pvhv.devices.console.console.Console."""

    kind = "console"
    port_node = "port"

    def offers(self) -> dict[str, str]:
        """The nodes that xenconsoled's backend has."""
        return {"protocol": "vt100"}

    def tells(self) -> dict[str, str]:
        """The node that says who serves the console."""
        return {"type": "xenconsoled", "output": "pty", "tty": "", "limit": str(1 << 20)}
