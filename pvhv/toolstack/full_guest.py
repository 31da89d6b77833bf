# SPDX-License-Identifier: GPL-2.0-or-later
"""One fully virtualized domain as dom0 knows it: the same life as a paravirtual one's, another birth.

It has a machine of its own instead of rings and a start_info page in its memory: its console is a UART, and of the
store and the event channels it knows nothing.

Read beside it: guest.py; tools/libs/light/libxl_dom.c (libxl__build_hvm).
"""

from __future__ import annotations

import uuid

from pvhv.core.errors import HypercallError
from pvhv.devices.serial import SerialConsole
from pvhv.hvm.guest import HvmGuest
from pvhv.hvm.techniques.registry import TECHNIQUES
from pvhv.toolstack import domain_store, pvh
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import PAGES_PER_MIB, Guest, Prepared


class FullGuest(Guest):
    """A domain of type hvm."""

    full: HvmGuest

    def assemble(self, prepared: Prepared) -> None:
        """Make the domain, ready to be unpaused. Raises ToolstackError; what was made by then is taken back."""
        config, console, plan = self.config, self.console, prepared.plan
        assert isinstance(console, SerialConsole) and isinstance(plan, pvh.Plan)
        virtual = config.clock == "virtual"
        try:
            self.full = HvmGuest(
                self.hypervisor,
                TECHNIQUES[config.technique],
                config.memory * PAGES_PER_MIB,
                virtual=virtual,
                transmit=console.said,
            )
        except HypercallError:
            raise ToolstackError(
                f"the machine has no {config.memory} MiB left for {self.name}",
                "destroy a domain, or give this one less memory",
            ) from None
        self.domain = domain = self.full.domain
        self.control.setdomainhandle(domain.domid, uuid.UUID(self.handle))
        self.control.scheduler_putinfo(domain.domid, config.cpu_weight)
        told = pvh.load(self.full.physical, self.kernel, plan, config.cmdline, prepared.ramdisk)
        self.full.technique.reset(plan.entry, told)
        domain_store.make_nodes(self.store, domain, self.name, self.handle, config)
        console.virtual = virtual
        console.connect(self.full.platform.uart.receive, self._hold)
        if virtual:
            self._idle_hook = console.deliver
            domain.timeline.on_idle.append(self._idle_hook)
        self.happen("built")

    def _hold(self, hold: bool) -> None:
        """Somebody reads too slowly what the guest says: it waits, or goes on."""
        (self.hypervisor.pause if hold else self.hypervisor.unpause)(self.domain)
