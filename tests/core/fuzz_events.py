# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves of a hostile guest that are about event channels (tests/core/fuzz_moves.py has the others)."""

from __future__ import annotations

import struct
from typing import Any

from pvhv.abi import xen
from pvhv.abi.event_channel import (
    EVTCHNOP,
    EvtchnAllocUnbound,
    EvtchnBindInterdomain,
    EvtchnBindVirq,
    EvtchnInitControl,
    EvtchnOp,
    EvtchnReset,
    EvtchnSend,
    EvtchnSetPriority,
)
from pvhv.abi.physdev import PHYSDEVOP, PhysdevOp
from pvhv.abi.spec import Command
from pvhv.abi.xen import DOMID_SELF
from pvhv.core.sched.timeline import Share
from tests.core.fuzz import Hostile

PENDING, MASKED, LINKED, BUSY = 1 << 31, 1 << 30, 1 << 29, 1 << 28


def event(it: Hostile, command: Command, record: Any) -> None:
    it.call(xen.HYPERVISOR_event_channel_op, command.number, it.request(record))


def connect(it: Hostile) -> None:
    """Offer a port and bind it from the other side, or bind what was offered."""
    peer = it.rng.choice(it.peers) if it.peers else it.domain
    if it.rng.random() < 0.5:
        where = DOMID_SELF if it.rng.random() < 0.8 else peer.domid  # who may be dying
        event(it, EVTCHNOP.alloc_unbound, EvtchnAllocUnbound(where, peer.domid))
    else:
        offered = [channel.port for channel in peer.events.in_use() if channel.remote_domid == it.domain.domid]
        port = it.rng.choice(offered) if offered else it.port()
        event(it, EVTCHNOP.bind_interdomain, EvtchnBindInterdomain(peer.domid, port))


def send_some(it: Hostile) -> None:
    for _ in range(it.rng.randrange(1, 5)):
        if it.alive:
            event(it, EVTCHNOP.send, EvtchnSend(it.port()))


def older_calls(it: Hostile) -> None:
    """Command and structure together, as before interface 0x00030202."""
    record: Any = it.rng.choice((EvtchnOp, PhysdevOp))()
    commands = EVTCHNOP if isinstance(record, EvtchnOp) else PHYSDEVOP
    command = it.rng.choice(list(commands))
    record.cmd = command.number
    if command.arg is not None and hasattr(record.u, command.name):
        setattr(record.u, command.name, it.fill(command.arg))
    number = xen.HYPERVISOR_event_channel_op_compat if commands is EVTCHNOP else xen.HYPERVISOR_physdev_op_compat
    it.call(number, it.request(record))
    if command is EVTCHNOP.bind_virq and it.alive:
        it.call(number, it.request(record))


def run_out_of_ports(it: Hostile) -> None:
    """Everything that wants a port, again and again."""
    for _ in range(3):
        connect(it)
        if it.alive:
            event(it, EVTCHNOP.bind_virq, EvtchnBindVirq(it.rng.randrange(24), 0))
        if it.alive:
            event(it, EVTCHNOP.bind_ipi, struct.pack("<LL", it.rng.randrange(2), 0))


# -- the FIFO ABI ----------------------------------------------------------------------------------------------
def give_control_block(it: Hostile) -> None:
    rng = it.rng
    offset = rng.choice((0, 0, 64, 4024, 4032, 4, 4096, 0xFFFF_FFF8))
    event(it, EVTCHNOP.init_control, EvtchnInitControl(it.mfn(), offset, rng.choice((0, 0, 1, 1, 2, 31))))


def give_words(it: Hostile) -> None:
    event(it, EVTCHNOP.expand_array, it.mfn().to_bytes(8, "little"))


def whole_array(it: Hostile) -> None:
    """More pages than there are ports for: one and the same, again and again."""
    if it.domain.events.fifo is None:
        give_control_block(it)
    mfn = it.own_mfn()
    for _ in range(130):
        if it.alive:
            event(it, EVTCHNOP.expand_array, mfn.to_bytes(8, "little"))


def garble(it: Hostile) -> None:
    """Write the words and blocks it shares with the hypervisor, where it still can; then have them looked at."""
    rng, fifo = it.rng, it.domain.events.fifo
    if fifo is None:
        return
    for mfn in rng.sample(fifo.kept, min(3, len(fifo.kept))):
        if mfn in it.judge.untouchable or not it.writable(mfn) or mfn in it.domain.hypervisor_frames:
            continue
        for _ in range(rng.choice((1, 10, 200))):
            at = (mfn << 10) + rng.choice((rng.randrange(1024), rng.randrange(24)))
            flags = rng.choice((0, PENDING, MASKED, LINKED, BUSY, LINKED | PENDING, rng.getrandbits(32)))
            fifo.words[at] = flags | rng.choice((0, 0, rng.randrange(24), rng.getrandbits(17)))
    if it.alive:
        send_some(it)


def priorities(it: Hostile) -> None:
    event(it, EVTCHNOP.set_priority, EvtchnSetPriority(it.port(), it.rng.choice((0, 7, 15, 15, 16, 0xFFFF_FFFF))))


def reset(it: Hostile) -> None:
    command = it.rng.choice((EVTCHNOP.reset, EVTCHNOP.reset, EVTCHNOP.reset_cont))
    event(it, command, EvtchnReset(it.domid()))


def many_ports(it: Hostile) -> bool:
    """Have more than are closed in one go; False where it may not."""
    events = it.domain.events
    if events.next_to_reset or events.max_port < 200:
        return False
    while events.active < 200:
        events.bind_ipi(0)
    return True


def reset_beside_others(it: Hostile) -> None:
    """Another of its vCPUs makes ports where it was already."""
    if many_ports(it):
        it.meanwhile = lambda: it.domain.events.bind_ipi(1)
        event(it, EVTCHNOP.reset, EvtchnReset(DOMID_SELF))
        it.meanwhile = lambda: None


def reset_under_way(it: Hostile) -> None:
    """Another of its vCPUs began one, which was put aside; whatever it does now comes in between."""
    if not many_ports(it):
        return
    events, scheduler = it.domain.events, it.machine.hv.scheduler
    undivided, scheduler.share = scheduler.share, Share(1)
    events.reset()
    scheduler.share = undivided
    for _ in range(it.rng.randrange(4)):
        if it.alive:
            it.rng.choice((connect, send_some, reset, garble, give_control_block, run_out_of_ports))(it)
    if it.alive:
        event(it, EVTCHNOP.reset_cont, EvtchnReset(DOMID_SELF))
