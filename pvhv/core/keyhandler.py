# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's debug keys: each is one letter, and prints a part of the hypervisor's state into the hypervisor's log.

The output has Xen's form where pvhv has the same data. It is printed in steps, a domain or some hundred lines at a
time, so that guests run in between; a step whose domain is gone prints nothing. The log is a ring of some thousand
lines, so of a long list a key prints only the beginning and the number of lines left out.

Not modelled: keys about hardware that pvhv does not have (interrupts, PCI, IOMMUs, ACPI, NMIs), and keys that act on
the machine (reboot, crash dump). Pressing one logs that it does nothing.

Read beside it: key_table in xen/common/keyhandler.c; domain_dump_evtchn_info, gnttab_usage_print, dump_timerq.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pvhv.abi.xen import VIRQ_DEBUG
from pvhv.core.crash import state_of
from pvhv.core.events.ports import INTERDOMAIN, UNBOUND, VIRQ
from pvhv.core.events.virq import send_virq
from pvhv.core.sched.runstate import NAMES, RUNNING

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.hypervisor import Hypervisor
    from pvhv.core.sched.timeline import Timeline
    from pvhv.core.vcpu import VCPU

Step = Callable[[], None]
LINES = 256  # of one list

# Of Xen's keys, those with nothing behind them here.
NOT_HERE = "ACDFGILMNOPQRSTVWcilnopvwxz%+-"


class Key(NamedTuple):
    """A key: its description, its steps, and whether `*` runs it too."""

    description: str
    steps: Callable[[Hypervisor], list[Step]]
    diagnostic: bool = True


def press(hypervisor: Hypervisor, key: str) -> list[Step]:
    """The steps for a key; the caller runs them one after another on the hypervisor's thread."""
    handler = KEYS.get(key)
    if handler is None:
        known = "is one of Xen's, and there is nothing of that here" if key in NOT_HERE else "is no key of Xen's"
        return [lambda: hypervisor.console.log(f"'{key}' {known}; h lists those that do something")]
    return [lambda: hypervisor.console.log(f"'{key}' pressed -> {handler.description}"), *handler.steps(hypervisor)]


# -- the keys ------------------------------------------------------------------------------------------------
def show_handlers(hypervisor: Hypervisor) -> list[Step]:
    """h: the list of keys."""
    return [partial(_log, hypervisor, [f" key '{key}' => {each.description}" for key, each in sorted(KEYS.items())])]


def dump_domains(hypervisor: Hypervisor) -> list[Step]:
    """q: each domain and its vCPUs; then each vCPU gets VIRQ_DEBUG, on which a Linux kernel prints its own state."""
    log = hypervisor.console.log
    domains = list(hypervisor.domains.values())
    return [
        lambda: log(f"'q' pressed: NOW={hypervisor.wall.now()}"),
        *(partial(_there, hypervisor, domain, _domain_lines) for domain in domains),
        *(partial(_there, hypervisor, domain, _notify) for domain in domains),
    ]


def dump_registers(hypervisor: Hypervisor) -> list[Step]:
    """d: the registers of each vCPU."""
    return [partial(_there, hypervisor, domain, _register_lines) for domain in list(hypervisor.domains.values())]


def dump_dom0_registers(hypervisor: Hypervisor) -> list[Step]:
    """0: says that domain 0 has no vCPU."""
    return [lambda: hypervisor.console.log("domain 0 has no vCPU: its kernel is Python")]


def dump_runq(hypervisor: Hypervisor) -> list[Step]:
    """r: the run queues."""
    return [partial(_print, hypervisor, _queue_lines, each) for each in hypervisor.scheduler.timelines]


def dump_evtchn_info(hypervisor: Hypervisor) -> list[Step]:
    """e: the event channel ports of each domain."""
    return [partial(_there, hypervisor, domain, _event_lines) for domain in list(hypervisor.domains.values())]


def dump_grants(hypervisor: Hypervisor) -> list[Step]:
    """g: the grants in use."""
    return [partial(_there, hypervisor, domain, _grant_lines) for domain in list(hypervisor.domains.values())]


def dump_timers(hypervisor: Hypervisor) -> list[Step]:
    """a: the timers."""
    return [partial(_print, hypervisor, _timer_lines, each) for each in hypervisor.scheduler.timelines]


def read_clocks(hypervisor: Hypervisor) -> list[Step]:
    """t: the clock of each timeline."""
    keeper = hypervisor.timekeeper

    def lines(timeline: Timeline[VCPU]) -> list[str]:
        tsc = f"tsc={keeper.tsc(timeline)} at {keeper.khz(timeline)} kHz"
        return [f"{_title(timeline)}: stime={timeline.now()} {tsc}"]

    return [partial(_print, hypervisor, lines, each) for each in hypervisor.scheduler.timelines]


def memory_info(hypervisor: Hypervisor) -> list[Step]:
    """m, H: machine memory, total and free."""
    frames = hypervisor.frames
    kib = 4 * frames.count
    lines = ["Physical memory information:", f"    heap total: {kib}kB, free: {4 * frames.free_frames}kB"]
    return [partial(_log, hypervisor, lines)]


def dump_softtsc(hypervisor: Hypervisor) -> list[Step]:
    """s: whether each domain's TSC is read natively or emulated."""
    lines = [
        f"dom{domain.domid}: mode=0, {'virtual' if domain.timeline.virtual else 'native'}, "
        f"khz={hypervisor.timekeeper.tsc_kind(domain).khz}"
        for domain in hypervisor.domains.values()
        if domain.domid
    ]
    return [partial(_log, hypervisor, lines)]


def dump_numa(hypervisor: Hypervisor) -> list[Step]:
    """u: there is one node."""
    lines = [f"NODE0 start->0 size->{hypervisor.frames.count} free->{hypervisor.frames.free_frames}", "CPU0 -> NODE0"]
    return [partial(_log, hypervisor, lines)]


def run_all(hypervisor: Hypervisor) -> list[Step]:
    """*: every key that is marked as diagnostic."""
    keys = [key for key, each in sorted(KEYS.items()) if each.diagnostic]
    return [step for key in keys for step in press(hypervisor, key)]


KEYS: dict[str, Key] = {
    "h": Key("show this message", show_handlers, False),
    "q": Key("dump domain (and guest debug) info", dump_domains),
    "d": Key("dump registers", dump_registers),
    "0": Key("dump Dom0 registers", dump_dom0_registers),
    "r": Key("dump run queues", dump_runq),
    "e": Key("dump evtchn info", dump_evtchn_info),
    "g": Key("print grant table usage", dump_grants),
    "a": Key("dump timer queues", dump_timers),
    "t": Key("display multi-cpu clock info", read_clocks),
    "m": Key("memory info", memory_info),
    "H": Key("dump heap info", memory_info),
    "s": Key("dump softtsc stats", dump_softtsc),
    "u": Key("dump NUMA info", dump_numa),
    "*": Key("print all diagnostics", run_all, False),
}


# -- lines ---------------------------------------------------------------------------------------------------
def _log(hypervisor: Hypervisor, lines: Iterable[str]) -> None:
    for line in lines:
        hypervisor.console.log(line)


def _print(hypervisor: Hypervisor, lines: Callable[[Timeline[VCPU]], Iterable[str]], timeline: Timeline[VCPU]) -> None:
    _log(hypervisor, lines(timeline))


def _there(hypervisor: Hypervisor, domain: Domain, lines: Callable[[Domain], Iterable[str]]) -> None:
    if hypervisor.domains.get(domain.domid) is domain:
        _log(hypervisor, lines(domain))


def _some(lines: list[str], count: int) -> list[str]:
    return lines + ([f"    ... and {count - len(lines)} more"] if count > len(lines) else [])


def _domain_lines(domain: Domain) -> Iterable[str]:
    yield f"General information for domain {domain.domid}:"
    yield (
        f"    refcnt=1 dying={2 if domain.dead else int(domain.dying)} pause_count={domain.paused} "
        f"nr_pages={domain.tot_pages} max_pages={domain.max_pages}"
    )
    yield f"    handle={domain.handle} vm_assist={domain.vm_assist:08x}"
    yield f"VCPU information and callbacks for domain {domain.domid}:"
    for vcpu in domain.vcpus:
        turn = domain.timeline.turn
        runs = turn is not None and turn.vcpu is vcpu
        yield (
            f"    VCPU{vcpu.vcpu_id}: CPU0 [has={'T' if runs else 'F'}] poll={int(vcpu.polling)} "
            f"state={NAMES[vcpu.runstate.state]} pause_count={vcpu.paused}"
        )
        if vcpu.periodic_period:
            yield f"    {10**9 // vcpu.periodic_period} Hz periodic timer (period {vcpu.periodic_period // 10**6} ms)"
        else:
            yield "    No periodic timer"


def _notify(domain: Domain) -> Iterable[str]:
    if domain.dying or domain.hvm is not None:
        return
    for vcpu in domain.vcpus:
        port = vcpu.virq_ports.get(VIRQ_DEBUG, 0)
        yield f"Notifying guest {domain.domid}:{vcpu.vcpu_id} (virq {VIRQ_DEBUG}, port {port})"
        send_virq(vcpu, VIRQ_DEBUG)


def _register_lines(domain: Domain) -> Iterable[str]:
    for vcpu in domain.vcpus:
        if vcpu.initialised or domain.hvm is not None:
            yield f"*** Dumping CPU0 guest state ({vcpu}): ***"
            yield from state_of(vcpu)


def _queue_lines(timeline: Timeline[VCPU]) -> list[str]:
    lines = [f"{_title(timeline)}: NOW={timeline.now()}"]
    for vcpu in timeline.vcpus[:LINES]:
        spent = vcpu.runstate.times(timeline.now())[RUNNING]
        state = NAMES[vcpu.runstate.state]
        lines.append(f"    {vcpu}: {state} weight={vcpu.domain.weight} ran={spent} credit-used={vcpu.credit_used:.0f}")
    return _some(lines, 1 + len(timeline.vcpus))


def _event_lines(domain: Domain) -> Iterable[str]:
    events = domain.events
    yield f"Event channel information for domain {domain.domid}:"
    polling = ",".join(str(vcpu.vcpu_id) for vcpu in domain.vcpus if vcpu.polling)
    yield f"Polling vCPUs: {{{polling}}}"
    yield "    port [p/m/s]"
    used = events.in_use()
    lines = []
    for channel in used[:LINES]:
        ops = events.ops
        pending, masked = int(ops.is_pending(channel)), int(ops.is_masked(channel))
        line = f"    {channel.port:4} [{pending}/{masked}/{ops.shown(channel)}]: s={channel.state} n={channel.vcpu_id}"
        if channel.state == UNBOUND:
            line += f" d={channel.remote_domid}"
        elif channel.state == INTERDOMAIN and channel.target is not None:
            line += f" d={channel.target.events.domid} p={channel.target.port}"
        elif channel.state == VIRQ:
            line += f" v={channel.virq}"
        lines.append(line)
    yield from _some(lines, len(used))


def _grant_lines(domain: Domain) -> Iterable[str]:
    active = domain.grants.active
    yield f"grant-table for remote d{domain.domid} (v{domain.grants.version})"
    if not active:
        yield "    no active grant table entries"
        return
    yield "    [ref] localdom mfn      pin"
    refs = sorted(active)[:LINES]
    lines = [f"    [{ref:3}] {active[ref].domid:8} {active[ref].mfn:#08x} {active[ref].pin:#010x}" for ref in refs]
    yield from _some(lines, len(active))


def _timer_lines(timeline: Timeline[VCPU]) -> list[str]:
    now = timeline.now()
    waiting = [timer for _deadline, _serial, timer in timeline.timers if timer.callback is not None]
    due = sorted(waiting, key=lambda timer: timer.deadline)[:LINES]
    lines = [f"{_title(timeline)}: {len(waiting)} timers"]
    lines += [f"    ex={(timer.deadline - now) / 1000:12.3f}us" for timer in due]
    return _some(lines, 1 + len(waiting))


def _title(timeline: Timeline[VCPU]) -> str:
    return f"timeline {timeline.name}" if timeline.name else "CPU0"
