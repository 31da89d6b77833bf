# SPDX-License-Identifier: GPL-2.0-or-later
"""One fully virtualized domain as dom0 knows it: it is built otherwise than a paravirtual one, and lives the same life.

The domain has a virtual machine of its own instead of rings and a start_info page in its memory. Its console is a UART,
and its disks are devices of the PC. It has no access to the store and to event channels.

Read beside it: guest.py; tools/libs/light/libxl_dom.c (libxl__build_hvm).
"""

from __future__ import annotations

from collections.abc import Iterator

from pvhv.core.errors import HypercallError
from pvhv.core.sched.worker import Worker
from pvhv.devices.console.serial import SerialConsole
from pvhv.hvm.guest import HvmGuest
from pvhv.hvm.platform.asked import Requests
from pvhv.hvm.platform.storage import Backing
from pvhv.hvm.techniques.registry import TECHNIQUES
from pvhv.toolstack import domain_store, pc_disks, pvh
from pvhv.toolstack.guest import PAGES_PER_MIB, Guest, Prepared


class FullGuest(Guest):
    """A domain of type hvm."""

    hvm: HvmGuest

    def begin(self) -> None:
        """Make the domain, which is still empty. Raises ToolstackError."""
        config, console = self.config, self.console
        self.pc_requests: dict[str, Requests] = {}  # of its disks, by name
        assert isinstance(console, SerialConsole)
        try:
            self.hvm = HvmGuest(
                self.hypervisor,
                TECHNIQUES[config.technique],
                config.memory * PAGES_PER_MIB,
                virtual=config.clock == "virtual",
                transmit=console.said,
                populate=False,
            )
        except (HypercallError, MemoryError) as failure:
            raise self._refused(failure) from None
        self._name_it(self.hvm.domain.domid)

    def _building(self, prepared: Prepared) -> Iterator[None]:
        console, plan, domain = self.console, prepared.plan, self.domain
        assert isinstance(console, SerialConsole) and isinstance(plan, pvh.Plan)
        yield from self.hvm.populating()
        loading = pvh.load(self.hvm.physical, self.kernel, plan, self.config.cmdline, prepared.ramdisk)
        yield from self._in_steps(loading)
        self._plug_disks()
        self.hvm.technique.reset(plan.entry, pvh.TELL_AT)
        domain_store.make_nodes(self.store, domain, self.name, self.handle, self.config)
        console.virtual = domain.timeline.virtual
        console.connect(self.hvm.platform.uart.receive, self._hold)
        if console.virtual:
            self._idle_hook = console.deliver
            domain.timeline.on_idle.append(self._idle_hook)

    def _plug_disks(self) -> None:
        for disk, file in zip(self.config.disks, self.files, strict=True):
            worker = Worker(
                file.thread, self.hypervisor.scheduler, self.domain, self.config.disk_latency * 1000
            )
            backing = Backing(file.image, worker)
            self.pc_requests[disk.vdev] = pc_disks.plug(self.hvm.platform, disk.vdev, backing, self.hvm.memory)

    def _hold(self, hold: bool) -> None:
        """Have the guest wait because a reader of its console is too slow, or let it go on."""
        (self.hypervisor.activity.pause if hold else self.hypervisor.activity.unpause)(self.domain)


def pc_requests(guest: Guest) -> dict[str, Requests]:
    """What is asked of a domain's disks that are devices of a PC, by name."""
    return guest.pc_requests if isinstance(guest, FullGuest) else {}
