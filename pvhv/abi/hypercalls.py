# SPDX-License-Identifier: GPL-2.0-or-later
"""Every number of Xen's hypercall table, in order.

``HYPERCALLS`` maps a number to its spec.  Every number that has a name in Xen is here, implemented or not; 11 and 43 to
47 have none.  :func:`specs` lists everything that may have a handler.
"""

from __future__ import annotations

from collections.abc import Iterator

from pvhv.abi.callback import CALLBACK_OP, NMI_OP, SET_CALLBACKS
from pvhv.abi.control import (
    ARCH_2,
    ARCH_3,
    ARCH_4,
    ARCH_5,
    ARCH_6,
    ARCH_7,
    ARGO_OP,
    DOMCTL,
    HYPFS_OP,
    KEXEC_OP,
    MCA,
    PAGING_DOMCTL_CONT,
    PLATFORM_OP,
    SYSCTL,
    TMEM_OP,
    XENOPROF_OP,
    XENPMU_OP,
    XSM_OP,
)
from pvhv.abi.cpu import (
    CONSOLE_IO,
    FPU_TASKSWITCH,
    GET_DEBUGREG,
    IRET,
    MULTICALL,
    SET_DEBUGREG,
    SET_SEGMENT_BASE,
    SET_TRAP_TABLE,
    STACK_SWITCH,
    VM_ASSIST,
)
from pvhv.abi.event_channel import EVENT_CHANNEL_OP, EVENT_CHANNEL_OP_COMPAT
from pvhv.abi.grant_table import GRANT_TABLE_OP
from pvhv.abi.hvm import DM_OP, HVM_OP
from pvhv.abi.memory import MEMORY_OP
from pvhv.abi.mmu import (
    MMU_UPDATE,
    MMUEXT_OP,
    SET_GDT,
    UPDATE_DESCRIPTOR,
    UPDATE_VA_MAPPING,
    UPDATE_VA_MAPPING_OTHERDOMAIN,
)
from pvhv.abi.physdev import PHYSDEV_OP, PHYSDEV_OP_COMPAT
from pvhv.abi.sched import SCHED_OP, SCHED_OP_COMPAT, SET_TIMER_OP
from pvhv.abi.spec import Command, Hypercall
from pvhv.abi.vcpu import VCPU_OP
from pvhv.abi.version import XEN_VERSION

_ROWS = (
    SET_TRAP_TABLE, MMU_UPDATE, SET_GDT, STACK_SWITCH, SET_CALLBACKS, FPU_TASKSWITCH, SCHED_OP_COMPAT,
    PLATFORM_OP, SET_DEBUGREG, GET_DEBUGREG, UPDATE_DESCRIPTOR, MEMORY_OP, MULTICALL, UPDATE_VA_MAPPING,
    SET_TIMER_OP, EVENT_CHANNEL_OP_COMPAT, XEN_VERSION, CONSOLE_IO, PHYSDEV_OP_COMPAT, GRANT_TABLE_OP,
    VM_ASSIST, UPDATE_VA_MAPPING_OTHERDOMAIN, IRET, VCPU_OP, SET_SEGMENT_BASE, MMUEXT_OP, XSM_OP, NMI_OP,
    SCHED_OP, CALLBACK_OP, XENOPROF_OP, EVENT_CHANNEL_OP, PHYSDEV_OP, HVM_OP, SYSCTL, DOMCTL, KEXEC_OP,
    TMEM_OP, ARGO_OP, XENPMU_OP, DM_OP, HYPFS_OP, MCA, PAGING_DOMCTL_CONT, ARCH_2, ARCH_3, ARCH_4, ARCH_5,
    ARCH_6, ARCH_7,
)

HYPERCALLS: dict[int, Hypercall] = {row.number: row for row in _ROWS}


def specs() -> Iterator[tuple[Hypercall, Command | None]]:
    """Every row by number, each followed by its commands: (hypercall, None), (hypercall, command), …"""
    for row in HYPERCALLS.values():
        yield row, None
        for command in row.commands or ():
            yield row, command
