# SPDX-License-Identifier: GPL-2.0-or-later
"""The handlers, a file for each family of hypercalls. Importing a file registers its handlers
(pvhv.core.traps.dispatch)."""

from importlib import import_module

FAMILIES = (
    "console_io", "cpu", "domctl", "event_channel", "grant_table", "hvm_op", "memory", "memory_exchange",
    "memory_refused", "mmu", "mmuext", "multicall", "physdev", "sched", "vcpu", "version", "xenoprof",
)  # fmt: skip

for _family in FAMILIES:
    import_module(f"pvhv.core.calls.{_family}")
