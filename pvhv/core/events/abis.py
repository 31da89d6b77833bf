# SPDX-License-Identifier: GPL-2.0-or-later
"""A new domain's table of ports, made with its ABIs.

channels.py uses an ABI only by its operations (`PortOps`). The choice of ABI is made here: a guest begins with
two_level.py and may change to fifo.py; domain 0 has handlers.py.
"""

from __future__ import annotations

from functools import partial

from pvhv.core.domain import Domain
from pvhv.core.events.channels import EventChannels
from pvhv.core.events.fifo import Fifo
from pvhv.core.events.handlers import Handlers
from pvhv.core.events.two_level import TwoLevel


def event_channels(domain: Domain) -> EventChannels:
    """The table of a new domain, with no port in use."""
    hypervisor = domain.hypervisor
    scheduler = hypervisor.scheduler
    handlers = Handlers(scheduler.defer, scheduler.defer_patiently) if domain.domid == 0 else None
    return EventChannels(domain, TwoLevel(domain), partial(Fifo, domain), handlers, hypervisor.must_yield)
