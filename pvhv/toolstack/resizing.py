# SPDX-License-Identifier: GPL-2.0-or-later
"""A running domain's memory and vCPUs made more or less, as xl's mem-set, mem-max and vcpu-set do it.

Nothing is taken from a guest. The target is written to xenstore (`memory/target`, `cpu/<n>/availability`); the guest's
own drivers then give pages back or ask for more, and take vCPUs down or bring them up. Only a maximum is enforced: the
hypervisor allows the domain its target, and EXTRA_KIB more, as libxl does.

The domain's configuration changes as well, so a reboot begins with what was last asked for.

Read beside it: libxl_set_memory_target and libxl_domain_setmaxmem in tools/libs/light/libxl_mem.c,
libxl_set_vcpuonline in libxl_domain.c; drivers/xen/xen-balloon.c and cpu_hotplug.c of Linux for the guest's side.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pvhv.toolstack.domain_store import home
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.layout import EXTRA_KIB, KIB_PER_PAGE
from pvhv.toolstack.lifecycle import State
from pvhv.toolstack.names import quoted

if TYPE_CHECKING:
    from pvhv.toolstack.guest import Guest

MOST_KIB = 1 << 50
LIVING = (State.RUNNING, State.PAUSED)


def set_memory(guest: Guest, kib: int) -> None:
    """Set how many KiB a domain should have: the target of its balloon driver. Raises ToolstackError."""
    _require_size(kib)
    _require_drivers(guest, "given memory or relieved of it")
    most = _number(guest, "static-max")
    if kib > most:
        raise ToolstackError(
            f"{guest.name} may have {_size(most)} at most, not {_size(kib)}",
            f"pvhv mem-max {quoted(guest.name)} {_words(kib)} raises that first",
        )
    guest.control.max_mem(guest.domid, (kib + EXTRA_KIB) // KIB_PER_PAGE)
    guest.store.write(f"{home(guest.domid)}/memory/target", str(kib))
    guest.store.write(f"/vm/{guest.handle}/memory", str(kib >> 10))
    guest.config = replace(guest.config, memory=max(kib >> 10, 1))


def set_most_memory(guest: Guest, kib: int) -> None:
    """Set how many KiB a domain may have at most. Raises ToolstackError."""
    _require_size(kib)
    _require_drivers(guest, "allowed another size")
    target = _number(guest, "target")
    if kib < target:
        raise ToolstackError(
            f"{guest.name} is to have {_size(target)}, so {_size(kib)} cannot be the most it may have",
            f"pvhv mem-set {quoted(guest.name)} {_words(kib)} lowers that first",
        )
    guest.control.max_mem(guest.domid, (kib + EXTRA_KIB) // KIB_PER_PAGE)
    guest.store.write(f"{home(guest.domid)}/memory/static-max", str(kib))
    guest.config = replace(guest.config, maxmem=kib >> 10)


def set_vcpus(guest: Guest, count: int) -> None:
    """Have a domain use the first `count` of its vCPUs. Raises ToolstackError."""
    _require_drivers(guest, "told how many vCPUs to use")
    there = len(guest.domain.vcpus)
    if not 1 <= count <= there:
        raise ToolstackError(
            f"{guest.name} has {there} vCPU{'s' * (there != 1)}: it can use 1 to {there} of them, not {count}",
            "maxvcpus in the domain file says how many it has",
        )
    for number in range(there):
        word = "online" if number < count else "offline"
        guest.store.write(f"{home(guest.domid)}/cpu/{number}/availability", word)
    guest.config = replace(guest.config, vcpus=count)


def _require_size(kib: int) -> None:
    if not 1 <= kib < MOST_KIB:
        raise ToolstackError(f"a domain cannot have {kib} KiB of memory")


def _require_drivers(guest: Guest, what: str) -> None:
    if guest.state not in LIVING:
        raise ToolstackError(f"domain {guest.name} is {guest.state.value}: it cannot be {what}")
    if guest.config.type == "hvm":
        raise ToolstackError(f"domain {guest.name} is fully virtualized, and has no xenstore: it cannot be {what}")


def _number(guest: Guest, node: str) -> int:
    path = f"{home(guest.domid)}/memory/{node}"
    value = guest.store.read(path) or b""
    if not value.isdigit():
        raise ToolstackError(f"{path} in xenstore is no number: {value!r}", "`pvhv xenstore-write` sets it (in KiB)")
    return int(value)


def _size(kib: int) -> str:
    return f"{kib >> 10} MiB" if kib % 1024 == 0 else f"{kib} KiB"


def _words(kib: int) -> str:
    return str(kib >> 10) if kib % 1024 == 0 else f"{kib}k"
