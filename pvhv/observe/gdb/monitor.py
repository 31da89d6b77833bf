# SPDX-License-Identifier: GPL-2.0-or-later
"""What is typed behind `monitor` in GDB: questions about the domain that GDB has no commands for."""

from __future__ import annotations

from collections.abc import Callable

from pvhv.core.crash import hypercalls
from pvhv.core.debugger import Debugger
from pvhv.core.sched.runstate import NAMES
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import RIP


def answer(debugger: Debugger, typed: str) -> str:
    """The text that GDB shows for a line typed behind `monitor`."""
    words = typed.split() or ["help"]
    found = [name for name in COMMANDS if name.startswith(words[0])]
    if len(found) != 1:
        return f"there is no `monitor {typed}`\n" + help_text(debugger)
    return COMMANDS[found[0]][0](debugger)


def help_text(_debugger: Debugger) -> str:
    """All commands."""
    width = max(map(len, COMMANDS))
    return "".join(f"monitor {name:{width}}  {what}\n" for name, (_, what) in COMMANDS.items())


def info(debugger: Debugger) -> str:
    """The domain as a whole."""
    domain = debugger.domain
    pauses = f", paused by its controller {domain.controller_paused} times" if domain.controller_paused else ""
    return (
        f"domain {domain.domid}: {domain.tot_pages >> 8} of {domain.max_pages >> 8} MiB, {len(domain.vcpus)} vCPUs, "
        f"{'virtual' if domain.timeline.virtual else 'wall'} clock at {domain.timeline.now() / 1e9:.6f} s{pauses}\n"
        f"{len(debugger.breakpoints)} breakpoints\n"
    )


def state(vcpu: VCPU) -> str:
    """What a vCPU does, in words."""
    if vcpu.down:
        return "down"
    if vcpu.blocked or vcpu.polling:
        return "polling" if vcpu.polling else "blocked"
    return NAMES[vcpu.runstate.state] if not vcpu.domain.paused else "stopped"


def vcpus(debugger: Debugger) -> str:
    """Each vCPU: what it does, where, on which tables, and whether events are masked and pending."""
    ram = debugger.domain.hypervisor.ram.bytes
    lines = []
    for vcpu in debugger.domain.vcpus:
        pending, masked = (ram[vcpu.vcpu_info + n] for n in (0, 1)) if vcpu.vcpu_info else (0, 0)
        lines.append(
            f"vCPU {vcpu.vcpu_id}: {state(vcpu)}, {'kernel' if vcpu.kernel_mode else 'user'} mode, "
            f"rip {vcpu.state[RIP]:#x}, L4 at mfn {vcpu.guest_table:#x} (kernel) {vcpu.guest_table_user:#x} (user), "
            f"events {'masked' if masked else 'unmasked'}{', one pending' if pending else ''}\n"
        )
    return "".join(lines)


def recent(debugger: Debugger) -> str:
    """The last hypercalls of each vCPU."""
    return "".join(
        f"vCPU {vcpu.vcpu_id}: " + "\n".join(hypercalls(vcpu)) + "\n"
        for vcpu in debugger.domain.vcpus
        if not vcpu.down
    )


COMMANDS: dict[str, tuple[Callable[[Debugger], str], str]] = {
    "help": (help_text, "this"),
    "info": (info, "the domain: memory, clock, breakpoints"),
    "vcpus": (vcpus, "each vCPU: what it does, page tables, events"),
    "hypercalls": (recent, "the last hypercalls of each vCPU"),
}
