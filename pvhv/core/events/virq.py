# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual interrupts: the hypervisor signals a port that the guest bound to a VIRQ's number.

Some VIRQs are for one vCPU (timer, debug), the others for the domain. A VIRQ that is not bound is not delivered.

Read beside it: send_guest_vcpu_virq, send_guest_global_virq in xen/common/event_channel.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU


def send_virq(vcpu: VCPU, virq: int) -> None:
    """Raise a per-vCPU virtual interrupt; nothing happens where none is bound. (send_guest_vcpu_virq)"""
    port = vcpu.virq_ports.get(virq)
    if port is not None:
        events = vcpu.domain.events
        events.set_pending(events.channels[port])


def send_guest_global_virq(domain: Domain, virq: int) -> None:
    """Raise a global virtual interrupt of `domain`, on whichever vCPU the guest wants it.

    A VIRQ about the machine, not one domain, goes to domain 0 (Xen's send_global_virq).
    """
    port = domain.events.virq_port(virq)
    if port:
        domain.events.set_pending(domain.events.channels[port])
